"""A tiny base, made once."""

import pytest

from tests.tiny import add_weights, make_base


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A random llama with a tokenizer of bytes."""
    return add_weights(make_base(tmp_path_factory.mktemp("base") / "tiny"))
