"""A claim on a row, held on while its work is done, and lost to whoever claims it next. Knows no row."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Generic, TypeVar

from luthier.core.errors import Unavailable

LEASE_S: Final = 30.0
BEAT_S: Final = 1.0  # what a user asks for meanwhile is seen within this

T = TypeVar("T")


class LeaseLost(Exception):
    """The work was cancelled, or another worker holds it: whoever sees this writes nothing more."""


class Lease(ABC, Generic[T]):
    """What is held. Each write goes through the claim's fence; one that fails says that the claim is gone."""

    _beaten_at = 0.0

    @abstractmethod
    def _renew(self) -> T | None:
        """Hold the row for `LEASE_S` from now: the row, or None where the claim is gone."""

    @abstractmethod
    def _keep(self, row: T | None) -> None:
        """The row as it is by now. Errors: `LeaseLost` for none."""

    def beat(self) -> None:
        """Hold on, at most every `BEAT_S`; see what the user asked for meanwhile. Errors: `LeaseLost`."""
        if time.monotonic() - self._beaten_at >= BEAT_S:
            self._beaten_at = time.monotonic()
            self._keep(self._renew())

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Hold on from a thread while this one is busy. A lost lease is noticed by the next write."""
        done = threading.Event()

        def hold() -> None:
            while not done.wait(LEASE_S / 3):
                with suppress(Unavailable):
                    self._renew()

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
