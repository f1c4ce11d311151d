"""The tokens of a `tokenizer.json`, as bytes: what a token is, whatever text stands around it. Knows no engine.

Two kinds, as in `vocabulary_gguf.py`: bytes that are written as letters, and SentencePiece's pieces.
"""

from __future__ import annotations

import json
from codecs import getincrementaldecoder
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from luthier.core.errors import InvalidRequest

# How GPT-2's tokenizer writes bytes: those that are seen as themselves, the others as the letters from 256 on.
_SEEN: Final = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_BYTES: Final = {chr(byte): byte for byte in _SEEN} | {
    chr(256 + place): byte for place, byte in enumerate(sorted(set(range(256)) - set(_SEEN)))
}


class Vocabulary:
    """What a tokenizer's tokens say. Reading one of 262,000 takes half a second."""

    def __init__(self, file: Path) -> None:
        tokenizer: dict[str, Any] = json.loads(file.read_text())
        model = tokenizer["model"]
        read = _of_piece if model.get("byte_fallback") else _of_letters
        self._bytes: dict[int, bytes] = {number: read(text) for text, number in model["vocab"].items()}
        added = tokenizer.get("added_tokens") or []
        self._bytes |= {token["id"]: _plain(token["content"], model) for token in added}
        self._special = frozenset(token["id"] for token in added if token["special"])

    def bytes_of(self, ids: Iterable[int]) -> list[bytes]:
        """Each token's own bytes. Errors: `InvalidRequest` for a token that there is not."""
        try:
            return [self._bytes[token_id] for token_id in ids]
        except KeyError as error:
            raise unknown_tokens("prompt") from error

    def get(self, token_id: int) -> bytes:
        """A token's own bytes; none of one that there is not, such as a place left empty."""
        return self._bytes.get(token_id, b"")

    def is_special(self, token_id: int) -> bool:
        """Whether it is a mark and no text, such as the one that ends an answer."""
        return token_id in self._special


def texts_of(pieces: Sequence[bytes]) -> list[str]:
    """The text of each token; a character of several tokens is the last one's."""
    decoder = getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(piece, place == len(pieces)) for place, piece in enumerate(pieces, 1)]


def unknown_tokens(param: str) -> InvalidRequest:
    """The error for token ids that are none of the model's."""
    return InvalidRequest(
        f"Invalid value for '{param}': it has tokens that this model does not know.",
        code="invalid_value",
        param=param,
    )


def _of_letters(text: str) -> bytes:
    return bytes(_BYTES[letter] for letter in text) if all(letter in _BYTES for letter in text) else text.encode()


def _of_piece(text: str) -> bytes:
    if len(text) == len("<0x00>") and text.startswith("<0x"):
        return bytes([int(text[3:5], 16)])
    return text.replace("▁", " ").encode()


def _plain(text: str, model: dict[str, Any]) -> bytes:
    return (text.replace("▁", " ") if model.get("byte_fallback") else text).encode()
