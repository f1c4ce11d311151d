import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text

from luthier.core.errors import Unavailable
from luthier.store.database import Database, announce
from luthier.store.schema import metadata, organizations


def test_migrations_make_the_schema(database):
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_twice_changes_nothing(database):
    database.migrate()


def test_tables_go_down_and_come_up_again(database, project):
    database.migrate("base")
    assert not database.version().current
    with database.read() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
    database.migrate()
    assert database.version().current
    test_migrations_make_the_schema(database)


def test_nobody_else_reads_the_file(database, tmp_path):
    if not database.sqlite:
        pytest.skip("a file is SQLite's")
    with database.transaction():
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"luthier.db": 0o600, "luthier.db-wal": 0o600, "luthier.db-shm": 0o600}


def test_a_failed_transaction_leaves_nothing(database):
    def add_and_stumble():
        with database.transaction() as connection:
            connection.execute(organizations.insert().values(id="org-1", name="acme", created_at=1))
            raise KeyError

    with pytest.raises(KeyError):
        add_and_stumble()
    with database.read() as connection:
        assert connection.execute(select(organizations)).all() == []


def test_reading_goes_on_while_another_writes(database):
    with database.transaction() as writer:
        writer.execute(organizations.insert().values(id="org-1", name="acme", created_at=1))
        with database.read() as reader:
            assert reader.execute(select(organizations)).all() == []


def test_writers_wait_for_each_other(database):
    def add(number):
        for i in range(20):
            with database.transaction() as connection:
                connection.execute(organizations.insert().values(id=f"org-{number}-{i}", name="", created_at=1))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert connection.scalar(select(text("count(*)")).select_from(organizations)) == 160


def test_a_database_that_cannot_be_opened_says_so(tmp_path):
    with pytest.raises(Unavailable, match="database does not answer"):
        Database(f"sqlite:///{tmp_path}/no/such/folder.db").migrate()


def test_a_bell_rings_for_its_work_once_it_is_kept(database):
    jobs, mails = database.bell("job"), database.bell("mail", "webhook")
    with database.transaction() as connection:
        announce(connection, "webhook")
        assert not mails.is_set()
    assert mails.is_set()
    assert not jobs.is_set()


def test_a_bell_does_not_ring_for_what_failed(database):
    def announce_and_stumble():
        with database.transaction() as connection:
            announce(connection, "job")
            raise KeyError

    bell = database.bell("job")
    with pytest.raises(KeyError):
        announce_and_stumble()
    with database.transaction():
        pass
    assert not bell.is_set()
