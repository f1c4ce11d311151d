"""The quote: measured on the run's own batches, the heaviest first, and nothing of the run changed."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig

from luthier.core.errors import JobFailed
from luthier.core.run import Hyperparameters
from luthier.train import loop, policy, quote
from luthier.train.dataset import batches
from luthier.train.journal import Fence
from luthier.train.loop import train
from luthier.train.supervised import supervised
from tests.tiny import chat_line, make_run

CHATS = [chat_line(f"question {i}", "a longer answer " * (i % 4) + f"ansir {i}") for i in range(12)]
TWO_EPOCHS = Hyperparameters(n_epochs=2, batch_size=4, learning_rate_multiplier=1.0, learning_rate=0.02)


def trained(path, base, *, epochs=2):
    run = make_run(path, base, CHATS, hyperparameters=replace(TWO_EPOCHS, n_epochs=epochs))
    run.validation.write_text("\n".join(CHATS[:3]))
    assert train(run, Fence(run, 0), lambda: False)
    return run


def said(run, kind):
    return next(event.data for event, _ in run.read_events() if event.kind == kind)


def test_it_stands_before_the_first_step_and_beside_it_what_was(tmp_path, base):
    run = trained(tmp_path / "run", base)
    assert [event.kind for event, _ in run.read_events()][:3] == ["started", "quote", "metrics"]
    quoted, actual = said(run, "quote"), said(run, "finished")
    assert quoted["trained_tokens"] == actual["trained_tokens"]
    assert quoted["seconds"] > 0
    assert actual["seconds"] > 0


@pytest.mark.parametrize(("epochs", "measured"), [(1, False), (5, True)])
def test_it_takes_the_memory_of_the_heaviest_batch(tmp_path, base, monkeypatch, epochs, measured):
    """On a machine whose memory fills by a megabyte a token. Twenty chats of different lengths, two at once: the batch
    with the longest two is none of those that are measured for their time. A run of ten steps does not measure it
    either: it would take a tenth longer."""
    most = steps = 0

    def noted(policy, samples, *, learn):
        nonlocal most, steps
        steps += 1
        most = max(most, sum(len(row.ids) for sample in samples for row in sample.rows))
        return supervised(policy, samples, learn=learn)

    monkeypatch.setitem(loop.OBJECTIVES, "supervised", lambda _: noted)
    monkeypatch.setattr(loop, "peak_bytes", lambda _: most << 20)
    monkeypatch.setattr(policy, "token_bytes", lambda *_: 1 << 20)
    monkeypatch.setattr(policy, "token_budget", lambda *_: 100_000)
    chats = [chat_line(f"question {i}", "ansir " * i) for i in range(1, 21)]
    run = make_run(tmp_path / "run", base, chats, hyperparameters=replace(TWO_EPOCHS, n_epochs=epochs, batch_size=2))
    assert train(run, Fence(run, 0), lambda: False)
    assert (steps > 10 * epochs) == measured
    assert said(run, "quote")["peak_memory_bytes"] == said(run, "finished")["peak_memory_bytes"] == most << 20


def test_measured_steps_change_no_byte(tmp_path, base, monkeypatch):
    """In a run that is long enough for them."""
    learnt = []
    add = quote.Pace.add
    monkeypatch.setattr(quote.Pace, "add", lambda pace, *each: (learnt.append(pace._held), add(pace, *each)))
    quoted = trained(tmp_path / "quoted", base, epochs=20)
    assert learnt[0] > 0
    monkeypatch.setattr(loop, "_forecast", lambda *_: None)
    plain = trained(tmp_path / "plain", base, epochs=20)
    for name in ("adapter/adapter_model.safetensors", "metrics.csv", "probe.json"):
        assert (quoted.path / name).read_bytes() == (plain.path / name).read_bytes()


@pytest.mark.parametrize("epochs", [2, 20])
def test_a_run_that_takes_as_long_as_its_tokens_is_quoted_to_the_second(tmp_path, base, monkeypatch, epochs):
    """A clock that goes on by a millisecond a token. Of 60 steps the heaviest comes first, of six there is one."""
    now, learnt = 0.0, []
    run = make_run(tmp_path / "run", base, CHATS, hyperparameters=replace(TWO_EPOCHS, n_epochs=epochs))
    spec = run.read_spec()
    data = loop._training_data(run, base, loop.Rows(base, spec.context_tokens))

    def learn(samples):
        nonlocal now
        learnt.append(sum(len(row.ids) for sample in samples for row in sample.rows))
        now += learnt[-1] / 1000

    monkeypatch.setattr(quote.time, "perf_counter", lambda: now)
    pace = quote.Pace(data, spec, learn)
    first = batches(12, 4, seed=spec.seed, epoch=0)[0]
    pace.add(first, int(data.tokens[first].sum()) / 1000)
    assert pace.seconds == pytest.approx(epochs * data.tokens.sum() / 1000)
    every = [batch for epoch in range(epochs) for batch in batches(12, 4, seed=spec.seed, epoch=epoch)]
    most = max(int(data.tokens[batch].sum()) for batch in every)
    if epochs == 2:
        assert not learnt
        assert pace.tokens_to_come(100_000) == most - int(data.tokens[first].sum())
    else:
        assert learnt[0] == most
        assert pace.tokens_to_come(100_000) == 0


@pytest.mark.parametrize(
    ("memory", "what"),
    [
        (1_000, "A base model of up to 0.0 billion parameters would fit"),
        (400_000, "Examples of up to 50 tokens would fit, or a smaller base model"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_loaded(tmp_path, base, monkeypatch, memory, what):
    monkeypatch.setattr(policy, "memory_bytes", lambda _: memory)
    monkeypatch.setattr(loop, "load_policy", None)
    run = make_run(tmp_path / "run", base, CHATS, hyperparameters=TWO_EPOCHS)
    with pytest.raises(JobFailed, match=what):
        train(run, Fence(run, 0), lambda: False)


def test_a_run_takes_no_more_memory_than_it_may(tmp_path, base):
    run = make_run(tmp_path / "run", base, CHATS, hyperparameters=TWO_EPOCHS)
    spec = run.read_spec()
    free = policy.load_policy(base, spec).token_budget
    weights = base.read_facts().parameters * 4
    each = policy.token_bytes(AutoConfig.from_pretrained(base.hf), torch.float32)
    limit = policy.RUNTIME_BYTES + weights + 300 * each
    held = policy.load_policy(base, replace(spec, memory_bytes=limit)).token_budget
    assert free > held == pytest.approx(300, rel=0.05)
    run.spec.write_text(replace(spec, memory_bytes=1000).to_json())
    with pytest.raises(JobFailed, match="memory that training_memory allows"):
        train(run, Fence(run, 0), lambda: False)
