"""Rows of usage: one a request; their sums by time."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, insert, select

from luthier.core.usage import Group, Usage, UsageQuery, UsageTotal
from luthier.store.database import Database
from luthier.store.rows import write
from luthier.store.schema import jobs, projects, usage

GROUPS: Final = {name: usage.c[name] for name in ("project_id", "key_id", "model", "batch")}


def add(database: Database, row: Usage) -> None:
    """Add a request's row."""
    with database.transaction() as connection:
        connection.execute(insert(usage).values(**write(row)))


def totals(database: Database, organization_id: str, query: UsageQuery) -> list[UsageTotal]:
    """The organisation's requests, summed up by bucket and group, oldest first; embeddings are not among them."""
    bucket = (usage.c.created_at - usage.c.created_at % query.width_s).label("start")
    sums = [func.sum(usage.c[name]).label(name) for name in ("input_tokens", "cached_tokens", "output_tokens")]
    groups = [GROUPS[name] for name in query.group_by]
    where = [usage.c.endpoint != "embeddings", usage.c.created_at >= query.start, usage.c.created_at < query.end]
    for column, wanted in (
        (usage.c.project_id, query.project_ids),
        (usage.c.key_id, query.key_ids),
        (usage.c.model, query.models),
    ):
        where += [column.in_(wanted)] if wanted else []
    where += [usage.c.batch == query.batch] if query.batch is not None else []
    statement = (
        _of(organization_id, usage.c.project_id, select(bucket, *groups, func.count().label("requests"), *sums))
        .where(*where)
        .group_by(bucket, *groups)
        .order_by(bucket, *groups)
    )
    return _read(database, statement, query)


def trained(database: Database, organization_id: str, query: UsageQuery) -> list[UsageTotal]:
    """Tokens of the organisation's trainings by the bucket in which they ended; of no key, so a filter of keys has
    none."""
    if query.key_ids:
        return []
    bucket = (jobs.c.finished_at - jobs.c.finished_at % query.width_s).label("start")
    columns = {"project_id": jobs.c.project_id, "model": func.coalesce(jobs.c.fine_tuned_model, jobs.c.model)}
    groups = [columns[name].label(name) for name in query.group_by if name in columns]
    where = [jobs.c.trained_tokens > 0, jobs.c.finished_at >= query.start, jobs.c.finished_at < query.end]
    where += [jobs.c.project_id.in_(query.project_ids)] if query.project_ids else []
    summed = func.sum(jobs.c.trained_tokens).label("trained_tokens")
    statement = (
        _of(organization_id, jobs.c.project_id, select(bucket, *groups, summed))
        .where(*where)
        .group_by(bucket, *groups)
        .order_by(bucket, *groups)
    )
    return _read(database, statement, query)


def _of(organization_id: str, project_id: ColumnElement[str], statement: Select[Any]) -> Select[Any]:
    return statement.join(projects, projects.c.id == project_id).where(projects.c.organization_id == organization_id)


def _read(database: Database, statement: Select[Any], query: UsageQuery) -> list[UsageTotal]:
    with database.read() as connection:
        rows = [dict(row) for row in connection.execute(statement).mappings()]
    found = []
    for row in rows:
        group = Group(**{name: row.pop(name) for name in query.group_by if name in row})
        found.append(UsageTotal(group=group, **{name: int(value) for name, value in row.items()}))
    return found
