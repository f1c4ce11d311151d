"""What time takes away: expired files and uploads, old answers, bytes of deleted rows, leavings of killed writers.

A thread of the server's process.
"""

from __future__ import annotations

from typing import Final

from luthier.domain import files, responses, retention, uploads
from luthier.domain.looping import Looping
from luthier.domain.platform import Platform
from luthier.store import answers

EVERY_S: Final = 60.0
ANSWERS_LIVE_S: Final = 30 * 24 * 3600  # what models said in evals; then the same is asked anew


class Sweeper(Looping):
    """Sweeps when it starts, and every minute. Several processes may: what one has swept, another finds swept."""

    rest_s = EVERY_S

    def __init__(self, platform: Platform) -> None:
        super().__init__("sweeper", self._sweep)
        self._platform = platform

    def _sweep(self) -> bool:
        self._platform.blobs.remove_stale()
        files.sweep(self._platform.database, self._platform.blobs)
        uploads.sweep(self._platform.database, self._platform.blobs)
        responses.sweep(self._platform)
        retention.sweep(self._platform)
        answers.forget(self._platform.database, before=self._platform.database.now() - ANSWERS_LIVE_S)
        return False
