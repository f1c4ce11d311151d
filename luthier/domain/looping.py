"""A thread that works until it is told to stop. Knows no work in particular."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from luthier.core.errors import LuthierError

log = structlog.get_logger(__name__)


class Looping:
    """Looks for work in a thread of this process: again at once where `look` gave True, else when it is told or rested.

    A look that fails is logged and followed by another. What a look began and did not end is found again by a later
    one, of this process or another: leases run out.
    """

    def __init__(
        self, name: str, look: Callable[[], bool], *, rest_s: float, told: threading.Event | None = None
    ) -> None:
        self.name = name
        self.stopping = threading.Event()
        self._look = look
        self._rest_s = rest_s
        self._told = told or threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Return when the work under way is done or let go of; the event loop must go on meanwhile."""
        self.stopping.set()
        self._told.set()
        self._thread.join()

    def _run(self) -> None:
        while not self.stopping.is_set():
            self._told.clear()
            more = False
            try:
                more = self._look()
            except LuthierError as error:
                log.error("a worker cannot reach its store", worker=self.name, error=error.message)
            except Exception:  # the thread's edge: it looks again
                log.exception("a worker failed unexpectedly", worker=self.name)
            if not more and not self.stopping.is_set():
                self._told.wait(self._rest_s)
