"""A store with one project."""

import pytest
from sqlalchemy import event

from luthier.core.projects import Project
from luthier.store import projects
from luthier.store.database import Database
from luthier.store.secrets import Secrets
from tests.databases import database_url


@pytest.fixture
def url(tmp_path):
    return database_url(tmp_path) or f"sqlite:///{tmp_path / 'luthier.db'}"


@pytest.fixture
def database(url, tmp_path):
    database = Database(url, Secrets(tmp_path / "secret_keys"))
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def project(database):
    return projects.create_first(database, Project("proj_1", "org-1", "acme", "Default project", 1), name="acme")


@pytest.fixture
def statements(database):
    """All SQL that the database is sent, with its parameters."""
    sent = []

    def note(_connection, _cursor, statement, parameters, *_):
        sent.append((statement, parameters))

    event.listen(database._engine, "before_cursor_execute", note)
    yield sent
    event.remove(database._engine, "before_cursor_execute", note)
