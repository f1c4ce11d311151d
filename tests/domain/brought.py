"""A base brought, and a model trained on it, without the seconds that processes of their own take to load torch."""

import importlib
import sys

from luthier.core.bases import BaseSource
from luthier.core.errors import Unavailable
from luthier.core.run import AdapterShape, Hyperparameters
from luthier.domain import bases, bringing
from luthier.domain.bases import Bases
from luthier.train.journal import Fence
from luthier.train.loop import train
from tests.families import make_hf
from tests.tiny import chat_line, make_run

CHATS = [chat_line(f"question {i}", f"ansir {i % 3}", system="") for i in range(10)]
FAST = Hyperparameters(n_epochs=4, batch_size=4, learning_rate_multiplier=1.0, learning_rate=0.02)


def run_here(command, told, what):
    """`run_aside`, in this process."""
    argv, sys.argv = sys.argv, command
    try:
        importlib.import_module(command[0]).main()
    except SystemExit as error:
        if error.code:
            raise Unavailable(f"{what} could not be prepared; the last words: {error}") from None
    finally:
        sys.argv = argv


def bring_family(path, family, monkeypatch, *, template="", **changes):
    """The registry, the base's folder and its certificate."""
    monkeypatch.setattr(bases, "run_aside", run_here)
    monkeypatch.setattr(bringing, "run_aside", run_here)
    hf = make_hf(path / "hf", family, **changes)
    registry = Bases(path / "cache", {}, path / "added")
    source = BaseSource("mine", f"file:{hf}", "", "", template=template)
    _, certificate = bringing.bring(registry, source, bases.quiet)
    return registry, registry.get("mine"), certificate


def trained(path, folder):
    """A run of a few steps on it, strong enough to be seen."""
    shape = AdapterShape.of(folder.read_facts().architecture)
    run = make_run(path, folder, CHATS, hyperparameters=FAST, adapter=shape, precision="float32")
    assert train(run, Fence(run, 0), lambda: False)
    return run
