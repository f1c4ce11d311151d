import json
import subprocess
import sys
import time
from collections import Counter
from functools import partial

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import func, select

from luthier.core.errors import NotFound
from luthier.core.projects import Caller
from luthier.core.settings import Settings
from luthier.domain import asking, batch_input, batch_worker, batches, files, webhooks
from luthier.domain.asking import Answer
from luthier.domain.batch_worker import BatchWorker
from luthier.domain.held_batch import HeldBatch
from luthier.domain.platform import open_platform
from luthier.store import batches as rows
from luthier.store.schema import batch_lines, outbox
from luthier.store.schema import batches as batches_table
from tests.databases import database_url
from tests.domain import workers
from tests.domain.workers import until

working = partial(workers.working, BatchWorker)

CHAT = "/v1/chat/completions"
MODEL = "smollm2-135m-instruct"
USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 2,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


@pytest.fixture
def platform(tmp_path):
    keys = {"api_key": "sk-test-0123456789abcdef", "database_url": database_url(tmp_path)}
    platform = open_platform(Settings(data=tmp_path, cache=tmp_path / "cache", **keys))
    yield platform
    platform.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("luthier.domain.claims.BEAT_S", 0.02)
    monkeypatch.setattr("luthier.domain.lease.BEAT_S", 0.02)


def request(custom_id, text="hi"):
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body})


def upload(platform, *lines, purpose="batch"):
    with files.receive(platform.blobs) as incoming:
        incoming.write("\n".join(lines).encode())
        project = platform.project.id
        return files.create(
            platform.database, project, incoming, filename="in.jsonl", purpose=purpose, expires_after_s=None
        )


def caller(platform):
    project = platform.project
    return Caller(project.id, project.organization_id, project.organization, "key_1", frozenset({"infer"}))


def create(platform, file_id, **changes):
    wanted = {"endpoint": CHAT, "input_file_id": file_id, "metadata": None, "output_expires_after_s": None, **changes}
    return batches.create(platform.database, caller(platform), **wanted)


class Asked:
    """Answers at once, or when `hold` is lifted; remembers what it was asked and what it answered."""

    def __init__(self, statuses=None):
        self.asked = Counter()
        self.answered = Counter()
        self.callers = set()
        self.at_once = self.most_at_once = 0
        self.open_after = None
        self.statuses = statuses or {}

    async def __call__(self, who, path, body):
        text = body["messages"][0]["content"]
        self.asked[text] += 1
        self.callers.add(who)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await anyio.lowlevel.checkpoint()
            if self.open_after is not None and sum(self.answered.values()) >= self.open_after:
                await anyio.sleep_forever()
            self.answered[text] += 1
        finally:
            self.at_once -= 1
        status = self.statuses.get(text, 200)
        if isinstance(status, list):
            status = status.pop(0)
        if status != 200:
            return Answer(status, "req_1", {"error": {"message": "no", "type": "t", "param": None, "code": None}})
        return Answer(200, "req_1", {"object": "chat.completion", "echo": text, "usage": USAGE})


def at(platform, batch, *statuses):
    def reached():
        seen = batches.get(platform.database, batch.project_id, batch.id)
        return seen if seen.status in statuses else None

    return until(reached)


def lines_of(platform, file_id):
    file = files.get(platform.database, platform.project.id, file_id)
    chunks, _ = files.content(platform.blobs, file)
    return [json.loads(line) for line in b"".join(chunks).splitlines()]


def purged(platform, batch):
    with platform.database.read() as connection:
        left = connection.scalar(select(func.count()).select_from(batch_lines))
    return left == 0 and not rows.to_purge(platform.database)


