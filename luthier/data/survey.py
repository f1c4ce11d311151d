"""What a person wants to see of a file before training on it: every format error, counts, lengths, rendered rows.

The file is streamed; of each line two numbers are held. Knows no job and no terminal.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from luthier.core.errors import JobFailed
from luthier.core.json import numbered
from luthier.core.run import Method
from luthier.data.base_folder import BaseFolder
from luthier.data.chats import Chat, DataFile, Example, LineReader, Preference, read_examples
from luthier.data.receipt import Summary, read_lines
from luthier.data.repeats import Seen
from luthier.data.rows import Rows

MOST_ERRORS: Final = 20


@dataclass
class Survey:
    """A file that can be trained on. `tokens` and `trained` are by example; roles count messages."""

    summary: Summary = field(default_factory=Summary)
    tokens: array[int] = field(default_factory=lambda: array("l"))
    trained: array[int] = field(default_factory=lambda: array("l"))
    roles: Counter[str] = field(default_factory=Counter)
    without_system: int = 0
    without_user: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Shown:
    """A row as the model sees it: pieces of text, and whether each is learnt."""

    line: int
    pieces: tuple[tuple[str, bool], ...]


def method_of(file: DataFile) -> Method:
    """The method that a file's first line is made for."""
    _, first = next(numbered(file.path), (0, b""))
    try:
        keys = json.loads(first)
    except (ValueError, RecursionError):
        return "supervised"
    return "dpo" if isinstance(keys, dict) and "input" in keys else "supervised"


def format_errors(file: DataFile, method: Method) -> list[str]:
    """What is wrong with each line, up to `MOST_ERRORS` of them, in the words that a job would fail with."""
    found: list[str] = []
    reader: LineReader | None = None
    for number, line in numbered(file.path):
        try:
            reader = reader or LineReader(file, method, number, line)
            reader.read(number, line)
        except JobFailed as error:
            found.append(error.message.partition("Invalid file format. ")[2] or error.message)
            if len(found) == MOST_ERRORS:
                break
    return found


def survey(
    file: DataFile, base: BaseFolder, method: Method, context_tokens: int, seen: Seen, leaks_from: Seen | None = None
) -> Survey:
    """Count everything. Errors: `JobFailed` for a file with a line that will not do."""
    found = Survey()
    for line in read_lines(file, Rows(base, context_tokens), method, seen, leaks_from):
        found.summary = found.summary.plus(line)
        found.tokens.append(line.tokens)
        found.trained.append(line.trained_tokens)
        why = line.reason or ""
        if line.duplicate_of or line.near_duplicate_of:
            same = "says the same as" if line.duplicate_of else "says nearly the same as"
            why = f"{same} line {line.duplicate_of or line.near_duplicate_of}"
        if line.leak_of:
            why = f"is in the training file too, or nearly: line {line.leak_of}"
        if why and len(found.reasons) < MOST_ERRORS:
            found.reasons.append(f"line {line.line} {'is ' if why == line.reason and not line.dropped else ''}{why}")
    for _, example in read_examples(file, method):
        roles = _roles(example)
        found.roles.update(roles)
        found.without_system += "system" not in roles and "developer" not in roles
        found.without_user += "user" not in roles
    return found


def rendered(file: DataFile, base: BaseFolder, method: Method, context_tokens: int, count: int) -> list[Shown]:
    """The first rows as the model sees them; of a preference both."""
    rows = Rows(base, context_tokens)
    examples = list(islice(read_examples(file, method), count))
    return [
        Shown(number, rows.pieces(row))
        for (number, _), made in zip(examples, rows.encode(examples), strict=True)
        for row in made
    ]


def _roles(example: Example) -> list[str]:
    match example:
        case Chat(messages):
            return [str(message["role"]) for message in messages]
        case Preference(preferred, _):
            return _roles(preferred)
        case _:
            return ["user", "assistant"]
