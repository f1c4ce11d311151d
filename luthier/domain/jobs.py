"""Fine-tuning jobs as their users see them: created, listed, cancelled, paused, resumed. Runs none of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.ids import new_id
from luthier.core.jobs import Asked, Checkpoint, Job, JobEvent, MethodName, NewEvent
from luthier.core.json import JsonObject
from luthier.core.lists import Page, PageQuery
from luthier.core.projects import Caller
from luthier.core.run import RunFolder
from luthier.domain import held_out, models, reporting
from luthier.domain.notify import job_finished_items
from luthier.domain.platform import Platform
from luthier.store import checkpoints, events, files, jobs
from luthier.store.database import Database

PRIORITY: Final = "luthier_priority"  # a key of a job's metadata, for OpenAI has no field for it
PRIORITIES: Final = [str(number) for number in range(-10, 11)]


@dataclass(frozen=True)
class NewJob:
    """What a caller asks for. `seed` None: one is drawn."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: MethodName = "supervised"
    hyperparameters: dict[str, Asked] = field(default_factory=dict)
    suffix: str | None = None
    seed: int | None = None
    metadata: dict[str, str] | None = None
    integrations: list[JsonObject] = field(default_factory=list)


def create(platform: Platform, caller: Caller, asked: NewJob) -> Job:
    """Accept a job. Bad data is no error here: the job starts, and fails with the line.

    Errors: `NotFound` for an unknown model; `InvalidRequest` for one that cannot be tuned and for files that are not
    there or of another purpose, of an integration that is not installed, of a priority or a share that is none.
    """
    reporting.check(asked.integrations)
    resolved = models.resolve(platform, caller.project_id, asked.model)
    if resolved.tuned is not None:
        raise InvalidRequest(
            f"{asked.model} is a tuned model; training starts from its base, {resolved.base}.",
            code="unsupported_value",
            param="model",
        )
    if not platform.engines.tunes(resolved.base):
        raise InvalidRequest(
            f"{resolved.base} cannot be tuned here: a server elsewhere answers for it, which loads no adapters.",
            code="unsupported_value",
            param="model",
        )
    _check_file(platform.database, caller.project_id, asked.training_file, "training_file")
    if asked.validation_file is not None:
        _check_file(platform.database, caller.project_id, asked.validation_file, "validation_file")
    held_out.check(asked.metadata or {}, asked.validation_file)
    job = Job(
        id=new_id("job"),
        project_id=caller.project_id,
        organization_id=caller.organization_id,
        organization=caller.organization,
        created_at=int(platform.database.now()),
        status="validating_files",
        model=resolved.base,
        method=asked.method,
        hyperparameters=asked.hyperparameters,
        seed=random.randrange(1 << 31) if asked.seed is None else asked.seed,
        training_file=asked.training_file,
        validation_file=asked.validation_file,
        suffix=asked.suffix,
        metadata=asked.metadata or None,
        priority=_priority(asked.metadata or {}),
        integrations=asked.integrations,
    )
    beside = f" and validation file: {asked.validation_file}" if asked.validation_file else ""
    said = [
        NewEvent("created", f"Created fine-tuning job: {job.id}"),
        NewEvent("validating", f"Validating training file: {asked.training_file}{beside}"),
    ]
    return jobs.create(platform.database, job, said=said)


def get(database: Database, project_id: str, job_id: str) -> Job:
    """The job. Errors: `NotFound`."""
    job = jobs.get(database, project_id, job_id)
    if job is None:
        raise NotFound(f"Could not find fine tune: {job_id}", code="fine_tune_not_found", param="fine_tune_id")
    return job


def list_page(
    database: Database, project_id: str, query: PageQuery, *, metadata: Mapping[str, str] | None, plain: bool
) -> Page[Job]:
    """The project's jobs; with all pairs of `metadata`, or with none at all (`plain`)."""
    return jobs.list_page(database, project_id, query, metadata=metadata, plain=plain)


