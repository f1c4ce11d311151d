"""`luthier doctor`, `backup` and `restore` on a data folder in which all is well."""

import contextlib

import pytest

from luthier.domain import doctor
from tests.child import TOML
from tests.cli.test_commands import luthier
from tests.conftest import serving
from tests.databases import blobs_url, database_url
from tests.tiny import make_base


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder from where the commands run, with settings and a base model."""
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 0)
    (tmp_path / "luthier.toml").write_text(TOML)
    make_base(tmp_path / "cache/bases" / ("0" * 64))
    monkeypatch.chdir(tmp_path)
    for name, value in {"CACHE": tmp_path / "cache", "DEFAULT_BASE": "tiny", "ENGINE": "echo"}.items():
        monkeypatch.setenv(f"LUTHIER_{name}", str(value))
    return tmp_path


@contextlib.contextmanager
def kept_in(data, monkeypatch):
    """The commands' environment for this data folder."""
    with monkeypatch.context() as patch:
        for name, url in {"DATABASE_URL": database_url(data), "BLOBS_URL": blobs_url(data)}.items():
            if url:
                patch.setenv(f"LUTHIER_{name}", url)
        yield "--data", data


def test_a_server_is_examined_backed_up_restored_and_found_well(place, monkeypatch):
    with serving(place / "data", background=False, cache=place / "cache") as server:
        file = server.client.files.create(file=b"kept", purpose="user_data").id
        with kept_in(place / "data", monkeypatch) as data:
            found = luthier("doctor", "--deep", *data).stdout
            assert "WRONG" not in found
            assert all(subject in found for subject in ("data folder:", "base model: tiny is", "database:", "queue:"))
            assert "1 blobs, 4 bytes, all as they were written" in found
            assert "back again by: luthier restore" in luthier("backup", place / "backup", *data).stdout
    with kept_in(place / "new", monkeypatch) as data:
        done = luthier("doctor", *data, succeeds=False).stdout
        assert "WRONG  data folder: " in done
        assert f"rows restored into {place / 'new'}" in luthier("restore", place / "backup", *data).stdout
        assert "WRONG" not in luthier("doctor", "--deep", *data).stdout
    with serving(place / "new", background=False, cache=place / "cache") as server:
        assert server.client.files.content(file).read() == b"kept"
