"""Rows to frozen values, and pages of them. Knows tables by their columns only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, FromClause, RowMapping, Table, select

from luthier.core.errors import InvalidRequest
from luthier.core.lists import PageQuery

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def columns(table: Table, value: type[DataclassInstance]) -> list[Column[Any]]:
    """The columns that a value of this class is read from: those with its fields' names."""
    return [table.c[field.name] for field in fields(value)]


def read(value: type[T], row: Mapping[Any, Any]) -> T:
    """The value in a row that has all its fields."""
    return value(**{field.name: row[field.name] for field in fields(value)})


def write(value: DataclassInstance) -> dict[str, Any]:
    """The value as an insert's parameters."""
    return asdict(value)


def page(
    connection: Connection,
    table: Table,
    query: PageQuery,
    *,
    selected: Sequence[ColumnElement[Any]],
    owner: ColumnElement[bool],
    where: Sequence[ColumnElement[bool]] = (),
    source: FromClause | None = None,
    position: ColumnElement[int] | None = None,
) -> tuple[list[RowMapping], bool]:
    """One page's rows, and whether another follows. `owner` limits what the cursor may name; `where` filters.

    `source` and `position` walk another index than the table's own: a join with the table's `pk` under another name.
    Errors: `InvalidRequest` when the cursor names nothing that the owner has.
    """
    position = table.c.pk if position is None else position
    statement = select(*selected).select_from(source if source is not None else table).where(owner, *where)
    if query.after is not None:
        cursor = connection.scalar(select(table.c.pk).where(table.c.id == query.after, owner))
        if cursor is None:
            raise InvalidRequest(
                f"No object with id '{query.after}' to continue after.", code="invalid_value", param="after"
            )
        statement = statement.where(position > cursor if query.order == "asc" else position < cursor)
    statement = statement.order_by(position.asc() if query.order == "asc" else position.desc()).limit(query.limit + 1)
    rows = list(connection.execute(statement).mappings())
    return rows[: query.limit], len(rows) > query.limit
