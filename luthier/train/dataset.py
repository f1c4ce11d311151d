"""Token rows by number, read from the data file when they are wanted. Holds where lines begin, not what they say.

The order of an epoch is a function of seed and epoch alone, so a run that goes on needs no random state.
Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from luthier.core.run import Method
from luthier.data.chats import DataFile, Example, LineReader
from luthier.data.rows import Row, Rows


@dataclass(frozen=True)
class Sample:
    """A line of the file and its rows: one, or a preference's two."""

    line: int
    rows: tuple[Row, ...]


class Dataset:
    """The lines of a file that `kept` has, with the tokens of each (all but blank ones when None), as rows."""

    def __init__(self, file: DataFile, rows: Rows, method: Method, kept: Mapping[int, int] | None = None) -> None:
        self._file = file
        self._rows = rows
        lines, offsets = _index(file, kept)
        self._lines: npt.NDArray[np.int64] = lines
        self._offsets: npt.NDArray[np.int64] = offsets
        self.tokens = np.fromiter(((kept or {}).get(int(line), 0) for line in lines), np.int64)
        with file.path.open("rb") as data:
            data.seek(offsets[0])
            self._reader = LineReader(file, method, int(lines[0]), data.readline())

    def __len__(self) -> int:
        return len(self._lines)

    def read(self, numbers: Sequence[int]) -> list[Sample]:
        """The samples of some numbers in `range(len(self))`, without those that have nothing to learn."""
        examples = self.examples(numbers)
        encoded = self._rows.encode(examples)
        samples = [Sample(line, rows) for (line, _), rows in zip(examples, encoded, strict=True)]
        return [sample for sample in samples if all(row.trained for row in sample.rows)]

    def examples(self, numbers: Sequence[int]) -> list[tuple[int, Example]]:
        """Lines' numbers in the file, and what stands there."""
        found: list[tuple[int, Example]] = []
        with self._file.path.open("rb") as data:
            for number in numbers:
                data.seek(self._offsets[number])
                line = int(self._lines[number])
                found.append((line, self._reader.read(line, data.readline())))
        return found


def batches(count: int, size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """The numbers 0 to count - 1 in an epoch's order, `size` at a time; the last batch may be smaller."""
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return [order[i : i + size] for i in range(0, count, size)]


def _index(file: DataFile, kept: Mapping[int, int] | None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    flat = np.fromiter((number for place in _places(file, kept) for number in place), np.int64)
    return flat[0::2].copy(), flat[1::2].copy()


def _places(file: DataFile, kept: Mapping[int, int] | None) -> Iterator[tuple[int, int]]:
    offset = 0
    with file.path.open("rb") as data:
        for number, line in enumerate(data, 1):
            if (kept is None and line.strip()) or (kept is not None and number in kept):
                yield number, offset + (3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0)
            offset += len(line)
