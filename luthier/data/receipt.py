"""Checks a training or validation file and says what becomes of each of its lines. Knows no job and no database.

`receipt.jsonl` holds one `ReceiptLine` a line. The file is streamed: one group of lines is held at a time, and of the
lines before it what `repeats.py` remembers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from luthier.core.errors import InvalidRequest
from luthier.core.run import Method, new_file
from luthier.data.base_folder import BaseFolder
from luthier.data.chats import MIN_EXAMPLES, DataFile, Which, read_examples
from luthier.data.groups import groups
from luthier.data.repeats import Repeat, Seen, words_of

if TYPE_CHECKING:
    from luthier.data.rows import Row, Rows


@dataclass(frozen=True)
class ReceiptLine:
    """What became of a line: tokens seen, learnt and only read (masked), once cut to the context.

    A preference counts both its rows. `duplicate_of` and `near_duplicate_of` are an earlier line of the same file,
    `leak_of` is a line of the training file that says the same as this one of the validation file, or nearly.
    """

    file: Which
    line: int
    tokens: int
    trained_tokens: int
    masked_tokens: int
    cut_tokens: int
    dropped: bool
    reason: str | None
    duplicate_of: int | None = None
    near_duplicate_of: int | None = None
    leak_of: int | None = None


@dataclass(frozen=True)
class Summary:
    """What becomes of a file. `examples`, `tokens` and `trained_tokens` count what is trained on, in one epoch."""

    examples: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    cut_lines: int = 0
    cut_tokens: int = 0
    dropped_lines: int = 0
    duplicate_lines: int = 0
    near_duplicate_lines: int = 0
    leaked_lines: int = 0

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
            self.duplicate_lines + (line.duplicate_of is not None),
            self.near_duplicate_lines + (line.near_duplicate_of is not None),
            self.leaked_lines + (line.leak_of is not None),
        )


def check(
    file: DataFile,
    base: BaseFolder,
    method: Method,
    context_tokens: int,
    *,
    today: date | None = None,
    receipt: Path | None = None,
    seen: Seen | None = None,
    leaks_from: Seen | None = None,
    go_on: Callable[[], None] = lambda: None,
) -> Summary:
    """Validate a whole file and count its tokens; with `receipt`, write that file too, complete when its name appears.

    `today` is the date that chat templates tell. `seen` is filled with the file's lines; `leaks_from` are those of the
    training file. `go_on`, called for each line, raises what is to end it.
    Errors: `JobFailed` for the first thing wrong, or when nothing in the file can be learnt.
    """
    from luthier.data.rows import Rows  # numpy and tokenizers, which a server does without until then

    summary, first_reason = Summary(), ""
    with _written(receipt) as out:
        for line in read_lines(file, Rows(base, context_tokens, today), method, seen or Seen(), leaks_from):
            go_on()
            out.write(json.dumps(asdict(line)).encode() + b"\n")
            summary = summary.plus(line)
            first_reason = first_reason or (f"Example {line.line}: {line.reason}" if line.dropped else "")
        _require_enough(file, summary, first_reason)
    return summary


def read_receipt(path: Path) -> Iterator[ReceiptLine]:
    """The lines of a receipt."""
    with path.open() as lines:
        for line in lines:
            yield ReceiptLine(**json.loads(line))


def _written(path: Path | None) -> AbstractContextManager[BinaryIO]:
    """A file to write, which gets its name when all went well; nowhere for None."""
    return open(os.devnull, "wb") if path is None else new_file(path)


def _require_enough(file: DataFile, summary: Summary, first_reason: str) -> None:
    lines = summary.examples + summary.dropped_lines
    if lines < MIN_EXAMPLES and file.which == "training":
        raise file.too_few(lines)
    if not summary.examples:
        reason = f"No example has a token to learn. {first_reason}" if lines else "The file is empty."
        raise file.invalid(f"Invalid file format. {reason}")


def read_lines(
    file: DataFile, rows: Rows, method: Method, seen: Seen, leaks_from: Seen | None = None
) -> Iterator[ReceiptLine]:
    """What becomes of each line. Errors: `JobFailed` for the first that will not do."""
    for group in groups(read_examples(file, method), lambda numbered: len(repr(numbered))):
        try:
            encoded = rows.encode(group)
        except InvalidRequest as error:
            raise file.invalid(f"Invalid file format. {error.message}") from error
        for (number, example), made in zip(group, encoded, strict=True):
            words = words_of(example)
            leak = leaks_from.find(words) if leaks_from else None
            yield _line(file.which, number, made, seen.add(number, words), leak)


def _line(which: Which, number: int, rows: tuple[Row, ...], repeat: Repeat | None, leak: Repeat | None) -> ReceiptLine:
    tokens, trained, cut = (sum(counts) for counts in zip(*((len(r.ids), r.trained, r.cut) for r in rows), strict=True))
    dropped = not all(row.trained for row in rows)
    reason = None
    if dropped and cut:
        reason = f"longer than the context by {cut} tokens, and what is to be learnt stands past its end"
    elif dropped:
        reason = "all that could be learnt in it is empty or has weight 0"
    elif cut:
        reason = f"longer than the context: the last {cut} tokens are cut"
    return ReceiptLine(
        which,
        number,
        tokens,
        trained,
        tokens - trained,
        cut,
        dropped,
        reason,
        duplicate_of=repeat.line if repeat and repeat.same else None,
        near_duplicate_of=repeat.line if repeat and not repeat.same else None,
        leak_of=leak.line if leak else None,
    )
