"""What a terminal shows: bars, tables, one-line errors. Knows no API calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from openai.types.fine_tuning import FineTuningJobEvent
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

_console = partial(Console, highlight=False, emoji=False)
CONSOLE: Final = _console()
COLOURS: Final = {"warn": "yellow", "error": "red"}


@contextmanager
def upload_bar(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading; how far it was read is shown meanwhile."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with passing_bar(*columns) as bar, bar.open(path, "rb", description=f"Uploading {path.name}") as file:
        yield file


class TuningBar:
    """Called with each event of a job: steps and losses move the bar, words are printed above it."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("Waiting", total=None, losses="")

    def __call__(self, event: FineTuningJobEvent) -> None:
        data = event.data if isinstance(event.data, dict) else {}
        if event.type == "metrics" and "step" in data:
            names = {"train_loss": "loss", "valid_loss": "validation", "train_mean_token_accuracy": "accuracy"}
            losses = "  ".join(f"{word} {float(data[name]):.3f}" for name, word in names.items() if name in data)
            self._bar.update(
                self._task,
                description="Training",
                completed=int(data["step"]),
                total=int(data["total_steps"]) if "total_steps" in data else None,
                losses=losses,
            )
        if event.type != "metrics" or not self._bar.console.is_terminal:  # a log has no bar: it gets every line
            self._bar.console.print(
                f"  {event.message}", style=COLOURS.get(event.level, "dim"), markup=False, soft_wrap=True
            )


@contextmanager
def tuning_bar() -> Iterator[TuningBar]:
    """A bar for one job."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[losses]}", style="cyan"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=CONSOLE, disable=not CONSOLE.is_terminal) as bar:
        yield TuningBar(bar)


class PullBar:
    """A `Progress` for base models: stages follow each other on one line."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("Base model", total=None)

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._bar.update(self._task, description=stage, completed=done, total=total or None)


@contextmanager
def pull_bar() -> Iterator[PullBar]:
    """A bar for the pull of one base model; gone when it is done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with passing_bar(*columns) as bar:
        yield PullBar(bar)


def passing_bar(*columns: ProgressColumn) -> Progress:
    """A bar that leaves nothing behind, and in a log nothing at all."""
    return Progress(*columns, console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal)


def counting_bars() -> Progress:
    """Bars of so many things each."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return passing_bar(*columns, TimeRemainingColumn())


@contextmanager
def counting_bar(description: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar of so many things; what it gives is called after each."""
    with counting_bars() as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)


def table(title: str | None, headings: Iterable[str], rows: Iterable[Iterable[object]], *, right: bool = False) -> None:
    """Print a table; numbers stand right, and with `right` all but the first column. None is empty."""
    shown = Table(
        title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    lines = [list(row) for row in rows]
    for at, heading in enumerate(headings):
        numbers = any(isinstance(line[at], (int, float)) for line in lines)
        shown.add_column(Text(heading), justify="right" if numbers or (right and at) else "left")
    for line in lines:
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in line))
    # At its natural width, whatever the terminal's: a broken id is no id.
    width = Measurement.get(CONSOLE, CONSOLE.options.update(max_width=10_000), shown).maximum
    _console(width=width).print(shown)


def moment(seconds: int | None) -> str:
    """A Unix time on this machine's clock; nothing for none."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S") if seconds else ""


def say(text: str = "") -> None:
    """Print text as it is: long lines are not broken, so that they can be copied."""
    CONSOLE.print(text, soft_wrap=True, markup=False)


def hint(text: str) -> None:
    """Print a remark on the error stream, so that output can be piped."""
    _console(stderr=True).print(text, style="dim", soft_wrap=True, markup=False)


def complain(text: str) -> None:
    """Print what went wrong, on one line of the error stream."""
    words = " ".join(text.split())
    _console(stderr=True).print(Text.assemble(("error: ", "bold red"), words), soft_wrap=True)
