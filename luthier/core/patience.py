"""Who can wait: background work sets `PATIENT` in its task, and whoever hands out places lets others go first."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

PATIENT: Final[ContextVar[bool]] = ContextVar("patient", default=False)
