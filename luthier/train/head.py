"""Log-probabilities of a trie's edges, with logits only where something is learnt, and few of them at a time."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

import torch
from torch import Tensor

from luthier.train.threads import all_threads

CHUNK: Final = 256  # positions whose logits exist at once: 50 MB for a vocabulary of 49k in float32


class Scored(NamedTuple):
    """For each edge, log p(token | path) and whether the token is the most likely one."""

    logp_E: Tensor
    hit_E: Tensor


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """Gemma 2's soft cap, cap tanh(logits / cap), in place; the logits themselves for None."""
    return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


def score_edges(
    hidden_ND: Tensor, vocabulary_VD: Tensor, node_E: Tensor, token_E: Tensor, cap: float | None = None
) -> Scored:
    """Score edges whose nodes are sorted; differentiable in `hidden_ND`, not in the vocabulary."""
    nodes_P, slot_E = torch.unique_consecutive(node_E, return_inverse=True)
    inputs = (hidden_ND[nodes_P], vocabulary_VD, slot_E, token_E, cap)
    with all_threads():
        return Scored(*_EdgeScores.apply(*inputs))  # type: ignore[no-untyped-call]  # torch's


class _Context(Protocol):
    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...
    def mark_non_differentiable(self, *tensors: Tensor) -> None: ...


class _EdgeScores(torch.autograd.Function):
    """d logp(e) / d h = s(token) W[token] - sum_v p(v) s(v) W[v], with s the slope of the cap, 1 where there is none.

    The sum over what no edge of the node names (`rest_PD`) is known in the forward, so no logits are kept. The edges'
    own tokens are left out of it and added in float32: of a token that is well known p is nearly 1, and s W (1 - p) is
    smaller than the rounding of two bfloat16 numbers, one of which is taken from the other.
    """

    @staticmethod
    def forward(
        ctx: _Context, hidden_PD: Tensor, vocabulary_VD: Tensor, slot_E: Tensor, token_E: Tensor, cap: float | None
    ) -> tuple[Tensor, Tensor]:
        edges = len(slot_E)
        slope_E = hidden_PD.new_ones(edges, dtype=torch.float32)
        p_E = hidden_PD.new_empty(edges, dtype=torch.float32)
        logp_E = hidden_PD.new_empty(edges, dtype=torch.float32)
        hit_E = torch.empty(edges, dtype=torch.bool, device=hidden_PD.device)
        rest_PD = torch.empty_like(hidden_PD)
        for start in range(0, len(hidden_PD), CHUNK):
            part = slice(start, start + CHUNK)
            logits_PV = capped(torch.mm(hidden_PD[part], vocabulary_VD.t()).float(), cap)
            mine = torch.nonzero((slot_E >= start) & (slot_E < start + CHUNK))[:, 0]
            slot, token = slot_E[mine] - start, token_E[mine]
            top_P, likeliest_P = logits_PV.max(-1)
            hit_E[mine] = likeliest_P[slot] == token
            chosen = logits_PV[slot, token]
            learn = ctx.needs_input_grad[0]
            slope_PV = (logits_PV / cap).square_().neg_().add_(1) if learn and cap is not None else None
            p_PV = logits_PV.sub_(top_P[:, None]).exp_()
            sum_P = p_PV.sum(-1)
            logp_E[mine] = chosen - (top_P + sum_P.log())[slot]
            if learn:
                p_E[mine] = p_PV[slot, token] / sum_P[slot]
                p_PV[slot, token] = 0
                if slope_PV is not None:
                    slope_E[mine] = slope_PV[slot, token]
                    p_PV.mul_(slope_PV)
                rest_PD[part] = torch.mm(p_PV.to(vocabulary_VD.dtype), vocabulary_VD).float().div_(sum_P[:, None])
        ctx.save_for_backward(rest_PD, vocabulary_VD, slot_E, token_E, slope_E, p_E)
        ctx.mark_non_differentiable(hit_E)
        return logp_E, hit_E

    @staticmethod
    def backward(ctx: _Context, grad_E: Tensor, _: Tensor) -> tuple[Tensor, None, None, None, None]:
        rest_PD, vocabulary_VD, slot_E, token_E, slope_E, p_E = ctx.saved_tensors
        sum_P = torch.zeros(len(rest_PD), device=rest_PD.device).index_add_(0, slot_E, grad_E)
        share_E = (grad_E - sum_P[slot_E] * p_E) * slope_E
        out_PD = rest_PD.float() * -sum_P[:, None]
        out_PD.index_add_(0, slot_E, vocabulary_VD[token_E].float() * share_E[:, None])
        return out_PD.to(rest_PD.dtype), None, None, None, None
