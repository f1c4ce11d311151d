"""The one Protocol of whatever runs a trainer: a child process here, a Ray cluster elsewhere. A run is a run folder
either way."""

from __future__ import annotations

from typing import Literal, Protocol

from luthier.core.run import RunFolder

RunState = Literal["running", "finished", "failed", "stopped", "no room"]


class Compute(Protocol):
    """Starts and stops trainers. Every method may be called again after a crash of the caller."""

    def start(self, run: RunFolder, fence: int) -> None:
        """Start a trainer under a fence. One that is there already is ended first, killed where need be."""
        ...

    def poll(self, run: RunFolder) -> RunState:
        """Whether the trainer lives; `failed` when it ended without completing the adapter, `stopped` when `stop`
        ended it, `no room` when the disk did."""
        ...

    def stop(self, run: RunFolder) -> None:
        """End the trainer within a second or a step; what it has written stays valid."""
        ...
