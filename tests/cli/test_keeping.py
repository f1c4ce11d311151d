"""`luthier migrate`, `backup` and `rotate-secrets` where they cannot do what they are asked."""

import pytest

from luthier.cli.doctor import backup, migrate, rotate_secrets
from luthier.core.errors import Conflict, InvalidRequest
from luthier.domain.alive import Sign
from luthier.store.database import Database


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with tables of the newest version, in SQLite."""
    monkeypatch.delenv("LUTHIER_DATABASE_URL", raising=False)
    migrated = Database(f"sqlite:///{tmp_path}/luthier.db")
    migrated.migrate()
    migrated.close()
    return tmp_path


@pytest.mark.parametrize("command", [migrate, rotate_secrets, lambda data: backup(data.parent / "backup", data)])
def test_a_data_folder_that_is_not_there_is_named(tmp_path, command):
    with pytest.raises(InvalidRequest, match="there is no data folder .*/none; start the server once"):
        command(data=tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_tables_do_not_go_down_under_a_server(data):
    sign = Sign(data / "runners")
    with pytest.raises(Conflict, match="a server works on .*; stop it first"):
        migrate(to="0001", data=data)
    migrate(data=data)
    sign.take_down()
    migrate(to="0001", data=data)


@pytest.mark.parametrize(("version", "words"), [("base", "delete them yourself"), ("9999", "known are 0001")])
def test_no_version_is_made_up(data, version, words):
    with pytest.raises(InvalidRequest, match=words):
        migrate(to=version, data=data)
