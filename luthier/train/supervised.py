"""Supervised fine-tuning: mean cross-entropy of what the assistant says. One trie a part of the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from luthier.train.dataset import Sample
from luthier.train.objective import Measured, parts
from luthier.train.policy import Policy
from luthier.train.trie import build_trie


def supervised(policy: Policy, samples: Sequence[Sample], *, learn: bool) -> Measured:
    """Loss and accuracy by token. The gradient is that of the mean over all trained tokens of the samples."""
    total = float(sum(row.weights.sum() for sample in samples for row in sample.rows))
    measured = Measured()
    for part in parts(samples, policy.token_budget):
        trie = build_trie([row for sample in part for row in sample.rows])
        weight_E = torch.from_numpy(trie.weight_E)
        with torch.set_grad_enabled(learn):
            logp_E, hit_E = policy.score(trie)
            weight_E = weight_E.to(logp_E.device)
            loss_sum = -(logp_E @ weight_E)
            if learn:
                torch.autograd.backward(loss_sum / total)
        measured += Measured(
            loss_sum=float(loss_sum.detach()),
            hit_sum=float(hit_E.float() @ weight_E),
            weight=float(trie.weight_E.sum()),
            tokens_seen=trie.tokens_seen,
            tokens_computed=trie.tokens_computed,
        )
    return measured
