"""Layers multiplied as one give what each gives by itself."""

import pytest
import torch
from torch import nn

from luthier.core.run import AdapterShape
from luthier.train.lora import Adapter

RANK, WIDTH = 4, 6
OUTPUTS = {"q_proj": 6, "k_proj": 2, "v_proj": 2, "o_proj": 6}


class Layer(nn.Module):
    """As much of a decoder as has projections."""

    def __init__(self, biased):
        super().__init__()
        for name, size in OUTPUTS.items():
            setattr(self, name, nn.Linear(WIDTH, size, bias=name in biased))

    def get_output_embeddings(self):
        return None


@pytest.fixture(params=[(), ("q_proj", "k_proj", "v_proj"), ("q_proj", "v_proj")])
def adapted(request):
    torch.manual_seed(0)
    model = Layer(request.param)
    plain = {name: getattr(model, name) for name in OUTPUTS}
    weights = {name: layer.weight.detach().clone() for name, layer in plain.items()}
    adapter = Adapter(model, AdapterShape(RANK, 2 * RANK), seed=1)
    for layer in adapter.layers.values():
        layer.B_RO.data.normal_()
    adapter.begin()

    def expected(name, x, on=True):
        layer = adapter.layers[name]
        a, b = layer.A_RI.detach().requires_grad_(), layer.B_RO.detach().requires_grad_()
        return nn.functional.linear(x, weights[name], plain[name].bias) + on * 2.0 * (x @ a.t() @ b), (a, b)

    return model, adapter, expected


def test_outputs_and_gradients_are_those_of_the_layers_by_themselves(adapted):
    model, adapter, expected = adapted
    x = torch.randn(5, WIDTH, requires_grad=True)
    own = x.detach().clone().requires_grad_()
    for name in OUTPUTS:
        plain, factors = expected(name, own)
        weight = torch.randn_like(plain)
        output = getattr(model, name)(x)
        torch.testing.assert_close(output, plain)
        (output * weight).sum().backward(retain_graph=True)
        (plain * weight).sum().backward()
        for ours, theirs in zip((adapter.layers[name].A_RI, adapter.layers[name].B_RO), factors, strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(x.grad, own.grad)


def test_each_layer_answers_for_the_input_it_is_given(adapted):
    model, _, expected = adapted
    first, second = torch.randn(3, WIDTH), torch.randn(3, WIDTH)
    for name, x in [("q_proj", first), ("k_proj", second), ("v_proj", first), ("q_proj", second), ("k_proj", second)]:
        torch.testing.assert_close(getattr(model, name)(x), expected(name, x)[0])
        torch.testing.assert_close(getattr(model, name)(x), expected(name, x)[0])


def test_a_layer_that_is_off_gives_what_the_base_gives(adapted):
    model, adapter, expected = adapted
    adapter.layers["k_proj"].on = False
    adapter.begin()
    x = torch.randn(3, WIDTH)
    for name in OUTPUTS:
        torch.testing.assert_close(getattr(model, name)(x), expected(name, x, name != "k_proj")[0])
    adapter.enable(False)
    adapter.begin()
    for name in OUTPUTS:
        torch.testing.assert_close(getattr(model, name)(x), expected(name, x, False)[0])
