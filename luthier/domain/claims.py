"""What workers share: a thread that claims work under leases, what becomes of work that goes wrong, and lanes in which
many questions are asked at once.

Knows neither batches nor evals.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Final, Generic, TypeVar

import structlog
from anyio import CapacityLimiter, Lock, create_task_group, sleep, to_thread

from luthier.core.errors import LuthierError, Unavailable
from luthier.core.ids import random_text
from luthier.domain.held import BEAT_S, LeaseLost
from luthier.domain.looping import Looping

AT_ONCE: Final = 4  # small work does not wait for the end of large work
T = TypeVar("T")

log = structlog.get_logger(__name__)


class Claims(Looping, Generic[T]):
    """Claims work and does it, several at a time, in threads of this process; other processes may share the work."""

    def __init__(self, name: str, claim: Callable[[str], T | None], do: Callable[[T], None]) -> None:
        super().__init__(name, self._begin, rest_s=BEAT_S)
        self._claim = claim
        self._do = do
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{random_text(6)}"
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix=name)
        self._running: set[Future[None]] = set()

    def stop(self) -> None:
        super().stop()
        self._pool.shutdown()

    def _begin(self) -> bool:
        self._running = {future for future in self._running if not future.done()}
        work = self._claim(self._owner) if len(self._running) < AT_ONCE else None
        if work is None:
            return False
        self._running.add(self._pool.submit(self._do, work))
        return True


@contextmanager
def at_work(kind: str, id_: str, fail: Callable[[str], None]) -> Iterator[None]:
    """A thread's work on what it claimed. What goes wrong ends here: `fail` puts it in words for the user."""
    try:
        yield
    except* LeaseLost:
        log.info(f"{kind} let go", id=id_)
    except* (Unavailable, OSError) as errors:  # the store is away: the lease runs out, and it is claimed again
        log.error(f"{kind} cannot reach its store", id=id_, errors=str(errors.exceptions))
    except* Exception:  # the thread's edge: the work fails in words, the traceback is logged
        log.exception(f"{kind} failed unexpectedly", id=id_)
        with suppress(LuthierError, LeaseLost):
            fail(f"The {kind} failed due to an internal error; the server's log has it under {id_}.")


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
