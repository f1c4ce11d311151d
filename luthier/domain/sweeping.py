"""What time takes away: expired files and uploads, old answers, bytes of deleted rows, leavings of killed writers.

A thread of the server's process.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Final

from luthier.domain import files, responses, retention, uploads
from luthier.domain.looping import Looping, logged
from luthier.domain.platform import Platform
from luthier.store import answers

EVERY_S: Final = 60.0
ANSWERS_LIVE_S: Final = 30 * 24 * 3600  # what models said in evals; then the same is asked anew


class Sweeper(Looping):
    """Sweeps when it starts, and every minute. Several processes may: what one has swept, another finds swept."""

    rest_s = EVERY_S

    def __init__(self, platform: Platform) -> None:
        super().__init__("sweeper", self._sweep, threading.Event())
        self._platform = platform
        self._swept: set[str] = set()  # run folders

    def _sweep(self) -> bool:
        platform, database = self._platform, self._platform.database
        for sweep in (
            platform.blobs.remove_stale,
            partial(files.sweep, database, platform.blobs),
            partial(uploads.sweep, database, platform.blobs),
            partial(responses.sweep, platform),
            partial(retention.sweep, platform, self._swept),
            lambda: answers.forget(database, before=database.now() - ANSWERS_LIVE_S),
        ):
            with logged("not all was swept"):
                sweep()
        return False
