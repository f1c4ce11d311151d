"""What a training method measures of some samples, and how samples are laid out for it. Pure but for the gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from luthier.train.dataset import Sample
from luthier.train.policy import Policy
from luthier.train.trie import common_prefix


@dataclass(frozen=True)
class Measured:
    """Sums over samples: `weight` counts what loss and hits are averaged over (tokens, or pairs)."""

    loss_sum: float = 0.0
    hit_sum: float = 0.0
    weight: float = 0.0
    tokens_seen: int = 0
    tokens_computed: int = 0

    @property
    def loss(self) -> float:
        return self.loss_sum / self.weight

    @property
    def accuracy(self) -> float:
        return self.hit_sum / self.weight

    def __add__(self, other: Measured) -> Measured:
        return Measured(
            self.loss_sum + other.loss_sum,
            self.hit_sum + other.hit_sum,
            self.weight + other.weight,
            self.tokens_seen + other.tokens_seen,
            self.tokens_computed + other.tokens_computed,
        )


class Objective(Protocol):
    """A training method: measures samples and, with `learn`, adds the gradient of their mean loss to the adapter's."""

    def __call__(self, policy: Policy, samples: Sequence[Sample], *, learn: bool) -> Measured: ...


def parts(samples: Sequence[Sample], token_budget: int) -> Iterator[list[Sample]]:
    """Samples in groups whose tries hold at most `token_budget` tokens, or one sample; neighbours share beginnings.

    Sums over the groups are those of the whole, so the budget bounds memory and changes nothing else.
    """
    ordered = sorted(samples, key=lambda s: s.rows[0].ids.astype(">i4").tobytes())
    group: list[Sample] = []
    size = 0
    for sample in ordered:
        tokens = _added(group[-1:], sample)
        if group and size + tokens > token_budget:
            yield group
            group, size, tokens = [], 0, _added((), sample)
        group.append(sample)
        size += tokens
    if group:
        yield group


def _added(before: Sequence[Sample], sample: Sample) -> int:
    """At most how many tokens a sample adds to a trie whose last sample in order is `before`: what no row shares."""
    known = [row.ids for other in before for row in other.rows[:1]]
    tokens = 0
    for row in sample.rows:
        tokens += len(row.ids) - max((common_prefix(ids, row.ids) for ids in known), default=0)
        known = [sample.rows[0].ids]
    return tokens
