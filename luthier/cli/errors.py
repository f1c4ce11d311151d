"""Errors in one line: what failed, where, what to do. Only what nobody foresaw keeps its traceback."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import typer
from typer.core import TyperGroup

from luthier.core.errors import LuthierError

if TYPE_CHECKING:
    import openai
    from typer._click import Context


class Commands(TyperGroup):
    """A group of commands whose foreseen errors end in one line and status 1."""

    opened: Final = ExitStack()  # what the running command opened; closed when it ends

    def invoke(self, ctx: Context) -> object:
        """Run the command that was asked for."""
        try:
            with self.opened:
                return super().invoke(ctx)
        except Exception as error:  # the process's edge
            words = explain(error)
            if words is None:
                raise
            from luthier.cli.display import complain

            complain(words)
            raise typer.Exit(1) from error


def explain(error: Exception) -> str | None:
    """The error in its user's words; None for one that nobody foresaw."""
    if isinstance(error, LuthierError):
        return error.message
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    import openai  # slow to import, and loaded already where one of its errors can come from

    match error:
        case openai.AuthenticationError():
            return f"{error.request.url.host} refuses the API key: {_message(error)}"
        case openai.APITimeoutError():
            return f"{error.request.url} did not answer in time; try again"
        case openai.APIConnectionError():
            server = f"{error.request.url.scheme}://{error.request.url.netloc.decode()}"
            return f"no server answers at {server}; start one with `luthier serve`, or set OPENAI_BASE_URL to another"
        case openai.APIStatusError():
            return _message(error)
        case openai.APIError():
            return error.message
    return None


def _message(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message)
