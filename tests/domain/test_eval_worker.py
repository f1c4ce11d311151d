import subprocess
import sys
import time
from collections import Counter
from functools import partial

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import select

from luthier.core.errors import NotFound
from luthier.core.lists import PageQuery
from luthier.core.projects import Caller
from luthier.core.settings import Settings
from luthier.domain import eval_worker, evals, webhooks
from luthier.domain.asking import Answer
from luthier.domain.eval_worker import EvalWorker
from luthier.domain.evals import NewEval
from luthier.domain.platform import open_platform
from luthier.store import answers
from luthier.store.schema import outbox
from tests.databases import database_url
from tests.domain import workers
from tests.domain.workers import until

working = partial(workers.working, EvalWorker)

MODEL = "smollm2-135m-instruct"
EXACT = {
    "type": "string_check",
    "name": "exact",
    "input": "{{sample.output_text}}",
    "reference": "{{item.text}}",
    "operation": "eq",
}
JUDGE = {
    "type": "label_model",
    "name": "judge",
    "model": MODEL,
    "input": [{"role": "user", "content": "judge {{sample.output_text}}"}],
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}


@pytest.fixture
def platform(tmp_path):
    keys = {"api_key": "sk-test-0123456789abcdef", "database_url": database_url(tmp_path)}
    platform = open_platform(Settings(data=tmp_path, cache=tmp_path / "cache", webhook_private_hosts=True, **keys))
    yield platform
    platform.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("luthier.domain.claims.BEAT_S", 0.02)
    monkeypatch.setattr("luthier.domain.lease.BEAT_S", 0.02)


def caller(platform):
    project = platform.project
    return Caller(project.id, project.organization_id, project.organization, "key_1", frozenset({"infer"}))


def start(platform, count, *criteria, seed=1, same=False):
    """An eval, and a run over so many rows."""
    documents = list(criteria or [EXACT])
    wanted = NewEval("e", "custom", {"type": "object"}, True, None, documents, None)
    made = anyio.run(evals.create, platform, caller(platform), wanted)
    content = [{"item": {"text": "row" if same else f"row {n}"}} for n in range(count)]
    template = [{"role": "user", "content": "{{item.text}}"}]
    source = {
        "type": "completions",
        "source": {"type": "file_content", "content": content},
        "input_messages": {"type": "template", "template": template},
        "model": MODEL,
        "sampling_params": {"seed": seed},
    }
    return evals.create_run(platform, caller(platform), made.id, name=None, data_source=source, metadata=None)


class Model:
    """Says what it was asked, or when it judges that it is good; stops after so many answers if told to."""

    def __init__(self, stop_after=None):
        self.asked = Counter()
        self.answered = 0
        self.stop_after = stop_after

    async def __call__(self, who, path, body):
        text = body["messages"][0]["content"]
        if self.stop_after is not None and self.answered >= self.stop_after:
            await anyio.sleep_forever()
        self.asked[text] += 1
        self.answered += 1
        await anyio.lowlevel.checkpoint()
        said = '{"steps": [], "result": "good"}' if text.startswith("judge") else text
        message = {"role": "assistant", "content": said, "refusal": None}
        usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return Answer(200, "req_1", {"model": body["model"], "choices": choices, "usage": usage})


def now(platform, run):
    return evals.get_run(platform, run.project_id, run.eval_id, run.id)


def ended(platform, run, status="completed"):
    return until(lambda: (found := now(platform, run)).status == status and found)


def items_of(platform, run):
    page = evals.list_items(platform, run.project_id, run.eval_id, run.id, PageQuery(100), status=None)
    return page.items


def test_a_run_goes_on_after_a_stop_and_nothing_is_asked_twice(platform):
    run = start(platform, 40, EXACT, JUDGE)
    model = Model(stop_after=30)
    with working(platform, model):
        until(lambda: model.answered == 30)
    half = now(platform, run)
    assert (half.status, half.passed) == ("in_progress", len(items_of(platform, run)))
    model.stop_after = None
    with working(platform, model):
        done = ended(platform, run)
    assert (done.passed, done.failed, done.errored) == (40, 0, 0)
    assert sorted(item.row for item in items_of(platform, run)) == list(range(1, 41))
    assert len(model.asked) == 80
    assert set(model.asked.values()) == {1}
    [used] = done.usage
    assert (used.invocation_count, used.total_tokens) == (80, 240)
    assert sorted(done.criteria.values()) == [(40, 0), (40, 0)]


def test_the_same_question_is_asked_once_in_all_runs(platform):
    model = Model()
    with working(platform, model):
        assert ended(platform, start(platform, 20, same=True)).passed == 20
        assert model.asked == {"row": 1}
        assert ended(platform, start(platform, 20, same=True)).passed == 20
        assert model.asked == {"row": 1}
        ended(platform, start(platform, 20, same=True, seed=2))  # another seed is another question
        assert model.asked == {"row": 2}
        answers.forget(platform.database, before=platform.database.now() + 1)
        ended(platform, start(platform, 20, same=True, seed=2))
        assert model.asked == {"row": 3}


