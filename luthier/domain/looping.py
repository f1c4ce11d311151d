"""Threads that work until they are told to stop. Know no work in particular."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

import structlog

from luthier.core.errors import LuthierError

REST_S: Final = 3.0  # a look takes half a millisecond of the cores that models answer on

T = TypeVar("T")

log = structlog.get_logger(__name__)


@contextmanager
def logged(what: str) -> Iterator[None]:
    """Work that is tried again later, and keeps nothing else waiting: what goes wrong is logged."""
    try:
        yield
    except (LuthierError, OSError) as error:
        log.error(what, error=getattr(error, "message", "") or str(error))


class Looping:
    """Looks for work in a thread of this process: again at once where `look` gave True, else when `bell` or `ring`
    tells of news, or after `rest_s`: for what other processes bring, what falls due, and leases that run out.

    A look that fails is logged and followed by another. What a look began and did not end is found again by a later
    one, of this process or another: leases run out.
    """

    rest_s = REST_S

    def __init__(self, name: str, look: Callable[[], bool], bell: threading.Event) -> None:
        self.name = name
        self.stopping = threading.Event()
        self._look = look
        self._bell = bell
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Return when the work under way is done or let go of; the event loop must go on meanwhile."""
        self.stopping.set()
        self.ring()
        self._thread.join()

    def ring(self) -> None:
        """There may be something to do."""
        self._bell.set()

    def _run(self) -> None:
        while not self.stopping.is_set():
            self._bell.clear()
            more = False
            try:
                more = self._look()
            except LuthierError as error:
                log.error("a worker cannot reach its store", worker=self.name, error=error.message)
            except Exception:  # the thread's edge: it looks again
                log.exception("a worker failed unexpectedly", worker=self.name)
            if not more and not self.stopping.is_set():
                self._bell.wait(self.rest_s)


class Crew(Looping, Generic[T]):
    """Takes work, as much as it has hands free, and does it in threads. Stopped, it ends what it has begun."""

    def __init__(
        self,
        name: str,
        hands: int,
        take: Callable[[int], Sequence[T]],
        do: Callable[[T], None],
        bell: threading.Event,
    ) -> None:
        super().__init__(name, self._begin, bell)
        self._hands = hands
        self._take = take
        self._do = do
        self._pool = ThreadPoolExecutor(hands, thread_name_prefix=name)
        self._running: set[Future[None]] = set()

    def stop(self) -> None:
        super().stop()
        self._pool.shutdown()

    def _begin(self) -> bool:
        self._running = {future for future in self._running if not future.done()}
        free = self._hands - len(self._running)
        begun = [self._pool.submit(self._do, one) for one in (self._take(free) if free else ())]
        self._running.update(begun)
        for future in begun:
            future.add_done_callback(self._done)
        return bool(begun)

    def _done(self, future: Future[None]) -> None:
        if (error := future.exception()) is not None:
            log.error("work failed unexpectedly, and is taken up again", worker=self.name, exc_info=error)
        self.ring()
