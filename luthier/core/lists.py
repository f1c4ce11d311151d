"""Pages of lists: what a client asks for, and what it gets. The cursor is the id of the last object seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from luthier.core.errors import InvalidRequest
from luthier.core.json import JsonObject

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


def page_of(objects: list[JsonObject], query: PageQuery, noun: str) -> Page[JsonObject]:
    """A page of a whole list, oldest first, of objects with ids. Errors: `InvalidRequest` for the cursor."""
    if query.order == "desc":
        objects = objects[::-1]
    if query.after is not None:
        places = [place for place, one in enumerate(objects) if one["id"] == query.after]
        if not places:
            raise InvalidRequest(
                f"No {noun} with id '{query.after}' to continue after.", code="invalid_value", param="after"
            )
        objects = objects[places[0] + 1 :]
    return Page(objects[: query.limit], len(objects) > query.limit)
