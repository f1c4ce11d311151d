"""Rows of things to do, written in the transaction of what they follow from, claimed until done or given up.

A claim moves `next_attempt_at` past its lease, so a process that dies while it delivers leaves a row that is due again.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, insert, or_, select, update

from luthier.core.lists import Page, PageQuery
from luthier.core.outbox import Delivery, Kind, OutboxItem
from luthier.store.database import Database, announce
from luthier.store.rows import columns, found, page, read, reader, write
from luthier.store.schema import outbox

COLUMNS = columns(outbox, Delivery)


def insert_items(connection: Connection, items: Sequence[OutboxItem]) -> None:
    """Add items, due at once."""
    rows = [{**write(item), "next_attempt_at": item.created_at} for item in items]
    if rows:
        connection.execute(insert(outbox), rows)
    for item in items:
        announce(connection, item.kind)


def claim(database: Database, *kinds: Kind, now: float, lease_s: float, limit: int) -> list[Delivery]:
    """Take up to `limit` due items of these kinds, those due longest first; nobody else gets them before the lease is
    over."""
    waiting = (
        outbox.c.delivered_at.is_(None),
        outbox.c.given_up_at.is_(None),
        outbox.c.next_attempt_at <= now,
        or_(*(outbox.c.kind == kind for kind in kinds)),  # `in_` would be put into SQL anew for each look
    )
    with database.read() as connection:  # most looks find nothing, and a look should lock nothing
        if connection.scalar(select(outbox.c.pk).where(*waiting).limit(1)) is None:
            return []
    due = (
        select(outbox.c.pk)
        .where(*waiting)
        .order_by(outbox.c.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(outbox)
        .where(outbox.c.pk.in_(due.scalar_subquery()))
        .values(next_attempt_at=now + lease_s, attempts=outbox.c.attempts + 1)
        .returning(*COLUMNS)
    )
    with database.transaction() as connection:
        rows = connection.execute(statement).mappings().all()
    return [read(Delivery, row) for row in rows]


def hold(database: Database, item_id: str, *, until: float) -> None:
    """A claimer goes on with an item beyond its lease."""
    with database.transaction() as connection:
        connection.execute(update(outbox).where(outbox.c.id == item_id).values(next_attempt_at=until))


def give_back(database: Database, item_id: str, *, now: float) -> None:
    """A claimer stops before it has tried: due at once, and not counted."""
    values = {"next_attempt_at": now, "attempts": outbox.c.attempts - 1}
    with database.transaction() as connection:
        connection.execute(update(outbox).where(outbox.c.id == item_id).values(**values))


def delivered(database: Database, item_id: str, *, now: float) -> None:
    """The item arrived."""
    with database.transaction() as connection:
        connection.execute(update(outbox).where(outbox.c.id == item_id).values(delivered_at=int(now), last_error=None))


def retry_at(database: Database, item_id: str, *, at: float, error: str) -> None:
    """The attempt failed; the next one is due then."""
    with database.transaction() as connection:
        connection.execute(update(outbox).where(outbox.c.id == item_id).values(next_attempt_at=at, last_error=error))


def give_up(database: Database, item_id: str, *, now: float, error: str) -> None:
    """The item will not be tried again."""
    with database.transaction() as connection:
        connection.execute(update(outbox).where(outbox.c.id == item_id).values(given_up_at=int(now), last_error=error))


def webhook(database: Database, project_id: str, item_id: str) -> Delivery | None:
    """A webhook on its way, or at its end, unless another project's."""
    statement = select(*COLUMNS).where(*_webhooks(project_id), outbox.c.id == item_id)
    return found(database, statement, reader(Delivery))


def list_webhooks(database: Database, project_id: str, query: PageQuery, endpoint_id: str | None) -> Page[Delivery]:
    """The project's webhooks; those to one endpoint where it is given."""
    where = [] if endpoint_id is None else [outbox.c.payload["endpoint_id"].as_string() == endpoint_id]
    return page(
        database, outbox, query, reader(Delivery), selected=COLUMNS, owner=and_(*_webhooks(project_id)), where=where
    )


def send_again(database: Database, item_id: str, *, now: float) -> None:
    """Make an item due now, whatever became of it."""
    due = {"next_attempt_at": now, "delivered_at": None, "given_up_at": None}
    with database.transaction() as connection:
        connection.execute(update(outbox).where(outbox.c.id == item_id).values(**due))
        announce(connection, "webhook")


def _webhooks(project_id: str) -> tuple[ColumnElement[bool], ...]:
    return (outbox.c.project_id == project_id, outbox.c.kind == "webhook")
