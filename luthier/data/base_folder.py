"""A base model on disk, named by its content's hash. Knows paths and facts; downloads and converts nothing.

model.gguf            what is served (absent for a Hugging Face folder)
hf/                   what is trained: config.json, model.safetensors (dequantised), tokenizer.json
template.jinja        the chat template, for both
facts.json            `BaseFacts`; written last, so its presence means the folder is complete
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.core.run import write_atomic


@dataclass(frozen=True)
class BaseFacts:
    """What a base model is. `parameters` counts weights; `context_tokens` is what it was trained to see."""

    name: str
    sha256: str
    architecture: str  # Hugging Face's model_type, such as "llama"
    parameters: int
    context_tokens: int
    bos_token: str | None
    eos_token: str
    adds_bos: bool  # whether the engine puts BOS before every prompt
    licence: str


@dataclass(frozen=True)
class BaseFolder:
    """The paths of one base model."""

    path: Path

    @property
    def gguf(self) -> Path:
        return self.path / "model.gguf"

    @property
    def hf(self) -> Path:
        return self.path / "hf"

    @property
    def tokenizer(self) -> Path:
        return self.hf / "tokenizer.json"

    @property
    def template(self) -> Path:
        return self.path / "template.jinja"

    @property
    def ready(self) -> bool:
        """Whether the folder is complete."""
        return (self.path / "facts.json").exists()

    def read_facts(self) -> BaseFacts:
        """The facts of a complete folder."""
        return BaseFacts(**json.loads((self.path / "facts.json").read_text()))

    def write_facts(self, facts: BaseFacts) -> None:
        """Mark the folder complete."""
        write_atomic(self.path / "facts.json", json.dumps(asdict(facts), indent=1).encode())
