"""What `retention_days` takes away, and what it leaves."""

import os
import time
from dataclasses import replace

import openai
import pytest
from sqlalchemy import func, select, update

from luthier.core.run import RunFolder
from luthier.core.settings import load
from luthier.domain import retention
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
    retention.sweep(kept_for_good)
    assert there(client.chat.completions.retrieve, *chats) == chats
    assert there(client.responses.retrieve, *answers) == answers

    retention.sweep(server.platform)
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
    retention.sweep(server.platform)
    assert [log.exists() for log in logs] == [False, True]
