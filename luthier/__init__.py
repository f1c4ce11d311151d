"""Luthier: OpenAI's fine-tuning platform on your own machine.

Imports run down this list and never up; `tests/test_layers.py` holds it.

    cli · dashboard      clients of the public API; they import nothing below but `serve` and `doctor`
    api                  OpenAI's words on the wire; thin
    domain               the product's verbs; no HTTP, no SQL text, no torch
    engines · compute    where answers and training runs are made
    store · data         the only SQL, and the blobs · JSONL lines, templates, token rows
    core                 frozen values, job states, errors, settings, ids, prices; imports nothing of ours

    train                apart: the only torch, always in a process of its own; imports data and core
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luthier.cli.client import fine_tune, fine_tune_data, upload_file

__version__ = "0.1.0"
__all__ = ["fine_tune", "fine_tune_data", "upload_file"]


def __getattr__(name: str) -> object:
    """The client's functions, imported when they are first asked for: `import luthier` stays cheap."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from luthier.cli import client

    found: object = getattr(client, name)
    return found
