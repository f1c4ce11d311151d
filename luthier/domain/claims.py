"""What workers share: a thread that claims work under leases, and lanes in which many questions are asked at once.

Knows neither batches nor evals.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Generic, TypeVar

import structlog
from anyio import CapacityLimiter, Lock, create_task_group, sleep, to_thread

from luthier.core.errors import LuthierError
from luthier.core.ids import random_text
from luthier.domain.held import BEAT_S
from luthier.domain.looping import Looping

AT_ONCE: Final = 4  # small work does not wait for the end of large work
T = TypeVar("T")

log = structlog.get_logger(__name__)


class Claims(Looping, Generic[T]):
    """Claims work and does it, several at a time, in threads of this process; other processes may share the work."""

    def __init__(self, name: str, claim: Callable[[str], T | None], do: Callable[[T], None]) -> None:
        super().__init__(name)
        self._name = name
        self._claim = claim
        self._do = do
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{random_text(6)}"

    def _run(self) -> None:
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix=self._name) as pool:
            while not self.stopping.is_set():
                running = {future for future in running if not future.done()}
                work = None
                try:
                    if len(running) < AT_ONCE:
                        work = self._claim(self._owner)
                except LuthierError as error:
                    log.error("worker cannot reach its store", worker=self._name, error=error.message)
                except Exception:  # the thread's edge: it looks again
                    log.exception("worker failed unexpectedly", worker=self._name)
                if work is not None:
                    running.add(pool.submit(self._do, work))
                else:
                    self.stopping.wait(BEAT_S)


class Lanes:
    """Work on many things at once: of all callers together so many; an engine with fewer places lets them wait."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._slots = CapacityLimiter(at_once)

    async def each(self, things: Iterator[T], do: Callable[[T], Awaitable[None]], go_on: Callable[[], bool]) -> None:
        """Do each, until `go_on`, which is asked every beat in a thread, says no."""
        turn = Lock()

        async def lane() -> None:
            while True:
                async with self._slots:
                    async with turn:
                        thing = await to_thread.run_sync(next, things, None)
                    if thing is None:
                        return
                    await do(thing)

        async with create_task_group() as group:

            async def watch() -> None:
                while True:
                    await sleep(BEAT_S)
                    if not await to_thread.run_sync(go_on):
                        group.cancel_scope.cancel()

            group.start_soon(watch)
            async with create_task_group() as lanes:
                for _ in range(self._at_once):
                    lanes.start_soon(lane)
            group.cancel_scope.cancel()
