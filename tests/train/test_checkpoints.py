"""Which epochs' adapters stay on disk, and of which state a run goes on."""

import json

import pytest
import torch

from luthier.train.checkpoints import Checkpoints, Progress
from luthier.train.journal import Fence
from luthier.train.optimiser import Optimiser
from luthier.train.policy import load_policy
from tests.tiny import chat_line, make_run


@pytest.fixture(scope="module")
def learner(tmp_path_factory, base):
    """An adapter and its optimiser."""
    run = make_run(tmp_path_factory.mktemp("policy") / "run", base, [chat_line("q", "a")])
    adapter = load_policy(base, run.read_spec()).adapter
    return adapter, Optimiser(adapter, 0.01, 10)


@pytest.fixture
def saved(tmp_path, base, learner):
    """Saves epochs' ends with these losses of the validation file; None: there is none."""
    run = make_run(tmp_path / "run", base, [chat_line("q", "a")])
    adapter, optimiser = learner

    def save(losses):
        checkpoints = Checkpoints(run, Fence(run, 0), "tiny")
        for step, loss in enumerate(losses, 1):
            adapter.flat.fill_(step)
            metrics = {"step": step} | ({} if loss is None else {"full_valid_loss": loss})
            checkpoints.save(Progress(step, metrics=metrics, epoch_end=True), adapter, optimiser)
        return run

    return save


@pytest.mark.parametrize(
    ("losses", "kept"),
    [
        ([3.0, 1.0, 2.0, 2.5, 4.0, 5.0], [2, 4, 5, 6]),
        ([1.0, 2.0, 0.5, 3.0, 4.0, 5.0, 6.0], [3, 5, 6, 7]),  # the best so far is not the best for good
        ([6.0, 5.0, 4.0, 3.0, 2.0], [3, 4, 5]),
        ([2.0, 2.0, 2.0, 2.0, 2.0], [1, 3, 4, 5]),
        ([None] * 5, [3, 4, 5]),
    ],
)
def test_the_epoch_with_the_lowest_validation_loss_stays(saved, losses, kept):
    run = saved(losses)
    found = {int(p.name.removeprefix("step-")): p for p in (run.path / "checkpoints").iterdir()}
    assert sorted(found) == kept
    for step, folder in found.items():
        assert (folder / "adapter" / "adapter_model.safetensors").exists()
        assert json.loads((folder / "metrics.json").read_text())["step"] == step
        assert (folder / "state.safetensors").exists() == (step == len(losses))


def test_a_run_goes_on_from_its_newest_state_not_from_its_best(saved, learner):
    run = saved([1.0, 2.0, 3.0, 4.0, 5.0])
    adapter, optimiser = learner
    adapter.flat.zero_()
    progress = Checkpoints(run, Fence(run, 0), "tiny").load(adapter, optimiser)
    assert progress.step == 5
    assert torch.equal(adapter.flat, torch.full_like(adapter.flat, 5))
