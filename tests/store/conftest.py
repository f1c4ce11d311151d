"""A store with one project: on a temporary SQLite, or on the PostgreSQL that LUTHIER_TEST_DATABASE_URL names."""

import os

import pytest
from sqlalchemy import event

from luthier.core.projects import Project
from luthier.store import keys
from luthier.store.database import Database
from luthier.store.schema import metadata


@pytest.fixture
def url(tmp_path):
    return os.environ.get("LUTHIER_TEST_DATABASE_URL") or f"sqlite:///{tmp_path / 'luthier.db'}"


@pytest.fixture
def database(url):
    database = Database(url)
    database.migrate()
    yield database
    if not database.sqlite:
        with database.transaction() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
    database.close()


@pytest.fixture
def project(database):
    return keys.create_first(database, Project("proj_1", "org-1", "acme", "Default project", 1), name="acme")


@pytest.fixture
def statements(database):
    """All SQL that the database is sent, with its parameters."""
    sent = []

    def note(_connection, _cursor, statement, parameters, *_):
        sent.append((statement, parameters))

    event.listen(database._engine, "before_cursor_execute", note)
    yield sent
    event.remove(database._engine, "before_cursor_execute", note)
