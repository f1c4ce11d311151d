"""Fine-tuning on the wire: jobs, events, checkpoints, permissions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from luthier.api.wire.base import Answer, Body, Identified, Metadata, Paged, Unsupported
from luthier.core.errors import InvalidRequest
from luthier.core.jobs import Asked, Checkpoint, Job, JobEvent
from luthier.core.json import JsonObject
from luthier.core.lists import PageQuery
from luthier.core.models import Permission
from luthier.core.quotes import Quote
from luthier.domain.jobs import NewJob

Auto = Literal["auto"]
BatchSize = Auto | Annotated[int, Field(ge=1, le=256)]
Multiplier = Auto | Annotated[float, Field(gt=0)]
Epochs = Auto | Annotated[int, Field(ge=1, le=50)]
Beta = Auto | Annotated[float, Field(gt=0, le=2)]

REINFORCEMENT: str = "reinforcement fine-tuning is not available on this server; use 'supervised' or 'dpo'"


class Hyperparameters(Body):
    """Numbers, or `auto`."""

    batch_size: BatchSize | None = None
    learning_rate_multiplier: Multiplier | None = None
    n_epochs: Epochs | None = None

    def asked(self) -> dict[str, Asked]:
        """Each number by name; what is not given is `auto`."""
        return {name: "auto" if value is None else value for name, value in self.model_dump().items()}


class DpoHyperparameters(Hyperparameters):
    """DPO has one more."""

    beta: Beta | None = None


class Supervised(Body):
    """How to imitate."""

    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)


class Dpo(Body):
    """How to prefer."""

    hyperparameters: DpoHyperparameters = Field(default_factory=DpoHyperparameters)


class Method(Body):
    """How to train."""

    type: Annotated[
        Literal["supervised", "dpo", "reinforcement"], Unsupported(but=("supervised", "dpo"), why=REINFORCEMENT)
    ]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: Annotated[JsonObject | None, Unsupported(why=REINFORCEMENT)] = None


class Wandb(Body):
    """Where Weights & Biases keeps the run."""

    project: str
    name: str | None = None
    entity: str | None = None
    tags: list[str] = Field(default_factory=list)


class Integration(Body):
    """Where else metrics go."""

    type: Literal["wandb"]
    wandb: Wandb


class CreateJob(Body):
    """A job to run."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    metadata: Metadata | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    integrations: Annotated[list[Integration], Field(max_length=5)] | None = None

    def to_job(self) -> NewJob:
        """What is asked for. Errors: `InvalidRequest` for what cannot be honoured."""
        method = self.method or Method(type="supervised")
        return NewJob(
            model=self.model,
            training_file=self.training_file,
            validation_file=self.validation_file,
            method="dpo" if method.type == "dpo" else "supervised",
            hyperparameters=self._hyperparameters(method),
            suffix=self.suffix,
            seed=self.seed,
            metadata=self.metadata,
            integrations=[integration.model_dump() for integration in self.integrations or ()],
        )

    def _hyperparameters(self, method: Method) -> dict[str, Asked]:
        chosen: Supervised | Dpo
        other: Supervised | Dpo | None
        if method.type == "dpo":
            chosen, other, name = method.dpo or Dpo(), method.supervised, "supervised"
        else:
            chosen, other, name = method.supervised or Supervised(), method.dpo, "dpo"
        if other is not None:
            raise InvalidRequest(
                f"'method.{name}' cannot be given with the method '{method.type}'.",
                code="invalid_value",
                param=f"method.{name}",
            )
        asked = chosen.hyperparameters.asked()
        if self.hyperparameters is None:
            return asked
        older = self.hyperparameters.asked()
        for name, value in older.items():
            if "auto" not in (value, asked[name]) and value != asked[name]:
                raise InvalidRequest(
                    f"'hyperparameters.{name}' says {value}, 'method' says {asked[name]}; give one, best in 'method'.",
                    code="invalid_value",
                    param=f"hyperparameters.{name}",
                )
        return {name: older.get(name, value) if value == "auto" else value for name, value in asked.items()}


class ListQuery(Paged):
    """A page of a job's events, or of jobs; their metadata filter is read beside it."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 20


class CheckpointQuery(ListQuery):
    """A page of checkpoints."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 10


