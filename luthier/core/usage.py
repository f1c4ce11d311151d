"""What requests used, one by one and in all. Knows no prices and no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """Tokens and time of one request. `input_tokens` include the `cached_tokens`, which were not computed anew."""

    project_id: str
    key_id: str
    model: str
    endpoint: str
    created_at: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    latency_ms: int
    batch: bool = False  # whether a batch asked


@dataclass(frozen=True)
class UsageQuery:
    """Buckets of `width_s` from `start` up to, not including, `end`, both multiples of it; unix seconds.

    `group_by` are names of `Group`; an empty sequence is no filter.
    """

    start: int
    end: int
    width_s: int
    group_by: Sequence[str] = ()
    project_ids: Sequence[str] = ()
    key_ids: Sequence[str] = ()
    models: Sequence[str] = ()
    batch: bool | None = None


@dataclass(frozen=True)
class Group:
    """What is summed up in one total; None where it was not asked to tell these apart."""

    project_id: str | None = None
    key_id: str | None = None
    model: str | None = None
    batch: bool | None = None


@dataclass(frozen=True)
class UsageTotal:
    """The requests of one bucket and group. Of trainings, `trained_tokens` alone is set."""

    start: int
    group: Group
    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    trained_tokens: int = 0
