"""What all wire types share. Pydantic only: no verbs, no HTTP."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Body(BaseModel):
    """A request's body: a field that is not named here is refused, and no type is bent into another."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Query(BaseModel):
    """A request's query: everything is text, so numbers are read from it; an unknown parameter is refused."""

    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    """What is sent back."""

    model_config = ConfigDict(extra="forbid")


class Identified(Answer):
    """An answer that a cursor can name."""

    id: str


T = TypeVar("T", bound=Identified)


class Listed(Answer, Generic[T]):
    """A page, where the API names no ends."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool


class ListedEnds(Listed[T], Generic[T]):
    """A page with the ids of its ends, null on an empty one."""

    first_id: str | None
    last_id: str | None

    @classmethod
    def of(cls, data: list[T], has_more: bool) -> ListedEnds[T]:
        """The page of these objects, which have ids."""
        ids = [item.id for item in data]
        return cls(data=data, has_more=has_more, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None)


class Deleted(Answer):
    """The object is gone."""

    id: str
    object: str
    deleted: Literal[True] = True


class ErrorDetail(Answer):
    """What went wrong, in OpenAI's codes and words."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(Answer):
    """Every answer that is not a success."""

    error: ErrorDetail


Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]
