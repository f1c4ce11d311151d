"""Rows of eval runs and their items. Whoever works on a run holds it under a lease; every write names the fence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.sql.elements import ColumnElement

from luthier.core.evals import FINAL, EvalRun, ItemStatus, ModelUsage, OutputItem, RunStatus
from luthier.core.json import JsonObject
from luthier.core.lists import Page, PageQuery
from luthier.core.outbox import OutboxItem
from luthier.store import outbox
from luthier.store.database import Database, announce
from luthier.store.rows import claimed, columns, first, found, page, read, reader, write
from luthier.store.schema import eval_items as items
from luthier.store.schema import eval_runs as runs

COLUMNS: Final = columns(runs, EvalRun)
ITEM_COLUMNS: Final = columns(items, OutputItem)


def create(database: Database, run: EvalRun) -> None:
    """Add a run."""
    with database.transaction() as connection:
        connection.execute(insert(runs).values(**write(run)))
        announce(connection, "eval_run")


def get(database: Database, project_id: str, eval_id: str, run_id: str) -> EvalRun | None:
    """The eval's run, unless another project's."""
    return found(database, select(*COLUMNS).where(*_own(project_id, eval_id, run_id)), _read)


def list_page(database: Database, eval_id: str, query: PageQuery, status: RunStatus | None) -> Page[EvalRun]:
    """An eval's runs, of one status where it is given."""
    where = [] if status is None else [runs.c.status == status]
    return page(database, runs, query, _read, selected=COLUMNS, owner=runs.c.eval_id == eval_id, where=where)


def remove(database: Database, project_id: str, eval_id: str, run_id: str) -> bool:
    """Delete a run with its items; whether there was one."""
    with database.transaction() as connection:
        return connection.execute(delete(runs).where(*_own(project_id, eval_id, run_id))).rowcount > 0


def claim(database: Database, owner: str, *, now: float, lease_s: float) -> EvalRun | None:
    """Take the oldest unfinished run whose lease is free or over; None when there is none."""
    waiting = (runs.c.finished_at.is_(None), runs.c.lease_until < now)
    values = {"lease_owner": owner, "lease_until": now + lease_s, "fence": runs.c.fence + 1}
    return claimed(database, runs, waiting, {**values, "status": "in_progress"}, COLUMNS, _read)


def heartbeat(database: Database, run: EvalRun, *, now: float, lease_s: float) -> bool:
    """Hold the lease longer. False: it is lost, or the run was canceled or deleted."""
    with database.transaction() as connection:
        return connection.execute(update(runs).where(*_held(run)).values(lease_until=now + lease_s)).rowcount > 0


def release(database: Database, run: EvalRun) -> None:
    """Give the lease back: anybody may claim the run at once."""
    with database.transaction() as connection:
        connection.execute(update(runs).where(*_held(run)).values(lease_owner=None, lease_until=0.0))


def record(database: Database, run: EvalRun, item: OutputItem) -> bool:
    """Keep what became of a row, and the run's counts with it. False: the run is no longer ours, nothing was kept."""
    counts = {"passed": run.passed, "failed": run.failed, "errored": run.errored, "criteria": run.criteria}
    usage = [asdict(used) for used in run.usage]
    with database.transaction() as connection:
        if connection.execute(update(runs).where(*_held(run)).values(**counts, usage=usage)).rowcount == 0:
            return False
        connection.execute(insert(items).values(**write(item)))
    return True


def finish(
    database: Database,
    run: EvalRun,
    status: RunStatus,
    error: JsonObject | None,
    told: Sequence[OutboxItem],
    *,
    now: float,
) -> bool:
    """End a run that we hold. False: it is no longer ours."""
    return _end(database, _held(run), status, error, told, now) is not None


def cancel(
    database: Database, project_id: str, eval_id: str, run_id: str, told: Sequence[OutboxItem], *, now: float
) -> EvalRun | None:
    """End a run early; whoever works on it sees that. None when it has ended, or is not there."""
    where = (*_own(project_id, eval_id, run_id), runs.c.finished_at.is_(None))
    return _end(database, where, "canceled", None, told, now)


def recorded(database: Database, run_id: str) -> set[int]:
    """The rows that have items."""
    with database.read() as connection:
        return set(connection.scalars(select(items.c.row).where(items.c.run_id == run_id)))


def get_item(database: Database, run_id: str, item_id: str) -> OutputItem | None:
    """One of a run's items."""
    statement = select(*ITEM_COLUMNS).where(items.c.id == item_id, items.c.run_id == run_id)
    return found(database, statement, reader(OutputItem))


def list_items(database: Database, run_id: str, query: PageQuery, status: ItemStatus | None) -> Page[OutputItem]:
    """A run's items, of one status where it is given."""
    where = [] if status is None else [items.c.status == status]
    return page(
        database, items, query, reader(OutputItem), selected=ITEM_COLUMNS, owner=items.c.run_id == run_id, where=where
    )


def _end(
    database: Database,
    where: Sequence[ColumnElement[bool]],
    status: RunStatus,
    error: JsonObject | None,
    told: Sequence[OutboxItem],
    now: float,
) -> EvalRun | None:
    assert status in FINAL
    values: dict[str, Any] = {"status": status, "error": error, "finished_at": int(now)}
    values |= {"lease_owner": None, "lease_until": 0.0}
    with database.transaction() as connection:
        statement = update(runs).where(*where).values(**values).returning(*COLUMNS)
        ended = first(connection, statement, _read)
        if ended is not None:
            outbox.insert_items(connection, told)
    return ended


def _own(project_id: str, eval_id: str, run_id: str) -> tuple[ColumnElement[bool], ...]:
    return (runs.c.id == run_id, runs.c.eval_id == eval_id, runs.c.project_id == project_id)


def _held(run: EvalRun) -> tuple[ColumnElement[bool], ...]:
    return (runs.c.id == run.id, runs.c.fence == run.fence, runs.c.finished_at.is_(None))


def _read(row: RowMapping) -> EvalRun:
    criteria = {name: (passed, failed) for name, (passed, failed) in row["criteria"].items()}
    return read(EvalRun, {**row, "usage": [ModelUsage(**used) for used in row["usage"]], "criteria": criteria})
