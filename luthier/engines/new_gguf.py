"""A GGUF file that is there whole and durable, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import numpy as np

from luthier.core.ids import random_text
from luthier.core.run import sync_folder


@contextmanager
def new_gguf(target: Path, architecture: str) -> Iterator[gguf.GGUFWriter]:
    """Takes keys and tensors inside the block; the file is at `target` after it. Errors: `OSError` of a full disk.

    Tensors are written by hand: numpy's `tofile`, which the writer uses, does not always say that a disk is full.
    """
    temporary = target.with_name(f".{target.name}.{random_text(6)}.tmp")  # two may write it at once
    writer = gguf.GGUFWriter(temporary, architecture)
    try:
        yield writer
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        [file] = writer.fout
        writer.write_padding(file, file.tell())
        for tensor in writer.tensors[0].values():
            file.write(np.ascontiguousarray(tensor.tensor))
            writer.write_padding(file, tensor.nbytes)
        file.flush()
        os.fsync(file.fileno())
        writer.close()
        temporary.rename(target)
        sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
        writer.close()
