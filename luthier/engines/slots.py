"""Places in an engine, given out in the order they were asked for, to those who can wait after all others.

Knows no engine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from luthier.core.patience import PATIENT

# Beside a batch of 15 streams on two cores, chats one after another began after 1.2 s without this, 0.2 s with it.
LINGER_S: Final = 5.0


class Slots:
    """`total` places. One who wants several gets them at once, and nobody overtakes: large requests do not starve.

    Who can wait (`PATIENT`) leaves one place free; while others are served, and a little longer, they are served one
    after another: who asked once is likely to ask again, and would find the machine busy with them.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._quiet_at = 0.0  # in the loop's time: when those who can wait may have all places but one
        self._taken = {False: 0, True: 0}  # by those who cannot wait, and by those who can
        self._lines: dict[bool, deque[tuple[int, asyncio.Future[None]]]] = {False: deque(), True: deque()}

    @property
    def free(self) -> int:
        """Places that nobody holds."""
        return self.total - sum(self._taken.values())

    @property
    def crowded(self) -> bool:
        """Whether some wait who would not if there were more places."""
        lingering = bool(self._taken[False]) or asyncio.get_running_loop().time() < self._quiet_at
        return bool(self._lines[False]) or (bool(self._lines[True]) and not lingering)

    @asynccontextmanager
    async def take(self, count: int) -> AsyncIterator[None]:
        """Hold `count` places, at most `total`. Cancelling gives up the place in the line."""
        patient = PATIENT.get()
        count = min(count, self.total - 1 if patient and self.total > 1 else self.total)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines[patient].append((count, turn))
        self._serve()
        try:
            await turn
            yield
        finally:
            if not turn.cancelled():
                self._taken[patient] -= count
            if not patient:
                loop = asyncio.get_running_loop()
                self._quiet_at = loop.time() + LINGER_S
                loop.call_later(LINGER_S, self._serve)
            self._serve()

    def _serve(self) -> None:
        for patient in (False, True):
            line = self._lines[patient]
            while line and (line[0][1].cancelled() or self._fits(line[0][0], patient)):
                count, turn = line.popleft()
                if not turn.cancelled():  # one who went away stays in the line until here
                    self._taken[patient] += count
                    turn.set_result(None)
            if line:
                return

    def _fits(self, count: int, patient: bool) -> bool:
        others, waiters = self._taken[False], self._taken[True]
        if not patient:
            return others + waiters + count <= self.total
        if others or asyncio.get_running_loop().time() < self._quiet_at:
            return waiters == 0 and others + count <= self.total
        return waiters == 0 or waiters + count < self.total
