"""Lines that say what an earlier line said: the same words, or nearly (MinHash). Knows no files and no tokens.

System messages do not count: they are usually one for all. Memory is bounded: each of the first `MOST_SAME` lines is
remembered by eight bytes, each of the first `MOST_NEAR` that are unlike those before by its MinHash; later lines are
compared with these alone. So is time: where a line may be like `MOST_ALIKE` others, as where all lines are half of one
text, it is compared and not remembered, and near copies of it are not found. With 500, a line takes half a millisecond.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Final

from rensa import RMinHash, RMinHashLSH

from luthier.core.json import JsonObject
from luthier.data.chats import Chat, Completion, Example, Preference

MOST_SAME: Final = 1_000_000
MOST_NEAR: Final = 100_000
MOST_ALIKE: Final = 500
NEAR: Final = 0.8  # shared pairs of neighbouring words, of all pairs that either line has
# Below this many pairs one changed word is a large share, and "yes" after two questions would make them alike.
FEWEST_PAIRS: Final = 8
_PERMUTATIONS: Final = 128
_BANDS: Final = 16
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True)
class Repeat:
    """The line that said it first; whether in the same words."""

    line: int
    same: bool


class Seen:
    """The lines of one file so far."""

    def __init__(self) -> None:
        self._same: dict[bytes, int] = {}
        self._near: dict[int, RMinHash] = {}
        self._index = RMinHashLSH(NEAR, _PERMUTATIONS, _BANDS)

    def find(self, text: str) -> Repeat | None:
        """The line that said this, if one did."""
        return self._same_as(_key(text)) or self._alike(_sketch(text))[0]

    def add(self, line: int, text: str) -> Repeat | None:
        """Remember a line; the earlier one that it repeats, if it does."""
        key = _key(text)
        if same := self._same_as(key):
            return same
        sketch = _sketch(text)
        found, crowd = self._alike(sketch)
        if len(self._same) < MOST_SAME:
            self._same[key] = line
        # One line stands for all that are like it, so a file of one template costs no more than any other.
        if found is None and sketch is not None and len(self._near) < MOST_NEAR and crowd < MOST_ALIKE:
            self._near[line] = sketch
            self._index.insert(line, sketch)
        return found

    def _same_as(self, key: bytes) -> Repeat | None:
        """The line that said this in the same words, if one did."""
        line = self._same.get(key)
        return None if line is None else Repeat(line, same=True)

    def _alike(self, sketch: RMinHash | None) -> tuple[Repeat | None, int]:
        """The first line that nearly said this, if one did, and how many may be like it."""
        if sketch is None:
            return None, 0
        near = self._index.query(sketch)
        alike = [line for line in near if self._near[line].jaccard(sketch) >= NEAR]
        return Repeat(min(alike), same=False) if alike else None, len(near)


def words_of(example: Example) -> str:
    """What an example says, its system messages left out; of a preference the better answer."""
    match example:
        case Completion(prompt, completion):
            return f"{prompt}\n{completion}"
        case Preference(preferred, _):
            return words_of(preferred)
        case Chat(messages):
            return "\n".join(part for message in messages for part in _said(message))


def _said(message: JsonObject) -> Iterator[str]:
    if message["role"] in {"system", "developer"}:
        return
    for key in ("content", "refusal", "tool_calls", "function_call"):
        if value := message.get(key):
            yield value if isinstance(value, str) else json.dumps(value)


def _key(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()


def _sketch(text: str) -> RMinHash | None:
    pairs = {f"{a} {b}" for a, b in pairwise(_WORD.findall(text.lower()))}
    if len(pairs) < FEWEST_PAIRS:
        return None
    sketch = RMinHash(_PERMUTATIONS, 1)
    sketch.update(list(pairs))
    return sketch