def test_a_batch_is_answered_and_cleared_away(platform):
    file = upload(platform, *(request(f"c{n}", f"text {n}") for n in range(30)))
    batch = create(platform, file.id, output_expires_after_s=3600)
    ask = Asked()
    with working(platform, ask):
        done = at(platform, batch, "completed")
        until(lambda: purged(platform, batch))
    assert (done.total, done.completed, done.failed, done.model) == (30, 30, 0, MODEL)
    assert (done.input_tokens, done.cached_tokens, done.output_tokens, done.reasoning_tokens) == (150, 90, 60, 30)
    assert done.error_file_id is None
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.finished_at
    results = lines_of(platform, done.output_file_id)
    assert [r["custom_id"] for r in results] == [f"c{n}" for n in range(30)]
    assert results[7]["response"]["body"]["echo"] == "text 7"
    assert set(results[7]) == {"id", "custom_id", "response", "error"}
    assert results[7]["response"] | {"body": {}} == {"status_code": 200, "request_id": "req_1", "body": {}}
    assert results[7]["error"] is None
    assert len({r["id"] for r in results}) == 30
    assert all(r["id"].startswith("batch_req_") for r in results)
    output = files.get(platform.database, platform.project.id, done.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert output.expires_at == output.created_at + 3600
    with pytest.raises(NotFound):
        platform.blobs.read(batch.id, "")
    assert set(ask.asked.values()) == {1}
    assert ask.callers == {caller(platform)}


def test_no_more_are_asked_at_once_than_there_are_slots(platform):
    made = []
    for number in range(3):
        file = upload(platform, *(request(f"c{n}", f"{number}-{n}") for n in range(40)))
        made.append(create(platform, file.id))
    ask = Asked()
    with working(platform, ask):
        for batch in made:
            at(platform, batch, "completed")
    assert 1 < ask.most_at_once <= batch_worker.REQUESTS_AT_ONCE


def test_refused_requests_go_to_the_error_file(platform):
    file = upload(platform, request("a", "good"), request("b", "bad"), request("c", "good"))
    batch = create(platform, file.id)
    with working(platform, Asked({"bad": 400})):
        done = at(platform, batch, "completed")
    assert (done.total, done.completed, done.failed) == (3, 2, 1)
    assert [r["custom_id"] for r in lines_of(platform, done.output_file_id)] == ["a", "c"]
    (refused,) = lines_of(platform, done.error_file_id)
    assert (refused["custom_id"], refused["response"]["status_code"], refused["error"]) == ("b", 400, None)
    assert refused["response"]["body"]["error"]["message"] == "no"


def test_a_busy_server_is_asked_again(platform, monkeypatch):
    monkeypatch.setattr(asking, "RETRY_AFTER_S", (0.01, 0.01))
    file = upload(platform, request("a", "patience"), request("b", "hopeless"))
    batch = create(platform, file.id)
    ask = Asked({"patience": [503, 429, 200], "hopeless": [503, 503, 503]})
    with working(platform, ask):
        done = at(platform, batch, "completed")
    assert (done.completed, done.failed) == (1, 1)
    assert ask.asked == {"patience": 3, "hopeless": 3}
    assert lines_of(platform, done.error_file_id)[0]["response"]["status_code"] == 503


@pytest.mark.parametrize("purpose", ["fine-tune", None])
def test_an_input_that_is_no_input(platform, purpose):
    file_id = upload(platform, request("a"), purpose=purpose).id if purpose else "file-none"
    batch = create(platform, file_id)
    with working(platform, Asked()):
        failed = at(platform, batch, "failed")
    (error,) = failed.errors
    organization = platform.project.organization_id
    words = f"Cannot find file file-none, or organization {organization} does not have access to it."
    assert (error.code, error.param, error.line) == ("invalid_request", "file_id", None)
    assert error.message == (words if purpose is None else error.message)
    assert failed.finished_at is not None
    assert failed.in_progress_at is None


def test_bad_lines_fail_the_batch_before_anything_is_asked(platform):
    file = upload(platform, request("a"), request("a"), request("b"))
    batch = create(platform, file.id)
    ask = Asked()
    with working(platform, ask):
        failed = at(platform, batch, "failed")
    assert [(e.code, e.line) for e in failed.errors] == [("duplicate_custom_id", 2)]
    assert not ask.asked
    assert failed.output_file_id is None


def test_work_goes_on_after_a_stop_and_nothing_is_answered_twice(platform):
    file = upload(platform, *(request(f"c{n}", f"text {n}") for n in range(40)))
    batch = create(platform, file.id)
    ask = Asked()
    ask.open_after = 15
    with working(platform, ask):
        until(lambda: sum(ask.answered.values()) == 15 and ask.at_once == batch_worker.REQUESTS_AT_ONCE)
    half = batches.get(platform.database, batch.project_id, batch.id)
    assert (half.status, half.completed) == ("in_progress", 15)
    files.delete(platform.database, platform.blobs, platform.project.id, file.id)  # the batch has its own copy
    ask.open_after = None
    with working(platform, ask):
        done = at(platform, batch, "completed")
    assert done.completed == 40
    assert len(lines_of(platform, done.output_file_id)) == 40
    assert set(ask.answered.values()) == {1}


def test_what_was_answered_is_kept_though_the_worker_stops(platform, monkeypatch):
    def slow(held, result):
        time.sleep(0.02)
        record(held, result)

    async def ask(*call):
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1  # answers wait in line to be kept
        return await asked(*call)

    record, asked = HeldBatch.record, Asked()
    monkeypatch.setattr(HeldBatch, "record", slow)
    batch = create(platform, upload(platform, *(request(f"c{n}", f"text {n}") for n in range(400))).id)
    with working(platform, ask):
        until(lambda: sum(asked.answered.values()) >= 10)
    assert len(rows.recorded(platform.database, batch.id)) == sum(asked.answered.values()) < 400


def test_cancelling_stops_what_is_under_way_and_keeps_what_was_answered(platform):
    file = upload(platform, *(request(f"c{n}", f"text {n}") for n in range(40)))
    batch = create(platform, file.id)
    ask = Asked()
    ask.open_after = 5
    with working(platform, ask):
        until(lambda: sum(ask.answered.values()) == 5 and ask.at_once == batch_worker.REQUESTS_AT_ONCE)
        asked = batches.cancel(platform.database, batch.project_id, batch.id)
        assert asked.status == "cancelling"
        done = at(platform, batch, "cancelled")
        assert ask.at_once == 0
    assert (done.total, done.completed, done.failed) == (40, 5, 0)
    assert done.cancelling_at <= done.finished_at
    left = lines_of(platform, done.error_file_id)
    assert len(lines_of(platform, done.output_file_id)) == 5
    assert len(left) == 35
    assert {r["error"]["code"] for r in left} == {"batch_cancelled"}
    assert {r["response"] for r in left} == {None}


def test_a_batch_that_is_cancelled_before_it_began_leaves_no_files(platform):
    batch = create(platform, upload(platform, request("a")).id)
    batches.cancel(platform.database, batch.project_id, batch.id)
    ask = Asked()
    with working(platform, ask):
        done = at(platform, batch, "cancelled")
    assert (done.output_file_id, done.error_file_id, done.total) == (None, None, 0)
    assert not ask.asked


@pytest.mark.parametrize("line", [request("a"), '{"custom_id": "1"}'])
def test_a_batch_may_be_cancelled_while_its_input_is_looked_at(platform, monkeypatch, line):
    batch = create(platform, upload(platform, line).id)

    def checked(*given, beat, **named):
        batches.cancel(platform.database, batch.project_id, batch.id)
        monkeypatch.setattr("luthier.domain.lease.BEAT_S", 0)
        beat()
        return batch_input.check(*given, beat=beat, **named)

    monkeypatch.setattr(batch_worker, "check", checked)
    ask = Asked()
    with working(platform, ask):
        at(platform, batch, "cancelled")
    assert not ask.asked


def test_an_input_that_is_long_in_coming_is_waited_for(platform, monkeypatch):
    """Its batch is held meanwhile: nobody claims it anew."""
    monkeypatch.setattr("luthier.domain.batch_worker.LEASE_S", 0.3)
    monkeypatch.setattr("luthier.domain.held_batch.LEASE_S", 0.3)
    whole = platform.blobs.read

    def slow(*given):
        for chunk in whole(*given):
            for at in range(0, len(chunk), 8):
                time.sleep(0.1)
                yield chunk[at : at + 8]

    monkeypatch.setattr(platform.blobs, "read", slow)
    batch = create(platform, upload(platform, request("a")).id)
    with working(platform, Asked()):
        at(platform, batch, "in_progress")
        with platform.database.read() as connection:
            assert connection.scalar(select(batches_table.c.fence)) == 1


def test_a_day_is_all_that_a_batch_has(platform, monkeypatch):
    monkeypatch.setattr(batches, "WINDOW_S", 2)
    file = upload(platform, *(request(f"c{n}", f"text {n}") for n in range(20)))
    batch = create(platform, file.id)
    ask = Asked()
    ask.open_after = 5
    with working(platform, ask):
        done = at(platform, batch, "expired")
        assert ask.at_once == 0
    assert (done.completed, done.total) == (sum(ask.answered.values()), 20)
    left = lines_of(platform, done.error_file_id)
    assert [r["error"]["code"] for r in left] == ["batch_expired"] * (20 - done.completed)


def test_a_batch_of_yesterday_expires_without_being_asked(platform, monkeypatch):
    monkeypatch.setattr(batches, "WINDOW_S", -10)
    batch = create(platform, upload(platform, request("a")).id)
    ask = Asked()
    with working(platform, ask):
        done = at(platform, batch, "expired")
    assert not ask.asked
    assert [r["custom_id"] for r in lines_of(platform, done.error_file_id)] == ["a"]


def test_two_servers_share_the_work(platform):
    file = upload(platform, *(request(f"c{n}", f"text {n}") for n in range(50)))
    batch = create(platform, file.id)
    ask = Asked()
    with working(platform, ask), working(platform, ask):
        done = at(platform, batch, "completed")
    assert done.completed == 50
    assert set(ask.asked.values()) == {1}


def test_a_bug_fails_the_batch_in_words(platform):
    async def broken(*_):
        raise KeyError("boom")

    batch = create(platform, upload(platform, request("a")).id)
    with working(platform, broken):
        failed = at(platform, batch, "failed")
    (error,) = failed.errors
    assert error.code == "server_error"
    assert batch.id in error.message
    assert "boom" not in error.message


def test_whoever_wants_to_know_is_told_in_the_same_commit(platform):
    every = ["batch.completed", "batch.failed", "batch.cancelled", "batch.expired"]
    webhooks.create(platform, platform.project.id, name="n", url="https://example.com/hook", event_types=every)
    good = create(platform, upload(platform, request("a")).id)
    bad = create(platform, "file-none")
    with working(platform, Asked()):
        at(platform, good, "completed")
        at(platform, bad, "failed")
    with platform.database.read() as connection:
        told = connection.execute(select(outbox.c.event_type, outbox.c.payload)).all()
    assert {(row.event_type, row.payload["event"]["data"]["id"]) for row in told} == {
        ("batch.completed", good.id),
        ("batch.failed", bad.id),
    }


DYING = """
import sys, anyio
from pathlib import Path
from anyio.from_thread import start_blocking_portal
from luthier.core.settings import Settings
from luthier.domain.asking import Answer
from luthier.domain.batch_worker import BatchWorker
from luthier.domain.platform import open_platform

data = Path(sys.argv[1])
log = open(data / "asked.log", "a", buffering=1)

async def ask(caller, path, body):
    await anyio.sleep(0.02)
    log.write(body["messages"][0]["content"] + "\\n")
    return Answer(200, "req_1", {})

keys = {"api_key": "sk-test-0123456789abcdef", "database_url": sys.argv[2] or None}
platform = open_platform(Settings(data=data, cache=data / "cache", **keys))
with start_blocking_portal() as portal:
    BatchWorker(platform, ask, portal).start()
    sys.stdin.read()
"""


def at_least_completed(platform, batch, number):
    def completed():
        seen = batches.get(platform.database, batch.project_id, batch.id).completed
        return seen if seen >= number else None

    return until(completed)


def test_work_goes_on_after_a_kill_and_no_result_is_made_twice(platform, tmp_path):
    file = upload(platform, *(request(f"c{n}", f"text {n}") for n in range(300)))
    batch = create(platform, file.id)
    told = [DYING, str(tmp_path), database_url(tmp_path) or ""]
    for at_least in (20, 100):
        child = subprocess.Popen([sys.executable, "-c", *told], stdin=subprocess.PIPE)
        before = at_least_completed(platform, batch, at_least)
        child.kill()
        child.communicate()
        kept = rows.recorded(platform.database, batch.id)
        assert len(kept) >= before
        said = Counter((tmp_path / "asked.log").read_text().split("\n")[:-1])
        with platform.database.transaction() as connection:  # as if the dead one's lease were over
            connection.execute(rows.batches.update().values(lease_until=0))
    again = Asked()
    with working(platform, again):
        done = at(platform, batch, "completed")
    assert done.completed == 300
    results = lines_of(platform, done.output_file_id)
    assert Counter(r["custom_id"] for r in results) == Counter(f"c{n}" for n in range(300))
    assert not {f"text {line - 1}" for line in kept} & set(again.asked)
    assert sum(said.values()) - len(kept) <= 2 * batch_worker.REQUESTS_AT_ONCE
