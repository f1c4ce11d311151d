"""Memory that runs out, wherever it does, and what a run that goes on knows of it."""

from dataclasses import replace

import pytest
import torch

from luthier.core.errors import JobFailed
from luthier.core.run import Hyperparameters
from luthier.train import budget, policy
from luthier.train.device import is_out_of_memory
from luthier.train.journal import Fence, Journal
from luthier.train.loop import train
from tests.tiny import chat_line, make_run

CHATS = [chat_line(f"question {i}", f"ansir {i % 3}") for i in range(10)]
TWO_EPOCHS = Hyperparameters(n_epochs=2, batch_size=4, learning_rate_multiplier=1.0, learning_rate=0.02)


class Killed(Exception):
    """As a SIGKILL: nothing is written after it."""


@pytest.fixture(autouse=True)
def budgets(monkeypatch):
    """400 tokens at once, 20 at the fewest."""
    monkeypatch.setattr(budget, "MIN_BUDGET", 20)
    monkeypatch.setattr(policy, "MEMORY_SHARE", 0)
    monkeypatch.setattr(policy, "MIN_BUDGET", 400)


@pytest.fixture
def fail(monkeypatch):
    """Let tries fail for want of memory that a condition holds for."""
    whole = policy.Policy.score

    def set_condition(condition):
        def score(self, trie):
            if condition(self, trie):
                self._count(trie)
                raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
            return whole(self, trie)

        monkeypatch.setattr(policy.Policy, "score", score)

    return set_condition


def made(path, base, *, epochs=2):
    run = make_run(path, base, CHATS, hyperparameters=replace(TWO_EPOCHS, n_epochs=epochs))
    run.validation.write_text("\n".join(CHATS))
    return run


def halvings(run):
    return [(e.step, e.data["token_budget"]) for e, _ in run.read_events() if e.kind == "warning"]


def assert_same(run, other):
    for name in ("adapter/adapter_model.safetensors", "metrics.csv", "probe.json"):
        assert (run.path / name).read_bytes() == (other.path / name).read_bytes()


def never(*_):
    return False


def killed_at(run, step):
    """For the end of a step: its metrics are told, its state is not written."""

    def stop():
        if ("metrics", step) in said(run):
            raise Killed
        return False

    return stop


def said(run):
    return [(event.kind, event.step) for event, _ in run.read_events()]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("std::bad_alloc"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_what_says_that_memory_ran_out(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_memory_that_runs_out_while_measuring_ends_no_run(tmp_path, base, fail):
    """In the quote, and in a step's validation."""
    run = made(tmp_path / "run", base)
    fail(
        lambda _, trie: (
            not torch.is_grad_enabled() and trie.tokens_computed > (100 if ("quote", 0) in said(run) else 150)
        )
    )
    assert train(run, Fence(run, 0), never)
    assert halvings(run) == [(0, 126), (1, 53)]  # of ten chats with 252 tokens to compute, then of three


@pytest.mark.parametrize(("epochs", "step"), [(2, 1), (14, 0)])
def test_a_budget_that_no_batch_reaches_is_halved_to_half_of_what_was_tried(
    tmp_path, base, fail, monkeypatch, epochs, step
):
    """In the first step of a short run, and of a longer one in the quote, which learns from the heaviest batch."""
    monkeypatch.setattr(policy, "MIN_BUDGET", 1_000_000)
    run, tries = made(tmp_path / "run", base, epochs=epochs), 0

    def fails(_, trie):
        nonlocal tries
        failing = trie.tokens_seen > 150 and torch.is_grad_enabled()
        tries += failing
        return failing

    fail(fails)
    assert train(run, Fence(run, 0), never)
    assert (halvings(run), tries) == ([(step, 63)], 1)


def test_a_try_in_vain_is_not_counted(tmp_path, base):
    run = made(tmp_path / "run", base)
    counted = policy.load_policy(base, run.read_spec())
    counted.flops = 10.0

    def call():
        counted.flops += 5.0
        if counted.token_budget > 100:
            raise MemoryError
        return counted.flops

    with Journal(run, Fence(run, 0), 0) as journal:
        assert budget.Budget(counted, journal).fit(call, 1) == 15.0
    assert halvings(run) == [(1, 200), (1, 100)]


def test_no_memory_for_measuring_either_says_what_would_help(tmp_path, base, fail):
    fail(lambda *_: not torch.is_grad_enabled())
    run = made(tmp_path / "run", base)
    with pytest.raises(JobFailed, match="A step does not fit into memory"):
        train(run, Fence(run, 0), never)


@pytest.mark.parametrize("learning", [True, False])
def test_a_run_that_goes_on_halves_where_it_did(tmp_path, base, fail, learning):
    """Memory runs out in step 3, at whose end a state is written, but for a trainer that is killed before."""

    def at_three(run, times):
        def fails(*_):
            nonlocal times
            now = times > 0 and ("metrics", 2) in said(run) and torch.is_grad_enabled() == learning
            times -= now
            return now

        return fails

    whole, torn = made(tmp_path / "whole", base), made(tmp_path / "torn", base)
    fail(at_three(whole, 2))
    assert train(whole, Fence(whole, 0), never)
    assert halvings(whole) == ([(3, 42), (3, 21)] if learning else [(3, 126), (3, 53)])
    fail(at_three(torn, 2))
    asked = iter([False, True])
    assert not train(torn, Fence(torn, 0), lambda: next(asked))
    with pytest.raises(Killed):
        train(torn, Fence(torn, 0), killed_at(torn, 3))
    fail(never)
    assert train(torn, Fence(torn, 0), never)
    assert halvings(torn) == halvings(whole)
    assert_same(whole, torn)


def test_a_trainer_that_the_system_killed_goes_on_with_half(tmp_path, base):
    run = made(tmp_path / "run", base)
    assert train(run, Fence(run, 0), never, halve=True)
    assert halvings(run) == [(0, 63)]  # of the largest batch, of four chats
    run = made(tmp_path / "other", base)
    asked = iter([False, True])
    assert not train(run, Fence(run, 0), lambda: next(asked))
    for _ in range(2):
        with pytest.raises(Killed):
            train(run, Fence(run, 0), killed_at(run, 5), halve=True)
    assert train(run, Fence(run, 0), never, halve=True)
    assert halvings(run) == [(3, 63), (4, 31), (4, 20)]  # from the state on, at 3: what was done since is done again


def test_a_validation_loss_that_is_not_finite_names_its_lines(tmp_path, base):
    wild = Hyperparameters(n_epochs=1, batch_size=12, learning_rate_multiplier=1.0, learning_rate=1e30)
    run = make_run(tmp_path / "run", base, CHATS, hyperparameters=wild)
    run.validation.write_text("\n".join(CHATS[:2]))
    with pytest.raises(
        JobFailed, match=r"The validation loss of step 1 is not a finite number; line 1, 2 of the valid"
    ) as failed:
        train(run, Fence(run, 0), never)
    assert failed.value.param == "validation_file"
