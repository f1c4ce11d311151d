"""The type of a JSON value, for the few places that pass documents through unread, and how one is read that came from
anywhere, alone or as a line of a file."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

from typing_extensions import TypeAliasType

# A named alias, so that Pydantic can follow it around its own tail.
Json = TypeAliasType("Json", "bool | int | float | str | list[Json] | dict[str, Json] | None")
JsonObject = dict[str, Json]


def parsed(text: str | bytes) -> Json:
    """The JSON value in a text, where an answer of ours can carry it.

    Errors: `ValueError`, for NaN, infinite numbers, halves of characters and endless nesting too.
    """
    try:
        value: Json = json.loads(text)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers; a byte-order mark may begin it. Holds one line."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield number, line


def fault_of(line: bytes, reason: str) -> str:
    """Why a line is not JSON: the parser's reason, unless it is not even text as JSON has it."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return "it is not UTF-8, save the file as UTF-8"
    return reason
