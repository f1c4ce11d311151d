"""What a run's bytes may not depend on: the day on which it goes on."""

from datetime import datetime

import pytest

from luthier.core.run import Hyperparameters
from luthier.data import template
from luthier.train.journal import Fence
from luthier.train.loop import train
from tests.tiny import CHATML, add_weights, chat_line, make_base, make_run

CHATS = [chat_line(f"question {i}", f"ansir {i % 3}") for i in range(10)]
TWO_EPOCHS = Hyperparameters(n_epochs=2, batch_size=4, learning_rate_multiplier=1.0, learning_rate=0.02)


class NewYear(datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz=None):
        return cls(2031, 1, 1, 12)


@pytest.fixture(scope="module")
def dated(tmp_path_factory):
    """A base whose template tells the date, as Llama 3.2's."""
    path = tmp_path_factory.mktemp("dated") / "tiny"
    return add_weights(make_base(path, template="{{ strftime_now('%d %b %Y') + '\n' }}" + CHATML))


def test_a_run_that_goes_on_another_day_ends_in_the_same_bytes(tmp_path, dated, monkeypatch):
    runs = [
        make_run(tmp_path / name, dated, CHATS, hyperparameters=TWO_EPOCHS, today="2030-12-31") for name in ("a", "b")
    ]
    assert train(runs[0], Fence(runs[0], 0), lambda: False)
    stops = iter([False, False, True])
    assert not train(runs[1], Fence(runs[1], 0), lambda: next(stops))
    monkeypatch.setattr(template, "datetime", NewYear)
    assert train(runs[1], Fence(runs[1], 0), lambda: False)
    for name in ("adapter/adapter_model.safetensors", "metrics.csv", "probe.json"):
        assert (runs[0].path / name).read_bytes() == (runs[1].path / name).read_bytes()
