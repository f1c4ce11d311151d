"""Token rows by number, read from the data file when they are wanted. Holds where lines begin, not what they say: 16
bytes a line, and 8 of an epoch's order, for a line may have a few words and a file millions of lines.

The order of an epoch is a function of seed and epoch alone, so a run that goes on needs no random state.
Knows no model.
"""

from __future__ import annotations

import codecs
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from luthier.core.run import Method
from luthier.data.chats import DataFile, Example, LineReader
from luthier.data.receipt import read_receipt
from luthier.data.rows import Row, Rows

Numbers = npt.NDArray[np.int64]
Kept = npt.NDArray[np.void]
"""Of each line that is trained on its number and its tokens, in the file's order."""
_KEPT: Final = np.dtype([("line", np.int32), ("tokens", np.int32)])


@dataclass(frozen=True)
class Sample:
    """A line of the file and its rows: one, or a preference's two."""

    line: int
    rows: tuple[Row, ...]


class Dataset:
    """The lines of a file that `kept` has, with the tokens of each (all but blank ones when None), as rows."""

    def __init__(self, file: DataFile, rows: Rows, method: Method, kept: Kept | None = None) -> None:
        self._file = file
        self._rows = rows
        self._lines, self._offsets = _index(file, kept)
        self.tokens: npt.NDArray[np.int32] = np.zeros(len(self), np.int32) if kept is None else kept["tokens"]
        with file.path.open("rb") as data:
            data.seek(self._offsets[0])
            self._reader = LineReader(file, method, int(self._lines[0]), data.readline())

    def __len__(self) -> int:
        return len(self._lines)

    def read(self, numbers: Iterable[int]) -> list[Sample]:
        """The samples of some numbers in `range(len(self))`, without those that have nothing to learn."""
        examples = self.examples(numbers)
        encoded = self._rows.encode(examples)
        samples = [Sample(line, rows) for (line, _), rows in zip(examples, encoded, strict=True)]
        return [sample for sample in samples if all(row.trained for row in sample.rows)]

    def examples(self, numbers: Iterable[int]) -> list[tuple[int, Example]]:
        """Lines' numbers in the file, and what stands there."""
        found: list[tuple[int, Example]] = []
        with self._file.path.open("rb") as data:
            for number in numbers:
                data.seek(self._offsets[number])
                line = int(self._lines[number])
                found.append((line, self._reader.read(line, data.readline())))
        return found


@dataclass(frozen=True)
class Batches:
    """An epoch's order, `size` numbers at a time; the last batch may be smaller."""

    order: Numbers
    size: int

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)

    def __getitem__(self, place: int) -> Numbers:
        return self.order[place * self.size : (place + 1) * self.size]

    def __iter__(self) -> Iterator[Numbers]:
        return (self[place] for place in range(len(self)))

    def sums(self, each: npt.NDArray[np.int32]) -> Numbers:
        """Of each batch the sum of what `each` says of its numbers."""
        return np.add.reduceat(each[self.order], np.arange(0, len(self.order), self.size), dtype=np.int64)


def batches(count: int, size: int, *, seed: int, epoch: int) -> Batches:
    """The numbers 0 to count - 1 in an epoch's order."""
    return Batches(np.random.default_rng([seed, epoch]).permutation(count), size)


def read_kept(receipt: Path) -> Kept:
    """What a receipt says is trained on."""
    return np.fromiter(((line.line, line.tokens) for line in read_receipt(receipt) if not line.dropped), _KEPT)


def _index(file: DataFile, kept: Kept | None) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Numbers of lines, and where they begin. Grown as arrays: a list would hold an object for each."""
    lines, offsets = array("i"), array("q")
    for number, offset in _places(file, kept):
        lines.append(number)
        offsets.append(offset)
    return np.frombuffer(lines, np.int32), np.frombuffer(offsets, np.int64)


def _places(file: DataFile, kept: Kept | None) -> Iterator[tuple[int, int]]:
    wanted: Iterator[int] = iter(() if kept is None else kept["line"])
    offset, following = 0, next(wanted, 0)
    with file.path.open("rb") as data:
        for number, line in enumerate(data, 1):
            mark = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
            if number == following or (kept is None and line[mark:].strip()):
                yield number, offset + mark
                following = next(wanted, 0)
            offset += len(line)
