"""The tensors of a folder of safetensors files, mapped and not read. Knows the container and its number types alone.

numpy has no bfloat16, and the package's own reader wants the whole file in memory.
Layout: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from luthier.core.errors import InvalidRequest, Unavailable

Kind = Literal["F32", "F16", "BF16"]
Matrix = NDArray[np.float32]

_BYTES: Final = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor as it lies on disk: `raw` are its bytes."""

    kind: Kind
    shape: tuple[int, ...]
    raw: NDArray[np.uint8]

    def f32(self) -> Matrix:
        """Its numbers."""
        match self.kind:
            case "F32":
                flat = self.raw.view(np.float32)
            case "F16":
                flat = self.raw.view(np.float16).astype(np.float32)
            case "BF16":  # the upper half of a float32
                flat = (self.raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return flat.reshape(self.shape)

    def like(self, values: Matrix) -> Stored:
        """Other numbers of the same kind, rounded to the nearest."""
        return Stored.of(self.kind, values)

    @staticmethod
    def of(kind: Kind, values: Matrix) -> Stored:
        """Numbers as a tensor of this kind, rounded to the nearest."""
        match kind:
            case "F32":
                raw = values.astype(np.float32)
            case "F16":
                raw = values.astype(np.float16)
            case "BF16":
                bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
                raw = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        return Stored(kind, values.shape, np.ascontiguousarray(raw).reshape(-1).view(np.uint8))


def read_tensors(folder: Path) -> dict[str, Stored]:
    """Every tensor of a model's or an adapter's folder, by name; of a Hugging Face model those of its index.

    Errors: `Unavailable` for files that are missing or cut, `InvalidRequest` for numbers of another kind.
    """
    try:
        index = folder / "model.safetensors.index.json"
        if index.exists():
            files: Iterable[str] = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        else:
            files = [p.name for p in sorted(folder.glob("*.safetensors")) if not p.name.startswith("consolidated")]
        found: dict[str, Stored] = {}
        for file in files:
            found |= _read(folder / file)
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise Unavailable(f"{folder}: its safetensors cannot be read: {error}") from error
    if not found:
        raise Unavailable(f"{folder}: there is no .safetensors file with tensors in it")
    return found


def write_tensors(path: Path, tensors: dict[str, Stored]) -> None:
    """Write one safetensors file."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.raw.nbytes
        header[name] = {"dtype": tensor.kind, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.raw.data)  # numpy's own writing does not tell of a full disk


def _read(path: Path) -> dict[str, Stored]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    # Viewed as a plain array: a slice of numpy's memmap costs more than some tensors.
    content = np.asarray(np.memmap(path, np.uint8, "r", offset=8 + length))
    found: dict[str, Stored] = {}
    for name, told in header.items():
        if name == "__metadata__":
            continue
        if (kind := told["dtype"]) not in _BYTES:
            raise InvalidRequest(f"{path}: tensor {name} is {kind}; F32, F16 and BF16 can be used")
        start, end = told["data_offsets"]
        shape = tuple(told["shape"])
        if end > len(content) or end - start != int(np.prod(shape)) * _BYTES[kind]:
            raise ValueError(f"{path.name} is cut: {name} lies beyond its end")
        found[name] = Stored(kind, shape, content[start:end])
    return found
