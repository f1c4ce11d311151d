"""Rows of evals. A deleted one takes its runs and their items along."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import delete, insert, select, update

from luthier.core.evals import Eval
from luthier.core.lists import Page, PageQuery
from luthier.store.database import Database
from luthier.store.rows import columns, found, page, reader, returned, write
from luthier.store.schema import evals

COLUMNS = columns(evals, Eval)


def create(database: Database, made: Eval) -> None:
    """Add an eval."""
    with database.transaction() as connection:
        connection.execute(insert(evals).values(**write(made)))


def get(database: Database, project_id: str, eval_id: str) -> Eval | None:
    """The eval, unless another project's."""
    statement = select(*COLUMNS).where(evals.c.id == eval_id, evals.c.project_id == project_id)
    return found(database, statement, reader(Eval))


def list_page(
    database: Database, project_id: str, query: PageQuery, *, order_by: Literal["created_at", "updated_at"]
) -> Page[Eval]:
    """The project's evals, by when they were made or last changed."""
    owner = evals.c.project_id == project_id
    by = None if order_by == "created_at" else evals.c.updated_at
    return page(database, evals, query, reader(Eval), selected=COLUMNS, owner=owner, sorted_by=by)


def change(
    database: Database, project_id: str, eval_id: str, *, now: int, name: str | None, metadata: dict[str, str] | None
) -> Eval | None:
    """Set what is given. None when the project has no such eval."""
    given = {"name": name, "metadata": metadata}
    statement = (
        update(evals)
        .where(evals.c.id == eval_id, evals.c.project_id == project_id)
        .values(updated_at=now, **{key: value for key, value in given.items() if value is not None})
        .returning(*COLUMNS)
    )
    return returned(database, statement, reader(Eval))


def remove(database: Database, project_id: str, eval_id: str) -> bool:
    """Delete an eval; whether there was one."""
    statement = delete(evals).where(evals.c.id == eval_id, evals.c.project_id == project_id)
    with database.transaction() as connection:
        return connection.execute(statement).rowcount > 0
