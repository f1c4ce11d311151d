"""Direct preference optimisation (arXiv 2305.18290): -log sigmoid(beta x (margin of the policy - margin of the base)).

A pair's prompt is one path of the trie, whatever its length; so are the two answers' equal beginnings. The reference's
log-probabilities come from the same trie with the adapter off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from luthier.train.dataset import Sample
from luthier.train.objective import Measured, parts
from luthier.train.policy import Policy
from luthier.train.trie import Trie, build_trie


@dataclass(frozen=True)
class Dpo:
    """Loss by pair; accuracy is the share of pairs whose preferred answer gains more over the base than the other."""

    beta: float

    def __call__(self, policy: Policy, samples: Sequence[Sample], *, learn: bool) -> Measured:
        """The gradient is that of the mean over the pairs."""
        measured = Measured()
        for part in parts(samples, policy.token_budget):
            trie = build_trie([row for sample in part for row in sample.rows])
            with policy.as_base():
                base_P = _margins(trie, policy.score(trie).logp_E)
            with torch.set_grad_enabled(learn):
                gain_P = _margins(trie, policy.score(trie).logp_E) - base_P
                loss_sum = -logsigmoid(self.beta * gain_P).sum()
                if learn:
                    torch.autograd.backward(loss_sum / len(samples))
            measured += Measured(
                loss_sum=float(loss_sum.detach()),
                hit_sum=float((gain_P > 0).sum()),
                weight=float(len(part)),
                tokens_seen=trie.tokens_seen,
                tokens_computed=2 * trie.tokens_computed,
            )
        return measured


def _margins(trie: Trie, logp_E: Tensor) -> Tensor:
    """log p(preferred) - log p(rejected) of each pair; rows stand in pairs, preferred first."""
    row_L, edge_L, weight_L = (torch.from_numpy(a).to(logp_E.device) for a in (trie.row_L, trie.edge_L, trie.weight_L))
    rows = int(row_L.max()) + 1
    logp_R = torch.zeros(rows, device=logp_E.device).index_add(0, row_L, logp_E[edge_L] * weight_L)
    return logp_R[0::2] - logp_R[1::2]
