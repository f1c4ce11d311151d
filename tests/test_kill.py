"""A server is killed while it trains; started again it ends the job in the bytes of one that nobody disturbed."""

import contextlib
import os
import shutil
import signal
import time

import openai
import pytest
import torch

from luthier.core.run import RunFolder
from luthier.train.journal import Fence
from luthier.train.loop import train
from tests.child import served
from tests.conftest import KEY
from tests.patience import PATIENCE_S
from tests.tiny import add_weights, chat_line, make_base

CHATS = "\n".join(chat_line(f"question {i}", f"ansir {i % 3}") for i in range(10)).encode()
METHOD = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 8, "batch_size": 2}}}


def wait_for(found, every_s=0.005):
    """Until it is found."""
    deadline = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < deadline
        time.sleep(every_s)


def connected(url):
    return openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)


@pytest.fixture
def one_thread():
    """As the trainer in its own process: sums depend on how they are parted."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_job_survives_kill_9_of_server_and_trainer(tmp_path, one_thread):
    """The trainer of a killed server goes on; here it is frozen in its second epoch, so that the next server has to
    kill it, and to go on from the state that the first epoch left."""
    add_weights(make_base(tmp_path / "cache/bases" / ("0" * 64)))
    with served(tmp_path) as (server, url), connected(url) as client:
        file = client.files.create(file=("c.jsonl", CHATS), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id, seed=3, method=METHOD)
        run = RunFolder(tmp_path / "data/runs" / job.id)
        wait_for(lambda: any(event.kind == "checkpoint" for event, _ in run.read_events()))
        trainer = int((run.path / "lock").read_text().split()[0])
        os.kill(trainer, signal.SIGSTOP)
        server.send_signal(signal.SIGKILL)
        server.wait()
    try:
        assert not run.adapter.exists()
        undisturbed = RunFolder(tmp_path / "undisturbed")
        undisturbed.path.mkdir()
        for path in (run.spec, run.training):
            shutil.copy(path, undisturbed.path)

        with served(tmp_path) as (_, url), connected(url) as client:
            wait_for(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "succeeded", every_s=0.2)
            steps = [e.data["step"] for e in client.fine_tuning.jobs.list_events(job.id) if e.type == "metrics"]
            assert sorted(steps) == list(range(1, 41))
            assert client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model in {m.id for m in client.models.list()}
        assert int((run.path / "lock").read_text().split()[0]) != trainer
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(trainer, signal.SIGKILL)
    assert train(undisturbed, Fence(undisturbed, 0), lambda: False)
    for name in ("adapter/adapter_model.safetensors", "adapter/adapter_config.json", "metrics.csv"):
        assert (run.path / name).read_bytes() == (undisturbed.path / name).read_bytes()
