"""Programs of others drive their own paths against a server with a real trainer, a tiny base and the echo engine.

Run by `make test-clients`, which gives each its own environment: they want different versions of OpenAI's library.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luthier.core.bases import BaseSource
from tests.conftest import KEY, serving
from tests.tiny import add_weights, chat_line, make_base

pytestmark = pytest.mark.clients
HERE = Path(__file__).parent
ENVIRONMENTS = Path(__file__).parents[2] / ".venv-clients"
SHA256 = "0" * 64  # what `make_base` says that its base has
PATHS = {
    "whole": "hello there",
    "tokens": 4,
    "stream": "hello there",
    "object": {"echo": "hello there"},
    "tools": ["look"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    add_weights(make_base(data / "cache/bases" / SHA256))
    tiny = BaseSource("tiny", "file:/nowhere/m.gguf", SHA256, "Apache-2.0")
    with serving(data, bases={"tiny": tiny}, aliases={"gpt-4o-mini": "tiny"}) as running:
        yield running


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    """A training file."""
    file = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    file.write_text("\n".join(chat_line(f"question {i}", f"ansir {i}") for i in range(10)))
    return file


@pytest.fixture
def run(server, chats, tmp_path):
    """Runs a program in its environment; gives what it printed."""

    def running(*command, cwd=tmp_path):
        told = {"OPENAI_BASE_URL": server.url, "OPENAI_API_BASE": server.url, "OPENAI_API_KEY": KEY}
        told |= {"CHATS": str(chats), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "DSPY_CACHEDIR": str(tmp_path)}
        environment = {**os.environ, **told, "HOME": str(tmp_path)}
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return running


def python(run, environment, script):
    return json.loads(run(ENVIRONMENTS / environment / "bin/python", HERE / script).splitlines()[-1])


def is_tuned(answer):
    """Whether a tuned model said it: the echo engine begins with the adapter's id."""
    return re.fullmatch(r"model_\w+ hello there", answer)


def test_langchain(run):
    assert python(run, "langchain", "langchain_chat.py") == {"chat": PATHS, "responses": PATHS, "embeddings": 2}


def test_vercel_ai_sdk(run):
    said = json.loads(run("node", "paths.mjs", cwd=HERE / "ai_sdk"))
    paths = PATHS | {"second": "and again"}
    assert said == {"chat": paths, "responses": paths, "embeddings": 2}


def test_litellm(run):
    said = python(run, "dspy", "litellm_paths.py")
    assert is_tuned(said.pop("tuned"))
    assert said == {
        "whole": "hello there",
        "tokens": 4,
        "stream": "hello there",
        "responses": "hello there",
        "embeddings": 2,
        "job": "succeeded",
    }


def test_dspy(run):
    said = python(run, "dspy", "dspy_finetune.py")
    assert said["answer"] == "hello there"
    assert is_tuned(said["tuned"])
    assert said["model"].startswith("ft:tiny:acme:")


def test_llamaindex(run):
    said = python(run, "llamaindex", "llamaindex_finetune.py")
    assert said["job"] == "succeeded"
    assert is_tuned(said["like"])
    assert said["model"].startswith("ValueError: Unknown model")  # docs/compatibility.md tells


LONG = json.dumps({"n_epochs": 50, "batch_size": 1})  # so that it still runs when it is cancelled


def test_openai_cli(run, server, chats):
    cli = [ENVIRONMENTS / "cli/bin/openai", "api"]
    file = json.loads(run(*cli, "files.create", "-f", chats, "-p", "fine-tune"))
    job = json.loads(run(*cli, "fine_tuning.jobs.create", "-m", "gpt-4o-mini", "-F", file["id"], "-H", LONG))
    assert job["id"] in run(*cli, "fine_tuning.jobs.list")
    assert "fine_tuning.job.event" in run(*cli, "fine_tuning.jobs.list_events", "-i", job["id"])  # the newest 20
    assert json.loads(run(*cli, "fine_tuning.jobs.cancel", "-i", job["id"]))["id"] == job["id"]
    assert '"tiny"' in run(*cli, "models.list")
    asked = ("chat.completions.create", "-m", "gpt-4o-mini", "-g", "user", "hello there")
    assert run(*cli, *asked).strip() == "hello there"
    assert run(*cli, *asked, "--stream").strip() == "hello there"
    assert run(*cli, "completions.create", "-m", "gpt-4o-mini", "-p", "hello there").strip() == "hello there"


def test_wandb_offline(server, chats, monkeypatch):
    """No client, but a program of others that a job's metrics go to; its package stands beside ours here."""
    [packages] = map(str, (ENVIRONMENTS / "wandb").glob("lib/*/site-packages"))
    monkeypatch.setattr(sys, "path", [*sys.path, packages])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), packages]))
    monkeypatch.setenv("WANDB_MODE", "offline")
    client = server.client
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini",
        training_file=client.files.create(file=chats, purpose="fine-tune").id,
        hyperparameters={"n_epochs": 2, "batch_size": 5},
        integrations=[{"type": "wandb", "wandb": {"project": "tones", "name": "first", "tags": ["a"]}}],
    )
    end = time.monotonic() + 120
    while client.fine_tuning.jobs.retrieve(job.id).status not in {"succeeded", "failed"}:
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.2)
    events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
    assert not [event.message for event in events if "Weights & Biases" in event.message]
    [kept] = (server.platform.settings.runs / job.id / "wandb").glob(f"offline-run-*-{job.id}/run-{job.id}.wandb")
    record = kept.read_bytes()
    for told in (b"tones", b"first", f"openai/{job.id}".encode(), b"learning_rate_multiplier"):
        assert told in record
    assert record.count(b"train_mean_token_accuracy") >= 4  # one a step
