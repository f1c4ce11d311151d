"""What a trainer tells its run folder: events and metrics, each once, however often the trainer was killed.

Before every write the fence is read: a trainer whose claim is not the newest any more writes nothing.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from luthier.core.errors import JobFailed
from luthier.core.json import Json, JsonObject
from luthier.core.run import EventKind, RunEvent, RunFolder, write_atomic

CSV_COLUMNS: Final = {  # OpenAI's result-file columns, and the metrics that they hold
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}


class FencedOff(Exception):
    """A newer claim owns the run folder; this process must end without a word."""


class Fence:
    """The claim under which this trainer works."""

    def __init__(self, run: RunFolder, number: int) -> None:
        self._run = run
        self._number = number

    def check(self) -> None:
        """Errors: `FencedOff` when a newer claim was made."""
        newest = self._run.read_fence()
        if newest > self._number:
            raise FencedOff(f"claim {newest} is newer than {self._number}")


@dataclass(frozen=True)
class Halving:
    """From a step on, or from the measuring at its end on, so many tokens are held at once."""

    step: int
    measuring: bool
    token_budget: int

    @staticmethod
    def of(event: RunEvent) -> Halving | None:
        """What an event tells of."""
        tokens = event.data.get("token_budget")
        return Halving(event.step, event.data.get("measuring") is True, tokens) if isinstance(tokens, int) else None


class Journal:
    """`events.jsonl` and `metrics.csv` of a run that has come to `step`.

    Events are only ever added (readers hold offsets into the file), those of steps that are done again are not said
    again; metrics are cut back to `step`, since they are the job's result file.
    """

    def __init__(self, run: RunFolder, fence: Fence, step: int) -> None:
        self._fence = fence
        fence.check()
        _drop_torn_line(run.events)
        self._said: set[tuple[EventKind, int]] = set()
        self.halvings: Final[list[Halving]] = []
        for event, _ in run.read_events():
            self._said.add((event.kind, event.step))
            if halving := Halving.of(event):
                self.halvings.append(halving)
        _cut_metrics(run.metrics, step)
        self._events = run.events.open("ab")
        self._metrics = run.metrics.open("ab")

    def say(self, kind: EventKind, step: int, data: JsonObject) -> None:
        """Add an event, unless it stands there."""
        if (kind, step) in self._said and kind != "warning":
            return
        self._fence.check()
        self._said.add((kind, step))
        self._events.write(_line(kind, step, data))
        self._events.flush()

    def halve(self, halving: Halving, message: str) -> None:
        """Tell of a halving, durably: a run that goes on must halve at the same place."""
        data: JsonObject = {"message": message, "token_budget": halving.token_budget, "measuring": halving.measuring}
        self.say("warning", halving.step, data)
        self.sync()
        self.halvings.append(halving)

    def add_metrics(self, step: int, metrics: JsonObject) -> None:
        """Add a step's metrics to both files."""
        self._fence.check()
        cells = (_cell(metrics.get(name)) for name in CSV_COLUMNS.values())
        self._metrics.write((",".join(cells) + "\n").encode())
        self._metrics.flush()
        self.say("metrics", step, metrics)

    def sync(self) -> None:
        """Make what was said durable."""
        for file in (self._events, self._metrics):
            os.fsync(file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()
        self._metrics.close()


def say_failed(run: RunFolder, fence: Fence, error: JobFailed) -> None:
    """Add the run's last event: why it ended."""
    fence.check()
    _drop_torn_line(run.events)
    data: JsonObject = {"code": error.code, "message": error.message, "param": error.param}
    with run.events.open("ab") as events:
        events.write(_line("failed", 0, data))
        events.flush()
        os.fsync(events.fileno())


def _line(kind: EventKind, step: int, data: JsonObject) -> bytes:
    return json.dumps(asdict(RunEvent(kind, step, time.time(), data))).encode() + b"\n"


def _cell(value: Json) -> str:
    if value is None:
        return ""
    return f"{value:.5f}" if isinstance(value, float) else str(value)


def _drop_torn_line(events: Path) -> None:
    """Cut off a last line that a killed trainer left unfinished; no reader has taken it."""
    if not events.exists():
        return
    with events.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _cut_metrics(metrics: Path, step: int) -> None:
    header = ",".join(CSV_COLUMNS)
    lines = metrics.read_text().splitlines()[1:] if metrics.exists() else []
    kept = [line for line in lines if line.count(",") == len(CSV_COLUMNS) - 1 and int(line.split(",")[0]) <= step]
    write_atomic(metrics, "\n".join([header, *kept, ""]).encode())
