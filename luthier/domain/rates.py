"""How many requests a project may send. Counted in this process: several servers on one database allow so many each."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from luthier.core.errors import RateLimited

MINUTE_S: Final = 60.0


@dataclass(frozen=True)
class Standing:
    """Where a project stands after a request: `remaining` of `limit`, all of them again in `reset_s`."""

    limit: int
    remaining: int
    reset_s: float


class RequestRates:
    """A leaky bucket a project: a whole minute's requests at once at most, flowing back evenly (GCRA, ITU-T I.371)."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._each_s = MINUTE_S / per_minute
        self._empty_at: dict[str, float] = {}  # when all that a project spent has flowed back
        self._lock = threading.Lock()

    def spend(self, project_id: str, *, now: float) -> Standing:
        """Count a request. Errors: `RateLimited` when there are none left, with the wait until there is one."""
        with self._lock:
            spent_s = max(self._empty_at.get(project_id, now) - now, 0.0) + self._each_s
            if spent_s > MINUTE_S:
                raise RateLimited(
                    f"Rate limit reached for requests: {self._limit} per minute in this project. "
                    f"Please try again in {spent_s - MINUTE_S:.3f}s.",
                    retry_after_s=spent_s - MINUTE_S,
                )
            self._empty_at[project_id] = now + spent_s
        return self._standing(spent_s)

    def standing(self, project_id: str, *, now: float) -> Standing:
        """Where the project stands, without a request."""
        with self._lock:
            return self._standing(max(self._empty_at.get(project_id, now) - now, 0.0))

    def _standing(self, spent_s: float) -> Standing:
        return Standing(self._limit, int((MINUTE_S - spent_s) / self._each_s), spent_s)
