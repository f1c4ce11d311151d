"""Passes on to a job what its trainer says in the run folder, each thing once. Knows no process."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Final

from luthier.core.errors import JobFailed
from luthier.core.run import RunEvent, RunSpec
from luthier.domain import progress
from luthier.domain.held import Held

LAST_EPOCHS: Final = 3  # whose ends stay usable, as at OpenAI; and the best one's, where it came before


class EventReader:
    """Passes a run's events on to the job, each once.

    What comes after the trainer takes as long as learning from so many rows: `publishing_rows`.
    """

    def __init__(self, held: Held, publishing_rows: float) -> None:
        self._held = held
        self._publishing_rows = publishing_rows
        self._publishing_s = 0.0
        self._offset = 0
        self._quoted_s = 0.0
        self._steps_per_epoch = 0
        self._best: RunEvent | None = None  # the epoch's end with the lowest validation loss
        self.step = 0  # the last one that was done
        self.row_s = 0.0
        self.finished: RunEvent | None = None
        self.failure: JobFailed | None = None

    def forward(self) -> None:
        """Pass on what is new."""
        if self._held.run.events.exists() and self._held.run.events.stat().st_size < self._offset:
            self._offset = 0  # a resumed trainer cut its file back to its checkpoint
        for event, offset in self._held.run.read_events(self._offset):
            self._offset = offset
            self._held.beat()  # a long run's events take a while to be told anew
            self._take(event)

    @cached_property
    def _spec(self) -> RunSpec:
        return self._held.run.read_spec()

    def _take(self, event: RunEvent) -> None:
        held, spec = self._held, self._spec
        match event.kind:
            case "started":
                self._steps_per_epoch = int(str(event.data["steps_per_epoch"]))
            case "checkpoint":
                if self._best is None or _valid_loss(event) < _valid_loss(self._best):
                    self._best = event
                total = self._steps_per_epoch * spec.hyperparameters.n_epochs
                if event.step > total - LAST_EPOCHS * self._steps_per_epoch:
                    held.add_checkpoint(spec, event)
            case "finished":
                if self._best is not None and _valid_loss(self._best) < math.inf:
                    held.add_checkpoint(spec, self._best)  # one that is known already is passed over
                self.finished = event
            case "failed":
                code, message, param = progress.failure_of(event.data)
                self.failure = JobFailed(message, code=code, param=param)
            case "quote":
                quoted = progress.takes_of(held.job, event, held.platform.settings.prices)
                self._quoted_s = quoted.seconds
                self.row_s = float(str(event.data["row_seconds"]))
                self._publishing_s = self._publishing_rows * self.row_s
                if held.job.quote is None:  # it stands as it was given
                    held.quote(replace(quoted, seconds=quoted.seconds + self._publishing_s))
            case "metrics":
                self.step = event.step
                left_s = progress.seconds_left(event, self._quoted_s)
                held.tell(event, left_s + self._publishing_s)
            case "warning":
                held.tell(event, None)


def _valid_loss(event: RunEvent) -> float:
    loss = event.data.get("full_valid_loss")
    return loss if isinstance(loss, float) else math.inf
