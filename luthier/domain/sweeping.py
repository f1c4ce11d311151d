"""What time takes away: expired files and uploads, old answers, bytes of deleted rows, leavings of killed writers.

A thread of the server's process.
"""

from __future__ import annotations

from typing import Final

import structlog

from luthier.core.errors import LuthierError
from luthier.domain import files, responses, retention, uploads
from luthier.domain.looping import Looping
from luthier.domain.platform import Platform
from luthier.store import answers

EVERY_S: Final = 60.0
ANSWERS_LIVE_S: Final = 30 * 24 * 3600  # what models said in evals; then the same is asked anew

log = structlog.get_logger(__name__)


class Sweeper(Looping):
    """Sweeps when it starts, and every minute. Several processes may: what one has swept, another finds swept."""

    def __init__(self, platform: Platform) -> None:
        super().__init__("sweeper")
        self._platform = platform

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._platform.blobs.remove_stale()
                files.sweep(self._platform.database, self._platform.blobs)
                uploads.sweep(self._platform.database, self._platform.blobs)
                responses.sweep(self._platform)
                retention.sweep(self._platform)
                answers.forget(self._platform.database, before=self._platform.database.now() - ANSWERS_LIVE_S)
            except LuthierError as error:
                log.error("sweeper cannot reach its store", error=error.message)
            except Exception:  # a thread's edge: what was not swept now is swept in a minute
                log.exception("sweeping failed unexpectedly")
            self.stopping.wait(EVERY_S)
