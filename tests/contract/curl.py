"""Reads the curl commands of OpenAI's reference; just the options that stand there.

The reference leaves out line-continuation marks, keys and methods here and there: the lines are read as one command,
and who sends the request says how and with which key.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

HOST = "https://api.openai.com/v1"
Field = tuple[str, tuple[str | None, bytes]]


@dataclass
class Command:
    """One request; `form` has name, filename (of `@file`) and content."""

    path: str
    body: str | None = None
    form: list[Field] = field(default_factory=list)


def read(text: str) -> Command:
    """The command of this text. A file's content is its name; whoever sends it puts in what should be sent."""
    words = iter(shlex.split(text.replace("\\\n", "\n")))
    assert next(words) == "curl"
    command = Command("")
    for word in words:
        match word:
            case "-H" | "-X":
                next(words)
            case "-d":
                command.body = next(words)
            case "-F":
                name, _, value = next(words).partition("=")
                is_file = value.startswith("@")
                command.form.append((name, (value[1:] if is_file else None, value.removeprefix("@").encode())))
            case ">":
                break
            case _:
                assert word.startswith(HOST), word
                command.path = word.removeprefix(HOST)
    return command
