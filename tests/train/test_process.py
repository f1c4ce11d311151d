"""The trainer as a process: killed, stopped, fenced, failed. Whatever happens, the folder says how to go on."""

import fcntl
import json
import os
import random
import signal
import time
from unittest.mock import Mock

import pytest
from safetensors import SafetensorError

from luthier.core.run import EXIT_NO_ROOM, Hyperparameters
from luthier.train.__main__ import main
from tests.patience import PATIENCE_S
from tests.tiny import chat_line, make_run
from tests.train.forge import Forge

LINES = [chat_line(f"question {i % 5}", f"ansir {i}") for i in range(12)]
EPOCHS = Hyperparameters(n_epochs=5, batch_size=2, learning_rate_multiplier=1.0, learning_rate=0.02)


@pytest.fixture(scope="module")
def forge():
    forge = Forge()
    yield forge
    forge.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, base, forge):
    """A run that nothing happened to."""
    run = make_run(tmp_path_factory.mktemp("undisturbed") / "run", base, LINES, hyperparameters=EPOCHS)
    assert forge.run(run) == 0
    return run


def said(run):
    return [(event.kind, event.step) for event, _ in run.read_events()]


def until_step(run, step):
    end = time.monotonic() + PATIENCE_S
    while ("metrics", step) not in said(run):
        assert time.monotonic() < end, f"no step {step}; the trainer's log: {run.log.read_text()}"
        time.sleep(0.005)


def assert_same_result(run, other):
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (run.adapter / name).read_bytes() == (other.adapter / name).read_bytes()
    assert run.metrics.read_bytes() == other.metrics.read_bytes()
    assert run.probe.read_bytes() == other.probe.read_bytes()
    assert sorted(said(run)) == sorted(said(other))
    checkpoints = [sorted(p.name for p in (r.path / "checkpoints").iterdir()) for r in (run, other)]
    assert checkpoints[0] == checkpoints[1]


def kill_and_go_on(run, forge, moments, seed, life_s=1.5):
    """Kill the trainer at random moments of its life, that many times, then let it end. How often it was killed."""
    dice = random.Random(seed)
    killed = 0
    for _ in range(moments):
        pid = forge.start(run)
        time.sleep(dice.uniform(0.0, life_s))
        os.kill(pid, signal.SIGKILL)
        killed += forge.wait(pid) == -signal.SIGKILL
    assert forge.run(run) == 0
    return killed


def test_killed_runs_end_in_the_same_bytes(tmp_path, base, forge, undisturbed):
    run = make_run(tmp_path / "run", base, LINES, hyperparameters=EPOCHS)
    assert kill_and_go_on(run, forge, moments=4, seed=1) > 0
    assert_same_result(run, undisturbed)


@pytest.mark.slow
def test_fifty_kills(tmp_path, base, forge, undisturbed):
    whole = make_run(tmp_path / "whole", base, LINES, hyperparameters=EPOCHS)
    started = time.monotonic()
    assert forge.run(whole) == 0
    life_s = time.monotonic() - started
    killed = number = 0
    while killed < 50:
        run = make_run(tmp_path / f"run{number}", base, LINES, hyperparameters=EPOCHS)
        killed += kill_and_go_on(run, forge, moments=6, seed=number, life_s=life_s)
        assert_same_result(run, undisturbed)
        number += 1
        assert number < 50, "runs end before they are killed; kill them sooner"


def test_stopped_runs_go_on_to_the_same_bytes(tmp_path, base, forge, undisturbed):
    run = make_run(tmp_path / "run", base, LINES, hyperparameters=EPOCHS)
    pid = forge.start(run)
    until_step(run, 4)
    os.kill(pid, signal.SIGTERM)
    assert forge.wait(pid) == 0
    assert not run.adapter.exists()
    last = max(step for kind, step in said(run) if kind == "metrics")
    assert (run.checkpoint(last) / "state.safetensors").exists()
    assert forge.run(run) == 0
    assert_same_result(run, undisturbed)


def test_a_complete_run_is_left_alone(forge, undisturbed):
    before = undisturbed.events.read_bytes()
    assert forge.run(undisturbed) == 0
    assert undisturbed.events.read_bytes() == before