class PermissionQuery(CheckpointQuery):
    """A page of permissions; the order is written out, other than elsewhere."""

    project_id: str | None = None
    order: Literal["ascending", "descending"] = "descending"

    @property
    def wanted(self) -> PageQuery:
        """The page as the store asks for it."""
        return PageQuery(self.limit, self.after, "asc" if self.order == "ascending" else "desc")


class ErrorAnswer(Answer):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class MethodHyperparametersAnswer(Answer):
    """The numbers of a method."""

    hyperparameters: dict[str, Asked]


class MethodAnswer(Answer):
    """How a job trains; only its own method is there."""

    type: Literal["supervised", "dpo"]
    supervised: MethodHyperparametersAnswer | None = Field(default=None, exclude_if=lambda value: value is None)
    dpo: MethodHyperparametersAnswer | None = Field(default=None, exclude_if=lambda value: value is None)


class JobAnswer(Identified):
    """A job."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    error: ErrorAnswer | None
    estimated_finish: int | None
    fine_tuned_model: str | None
    finished_at: int | None
    hyperparameters: dict[str, Asked]
    integrations: list[JsonObject]
    metadata: dict[str, str] | None
    method: MethodAnswer
    model: str
    organization_id: str
    quote: Quote | None  # what OpenAI has no field for: its metadata are the user's
    result_files: list[str]
    seed: int
    status: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
    trained_tokens: int | None
    training_file: str
    user_provided_suffix: str | None
    validation_file: str | None

    @staticmethod
    def of(job: Job) -> JobAnswer:
        """The job on the wire."""
        numbers: dict[str, Asked] = {**job.hyperparameters, **(job.resolved or {})}
        chosen = MethodHyperparametersAnswer(hyperparameters=numbers)
        method = MethodAnswer(
            type=job.method,
            supervised=chosen if job.method == "supervised" else None,
            dpo=chosen if job.method == "dpo" else None,
        )
        error = job.error
        return JobAnswer(
            id=job.id,
            created_at=job.created_at,
            error=ErrorAnswer(code=error.code, message=error.message, param=error.param) if error else None,
            estimated_finish=job.estimated_finish,
            fine_tuned_model=job.fine_tuned_model,
            finished_at=job.finished_at,
            hyperparameters={name: value for name, value in numbers.items() if name != "beta"},
            integrations=job.integrations,
            metadata=job.metadata,
            method=method,
            model=job.model,
            organization_id=job.organization_id,
            quote=job.quote,
            result_files=job.result_files,
            seed=job.seed,
            status=job.status,
            trained_tokens=job.trained_tokens,
            training_file=job.training_file,
            user_provided_suffix=job.suffix,
            validation_file=job.validation_file,
        )


class EventAnswer(Identified):
    """One thing that happened to a job."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: JsonObject

    @staticmethod
    def of(event: JobEvent) -> EventAnswer:
        """The event on the wire."""
        return EventAnswer(
            id=event.id,
            created_at=event.created_at,
            level=event.level,
            message=event.message,
            type=event.type,
            data=event.data,
        )


class CheckpointAnswer(Identified):
    """A usable state of a job's model."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, int | float]
    step_number: int

    @staticmethod
    def of(checkpoint: Checkpoint) -> CheckpointAnswer:
        """The checkpoint on the wire."""
        return CheckpointAnswer(
            id=checkpoint.id,
            created_at=checkpoint.created_at,
            fine_tuned_model_checkpoint=checkpoint.model,
            fine_tuning_job_id=checkpoint.job_id,
            metrics=checkpoint.metrics,
            step_number=checkpoint.step,
        )


class CreatePermissions(Body):
    """Which projects may call a checkpoint."""

    project_ids: Annotated[list[str], Field(min_length=1, max_length=100)]


class PermissionAnswer(Identified):
    """One project's permission."""

    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    created_at: int
    project_id: str

    @staticmethod
    def of(permission: Permission) -> PermissionAnswer:
        """The permission on the wire."""
        return PermissionAnswer(id=permission.id, created_at=permission.created_at, project_id=permission.project_id)
