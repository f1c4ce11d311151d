"""A key at a glance: what SQLite's driver gives is what SQLAlchemy would, at once."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from luthier.core.errors import StoreAway, Unauthenticated
from luthier.core.projects import ALL_SCOPES
from luthier.domain import keys
from luthier.store.database import Database

KEY = "sk-luthier-0123456789"


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'luthier.db'}")
    database.migrate()
    yield database
    database.close()


def test_a_key_at_a_glance_has_its_types(database):
    project = keys.ensure_project(database, "acme")
    keys.ensure_key(database, project, KEY)
    caller = keys.authenticate(database, KEY)
    assert (caller.project_id, caller.organization, caller.scopes) == (project.id, "acme", ALL_SCOPES)


def test_a_key_that_another_process_revoked_opens_nothing(tmp_path, database):
    keys.ensure_key(database, keys.ensure_project(database, "acme"), KEY)
    keys.authenticate(database, KEY)
    other = Database(f"sqlite:///{tmp_path / 'luthier.db'}")
    with other.transaction() as connection:
        connection.execute(text("UPDATE api_keys SET revoked_at = 1"))
    other.close()
    with pytest.raises(Unauthenticated, match="Incorrect API key"):
        keys.authenticate(database, KEY)


def test_a_database_that_cannot_be_read_is_away(database):
    with database.transaction() as connection:
        connection.execute(text("ALTER TABLE api_keys RENAME TO gone"))
    with pytest.raises(StoreAway, match="no such table"):
        keys.authenticate(database, KEY)
