"""Rows to frozen values, and pages of them. Knows tables by their columns only.

A `Made` makes a value of a row: `reader` of most classes, a function of one's own where a field is not as its column.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    FromClause,
    RowMapping,
    Table,
    delete,
    select,
    tuple_,
    update,
)

from luthier.core.errors import InvalidRequest
from luthier.core.lists import Page, PageQuery
from luthier.store.database import Database

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
V = TypeVar("V")
Made = Callable[[RowMapping], V]
ROWS_AT_ONCE: Final = 200
ENDS_KEPT: Final = 10_000  # 12 MB


class _Ends:
    """Where pages ended that others follow: who deletes what a page lists goes on after a row that is gone.

    Kept in this process: after a restart, or where another server on the database gave the page, such a cursor is
    refused. Threads share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: OrderedDict[tuple[str, ...], tuple[ColumnElement[bool], Sequence[Any]]] = OrderedDict()

    def keep(self, id_: str, keys: Sequence[ColumnElement[Any]], owner: ColumnElement[bool], at: Sequence[Any]) -> None:
        """A page of this owner's, in the order of these keys, ended with this id, whose keys are `at`."""
        with self._lock:
            self._ends[id_, *map(str, keys)] = (owner, at)
            self._ends.move_to_end((id_, *map(str, keys)))
            if len(self._ends) > ENDS_KEPT:
                self._ends.popitem(last=False)

    def find(self, id_: str, keys: Sequence[ColumnElement[Any]], owner: ColumnElement[bool]) -> Sequence[Any] | None:
        """The keys of the row with this id when a page of the owner's ended with it."""
        with self._lock:
            whose, at = self._ends.get((id_, *map(str, keys)), (None, None))
        return at if whose is not None and whose.compare(owner) else None


_ENDS: Final = _Ends()


def columns(table: Table, value: type[DataclassInstance]) -> list[Column[Any]]:
    """The columns that a value of this class is read from: those with its fields' names."""
    return [table.c[field.name] for field in fields(value)]


def read(value: type[T], row: Mapping[Any, Any]) -> T:
    """The value in a row that has all its fields."""
    return value(**{field.name: row[field.name] for field in fields(value)})


def reader(value: type[T]) -> Made[T]:
    """What reads values of this class."""
    return partial(read, value)


def write(value: DataclassInstance) -> dict[str, Any]:
    """The value as an insert's parameters."""
    return asdict(value)


def first(connection: Connection, statement: Executable, made: Made[V]) -> V | None:
    """The first row that a statement gives inside a transaction."""
    row = connection.execute(statement).mappings().first()
    return None if row is None else made(row)


def found(database: Database, statement: Executable, made: Made[V]) -> V | None:
    """The first row of a query."""
    with database.read() as connection:
        return first(connection, statement, made)


def listed(database: Database, statement: Executable, made: Made[V]) -> list[V]:
    """All rows of a query."""
    with database.read() as connection:
        return [made(row) for row in connection.execute(statement).mappings()]


def returned(database: Database, statement: Executable, made: Made[V]) -> V | None:
    """The row that a change gives back, committed; None when it changed none."""
    with database.transaction() as connection:
        return first(connection, statement, made)


def claimed(
    database: Database,
    table: Table,
    waiting: Sequence[ColumnElement[bool]],
    values: Mapping[str, Any],
    selected: Sequence[ColumnElement[Any]],
    made: Made[V],
) -> V | None:
    """Change the oldest row that waits, which nobody else gets then; None when none does."""
    oldest = select(table.c.pk).where(*waiting).order_by(table.c.pk).limit(1)
    with database.read() as connection:  # most looks find nothing, and a look should lock nothing
        if connection.scalar(oldest) is None:
            return None
    free = oldest.with_for_update(skip_locked=True).scalar_subquery()  # SQLite has one writer, and no such words
    return returned(database, update(table).where(table.c.pk == free).values(**values).returning(*selected), made)


def remove_all(database: Database, key: Column[Any], where: Sequence[ColumnElement[bool]]) -> None:
    """Delete rows by their keys, so many at a time, and looked for before the lock is taken: nobody is kept waiting."""
    some = select(key).where(*where).limit(ROWS_AT_ONCE)
    found = ROWS_AT_ONCE
    while found == ROWS_AT_ONCE:
        with database.read() as connection:
            keys = connection.scalars(some).all()
        found = len(keys)
        if keys:
            with database.transaction() as connection:
                connection.execute(delete(key.table).where(*where, key.in_(keys)))


def each(
    database: Database,
    table: Table,
    *,
    selected: Sequence[ColumnElement[Any]],
    where: Sequence[ColumnElement[bool]],
) -> Iterator[RowMapping]:
    """All rows, oldest first and with their `pk`, read so many at a time: nobody is kept waiting."""
    last = 0
    while True:
        statement = select(table.c.pk, *selected).where(table.c.pk > last, *where).order_by(table.c.pk)
        with database.read() as connection:
            rows = connection.execute(statement.limit(ROWS_AT_ONCE)).mappings().all()
        yield from rows
        if len(rows) < ROWS_AT_ONCE:
            return
        last = rows[-1]["pk"]


def page(
    database: Database,
    table: Table,
    query: PageQuery,
    made: Made[V],
    *,
    selected: Sequence[ColumnElement[Any]],
    owner: ColumnElement[bool],
    where: Sequence[ColumnElement[bool]] = (),
    source: FromClause | None = None,
    position: ColumnElement[int] | None = None,
    sorted_by: ColumnElement[Any] | None = None,
) -> Page[V]:
    """One page. `owner` limits what the cursor may name; `where` filters.

    `source` and `position` walk another index than the table's own: a join with the table's `pk` under another name.
    `sorted_by` is a column that rows are listed by, those with the same value by their age.
    Errors: `InvalidRequest` when the cursor names nothing that the owner has, nor had at the end of a page (`_Ends`).
    """
    position = table.c.pk if position is None else position
    keys = [position] if sorted_by is None else [sorted_by, position]
    places = [key.label(f"_key_{number}") for number, key in enumerate(keys)]
    statement = (
        select(*selected, table.c.id.label("_id"), *places)
        .select_from(source if source is not None else table)
        .where(owner, *where)
    )
    order = [key.asc() if query.order == "asc" else key.desc() for key in keys]
    statement = statement.order_by(*order).limit(query.limit + 1)
    with database.read() as connection:
        if query.after is not None:
            named = [table.c.pk] if sorted_by is None else [sorted_by, table.c.pk]
            standing = connection.execute(select(*named).where(table.c.id == query.after, owner)).first()
            cursor = _ENDS.find(query.after, keys, owner) if standing is None else standing
            if cursor is None:
                raise InvalidRequest(
                    f"No object with id '{query.after}' to continue after.", code="invalid_value", param="after"
                )
            here, there = tuple_(*keys), tuple_(*cursor)
            statement = statement.where(here > there if query.order == "asc" else here < there)
        rows = connection.execute(statement).mappings().all()
    if has_more := len(rows) > query.limit:
        last = rows[query.limit - 1]
        _ENDS.keep(last["_id"], keys, owner, [last[place.name] for place in places])
    return Page([made(row) for row in rows[: query.limit]], has_more)
