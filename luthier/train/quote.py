"""What a run's steps will take, measured on a few of its own batches before it trains. Knows no run folder.

Nothing of the run changes: gradients are dropped, the optimiser does not step, nothing is drawn by chance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import chain
from statistics import median_low
from typing import Final

import torch

from luthier.core.run import RunSpec
from luthier.train.dataset import Dataset, Sample, batches
from luthier.train.objective import Objective
from luthier.train.policy import Policy
from luthier.train.probe import TOKENS

ENOUGH_S: Final = 3.0  # of measured steps, two at least
# Where among an epoch's batches, sorted by their tokens, those stand that are measured: in the middle first.
PLACES: Final = (1 / 2, 1 / 4, 3 / 4, 1 / 8, 7 / 8, 3 / 8, 5 / 8)


def steps_seconds(data: Dataset, spec: RunSpec, learn: Callable[[Sequence[Sample]], object]) -> float:
    """Seconds of all steps, by the tokens in them. `learn` leaves its gradient to the caller.

    The batch with the most tokens goes first: it warms up, and takes the memory that the run will. Of the others the
    median counts, of two the faster one: what else the machine does for a moment does not.
    """
    size, epochs = spec.hyperparameters.batch_size, range(spec.hyperparameters.n_epochs)

    def tokens(batch: Sequence[int]) -> int:
        return int(data.tokens[batch].sum())

    def measured(batch: Sequence[int]) -> float:
        started = time.perf_counter()
        learn(data.read(batch))
        return time.perf_counter() - started

    sorted_batches = sorted(batches(len(data), size, seed=spec.seed, epoch=0), key=tokens)
    later = (b for epoch in epochs[1:] for b in batches(len(data), size, seed=spec.seed, epoch=epoch))
    measured(max(chain(sorted_batches, later), key=tokens))
    seconds, per_token = 0.0, list[float]()
    for count, place in enumerate(PLACES, 1):
        batch = sorted_batches[int(place * len(sorted_batches))]
        took = measured(batch)
        seconds += took
        per_token.append(took / tokens(batch))
        if count > 1 and seconds > ENOUGH_S:
            break
    return median_low(per_token) * int(data.tokens.sum()) * len(epochs)


def row_seconds(policy: Policy, samples: Sequence[Sample]) -> float:
    """Seconds that a row takes by itself, as those that the model is checked by."""
    started = time.perf_counter()
    with torch.no_grad():
        for sample in samples:
            ids = sample.rows[0].ids
            policy.next_tokens(ids, max(1, len(ids) - TOKENS))
    return (time.perf_counter() - started) / max(1, len(samples))


def validation_seconds(policy: Policy, objective: Objective, samples: Sequence[Sample], count: int) -> float:
    """Seconds of measuring `count` samples such as these."""
    started = time.perf_counter()
    objective(policy, samples, learn=False)
    return (time.perf_counter() - started) / max(1, len(samples)) * count