def test_checkpoints_of_the_last_three_epochs_stay(undisturbed):
    kept = {p.name: sorted(c.name for c in p.iterdir()) for p in (undisturbed.path / "checkpoints").iterdir()}
    kept_of_each = ["adapter", "metrics.json"]
    assert kept == {"step-18": kept_of_each, "step-24": kept_of_each, "step-30": [*kept_of_each, "state.safetensors"]}
    final = undisturbed.checkpoint(30) / "adapter" / "adapter_model.safetensors"
    assert final.read_bytes() == (undisturbed.adapter / "adapter_model.safetensors").read_bytes()
    assert [step for kind, step in said(undisturbed) if kind == "checkpoint"] == [6, 12, 18, 24, 30]


def test_an_older_claim_writes_nothing(tmp_path, base, forge):
    run = make_run(tmp_path / "run", base, LINES, hyperparameters=EPOCHS)
    run.fence.write_text("2")
    assert forge.run(run, fence=1) == 3
    assert not run.events.exists()
    assert forge.run(run, fence=2) == 0


def test_a_claim_made_meanwhile_ends_the_trainer(tmp_path, base, forge):
    run = make_run(tmp_path / "run", base, LINES, hyperparameters=EPOCHS)
    pid = forge.start(run, fence=1)
    until_step(run, 2)
    run.fence.write_text("2")
    assert forge.wait(pid) == 3
    assert not run.adapter.exists()
    assert "failed" not in dict(said(run))


def test_a_second_trainer_waits_for_the_first(tmp_path, base, forge):
    run = make_run(tmp_path / "run", base, LINES, hyperparameters=EPOCHS)
    with (run.path / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pid = forge.start(run)
        time.sleep(0.3)
        assert not run.events.exists()
    assert forge.wait(pid) == 0
    assert run.adapter.exists()


def failure(run):
    [event] = [event for event, _ in run.read_events() if event.kind == "failed"]
    return event.data


def test_bad_data_fails_with_its_words(tmp_path, base, forge):
    run = make_run(tmp_path / "run", base, [*LINES, '{"messages": [{"role": "bot"}]}'])
    assert forge.run(run) == 1
    assert failure(run)["code"] == "invalid_training_file"
    assert "Example 13, message 1 has role 'bot'" in failure(run)["message"]


def test_a_loss_that_is_not_finite_names_step_and_lines(tmp_path, base, forge):
    wild = Hyperparameters(n_epochs=3, batch_size=12, learning_rate_multiplier=1.0, learning_rate=1e30)
    run = make_run(tmp_path / "run", base, LINES, hyperparameters=wild)
    assert forge.run(run) == 1
    assert failure(run)["message"].startswith("The loss of step 2 is not a finite number; line ")
    assert "learning_rate_multiplier" in failure(run)["message"]


def test_what_nobody_foresaw_is_told_and_logged(tmp_path, base, forge):
    run = make_run(tmp_path / "run", base, LINES)
    run.spec.write_text(json.dumps({**json.loads(run.spec.read_text()), "base_dir": str(tmp_path / "nowhere")}))
    assert forge.run(run) == 1
    assert failure(run)["code"] == "server_error"
    assert "FileNotFoundError" in failure(run)["message"]
    assert "Traceback" in run.log.read_text()


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path, base, forge, undisturbed):
    run = make_run(tmp_path / "run", base, LINES, hyperparameters=EPOCHS)
    pid = forge.start(run)
    until_step(run, 3)
    os.kill(pid, signal.SIGKILL)
    forge.wait(pid)
    with run.events.open("a") as events:
        events.write('{"kind": "metr')
    with run.metrics.open("a") as metrics:
        metrics.write("17,0.1")
    assert forge.run(run) == 0
    assert_same_result(run, undisturbed)


@pytest.mark.parametrize("error", [OSError(28, "No space left"), SafetensorError("I/O error: (os error 28)")])
def test_a_full_disk_is_not_the_runs_end(tmp_path, base, monkeypatch, error):
    run = make_run(tmp_path / "run", base, LINES, hyperparameters=EPOCHS)
    monkeypatch.setattr("luthier.train.loop.train", Mock(side_effect=error))
    monkeypatch.setattr("sys.argv", ["train", str(run.path)])
    assert main() == EXIT_NO_ROOM
    assert said(run) == []
