"""A store on a temporary SQLite, with one project."""

import pytest

from luthier.core.projects import Project
from luthier.store import keys
from luthier.store.database import Database


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'luthier.db'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def project(database):
    return keys.create_first(database, Project("proj_1", "org-1", "acme", "Default project", 1), name="acme")
