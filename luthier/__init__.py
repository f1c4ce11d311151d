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

__version__ = "0.1.0"
