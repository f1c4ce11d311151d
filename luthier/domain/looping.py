"""A thread that works until it is told to stop. Knows no work in particular."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Looping(ABC):
    """Runs `_run` in a thread of this process; it looks at `stopping` between two pieces of work."""

    def __init__(self, name: str) -> None:
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Return when the work under way is done or let go of; the event loop must go on meanwhile."""
        self.stopping.set()
        self._thread.join()

    @abstractmethod
    def _run(self) -> None: ...
