"""Rows of things to tell, written in the transaction of what they tell of."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, insert

from luthier.core.outbox import OutboxItem
from luthier.store.rows import write
from luthier.store.schema import outbox


def insert_items(connection: Connection, items: Iterable[OutboxItem]) -> None:
    """Add items, due at once."""
    rows = [{**write(item), "next_attempt_at": item.created_at} for item in items]
    if rows:
        connection.execute(insert(outbox), rows)
