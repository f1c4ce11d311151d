"""The meter: what each request used, as one row. Knows no engine."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from luthier.core.errors import LuthierError
from luthier.core.patience import PATIENT
from luthier.core.projects import Caller
from luthier.core.usage import Usage
from luthier.domain.metrics import ANSWER_SECONDS, TOKENS
from luthier.store import usage
from luthier.store.database import Database

log = structlog.get_logger(__name__)


class Meter:
    """Runs from a request's arrival; `stop` writes its row, once."""

    def __init__(self, database: Database, caller: Caller, model: str, endpoint: str) -> None:
        self._database = database
        self._caller = caller
        self._model = model
        self._endpoint = endpoint
        self._started = time.perf_counter()
        self._created_at = int(time.time())
        self._stopped = False

    def stop(self, used: dict[str, Any]) -> None:
        """Write the row in a thread, without making the answer wait. `used` is a usage as on the wire."""
        if self._stopped:
            return
        self._stopped = True
        seconds = time.perf_counter() - self._started
        row = Usage(
            project_id=self._caller.project_id,
            key_id=self._caller.key_id,
            model=self._model,
            endpoint=self._endpoint,
            created_at=self._created_at,
            input_tokens=used.get("prompt_tokens", 0),
            cached_tokens=(used.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
            output_tokens=used.get("completion_tokens", 0),
            latency_ms=round(seconds * 1000),
            batch=PATIENT.get(),  # who can wait is a batch
        )
        ANSWER_SECONDS.labels(self._endpoint).observe(seconds)
        for kind, count in (
            ("input", row.input_tokens),
            ("cached", row.cached_tokens),
            ("output", row.output_tokens),
        ):
            TOKENS.labels(kind).inc(count)
        asyncio.get_running_loop().run_in_executor(None, _write, self._database, row)


def _write(database: Database, row: Usage) -> None:
    try:
        usage.add(database, row)
    except LuthierError as error:  # the answer is out already; its bill is in the log
        log.error("usage was not written", row=row, error=error.message)
