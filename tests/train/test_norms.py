"""Our RMS norm against transformers' own modules, values and gradients; and that no other norm is taken for it."""

import pytest
import torch
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from luthier.train.norms import RmsNorm, replace_norms


@pytest.mark.parametrize("made", [LlamaRMSNorm, Qwen3RMSNorm])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_theirs(made, kind):
    torch.manual_seed(0)
    theirs = made(64, eps=1e-5).to(kind).requires_grad_(False)
    theirs.weight.data.normal_(1, 0.3)
    model = nn.Sequential(theirs)
    assert replace_norms(model) == 1
    assert isinstance(model[0], RmsNorm)
    x = torch.randn(2, 5, 3, 64).to(kind) * 7
    weight = torch.randn(2, 5, 3, 64).to(kind)
    found = []
    for norm in (theirs, model[0]):
        given = x.clone().requires_grad_(True)
        y = norm(given)
        (y * weight).sum().backward()
        found.append((y.detach(), given.grad))
    tolerance = 1e-5 if kind is torch.float32 else 2e-2
    for theirs_of, ours_of in zip(*found, strict=True):
        torch.testing.assert_close(ours_of, theirs_of, rtol=tolerance, atol=tolerance)


def test_what_computes_otherwise_stays():
    gemma = Gemma3RMSNorm(64)  # weighs by 1 + weight
    gemma.weight.data.normal_()
    model = nn.Sequential(gemma, nn.LayerNorm(64))
    assert replace_norms(model) == 0
    assert model[0] is gemma
