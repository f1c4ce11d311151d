"""What workers share: a thread that claims work under leases, what becomes of work that goes wrong, and lanes in which
many questions are asked at once.

Knows neither batches nor evals.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

import structlog
from anyio import CapacityLimiter, Lock, create_task_group, sleep, to_thread

from luthier.core.errors import LuthierError, Unavailable
from luthier.core.ids import worker_name
from luthier.domain.lease import BEAT_S, LeaseLost
from luthier.domain.looping import Crew

AT_ONCE: Final = 4  # small work does not wait for the end of large work
T = TypeVar("T")

log = structlog.get_logger(__name__)


class Claims(Crew[T]):
    """Claims work, one by one, as an owner that no other process is: they may share the work."""

    def __init__(
        self, name: str, claim: Callable[[str], T | None], do: Callable[[T], None], bell: threading.Event
    ) -> None:
        owner = worker_name()

        def take(_free: int) -> list[T]:
            claimed = claim(owner)
            return [] if claimed is None else [claimed]

        super().__init__(name, AT_ONCE, take, do, bell)


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
