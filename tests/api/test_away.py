"""While the database or the disk is away: 503 with the reason, whatever would keep something; and nothing is kept."""

import errno
import os

import obstore
import pytest

from tests.conftest import serving
from tests.contract.objects import BASE, HELLO
from tests.databases import blobs_of


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), background=False, recorded=False) as running:
        yield running


@pytest.fixture
def database_away(server, monkeypatch):
    """The driver's own error at every statement."""
    dialect = server.platform.database._engine.dialect

    def away(*_):
        raise dialect.loaded_dbapi.OperationalError("disk I/O error")

    monkeypatch.setattr(dialect, "do_execute", away)
    yield
    monkeypatch.undo()
    assert ask(server, "GET", "/readyz").json() == {"status": "ready"}


@pytest.fixture
def disk_full(monkeypatch):
    """No byte of a blob can be written."""

    class Full:
        def write(self, _chunk):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self):
            self.write(b"")

    monkeypatch.setattr(obstore, "open_writer", lambda *_, **__: Full())


def ask(server, method, path, **request):
    return server.http.request(method, server.http.base_url.join(path), **request)


def test_a_server_whose_database_is_away_lives_and_is_not_ready(server, database_away):
    assert ask(server, "GET", "/healthz").json() == {"status": "ok"}
    answer = ask(server, "GET", "/readyz")
    assert answer.status_code == 503
    reason = "the database does not answer: disk I/O error; nothing was changed, try again"
    assert answer.json() == {"error": {"message": reason, "type": "server_error", "param": None, "code": None}}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/chat/completions", {"model": BASE, "messages": HELLO, "store": True}),
        ("POST", "/v1/fine_tuning/jobs", {"model": BASE, "training_file": "file-x"}),
        ("GET", "/v1/files", None),
    ],
)
def test_while_the_database_is_away_requests_are_told(server, database_away, method, path, body):
    answer = ask(server, method, path, json=body)
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "server_error"
    assert "the database does not answer: disk I/O error" in answer.json()["error"]["message"]


def test_while_the_disk_is_full_files_are_refused_and_nothing_of_them_stays(server, disk_full):
    upload = server.client.uploads.create(bytes=4, filename="a", mime_type="text/plain", purpose="vision")
    for path, form in (
        ("/v1/files", {"data": {"purpose": "user_data"}, "files": {"file": ("a.txt", b"kept")}}),
        (f"/v1/uploads/{upload.id}/parts", {"files": {"data": ("a.txt", b"kept")}}),
    ):
        answer = ask(server, "POST", path, **form)
        assert answer.status_code == 503
        assert answer.json()["error"]["type"] == "server_error"
        assert "No space left on device; free disk space" in answer.json()["error"]["message"]
    assert server.client.files.list().data == []
    assert blobs_of(server) == set()
    assert server.client.chat.completions.create(model=BASE, messages=HELLO).choices[0].message.content
