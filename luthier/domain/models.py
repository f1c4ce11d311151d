"""Models by name: bases, aliases, tuned models and their checkpoints. Knows no engine."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

from luthier.core.errors import Forbidden, InvalidRequest, NotFound, Unavailable
from luthier.core.models import TunedModel
from luthier.core.run import RunFolder
from luthier.core.settings import Settings
from luthier.domain.bases import Bases
from luthier.domain.platform import Platform
from luthier.store import aliases, jobs, models
from luthier.store.database import Database


@dataclass(frozen=True)
class Resolved:
    """What a name stands for: a base, and the tuned model whose adapter is to be put on it, if any."""

    base: str
    tuned: TunedModel | None = None


@dataclass(frozen=True)
class ModelCard:
    """A model as lists show it."""

    name: str
    created_at: int
    owned_by: str


def resolve(platform: Platform, project_id: str, name: str) -> Resolved:
    """What a project may call by this name. Errors: `NotFound`, also for what others keep to themselves."""
    target = name if name in platform.bases.names() else target_of(platform, project_id, name)
    if target in platform.bases.names():
        return Resolved(target)
    tuned = models.find(platform.database, target, project_id)
    if tuned is None:
        raise missing(name)
    return Resolved(tuned.base, tuned)


def require_base(platform: Platform, resolved: Resolved) -> None:
    """Errors: `Unavailable` where a model was trained on another file than the one that has its base's name now."""
    tuned = resolved.tuned
    if tuned is not None and tuned.base_sha256 != platform.bases.source(tuned.base).sha256:
        raise Unavailable(
            f"{tuned.name} was trained on another file of {tuned.base} (SHA-256 {tuned.base_sha256}) than the settings "
            "now name; name that one again, or train anew"
        )


def require_free(name: str, settings: Settings, bases: Bases, database: Database) -> None:
    """Errors: `InvalidRequest` for a name that means something already: a base, a model of any project, an alias."""
    if name in {*bases.names(), *settings.aliases}:
        what = "a base model or an alias of the settings"
    elif models.is_taken(database, name):
        what = "a tuned model, or was one"
    elif aliases.is_taken(database, name):
        what = "an alias"
    else:
        return
    raise InvalidRequest(f"{name} is {what}; choose another name")


def target_of(platform: Platform, project_id: str, name: str) -> str:
    """Where an alias points, the project's before the settings'; any other name is its own."""
    moves = aliases.history(platform.database, project_id, name, limit=1)
    return (moves[0].model if moves else None) or platform.settings.aliases.get(name, name)


def cards(platform: Platform, project_id: str) -> list[ModelCard]:
    """Bases, aliases, and the project's own tuned models and checkpoints."""
    return [
        *(_base_card(platform, name) for name in platform.bases.names()),
        *(_base_card(platform, name) for name in _aliases(platform, project_id)),
        *(_tuned_card(platform, model) for model in models.list_all(platform.database, project_id)),
    ]


def card(platform: Platform, project_id: str, name: str) -> ModelCard:
    """One model. Errors: `NotFound`."""
    if name in platform.bases.names() or name in _aliases(platform, project_id):
        return _base_card(platform, name)
    tuned = resolve(platform, project_id, name).tuned
    if tuned is None:
        raise missing(name)
    return _tuned_card(platform, tuned)


def delete(platform: Platform, project_id: str, name: str) -> None:
    """Delete a tuned model of the project: its name answers no more, its adapter is removed.

    Errors: `NotFound`; `Forbidden` for a base; `InvalidRequest` for a checkpoint that a job still works with.
    """
    if name in platform.bases.names() or name in _aliases(platform, project_id):
        raise Forbidden(
            f"{name} is a base model or an alias; only tuned models can be deleted.",
            code="model_not_deletable",
            param="model",
        )
    model = models.find(platform.database, name, project_id)
    if model is None or model.project_id != project_id:
        raise missing(name)
    job = jobs.get(platform.database, project_id, model.job_id) if model.job_id else None
    if job is not None and not job.final:
        raise InvalidRequest(f"Job {job.id} still works with {name}; cancel it or wait for its end.", param="model")
    if models.delete(platform.database, project_id, name, now=int(time.time())) is None:
        raise missing(name)
    if model.job_id and model.step is None:
        RunFolder(platform.settings.runs / model.job_id).probe.unlink(missing_ok=True)  # it has three of the examples
    place = model.adapter if model.job_id else model.id  # an imported one has a folder of its own
    shutil.rmtree(platform.settings.runs / place, ignore_errors=True)


def missing(name: str) -> NotFound:
    """The error for a model that is not there, or not for the caller to know of."""
    return NotFound(
        f"The model `{name}` does not exist or you do not have access to it.", code="model_not_found", param="model"
    )


def _aliases(platform: Platform, project_id: str) -> list[str]:
    own = [alias.name for alias in aliases.list_all(platform.database, project_id)]
    return sorted({*platform.settings.aliases, *own})


def _base_card(platform: Platform, name: str) -> ModelCard:
    return ModelCard(name, platform.project.created_at, "system")


def _tuned_card(platform: Platform, model: TunedModel) -> ModelCard:
    return ModelCard(model.name, model.created_at, platform.project.organization)
