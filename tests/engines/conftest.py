"""A tiny base that llama.cpp serves, and an event loop for its engine."""

import asyncio

import pytest

from luthier.engines.llamacpp import LlamaCpp
from luthier.engines.llamacpp_fleet import Plan
from tests.engines.gguf_files import write_gguf
from tests.tiny import add_weights, make_base

PLAN = Plan(slots=2, most_slots=2, context_tokens=1024, adapter_bytes=1 << 20)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_gguf(add_weights(make_base(tmp_path_factory.mktemp("bases") / "tiny"), max_position_embeddings=2048))


@pytest.fixture(scope="module")
def run():
    """Runs a coroutine in this module's event loop."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def engine(base, run):
    """The engine, with two slots."""
    made = LlamaCpp(base, plan=PLAN)
    yield made
    run(made.close())
