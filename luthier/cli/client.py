"""Upload, tune, wait: three functions on the official `openai` package, so that they work against OpenAI as well.

Knows standard API calls only, and nothing of how a terminal looks: `told` gets each event of a job as it happens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypedDict, Unpack

from openai import APIConnectionError, InternalServerError, OpenAI
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from luthier.core.errors import InvalidRequest, JobFailed
from luthier.core.settings import Access, Settings, find_access, load
from luthier.core.states import FINAL

if TYPE_CHECKING:
    from openai.types.fine_tuning import job_create_params

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
Told = Callable[[FineTuningJobEvent], None]

DEFAULT_MODEL: Final = Settings.default_base
SHORTEST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
FEW: Final = 20  # events: more than are new, as a rule
OUTAGE_S: Final = 120.0  # a server that restarts goes on with its jobs; so do those who watch them


class TuneOptions(TypedDict, total=False):
    """How to tune; what is absent the server chooses."""

    model: str
    suffix: str | None
    validation_file: str | None
    seed: int | None
    method: Literal["supervised", "dpo"]
    n_epochs: int | None
    batch_size: int | None
    learning_rate_multiplier: float | None
    beta: float | None
    metadata: dict[str, str] | None


def connect(access: Access | None = None) -> OpenAI:
    """A client of the server that the environment names, or of this machine's. Errors: `Unauthenticated`: no key."""
    access = access or find_access(load())
    return OpenAI(base_url=access.base_url, api_key=access.api_key)


def _using(client: OpenAI | None) -> AbstractContextManager[OpenAI]:
    """The caller's client, left open; without one our own, closed after use."""
    return connect() if client is None else nullcontext(client)


def upload_file(
    path: str | Path, *, purpose: Purpose = "fine-tune", client: OpenAI | None = None, progress: bool = False
) -> FileObject:
    """Upload a file; `progress` shows a bar. Its `id` is what `fine_tune` wants.

    Errors: `InvalidRequest` when there is no such file; the client's own where the server refuses it.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidRequest(f"{path}: no such file")
    from luthier.cli.display import upload_bar

    with _using(client) as client, upload_bar(path) if progress else path.open("rb") as file:
        return client.files.create(file=(path.name, file), purpose=purpose)


def create_job(client: OpenAI, training_file: str, **options: Unpack[TuneOptions]) -> FineTuningJob:
    """Start a job and do not wait for it."""
    numbers = {
        name: value
        for name in ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")
        if (value := options.get(name)) is not None
    }
    kind = options.get("method", "supervised")
    method: job_create_params.Method = {"type": kind, kind: {"hyperparameters": numbers}}  # type: ignore[misc]  # one key of two
    return client.fine_tuning.jobs.create(
        training_file=training_file,
        model=options.get("model", DEFAULT_MODEL),
        method=method,
        suffix=options.get("suffix"),
        validation_file=options.get("validation_file"),
        seed=options.get("seed"),
        metadata=options.get("metadata"),
    )


def fine_tune(
    training_file: str,
    *,
    client: OpenAI | None = None,
    progress: bool = False,
    told: Told | None = None,
    **options: Unpack[TuneOptions],
) -> FineTuningJob:
    """Tune a model on an uploaded file and wait for the end; `progress` shows a bar and the losses.

    Returns the job; its `fine_tuned_model` is the name to call. Errors: `JobFailed` when it ended otherwise.
    """
    with _using(client) as client:
        job = create_job(client, training_file, **options)
        return wait_for(client, job.id, progress=progress, told=told)


def fine_tune_data(
    path: str | Path,
    *,
    validation: str | Path | None = None,
    client: OpenAI | None = None,
    progress: bool = False,
    told: Told | None = None,
    **options: Unpack[TuneOptions],
) -> FineTuningJob:
    """Upload the data and tune on it: `upload_file` and `fine_tune` in one."""
    with _using(client) as client:
        if validation is not None:
            options["validation_file"] = upload_file(validation, client=client, progress=progress).id
        file = upload_file(path, client=client, progress=progress)
        return fine_tune(file.id, client=client, progress=progress, told=told, **options)


def wait_for(client: OpenAI, job_id: str, *, progress: bool = False, told: Told | None = None) -> FineTuningJob:
    """Follow a job to its end. Errors: `JobFailed` with the job's own words when it failed or was cancelled."""
    from luthier.cli.display import tuning_bar

    with tuning_bar() if progress else nullcontext() as bar:
        listeners = [listener for listener in (bar, told) if listener is not None]
        job = follow(client, job_id, lambda event: [listener(event) for listener in listeners])
    if job.status != "succeeded":
        error = job.error
        words = error.message if error and error.message else f"The job was {job.status}."
        raise JobFailed(f"{job.id}: {words}", code=error.code if error else None, param=error.param if error else None)
    return job


def follow(client: OpenAI, job_id: str, told: Callable[[FineTuningJobEvent], object]) -> FineTuningJob:
    """The job at its end; `told` gets every event once, in order. An outage of two minutes is waited out."""
    seen: set[str] = set()
    started = answered = time.monotonic()
    while True:
        try:
            job = client.fine_tuning.jobs.retrieve(job_id)  # before its events, so that a final job's are all there
            for event in new_events(client, job_id, seen):
                told(event)
            if job.status in FINAL:
                return job
            answered = time.monotonic()
        except (APIConnectionError, InternalServerError):
            if time.monotonic() - answered > OUTAGE_S:
                raise
        # A twentieth of the time waited so far: quick for the quick, easy on the server for the slow, which may train.
        time.sleep(min(max((time.monotonic() - started) / 20, SHORTEST_PAUSE_S), LONGEST_PAUSE_S))


def new_events(client: OpenAI, job_id: str, seen: set[str]) -> Iterator[FineTuningJobEvent]:
    """The events that are not in `seen` yet, oldest first; adds them."""
    fresh: list[FineTuningJobEvent] = []
    for event in client.fine_tuning.jobs.list_events(job_id, limit=FEW if seen else 100):  # newest first, page by page
        if event.id in seen:
            break
        fresh.append(event)
    seen.update(event.id for event in fresh)
    yield from reversed(fresh)
