"""Pages of lists: what a client asks for, and what it gets. The cursor is the id of the last object seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Order = Literal["asc", "desc"]


@dataclass(frozen=True)
class PageQuery:
    """`limit` objects after the one named `after`, oldest (`asc`) or newest (`desc`) first."""

    limit: int = 20
    after: str | None = None
    order: Order = "desc"


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page; `has_more` says whether another follows."""

    items: list[T]
    has_more: bool
