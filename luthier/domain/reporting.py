"""Metrics for Weights & Biases, sent by a child process that follows the run folder: a job neither waits for it nor
fails with it. Knows no trainer."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Final, cast

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.core.jobs import NewEvent
from luthier.core.json import JsonObject
from luthier.core.run import RunFolder, last_words
from luthier.domain.held import Held
from luthier.store import jobs

LAST_S: Final = 10.0  # that a trained job waits for what was not sent yet; then the child goes on alone


def check(integrations: Sequence[JsonObject]) -> None:
    """Errors: `InvalidRequest` with the line that installs what is missing."""
    if integrations and find_spec("wandb") is None:
        raise InvalidRequest(
            "This server has no client of Weights & Biases: install it there with pip install wandb, or "
            "leave 'integrations' out. The job's events and its result file have all metrics.",
            code="unsupported_value",
            param="integrations",
        )


@dataclass(frozen=True)
class Told:
    """What the child is told: a run folder, and how Weights & Biases is to name its run and file it."""

    run: str
    id: str
    project: str
    name: str
    entity: str | None
    tags: list[str]
    config: JsonObject


@contextlib.contextmanager
def reported(held: Held) -> Iterator[None]:
    """Inside, what the trainer says goes to the places that the job names."""
    children = [_start(held.run, _told(held, integration)) for integration in held.job.integrations]
    watchers = [threading.Thread(target=_watch, args=(held, child), daemon=True) for child in children]
    for watcher in watchers:
        watcher.start()
    try:
        yield
    finally:
        for child in children:
            assert child.stdin is not None
            child.stdin.close()
        until = time.monotonic() + LAST_S
        for watcher in watchers:
            watcher.join(max(0.0, until - time.monotonic()))


def _told(held: Held, integration: JsonObject) -> Told:
    """OpenAI's tags and names, so that what reads them finds them."""
    job, wandb = held.job, cast(dict[str, Any], integration["wandb"])
    asked: JsonObject = {"model": job.model, "method": job.method, "seed": job.seed, "training_file": job.training_file}
    return Told(
        run=str(held.run.path),
        id=job.id,
        project=wandb["project"],
        name=wandb["name"] or job.id,
        entity=wandb["entity"],
        tags=[*wandb["tags"], "openai/finetune", f"openai/{job.model}", f"openai/{job.id}"],
        config={**asked, "validation_file": job.validation_file, **(job.resolved or {})},
    )


def _start(run: RunFolder, told: Told) -> subprocess.Popen[bytes]:
    with run.wandb_log.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "luthier.domain.wandb_child"],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it is dead already; its watcher tells why
        child.stdin.write(json.dumps(asdict(told)).encode() + b"\n")
    return child


def _watch(held: Held, child: subprocess.Popen[bytes]) -> None:
    """Wait for the child, and tell the job's owner when it failed."""
    if child.wait() == 0:
        return
    message = f"Weights & Biases did not get all metrics: {last_words(held.run.wandb_log)}"
    said = NewEvent(f"wandb-{held.job.fence}", message, "warn")
    database = held.platform.database
    with contextlib.suppress(Unavailable):
        jobs.change(database, held.job.id, held.job.fence, now=database.now(), said=[said])
