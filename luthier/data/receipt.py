"""Checks a training or validation file and says what becomes of each of its lines. Knows no job and no database.

`receipt.jsonl` holds one `ReceiptLine` a line. The file is streamed: one group of lines is held at a time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final, TextIO, TypeVar

from luthier.core.errors import InvalidRequest
from luthier.core.run import Method, sync_folder
from luthier.data.base_folder import BaseFolder
from luthier.data.chats import MIN_EXAMPLES, DataFile, read_examples
from luthier.data.rows import Row, Rows

GROUP: Final = 256  # lines tokenised in one call: enough to keep the tokenizer's threads busy, small beside any memory
T = TypeVar("T")


@dataclass(frozen=True)
class ReceiptLine:
    """What became of a line: tokens seen and learnt, once cut to the context. A preference counts both its rows."""

    line: int
    tokens: int
    trained_tokens: int
    cut_tokens: int
    dropped: bool
    reason: str | None


@dataclass(frozen=True)
class Summary:
    """What becomes of a file. `examples`, `tokens` and `trained_tokens` count what is trained on, in one epoch."""

    examples: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    cut_lines: int = 0
    cut_tokens: int = 0
    dropped_lines: int = 0

    def plus(self, line: ReceiptLine) -> Summary:
        """The summary with one more line in it."""
        if line.dropped:
            return replace(self, dropped_lines=self.dropped_lines + 1)
        return Summary(
            self.examples + 1,
            self.tokens + line.tokens,
            self.trained_tokens + line.trained_tokens,
            self.cut_lines + (line.cut_tokens > 0),
            self.cut_tokens + line.cut_tokens,
            self.dropped_lines,
        )


def check(
    file: DataFile, base: BaseFolder, method: Method, context_tokens: int, *, receipt: Path | None = None
) -> Summary:
    """Validate a whole file and count its tokens; with `receipt`, write that file too, complete when its name appears.

    Errors: `JobFailed` for the first thing wrong, or when nothing in the file can be learnt.
    """
    summary, first_reason = Summary(), ""
    with _written(receipt) as out:
        for line in _lines(file, Rows(base, context_tokens), method):
            out.write(json.dumps(asdict(line)) + "\n")
            summary = summary.plus(line)
            first_reason = first_reason or (f"Example {line.line}: {line.reason}" if line.dropped else "")
        _require_enough(file, summary, first_reason)
    return summary


def read_receipt(path: Path) -> Iterator[ReceiptLine]:
    """The lines of a receipt."""
    with path.open() as lines:
        for line in lines:
            yield ReceiptLine(**json.loads(line))


@contextmanager
def _written(path: Path | None) -> Iterator[TextIO]:
    """A file to write, which gets its name when all went well; nowhere for None."""
    if path is None:
        with open(os.devnull, "w") as out:
            yield out
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _require_enough(file: DataFile, summary: Summary, first_reason: str) -> None:
    lines = summary.examples + summary.dropped_lines
    if lines < MIN_EXAMPLES and file.which == "training":
        raise file.too_few(lines)
    if not summary.examples:
        reason = f"No example has a token to learn. {first_reason}" if lines else "The file is empty."
        raise file.invalid(f"Invalid file format. {reason}")


def _lines(file: DataFile, rows: Rows, method: Method) -> Iterator[ReceiptLine]:
    for group in _groups(read_examples(file, method), GROUP):
        try:
            encoded = rows.encode(group)
        except InvalidRequest as error:
            raise file.invalid(f"Invalid file format. {error.message}") from error
        for (number, _), made in zip(group, encoded, strict=True):
            yield _line(number, made)


def _line(number: int, rows: tuple[Row, ...]) -> ReceiptLine:
    tokens, trained, cut = (sum(counts) for counts in zip(*((len(r.ids), r.trained, r.cut) for r in rows), strict=True))
    dropped = not all(row.trained for row in rows)
    reason = None
    if dropped and cut:
        reason = f"longer than the context by {cut} tokens, and what is to be learnt stands past its end"
    elif dropped:
        reason = "all that could be learnt in it is empty or has weight 0"
    elif cut:
        reason = f"longer than the context: the last {cut} tokens are cut"
    return ReceiptLine(number, tokens, trained, cut, dropped, reason)


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
