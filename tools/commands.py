"""Write `docs/commands.md` from the commands themselves; a test compares the two. Run it after a change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from luthier.cli.main import app

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
HEAD = """# Commands

Client commands read `OPENAI_BASE_URL` and `OPENAI_API_KEY`, so they work against OpenAI as well; without a base URL
they talk to the server on this machine, with the key from its data folder, and say so. What goes wrong is said in one
line, and the exit status is 1. This page is made from the commands by `python tools/commands.py`.
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(
        section
        for name, command in _leaves("luthier", typer.main.get_command(app))
        for section in _section(name, command)
    )


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
    else:
        for child_name, child in children.items():
            yield from _leaves(f"{name} {child_name}", child)


def _section(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    words = [p.metavar or p.name.upper() for p in arguments]
    shown = " ".join([name, *(word if p.required else f"[{word}]" for word, p in zip(words, arguments, strict=True))])
    yield f"\n## `{shown}`\n\n{command.help}\n"
    rows = [(f"`{word}`", p.help, None) for word, p in zip(words, arguments, strict=True) if p.help]
    for option in command.params:
        if option.param_type_name == "option" and option.name != "help":
            default = option.show_default if isinstance(option.show_default, str) else option.default
            rows.append((f"`{', '.join(option.opts)}`", option.help, default))
    if rows:
        yield "\n| | | default |\n| --- | --- | --- |\n"
        yield from (
            f"| {left} | {text} | {'' if default in (None, False) else default} |\n" for left, text, default in rows
        )


if __name__ == "__main__":
    PAGE.write_text(page())
