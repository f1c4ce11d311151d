"""Where tests keep rows and bytes: SQLite and a folder beside their data, or what LUTHIER_TEST_DATABASE_URL and
LUTHIER_TEST_BLOBS_URL name (`make test-services`)."""

import hashlib
import os

import pytest
from sqlalchemy import create_engine, make_url, text


def database_url(folder):
    """The URL of this folder's own database, made when first asked for; None: the default SQLite."""
    server = os.environ.get("LUTHIER_TEST_DATABASE_URL")
    if not server:
        return None
    name = _name(folder)
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if not connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}):
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def blobs_url(folder):
    """The URL of this folder's own blobs; None: a folder in it."""
    store = os.environ.get("LUTHIER_TEST_BLOBS_URL")
    return f"{store}/{_name(folder)}" if store else None


IN_A_FOLDER = pytest.mark.skipif("LUTHIER_TEST_BLOBS_URL" in os.environ, reason="it looks into the folder of blobs")


def _name(folder):
    return "luthier_" + hashlib.sha256(str(folder).encode()).hexdigest()[:24]


def blobs_of(server):
    """The keys of the server's blobs, wherever they lie."""
    return {key for key, _ in server.platform.blobs.sizes()}