def list_events(database: Database, project_id: str, job_id: str, query: PageQuery) -> Page[JobEvent]:
    """What happened to a job. Errors: `NotFound`."""
    get(database, project_id, job_id)
    return events.list_page(database, project_id, job_id, query)


def list_checkpoints(database: Database, project_id: str, job_id: str, query: PageQuery) -> Page[Checkpoint]:
    """A job's usable states. Errors: `NotFound`."""
    get(database, project_id, job_id)
    return checkpoints.list_page(database, project_id, job_id, query)


def cancel(platform: Platform, project_id: str, job_id: str) -> Job:
    """End the job now; its trainer stops within a step. A cancelled one is answered as it is.

    Errors: `NotFound`; `InvalidRequest` once it has succeeded or failed.
    """
    job = get(platform.database, project_id, job_id)
    now = platform.database.now()
    cancelled = jobs.request_cancel(
        platform.database,
        project_id,
        job_id,
        now=now,
        said=[NewEvent("cancelled", "Fine-tuning job cancelled")],
        outbox_items=job_finished_items(platform, replace(job, status="cancelled", finished_at=int(now))),
    )
    if cancelled is not None:
        run = RunFolder(platform.settings.runs / job_id)
        with suppress(OSError):  # its runner will see it too, unless that was killed
            run.raise_fence(cancelled.fence)
        return cancelled
    return _unless_ended(get(platform.database, project_id, job_id), "cancelled", "cancelled")


def pause(platform: Platform, project_id: str, job_id: str) -> Job:
    """Let the job rest until it is resumed. Its status stays one that OpenAI's clients know; its events tell.

    Errors: `NotFound`; `InvalidRequest` once it has ended.
    """
    words = "Pause requested: the job rests after its present step until it is resumed"
    return _set_paused(platform, project_id, job_id, True, words, "paused")


def resume(platform: Platform, project_id: str, job_id: str) -> Job:
    """Let a paused job go on from its last step. Errors: as `pause`."""
    return _set_paused(platform, project_id, job_id, False, "Job resumed", "resumed")


def _set_paused(platform: Platform, project_id: str, job_id: str, paused: bool, words: str, verb: str) -> Job:
    get(platform.database, project_id, job_id)
    said = [NewEvent(None, words)]
    changed = jobs.set_paused(platform.database, project_id, job_id, paused, now=platform.database.now(), said=said)
    return changed or _unless_ended(get(platform.database, project_id, job_id), None, verb)


def _unless_ended(job: Job, wanted: str | None, verb: str) -> Job:
    """A job that needed no change; the error for one that can have none."""
    if job.final and job.status != wanted:
        raise InvalidRequest(f"Job {job.id} has already {_past(job)} and cannot be {verb}.", code="invalid_job_status")
    return job


def _past(job: Job) -> str:
    return "been cancelled" if job.status == "cancelled" else job.status


def _priority(metadata: Mapping[str, str]) -> int:
    """What the job's metadata says of its place among the project's own."""
    given = metadata.get(PRIORITY, "0")
    if given not in PRIORITIES:
        raise InvalidRequest(
            f"Invalid 'metadata.{PRIORITY}': '{given}'; give a whole number from {PRIORITIES[0]} to {PRIORITIES[-1]}.",
            code="invalid_value",
            param=f"metadata.{PRIORITY}",
        )
    return int(given)


def _check_file(database: Database, project_id: str, file_id: str, param: str) -> None:
    file = files.get(database, project_id, file_id)
    if file is None:
        raise InvalidRequest(f"invalid {param}: {file_id}: no such file.", code="invalid_value", param=param)
    if file.purpose != "fine-tune":
        raise InvalidRequest(
            f"invalid {param}: {file_id} has the purpose '{file.purpose}'; upload it with the purpose 'fine-tune'.",
            code="invalid_value",
            param=param,
        )
