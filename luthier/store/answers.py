"""Rows of what models answered, by a hash of the question."""

from __future__ import annotations

from sqlalchemy import exists, insert, select

from luthier.core.json import JsonObject
from luthier.store.database import Database, Turn
from luthier.store.rows import remove_all
from luthier.store.schema import answers


def get(database: Database, sha256: str) -> JsonObject | None:
    """The answer, if the question was asked before."""
    with database.read() as connection:
        answer: JsonObject | None = connection.scalar(select(answers.c.answer).where(answers.c.sha256 == sha256))
    return answer


def keep(database: Database, sha256: str, answer: JsonObject, *, now: int) -> None:
    """Keep an answer; one that another process kept first stays."""
    with database.transaction() as connection:
        database.one_at_a_time(connection, Turn.ANSWER)
        if not connection.scalar(select(exists().where(answers.c.sha256 == sha256))):
            connection.execute(insert(answers).values(sha256=sha256, created_at=now, answer=answer))


def forget(database: Database, *, before: float) -> None:
    """Remove the answers that are older."""
    remove_all(database, answers.c.sha256, [answers.c.created_at < before])
