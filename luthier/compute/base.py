"""The one Protocol of whatever runs a trainer: a child process here, a Ray cluster elsewhere. A run is a run folder
either way."""

from __future__ import annotations

from typing import Literal, Protocol

from luthier.core.run import RunFolder

RunState = Literal["running", "finished", "failed", "stopped", "no room", "no memory"]


class NewerClaim(Exception):
    """A newer claim owns the run: its trainer is left alone."""


class Compute(Protocol):
    """Starts and stops trainers. Every method may be called again after a crash of the caller."""

    def warm(self) -> None:
        """Have a trainer ready, where that makes the next one begin sooner and takes nothing from one at work."""
        ...

    def start(self, run: RunFolder, fence: int, *, halve: bool = False) -> None:
        """Start a trainer under a fence. One that is there already is ended first, killed where need be.

        `halve`: it is to hold half as many tokens at once, for the system killed the last one for want of memory.
        Errors: `NewerClaim`.
        """
        ...

    def poll(self, run: RunFolder) -> RunState:
        """Whether the trainer lives; `failed` when it ended without completing the adapter, `stopped` when `stop`
        ended it, `no room` when the disk did, `no memory` when the system killed it for want of memory."""
        ...

    def stop(self, run: RunFolder, fence: int) -> None:
        """End the trainer of this claim or an older one within a second or a step; what it has written stays valid."""
        ...

    def close(self) -> None:
        """End what is ready and not at work."""
        ...
