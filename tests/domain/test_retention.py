"""What `retention_days` takes away, and what it leaves."""

import os
import time
from dataclasses import replace

import openai
import pytest
from sqlalchemy import func, select, update

from luthier.core.errors import StoreAway
from luthier.core.run import RunFolder
from luthier.core.settings import load
from luthier.domain import files, retention
from luthier.domain.sweeping import Sweeper
from luthier.store import files as stored_files
from luthier.store.schema import chat_completion_metadata, chat_completions, responses
from tests.conftest import serving
from tests.contract import objects

DAYS = 30
OLD_S, NEW_S = (DAYS + 1) * 24 * 3600, (DAYS - 1) * 24 * 3600


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), background=False, retention_days=DAYS) as running:
        yield running


def aged(server, table, id_, age_s, **values):
    """Make a row as old as that."""
    with server.platform.database.transaction() as connection:
        then = int(time.time()) - age_s
        assert connection.execute(update(table).where(table.c.id == id_).values(created_at=then, **values)).rowcount
    return id_


def there(retrieve, *ids):
    """Those of the ids that can still be had."""
    found = []
    for id_ in ids:
        try:
            found.append(retrieve(id_).id)
        except openai.NotFoundError:
            continue
    return found


def test_it_is_a_setting_and_off_without():
    assert load({"LUTHIER_RETENTION_DAYS": "30"}).retention_days == 30
    assert load({}).retention_days is None


def test_older_chats_and_responses_go_and_newer_ones_stay(server):
    client = server.client
    chats = [
        client.chat.completions.create(model=objects.BASE, messages=objects.HELLO, store=True, metadata={"a": "b"}).id
        for _ in range(2)
    ]
    answers = [objects.response(server) for _ in range(3)]
    for table, ids in ((chat_completions, chats), (responses, answers)):
        aged(server, table, ids[0], OLD_S)
        aged(server, table, ids[1], NEW_S)
    aged(server, responses, answers[2], OLD_S, status="in_progress", lease_until=time.time() + 60)

    kept_for_good = replace(server.platform, settings=replace(server.platform.settings, retention_days=None))
    retention.sweep(kept_for_good, set())
    assert there(client.chat.completions.retrieve, *chats) == chats
    assert there(client.responses.retrieve, *answers) == answers

    retention.sweep(server.platform, set())
    assert there(client.chat.completions.retrieve, *chats) == chats[1:]
    assert [chat.id for chat in client.chat.completions.list(metadata={"a": "b"})] == chats[1:]
    assert there(client.responses.retrieve, *answers) == answers[1:]
    with server.platform.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(chat_completion_metadata)) == 1


def test_older_logs_of_trainers_go(server):
    logs = [RunFolder(server.platform.settings.runs / f"ftjob-{age_s}").log for age_s in (OLD_S, NEW_S)]
    for log, age_s in zip(logs, (OLD_S, NEW_S), strict=True):
        log.parent.mkdir()
        log.write_text("trained")
        os.utime(log, (time.time() - age_s,) * 2)
    swept = set()
    retention.sweep(server.platform, swept)
    assert [log.exists() for log in logs] == [False, True]
    assert logs[0].parent.name in swept
    assert logs[1].parent.name not in swept  # its day is to come


def test_what_killed_writers_left_goes_also_folders(server):
    run = RunFolder(server.platform.settings.runs / "ftjob-left")
    for folder in (".adapter.tmp", ".modules-x"):
        (run.path / folder).mkdir(parents=True)
        (run.path / folder / "adapter_config.json").write_text("{}")
    (run.path / ".spec.json.1.tmp").write_text("{}")
    run.training.write_text("{}")
    retention.sweep(server.platform, set())
    assert list(run.path.iterdir()) == []


def test_what_cannot_be_swept_keeps_nothing_else(server, monkeypatch):
    def refused(*_):
        raise StoreAway("the bucket is away")

    monkeypatch.setattr("luthier.domain.files.sweep", refused)
    old = aged(server, responses, objects.response(server), OLD_S)
    Sweeper(server.platform)._sweep()
    assert there(server.client.responses.retrieve, old) == []


def test_a_file_that_cannot_be_removed_keeps_no_other(server, monkeypatch):
    ids = [server.client.files.create(file=("a", b"{}\n" * (1 + n)), purpose="user_data").id for n in range(2)]
    real, stuck = server.platform.blobs.delete, []

    def refused(blob):
        if not stuck or blob in stuck:
            stuck.append(blob)
            raise StoreAway("the bucket is away")
        real(blob)

    monkeypatch.setattr(server.platform.blobs, "delete", refused)
    for id_ in ids:
        stored_files.delete(server.platform.database, server.platform.project.id, id_, now=int(time.time()))
    files.sweep(server.platform.database, server.platform.blobs)
    assert len(stored_files.to_purge(server.platform.database)) == 1
