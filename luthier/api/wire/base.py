"""What all wire types share. Pydantic only: no verbs, no HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from luthier.core.lists import Order, PageQuery

UNSUPPORTED: Final = "unsupported_value"  # the error's code, and the type of Pydantic's error
X_UNSUPPORTED: Final = "x-unsupported"  # in the API document: `true`, or the values that are refused


class Body(BaseModel):
    """A request's body: a field that is not named here is refused, and no type is bent into another."""

    model_config = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class Unsupported:
    """Marks a field that cannot be honoured: any value but null and those of `but` is refused, by the field's path.

    The API document says so too, as `x-unsupported`.
    """

    but: tuple[object, ...] = ()
    why: str | None = None

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        shown = handler(schema)
        listed = _listed(shown)
        return {**shown, X_UNSUPPORTED: [value for value in listed if value not in self.but] if listed else True}

    def _check(self, value: object) -> object:
        if value is None or value in self.but:
            return value
        why = self.why or f"'{value}' cannot be had on this server" if isinstance(value, str) else self.why
        raise PydanticCustomError(UNSUPPORTED, "{why}", {"why": why or "it cannot be had on this server"})


def _listed(schema: JsonSchemaValue) -> list[object]:
    """The values that a JSON schema lists; none where it is open."""
    if schema.get("type") == "boolean":
        return [True, False]
    found: list[Any] = [schema["const"]] if "const" in schema else list(schema.get("enum", ()))
    return found + [value for branch in schema.get("anyOf", ()) for value in _listed(branch)]


class Query(BaseModel):
    """A request's query: everything is text, so numbers are read from it; an unknown parameter is refused."""

    model_config = ConfigDict(extra="forbid")


class Paged(Query):
    """A page of a list, newest first."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: str | None = None

    @property
    def wanted(self) -> PageQuery:
        """The page as the store asks for it."""
        return PageQuery(self.limit, self.after)


class Ordered(Paged):
    """A page of a list, in either order."""

    order: Order = "asc"

    @property
    def wanted(self) -> PageQuery:
        """The page as the store asks for it."""
        return PageQuery(self.limit, self.after, self.order)


class Answer(BaseModel):
    """What is sent back."""

    model_config = ConfigDict(extra="forbid")


class Identified(Answer):
    """An answer that a cursor can name."""

    id: str


def documented_query(query: type[Query]) -> dict[str, object]:
    """What the API document says of a query that its route reads by itself."""
    fields = query.model_json_schema()["properties"]
    return {"parameters": [{"name": name, "in": "query", "schema": schema} for name, schema in fields.items()]}


def filtered_by_metadata(query: type[Query]) -> dict[str, object]:
    """What the API document says of a list that `metadata[KEY]=VALUE` filters: no type says that, so routes read it."""
    metadata: JsonSchemaValue = {"type": "object", "additionalProperties": {"type": "string"}}
    filters = {"name": "metadata", "in": "query", "style": "deepObject", "explode": True, "schema": metadata}
    fields = query.model_json_schema()["properties"]
    return {"parameters": [*({"name": n, "in": "query", "schema": s} for n, s in fields.items()), filters]}


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


class ListedText(Listed[T], Generic[T]):
    """A page with the ids of its ends, where OpenAI's schema has text: the empty text on an empty page."""

    first_id: str
    last_id: str

    @classmethod
    def of(cls, data: list[T], has_more: bool) -> ListedText[T]:
        """The page of these objects, which have ids."""
        first, last = (data[0].id, data[-1].id) if data else ("", "")
        return cls(data=data, has_more=has_more, first_id=first, last_id=last)


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
