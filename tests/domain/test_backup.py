"""A backup of a server at work, restored elsewhere: everything is there, whole, and goes on."""

import contextlib
import itertools
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from luthier.core.bases import BaseSource
from luthier.core.errors import Conflict, InvalidRequest
from luthier.core.run import RunFolder
from luthier.data.builtin_templates import template_text
from luthier.domain import backup as backing
from luthier.domain.backup import backup, restore
from luthier.domain.bases import Bases
from luthier.domain.doctor import examine
from luthier.store import consistency, jobs
from luthier.store.database import Database
from tests.conftest import KEY, serving
from tests.contract import objects
from tests.databases import blobs_url, database_url


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), background=False, webhook_private_hosts=True) as running:
        yield running


@pytest.fixture(scope="module")
def model(server):
    """A tuned model whose adapter is there."""
    name = objects.tuned(server)
    with contextlib.closing(Database(server.platform.settings.database)) as rows:
        adapter = server.platform.settings.runs / dict(consistency.adapters(rows))[name]
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    return name


def elsewhere(server, folder):
    return replace(
        server.platform.settings, data=folder, database_url=database_url(folder), blobs_url=blobs_url(folder)
    )


def wrong(settings):
    """What the doctor finds in the data; the machine is another matter."""
    subjects = {"data folder", "database", "rows", "bytes", "models"}
    return [f for f in examine(settings, deep=True) if f.mend is not None and f.subject in subjects]


@pytest.mark.parametrize("unheld", [backing.UNHELD_TRIES, 0])
def test_a_backup_under_load_restores_to_a_whole(server, model, tmp_path, monkeypatch, unheld):
    monkeypatch.setattr(backing, "UNHELD_TRIES", unheld)
    endpoint = server.client.webhooks.create(name="x", url="http://127.0.0.1:9", event_types=["batch.completed"])
    kept = server.client.files.create(file=b"kept", purpose="user_data")
    stop = threading.Event()

    def load():
        for number in itertools.count():
            if stop.is_set():
                return
            made = server.client.files.create(file=b"%d" % number, purpose="user_data")
            server.client.files.delete(made.id)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        rows = backup(server.platform.settings, tmp_path / "backup")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not [
        p for p in (tmp_path / "backup").rglob("*") if p.is_file() and p.stat().st_mode & 0o077 and p.suffix == ".db"
    ]

    settings = elsewhere(server, tmp_path / "data")
    assert restore(settings, tmp_path / "backup") == rows
    assert wrong(settings) == []
    with serving(
        settings.data, background=False, webhook_private_hosts=True, database_url=settings.database_url
    ) as again:
        assert again.client.files.content(kept.id).read() == b"kept"
        assert again.client.models.retrieve(model).id == model
        assert again.client.webhooks.retrieve(endpoint.id).signing_secret_hint[-4:] == endpoint.signing_secret[-4:]
        assert again.client.files.create(file=b"new", purpose="user_data").id
    assert KEY.encode() not in (tmp_path / "backup" / "luthier.db").read_bytes()


def test_nothing_is_overwritten(server, tmp_path):
    (tmp_path / "something").touch()
    with pytest.raises(Conflict, match="not empty"):
        backup(server.platform.settings, tmp_path)
    with pytest.raises(InvalidRequest, match="no backup"):
        restore(elsewhere(server, tmp_path / "new"), tmp_path)
    backup(server.platform.settings, tmp_path / "backup")
    with pytest.raises(Conflict):
        restore(server.platform.settings, tmp_path / "backup")


def test_a_queue_is_late_when_nobody_works(server):
    def queue():
        return next(found for found in examine(server.platform.settings, deep=False) if found.subject == "queue")

    database = server.platform.database
    for _ in range(2):
        objects.job(server)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE jobs SET created_at = created_at - 3600")
    assert "nobody works on any" in queue().words
    assert "luthier serve" in queue().mend
    jobs.claim(database, "me", ["validating_files"], now=database.now(), lease_s=30)
    assert queue().mend is None


def test_the_doctor_finds_what_was_broken(server, model, tmp_path):
    backup(server.platform.settings, tmp_path / "backup")
    settings = replace(elsewhere(server, tmp_path / "data"), blobs_url=None)
    restore(settings, tmp_path / "backup")
    assert wrong(settings) == []
    blobs = sorted(path for path in Path(settings.data / "blobs").iterdir())
    blobs[0].write_bytes(b"other bytes")
    blobs[1].unlink()
    next(settings.runs.rglob("*.safetensors")).unlink()

    settings.data.chmod(0o755)
    with contextlib.closing(Database(settings.database)) as database, database.transaction() as connection:
        connection.exec_driver_sql("UPDATE jobs SET status = 'succeeded' WHERE status = 'cancelled'")
    found = " ".join(f.words for f in wrong(settings))
    for words in (blobs[0].name, blobs[1].name, "other users", "its adapter is gone", "succeeded without a model"):
        assert words in found


def test_half_a_backup_is_none(server, model, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backing, "_copy_runs", fail)
    with pytest.raises(OSError, match="No space"):
        backup(server.platform.settings, tmp_path / "backup")
    assert list((tmp_path / "backup").iterdir()) == []
    monkeypatch.undo()
    assert backup(server.platform.settings, tmp_path / "backup") > 0


def test_what_cannot_be_copied_is_not_what_vanished(server, model, tmp_path, monkeypatch):
    run = server.platform.settings.runs / "ftjob-at-work"
    (run / "checkpoints/step-1").mkdir(parents=True)
    (run / "checkpoints/step-1/state.safetensors").write_bytes(b"state")

    full = shutil.Error([("state.safetensors", "there", "[Errno 28] No space left on device")])
    monkeypatch.setattr("shutil.copytree", Mock(side_effect=full))
    monkeypatch.setattr(consistency, "unfinished_jobs", lambda _: ["ftjob-at-work"])
    with pytest.raises(OSError, match="No space left"):
        backup(server.platform.settings, tmp_path / "backup")
    shutil.rmtree(run)


def test_a_folder_in_use_is_left_as_it_is(server, model, tmp_path):
    backup(server.platform.settings, tmp_path / "backup")
    settings = elsewhere(server, tmp_path / "data")
    (settings.runs / "ftjob-live").mkdir(parents=True)
    with pytest.raises(Conflict, match="is in use"):
        restore(settings, tmp_path / "backup")
    assert [path.name for path in settings.data.iterdir()] == ["runs"]


def test_what_exports_need_and_a_base_of_ones_own_come_along(server, model, tmp_path):
    settings = server.platform.settings
    with contextlib.closing(Database(settings.database)) as rows:
        run = RunFolder(settings.runs / dict(consistency.adapters(rows))[model].partition("/")[0])
    run.spec.write_text("{}")
    run.probe.write_text("{}")
    (tmp_path / "mine.jinja").write_text("{{ messages }}")
    source = BaseSource("mine", "file:/nowhere/m.gguf", "0" * 64, "Apache-2.0", template=str(tmp_path / "mine.jinja"))
    Bases(settings.cache, {}, settings.added_bases).keep(source)
    backup(settings, tmp_path / "backup")
    new = elsewhere(server, tmp_path / "data")
    restore(new, tmp_path / "backup")
    assert {path.name for path in (new.runs / run.path.name).iterdir()} >= {"spec.json", "probe.json", "adapter"}
    shutil.rmtree(settings.added_bases)
    restored = Bases(new.cache, {}, new.added_bases).source("mine")
    assert template_text(restored.template) == "{{ messages }}"
