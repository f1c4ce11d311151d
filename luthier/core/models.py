"""Tuned models and who may call their checkpoints. Knows no weights: an adapter is a path below the runs folder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TunedModel:
    """A name that answers: a job's result or, with `step`, one of its checkpoints; of no job, an imported adapter.

    `id` is never reused, so it may name the adapter in an engine's caches. `adapter` is relative to the runs folder.
    """

    id: str
    name: str
    project_id: str
    job_id: str | None
    base: str
    base_sha256: str
    adapter: str
    created_at: int
    step: int | None = None


@dataclass(frozen=True)
class Alias:
    """From `created_at` on `name` points to `model`, in its project; to nothing when None. `key_id` moved it."""

    project_id: str
    name: str
    model: str | None
    key_id: str
    created_at: int


@dataclass(frozen=True)
class Permission:
    """`project_id` may call `checkpoint`, a model of `owner_project_id`."""

    id: str
    checkpoint: str
    owner_project_id: str
    project_id: str
    created_at: int
