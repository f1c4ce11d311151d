"""What a policy counts of its products."""

import numpy as np
import pytest
import torch
from torch import nn

from luthier.core.run import AdapterShape
from luthier.data.rows import Row
from luthier.train import threads
from luthier.train.lora import LoraGroup, LoraLinear
from luthier.train.policy import load_policy
from luthier.train.trie import build_trie
from tests.tiny import chat_line, make_run


def test_an_adapter_that_is_off_multiplies_nothing(tmp_path, base):
    policy = load_policy(base, make_run(tmp_path / "run", base, [chat_line("q", "a")]).read_spec())
    trie = build_trie([Row(np.arange(3, 13, dtype=np.int32), np.ones(10, np.float32))])

    def counted():
        before = policy.flops
        policy.score(trie)
        return policy.flops - before

    learning = counted()
    with torch.no_grad():
        on = counted()
    with policy.as_base():
        off = counted()
    assert on - off == 2.0 * policy.adapter.parameters * trie.tokens_computed
    assert learning - 2 * off == 3 * (on - off)


def test_what_an_adapter_adds_is_not_lost_to_rounding_in_bfloat16():
    """Less than half of the last bit of most outputs, and of most gradients: on average it must all be there."""
    torch.manual_seed(0)
    small = nn.Parameter(torch.full((16, 64), 0.003)), nn.Parameter(torch.full((16, 64), 0.003))
    layer = LoraLinear(nn.Linear(64, 64, bias=False).bfloat16(), AdapterShape(), *small)
    layer.weight.data.normal_()
    group = LoraGroup([layer])
    for weights in small:
        weights.grad = torch.zeros_like(weights)

    def run(on):
        layer.on = on
        group.begin()
        x = (torch.rand(2048, 64, generator=torch.Generator().manual_seed(1)) * 2).bfloat16().requires_grad_(True)
        y = layer(x)
        y.backward(x.detach())
        return torch.stack([y.detach().float().mean(), x.grad.float().mean()])

    added = run(on=True) - run(on=False)
    exact = layer.scale * 16 * 0.003**2 * 64
    torch.testing.assert_close(added, torch.full((2,), exact), rtol=0.1, atol=0.0)


@pytest.fixture
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads_as_before")
def test_small_tries_are_computed_by_one_thread_but_for_large_products(tmp_path, base, monkeypatch):
    policy = load_policy(base, make_run(tmp_path / "run", base, [chat_line("q", "a")]).read_spec())
    trie = build_trie([Row(np.arange(3, 13, dtype=np.int32), np.ones(10, np.float32))])
    monkeypatch.setattr(threads, "ALL", 2)
    in_products = []
    addmm = torch.Tensor.addmm_
    monkeypatch.setattr(torch.Tensor, "addmm_", lambda *a: in_products.append(torch.get_num_threads()) or addmm(*a))
    for small, expected in ((1 << 17, 1), (0, 2)):
        monkeypatch.setattr(threads, "SMALL", small)
        policy.score(trie)
        assert torch.get_num_threads() == expected
    assert set(in_products) == {2}
