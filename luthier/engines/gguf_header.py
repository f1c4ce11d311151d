"""The first keys of a GGUF file, read in a millisecond. Knows the container, no model; tensors stay unread.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package's own reader parses the whole
vocabulary, which takes it four seconds for 49,000 tokens; what is asked here stands before the vocabulary.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from luthier.core.errors import Unavailable

# GGUF value types by number: struct formats of the scalars; 8 is a string, 9 an array.
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING: Final = 8
MAX_STRING_BYTES: Final = 1 << 20

Value = str | int | float | bool


@dataclass(frozen=True)
class GgufHeader:
    """What an adapter's conversion and an engine's memory plan need to know of a base."""

    architecture: str  # llama.cpp's name, such as "llama"
    blocks: int
    context_tokens: int
    heads: int
    kv_heads: int
    kv_bytes_per_token: int  # keys and values of all blocks in f16
    licence: str = ""  # as the file says it


def read_header(path: Path) -> GgufHeader:
    """The header of a base model. Errors: `Unavailable` for a file that is missing, cut or no GGUF."""
    try:
        with path.open("rb") as file:
            keys = _keys_before_vocabulary(file)
        architecture = str(keys["general.architecture"])
        blocks, width = _whole(keys, f"{architecture}.block_count"), _whole(keys, f"{architecture}.embedding_length")
        heads = _whole(keys, f"{architecture}.attention.head_count")
        kv_heads = _whole(keys, f"{architecture}.attention.head_count_kv", heads)
        key_width = _whole(keys, f"{architecture}.attention.key_length", width // heads)
        value_width = _whole(keys, f"{architecture}.attention.value_length", width // heads)
        context_tokens = _whole(keys, f"{architecture}.context_length")
    except (OSError, struct.error, KeyError, ValueError, ZeroDivisionError) as error:
        raise Unavailable(f"{path}: not a GGUF model that can be served: {error!r}; fetch it again") from error
    kv_bytes = 2 * blocks * kv_heads * (key_width + value_width)
    licence = str(keys.get("general.license", ""))
    return GgufHeader(architecture, blocks, context_tokens, heads, kv_heads, kv_bytes, licence)


def _whole(keys: dict[str, Value], name: str, default: int | None = None) -> int:
    return int(keys[name] if default is None else keys.get(name, default))


def _keys_before_vocabulary(file: BinaryIO) -> dict[str, Value]:
    magic, _version, _tensors, count = struct.unpack("<4sIQQ", file.read(24))
    if magic != b"GGUF":
        raise ValueError(f"begins with {magic!r}")
    keys: dict[str, Value] = {}
    for _ in range(count):
        name = _string(file)
        if name.startswith("tokenizer."):
            break
        (kind,) = struct.unpack("<I", file.read(4))
        if kind == 9:
            _skip_array(file)
        else:
            keys[name] = _value(file, kind)
    return keys


def _value(file: BinaryIO, kind: int) -> Value:
    if kind == _STRING:
        return _string(file)
    form = "<" + _SCALARS[kind]
    value: Value = struct.unpack(form, file.read(struct.calcsize(form)))[0]
    return value


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > MAX_STRING_BYTES:
        raise ValueError(f"a text of {length} bytes before the vocabulary")
    return file.read(length).decode()


def _skip_array(file: BinaryIO) -> None:
    kind, count = struct.unpack("<IQ", file.read(12))
    for _ in range(count):
        _value(file, kind)