def test_what_is_refused_is_not_remembered(platform):
    class Broken(Model):
        async def __call__(self, who, path, body):
            self.asked[body["messages"][0]["content"]] += 1
            error = {"message": "no", "type": "t", "param": None, "code": "bad"}
            return Answer(400, "", {"error": error})

    broken = Broken()
    with working(platform, broken):
        run = ended(platform, start(platform, 1))
        assert run.errored == 1
        [item] = items_of(platform, run)
        assert item.sample["error"] == {"code": "bad", "message": "no"}
        ended(platform, start(platform, 1))
    assert broken.asked == {"row 0": 2}


def test_two_servers_share_the_work(platform):
    runs = [start(platform, 15, seed=seed) for seed in range(4)]
    model = Model()
    with working(platform, model), working(platform, model):
        assert [ended(platform, run).passed for run in runs] == [15] * 4
    assert set(model.asked.values()) == {4}


def test_canceling_stops_what_is_under_way_and_keeps_what_was_graded(platform):
    run = start(platform, 40)
    model = Model(stop_after=5)
    with working(platform, model):
        until(lambda: now(platform, run).passed == 5)
        canceled = evals.cancel_run(platform, run.project_id, run.eval_id, run.id)
        assert (canceled.status, canceled.passed) == ("canceled", 5)
        model.stop_after = None
        assert ended(platform, start(platform, 3, seed=9)).passed == 3
    assert now(platform, run).passed == 5
    assert evals.cancel_run(platform, run.project_id, run.eval_id, run.id).status == "canceled"


@pytest.mark.parametrize("whole", [True, False])
def test_a_run_that_is_deleted_under_way_is_gone(platform, whole):
    run = start(platform, 40)
    model = Model(stop_after=5)
    with working(platform, model):
        until(lambda: now(platform, run).passed == 5)
        if whole:
            evals.delete(platform, run.project_id, run.eval_id)
        else:
            evals.delete_run(platform, run.project_id, run.eval_id, run.id)
        model.stop_after = None
        assert ended(platform, start(platform, 3, seed=9)).passed == 3
    with pytest.raises(NotFound):
        now(platform, run)


def test_a_bug_fails_the_run_in_words(platform):
    async def broken(*_):
        raise KeyError("boom")

    run = start(platform, 3)
    with working(platform, broken):
        failed = ended(platform, run, "failed")
    assert failed.error["code"] == "internal_error"
    assert run.id in failed.error["message"]


@pytest.mark.parametrize(("end", "event"), [("completed", "succeeded"), ("failed", "failed"), ("canceled", "canceled")])
def test_who_wants_to_know_is_told(platform, end, event):
    async def broken(*_):
        raise KeyError("boom")

    name = f"eval.run.{event}"
    webhooks.create(platform, platform.project.id, name="x", url="http://127.0.0.1:9/", event_types=[name])
    run = start(platform, 1)
    if end == "canceled":
        evals.cancel_run(platform, run.project_id, run.eval_id, run.id)
    else:
        with working(platform, Model() if end == "completed" else broken):
            ended(platform, run, end)
    with platform.database.read() as connection:
        [told] = connection.execute(select(outbox)).mappings()
    assert (told["event_type"], told["payload"]["event"]["data"]) == (name, {"id": run.id})


KILLED = """
import sys
from pathlib import Path
from anyio.from_thread import start_blocking_portal
from luthier.core.settings import Settings
from luthier.domain.platform import open_platform
from tests.domain.test_eval_worker import Model, EvalWorker
log = open(sys.argv[2], "a", buffering=1)
class Telling(Model):
    async def __call__(self, who, path, body):
        answer = await super().__call__(who, path, body)
        log.write(body["messages"][0]["content"] + "\\n")
        return answer
url = sys.argv[3] or None
platform = open_platform(Settings(data=Path(sys.argv[1]), cache=Path(sys.argv[1]) / "cache", database_url=url))
with start_blocking_portal() as portal:
    EvalWorker(platform, Telling(stop_after=int(sys.argv[4])), portal).start()
    sys.stdin.read()
"""


def test_kill_9_loses_nothing_and_asks_again_only_what_was_under_way(platform, tmp_path, monkeypatch):
    run = start(platform, 100, EXACT, JUDGE)
    log = tmp_path / "asked"
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(log), database_url(tmp_path) or "", "90"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
        until(lambda: log.exists() and log.read_text().count("\n") >= 90, timeout_s=30)
        server.kill()
    kept = now(platform, run).passed
    assert 0 < kept < 100
    monkeypatch.setattr(platform.database, "now", lambda: time.time() + eval_worker.LEASE_S + 1)
    model = Model()
    with working(platform, model):
        assert ended(platform, run).passed == 100
    asked = Counter(log.read_text().splitlines()) + model.asked
    assert len(asked) == 200
    assert sum(asked.values()) - 200 <= eval_worker.ROWS_AT_ONCE
