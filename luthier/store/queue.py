"""The order in which jobs are worked on: a share for each project. Knows statements, and no verbs.

The project of which the fewest jobs are worked on goes first; of several, the one that was served longest ago. Of a
project's own jobs the one with the highest priority goes first; of several, the oldest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Float,
    FromClause,
    ScalarSelect,
    Select,
    Subquery,
    and_,
    bindparam,
    func,
    or_,
    select,
    union_all,
)

from luthier.core.states import JobStatus
from luthier.store.schema import jobs, projects

NEAR: Final = 10  # up to here every change of a place is told, further back only a place halved or doubled
AT_ONCE: Final = 100
NOW: Final = bindparam("now", type_=Float)

Time = float | BindParameter[float]


def waiting(statuses: Sequence[JobStatus], now: Time) -> tuple[ColumnElement[bool], ...]:
    """Which jobs wait: nobody holds them."""
    return (*_unfinished(statuses), jobs.c.lease_until < now)


@cache
def first(statuses: tuple[JobStatus, ...]) -> Select[Any]:
    """`pk` of the first job of `places` that waits at the parameter `now`; nothing when none does.

    It looks at one waiting job of each project, so it costs as much as projects and held jobs there are.
    """
    held = (
        select(func.count())
        .where(*_unfinished(statuses), jobs.c.project_id == projects.c.id, jobs.c.lease_until >= NOW)
        .correlate(projects)
        .scalar_subquery()
    )
    heads = [
        select(jobs.c.pk, jobs.c.status, projects.c.served_at, held.label("held")).select_from(
            projects.join(jobs, jobs.c.pk == _head(status))
        )
        for status in statuses
    ]
    found = union_all(*heads).subquery().c
    order = ((found.status == "running").desc(), found.held, found.served_at, found.pk)
    return select(found.pk).order_by(*order).limit(1)


def places(statuses: Sequence[JobStatus], now: Time) -> Subquery:
    """`pk` and `place` of each job in these statuses, from 1; those that are worked on have the first places.

    Then come those whose runner died, for their trainer may be alive. It costs as much as jobs are unfinished.
    """
    held, orphan = jobs.c.lease_until >= now, jobs.c.status == "running"
    own = (held.desc(), orphan.desc(), jobs.c.priority.desc(), jobs.c.pk)
    row_number = func.row_number()
    turns = (
        select(
            jobs.c.pk,
            held.label("held"),
            orphan.label("orphan"),
            projects.c.served_at,
            row_number.over(partition_by=jobs.c.project_id, order_by=own).label("turn"),
            row_number.over(partition_by=(jobs.c.project_id, held), order_by=own).label("wait"),
        )
        .join(projects, projects.c.id == jobs.c.project_id)
        .where(*_unfinished(statuses))
        .subquery()
    ).c
    # In the same turn a project that has a job under way comes before one that has yet to be served: so will it be.
    order = (turns.held.desc(), turns.orphan.desc(), turns.turn, turns.wait, turns.served_at, turns.pk)
    return select(turns.pk, row_number.over(order_by=order).label("place")).subquery()


@cache
def untold() -> Select[Any]:
    """`pk`, `told_place` and `place` of the jobs that wait, at the parameter `now`, behind others to be trained, and
    whose place is news.

    A job gets few such events, however long the queue: some ten near its head, and one for each halving before.
    They are told so many at a time, the first of the queue first, that nobody's write waits long.
    """
    line = places(("queued", "running"), NOW)
    place, told = line.c.place, func.coalesce(jobs.c.told_place, 0)
    news = or_(place <= NEAR, place * 2 <= told, place >= told * 2)
    return (
        select(jobs.c.pk, jobs.c.told_place, place)
        .join(line, line.c.pk == jobs.c.pk)
        .where(*waiting(("queued",), NOW), place > 1, place != told, news)
        .order_by(place)
        .limit(AT_ONCE)
    )


def _head(status: JobStatus) -> ScalarSelect[int]:
    """`pk` of a project's oldest waiting job of the highest priority; each of both steps reads an index's end."""
    line, above = jobs.alias(), jobs.alias()

    def waits(row: FromClause) -> tuple[ColumnElement[bool], ...]:
        rests = () if status == "running" else (row.c.paused.is_(False),)
        mine = (row.c.finished_at.is_(None), row.c.status == status, *rests)
        return (*mine, row.c.project_id == projects.c.id, row.c.lease_until < NOW)

    highest = select(above.c.priority).where(*waits(above)).order_by(above.c.priority.desc()).limit(1)
    return (
        select(line.c.pk)
        .where(*waits(line), line.c.priority == highest.correlate(projects).scalar_subquery())
        .order_by(line.c.pk)
        .limit(1)
        .correlate(projects)
        .scalar_subquery()
    )


def _unfinished(statuses: Sequence[JobStatus]) -> tuple[ColumnElement[bool], ...]:
    """A paused one rests, but for one that runs: whoever held it is gone, and its trainer may be at work."""
    rests = and_(jobs.c.paused, jobs.c.status != "running")
    return (jobs.c.finished_at.is_(None), ~rests, jobs.c.status.in_(statuses))
