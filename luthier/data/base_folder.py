"""A base model on disk, named by its content's hash. Knows paths and facts; downloads and converts nothing.

model.gguf            what is served; of a Hugging Face model, the same weights converted
hf/                   what is trained: config.json, model.safetensors (of a GGUF, dequantised), tokenizer.json
template.jinja        the chat template, for both
facts.json            `BaseFacts`; written last, so its presence means the folder is complete
probe.json            what the trainer thinks of a few chats, when the base was added: the engine is held against it
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.core.run import write_atomic


@dataclass(frozen=True)
class BaseFacts:
    """What a base model is. `parameters` counts weights; `context_tokens` is what it was trained to see.

    `template`: "its own", "given", or the name of the built-in one that stands in for a missing one.
    `stop_tokens`: what ends an answer.
    """

    name: str
    sha256: str
    architecture: str  # Hugging Face's model_type, such as "llama"
    parameters: int
    context_tokens: int
    bos_token: str | None
    eos_token: str
    adds_bos: bool  # whether the engine puts BOS before every prompt
    licence: str
    template: str = "its own"
    stop_tokens: tuple[str, ...] = ()


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
    def probe(self) -> Path:
        return self.path / "probe.json"

    @property
    def ready(self) -> bool:
        """Whether the folder is complete."""
        return (self.path / "facts.json").exists()

    def read_facts(self) -> BaseFacts:
        """The facts of a complete folder."""
        raw = json.loads((self.path / "facts.json").read_text())
        return BaseFacts(**{**raw, "stop_tokens": tuple(raw.get("stop_tokens", ()))})

    def write_facts(self, facts: BaseFacts) -> None:
        """Mark the folder complete."""
        write_atomic(self.path / "facts.json", json.dumps(asdict(facts), indent=1).encode())
