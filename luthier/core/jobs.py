"""Fine-tuning jobs, their events and checkpoints as values. The ways between states are in `core/states.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from luthier.core.json import JsonObject
from luthier.core.quotes import Quote
from luthier.core.states import FINAL, JobStatus

MethodName = Literal["supervised", "dpo"]
EventLevel = Literal["info", "warn", "error"]
EventType = Literal["message", "metrics"]
Asked = Literal["auto"] | int | float

HELD_OUT: Final = "luthier_held_out"  # a key of a job's metadata: the share of its training file to measure on


@dataclass(frozen=True)
class JobError:
    """Why a job failed, in OpenAI's code and words; `param` names the file that is to blame, if one is."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True)
class Job:
    """A fine-tuning job.

    `hyperparameters` are as asked, `auto` included; `resolved` are numbers, None until the job starts.
    `fence` counts claims: whoever holds an older one may write nothing. A paused job is claimed by nobody,
    unless its runner died before it saw that. `priority` orders a project's own jobs, the highest first.
    """

    id: str
    project_id: str
    organization_id: str
    organization: str
    created_at: int
    status: JobStatus
    model: str
    method: MethodName
    hyperparameters: dict[str, Asked]
    seed: int
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    metadata: dict[str, str] | None = None
    integrations: list[JsonObject] = field(default_factory=list)
    resolved: dict[str, int | float] | None = None
    estimated_finish: int | None = None
    finished_at: int | None = None
    trained_tokens: int | None = None
    quote: Quote | None = None
    result_files: list[str] = field(default_factory=list)
    error: JobError | None = None
    fine_tuned_model: str | None = None
    paused: bool = False
    priority: int = 0
    fence: int = 0
    lease_owner: str | None = None
    lease_until: float = 0.0

    @property
    def measured(self) -> bool:
        """Whether rows are there that are not trained on."""
        return self.validation_file is not None or HELD_OUT in (self.metadata or {})

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in FINAL


@dataclass(frozen=True)
class NewEvent:
    """An event to add. `key`, such as `step-60`, names it in its job: said twice, it is kept once; None may repeat."""

    key: str | None
    message: str
    level: EventLevel = "info"
    type: EventType = "message"
    data: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class JobEvent:
    """One thing that happened to a job."""

    id: str
    job_id: str
    created_at: int
    level: EventLevel
    message: str
    type: EventType
    data: JsonObject


@dataclass(frozen=True)
class Checkpoint:
    """A usable state of the model at an optimiser step. `metrics` has OpenAI's names, and only what was measured."""

    id: str
    job_id: str
    created_at: int
    model: str
    step: int
    metrics: dict[str, int | float]
