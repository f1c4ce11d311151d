"""What a trainer says in its run folder, in OpenAI's words: events and checkpoints. Knows no process and no lease."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from luthier.core.ids import new_id
from luthier.core.jobs import Checkpoint, Job, NewEvent
from luthier.core.json import JsonObject
from luthier.core.models import TunedModel
from luthier.core.names import TunedName, clean_suffix
from luthier.core.prices import Price, price_of
from luthier.core.quotes import Takes
from luthier.core.run import RunEvent, RunSpec

QUOTE_WEIGHS: Final = 5  # as much as so many steps that were made, for what is left to do
CHECKPOINT_METRICS: Final = (
    "step",
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)
_LOSSES: Final = {
    "train_loss": "training loss",
    "valid_loss": "validation loss",
    "full_valid_loss": "full validation loss",
}


def model_name(job: Job) -> TunedName:
    """The name that the job's model will have; the same however often its runner dies on the way."""
    return TunedName(
        job.model, clean_suffix(job.organization), clean_suffix(job.suffix or ""), job.id.removeprefix("ftjob-")[:8]
    )


def event_of(event: RunEvent) -> NewEvent | None:
    """The job's event for a trainer's metrics or warning; None for what is told elsewhere."""
    match event.kind:
        case "metrics":
            losses = ", ".join(f"{words}={event.data[key]:.2f}" for key, words in _LOSSES.items() if key in event.data)
            message = f"Step {event.step}/{event.data['total_steps']}: {losses}"
            return NewEvent(f"step-{event.step}", message, type="metrics", data=event.data)
        case "warning":
            # Memory may run out several times in a step, each time with fewer tokens.
            budget = f"-{event.data['token_budget']}" if "token_budget" in event.data else ""
            return NewEvent(f"warning-{event.step}{budget}", str(event.data["message"]), "warn")
        case _:
            return None


def checkpoint_of(job: Job, spec: RunSpec, event: RunEvent) -> tuple[Checkpoint, TunedModel, NewEvent]:
    """The usable model at a step: its row, its name and its event."""
    name = str(model_name(job).at_step(event.step))
    created_at = int(event.created_at)
    metrics = {k: v for k, v in event.data.items() if k in CHECKPOINT_METRICS and isinstance(v, (int, float))}
    checkpoint = Checkpoint(new_id("checkpoint"), job.id, created_at, name, event.step, metrics)
    adapter = f"{job.id}/checkpoints/step-{event.step}/adapter"
    model = model_of(job, spec, name=name, adapter=adapter, created_at=created_at, step=event.step)
    said = NewEvent(
        f"checkpoint-{event.step}", f"Checkpoint created at step {event.step} with Snapshot ID: {name}", data={}
    )
    return checkpoint, model, said


def model_of(
    job: Job, spec: RunSpec, *, name: str, adapter: str, created_at: int, step: int | None = None
) -> TunedModel:
    """A name that answers by an adapter below the runs folder."""
    return TunedModel(
        id=new_id("model"),
        name=name,
        project_id=job.project_id,
        job_id=job.id,
        base=spec.base_name,
        base_sha256=spec.base_sha256,
        adapter=adapter,
        created_at=created_at,
        step=step,
    )


def takes_of(job: Job, event: RunEvent, prices: Mapping[str, Price]) -> Takes:
    """What a trainer's quote, or its end, says that training takes."""
    data: dict[str, Any] = event.data
    tokens = data["trained_tokens"]
    dollars = tokens * price_of(str(model_name(job)), prices).training / 1e6
    return Takes(data["seconds"], data["peak_memory_bytes"], tokens, dollars)


def seconds_left(event: RunEvent, quoted_s: float) -> float:
    """From a step to the trainer's end: by the trainer's quote at first, more and more by the run's own pace."""
    data: dict[str, Any] = event.data
    total, spent_s = int(data["total_steps"]), float(data["elapsed_seconds"])
    pace_s = (QUOTE_WEIGHS * quoted_s / total + spent_s) / (QUOTE_WEIGHS + event.step)
    return pace_s * (total - event.step)


def failure_of(data: JsonObject) -> tuple[str, str, str | None]:
    """Code, message and param of a trainer's last event."""
    param = data.get("param")
    return str(data.get("code") or "server_error"), str(data.get("message")), str(param) if param else None
