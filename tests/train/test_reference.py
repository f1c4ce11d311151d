"""The trie against a plain padded loop over Hugging Face's own forward: same loss, same gradients."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM

from luthier.core.errors import Unavailable
from luthier.core.run import AdapterShape
from luthier.data.rows import Row
from luthier.train import attention, head
from luthier.train.dataset import Sample
from luthier.train.dpo import Dpo
from luthier.train.policy import load_policy
from luthier.train.supervised import supervised
from luthier.train.trie import build_trie
from tests.tiny import add_weights, make_base, make_run

RELATIVE = 1e-5
SHAPES = {
    "llama": {},
    "a key head for each query head": {"num_key_value_heads": 4},
    "one key head": {"num_key_value_heads": 1},
    "heads wider than the hidden state": {"head_dim": 16},
    "phi3": {"model_type": "phi3"},
    "qwen2": {"model_type": "qwen2"},
    "smollm3, a layer without positions": {"model_type": "smollm3", "no_rope_layers": [1, 0]},
    "biased, untied": {"attention_bias": True, "tie_word_embeddings": False},
    "qwen3": {"model_type": "qwen3"},
    "mistral, window 9": {"model_type": "mistral", "sliding_window": 9},
    "gemma3, window 9": {
        "model_type": "gemma3_text",
        "sliding_window": 9,
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "query_pre_attn_scalar": 8,
    },
    "gemma2, caps and window 9": {
        "model_type": "gemma2",
        "sliding_window": 9,
        "attn_logit_softcapping": 0.5,
        "final_logit_softcapping": 2.0,
        "query_pre_attn_scalar": 8,
    },
}


@pytest.fixture(scope="module", params=SHAPES)
def loaded(request, tmp_path_factory):
    """A policy whose adapter is not zero, and the plain model of the same base."""
    path = tmp_path_factory.mktemp("reference")
    base = add_weights(make_base(path / "base"), **SHAPES[request.param])
    spec = make_run(path / "run", base, ["{}"], adapter=AdapterShape(rank=4, alpha=8)).read_spec()
    policy = load_policy(base, spec)
    generator = torch.Generator().manual_seed(3)
    for layer in policy.adapter.layers.values():
        layer.B_RO.data.normal_(0, 0.1, generator=generator)
    plain = AutoModelForCausalLM.from_pretrained(base.hf, dtype=torch.float32, attn_implementation="eager").eval()
    return policy, plain


class Reference:
    """The padded loop: LoRA as its paper writes it, autograd for everything."""

    def __init__(self, policy, plain):
        self.plain = plain
        self.factors = {
            name: (layer.A_RI.detach().clone().requires_grad_(), layer.B_RO.detach().t().clone().requires_grad_())
            for name, layer in policy.adapter.layers.items()
        }
        self.scale = {name: layer.scale for name, layer in policy.adapter.layers.items()}

    def logp(self, rows, *, adapted=True):
        """[rows, length - 1]: log-probabilities of each row's next tokens, padded."""
        longest = max(len(row.ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for r, row in enumerate(rows):
            ids[r, : len(row.ids)] = torch.from_numpy(row.ids.astype(np.int64))
            mask[r, : len(row.ids)] = 1
        weights = {
            f"{name}.weight": self.plain.get_submodule(name).weight.detach() + self.scale[name] * b @ a
            for name, (a, b) in self.factors.items()
            if adapted
        }
        output = torch.func.functional_call(
            self.plain, weights, kwargs={"input_ids": ids, "attention_mask": mask, "use_cache": False}
        )
        return output.logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]

    def weights(self, rows):
        longest = max(len(row.ids) for row in rows)
        return torch.stack([torch.from_numpy(np.pad(r.weights[1:], (0, longest - len(r.ids)))) for r in rows])


def random_rows(seed, count=7, vocabulary=259, size=1):
    """Rows that share beginnings of every length, with weights here and there."""
    rng = np.random.default_rng(seed)
    stem = rng.integers(0, vocabulary, 14 * size)
    rows = []
    for _ in range(count):
        end = rng.integers(0, vocabulary, rng.integers(3 * size, 12 * size))
        ids = np.concatenate([stem[: rng.integers(1, 14 * size + 1)], end])
        weights = (rng.random(len(ids)) < 0.5).astype(np.float32)
        weights[0], weights[-1] = 0, 1
        rows.append(Row(ids.astype(np.int32), weights))
    return [*rows, rows[0]]


def assert_same_gradients(policy, reference):
    largest = max(layer.A_RI.grad.abs().max() for layer in policy.adapter.layers.values())
    assert largest > 0
    for name, layer in policy.adapter.layers.items():
        a, b = reference.factors[name]
        for ours, theirs in ((layer.A_RI.grad, a.grad), (layer.B_RO.grad.t(), b.grad)):
            assert (ours - theirs).norm() <= RELATIVE * theirs.norm(), name
    policy.adapter.gradient.zero_()


def assert_supervised_as_padded(policy, plain, rows):
    """The same loss, weight and gradients; gives what was measured."""
    measured = supervised(policy, [Sample(i, (row,)) for i, row in enumerate(rows)], learn=True)
    reference = Reference(policy, plain)
    weights = reference.weights(rows)
    loss = -(reference.logp(rows) * weights).sum() / weights.sum()
    loss.backward()
    assert measured.loss == pytest.approx(loss.item(), rel=RELATIVE)
    assert measured.weight == pytest.approx(weights.sum().item())
    assert_same_gradients(policy, reference)
    return measured


@pytest.mark.parametrize(("seed", "tile", "budget"), [(0, 5, 10_000), (1, 32, 10_000), (2, 5, 30)])
def test_supervised_loss_and_gradients_are_the_padded_batchs(loaded, seed, tile, budget, monkeypatch):
    policy, plain = loaded
    monkeypatch.setattr(attention, "SMALL_TILE", tile)
    if tile == 5:
        monkeypatch.setattr(attention, "ONE_TILE", 0)
        monkeypatch.setattr(attention, "KEPT_SCORES", 0)
        monkeypatch.setattr(attention, "SPARE", 0)
    monkeypatch.setattr(head, "CHUNK", 4)
    monkeypatch.setattr(policy, "token_budget", budget)
    measured = assert_supervised_as_padded(policy, plain, random_rows(seed))
    assert measured.tokens_computed < measured.tokens_seen or budget == 30


def test_long_rows_are_the_padded_batchs_too(loaded):
    """With tiles, bands and chunks of their real sizes."""
    assert_supervised_as_padded(*loaded, random_rows(3, count=5, size=18))


@pytest.mark.parametrize("cap", [None, 30.0])
@pytest.mark.parametrize("likely", [0.5, 0.99, 0.999])
def test_gradients_of_what_is_well_known_are_no_rounding_in_bfloat16(likely, cap):
    """Held against torch's own, on logits that are rounded alike; the last node has three edges."""
    generator = torch.Generator().manual_seed(1)
    vocabulary = torch.randn(40, 64, generator=generator)
    vocabulary /= vocabulary.norm(dim=1, keepdim=True)
    token = torch.tensor([3, 5, 7, 8, 9])
    hidden = vocabulary[token[:3]] * (math.log(likely / (1 - likely)) + math.log(40))
    hidden[2] += hidden[1] / 2
    vocabulary, hidden = vocabulary.bfloat16(), hidden.bfloat16()
    node = torch.tensor([0, 1, 2, 2, 2])

    ours = hidden.clone().requires_grad_()
    head.score_edges(ours, vocabulary, node, token, cap).logp_E.sum().backward()
    plain = hidden.clone().requires_grad_()
    logits = (plain @ vocabulary.t()).float()
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    logits.log_softmax(-1)[node, token].sum().backward()
    for mine, theirs in zip(ours.grad.float(), plain.grad.float(), strict=True):
        assert (mine - theirs).norm() <= 0.02 * theirs.norm()


def test_keys_that_many_see_are_summed_in_float32(monkeypatch):
    """One beginning, 200 ends: each tile of these adds to the keys of the beginning."""
    monkeypatch.setattr(attention, "SMALL_TILE", 5)
    generator = torch.Generator().manual_seed(1)
    stem = np.arange(20, dtype=np.int32)
    rows = [Row(np.append(stem, [30 + i, 300 + i]).astype(np.int32), np.ones(22, np.float32)) for i in range(200)]
    trie = build_trie(rows)
    inputs = [torch.randn(2, len(trie.ids_N), 8, generator=generator).bfloat16() for _ in range(3)]
    grads = []
    for dtype in (torch.bfloat16, torch.float64):
        q, k, v = (x.to(dtype, copy=True).requires_grad_() for x in inputs)
        seen = attention.Visibility(trie, dtype, torch.device("cpu"))
        out = attention._attend(torch.nn.Identity(), q[None], k[None], v[None], None, trie=seen)[0]
        out.float().sum().backward()
        grads.append(v.grad[:, :20].double())
    assert (grads[0] - grads[1]).norm() <= 0.003 * grads[1].norm()


@pytest.mark.parametrize(("seed", "budget"), [(0, 10_000), (1, 30)])
def test_dpo_loss_and_gradients_are_the_padded_batchs(loaded, seed, budget, monkeypatch):
    policy, plain = loaded
    monkeypatch.setattr(policy, "token_budget", budget)
    rows = random_rows(seed)
    samples = [Sample(i, (rows[i], rows[i + 1])) for i in range(0, len(rows), 2)]
    measured = Dpo(beta=0.3)(policy, samples, learn=True)
    reference = Reference(policy, plain)
    weights = reference.weights(rows)
    with torch.no_grad():
        base_R = (reference.logp(rows, adapted=False) * weights).sum(-1)
    gain_R = (reference.logp(rows) * weights).sum(-1) - base_R
    loss = -logsigmoid(0.3 * (gain_R[0::2] - gain_R[1::2])).mean()
    loss.backward()
    assert measured.loss == pytest.approx(loss.item(), rel=RELATIVE)
    assert measured.accuracy == pytest.approx(((gain_R[0::2] > gain_R[1::2]).float().mean()).item())
    assert_same_gradients(policy, reference)


def test_accuracy_counts_likeliest_tokens(loaded):
    policy, plain = loaded
    rows = random_rows(9, count=2)
    reference = Reference(policy, plain)
    measured = supervised(policy, [Sample(i, (row,)) for i, row in enumerate(rows)], learn=False)
    hits = 0.0
    for row in rows:
        for t in np.flatnonzero(row.weights):
            others = [Row(np.append(row.ids[:t], v).astype(np.int32), np.ones(t + 1)) for v in range(259)]
            with torch.no_grad():
                hits += float(reference.logp(others)[:, -1].argmax() == row.ids[t])
    assert measured.accuracy == pytest.approx(hits / measured.weight)
    assert policy.adapter.gradient.abs().max() == 0


def test_a_model_that_a_trie_cannot_hold_is_refused_by_name(tmp_path):
    base = add_weights(make_base(tmp_path / "base"), model_type="granite", logits_scaling=3.0)
    spec = make_run(tmp_path / "run", base, ["{}"]).read_spec()
    with pytest.raises(Unavailable, match="granite"):
        load_policy(base, spec)
