"""What a run's steps will take, measured on a few of its own batches before it trains. Knows no run folder.

Nothing of the run changes: gradients are dropped, the optimiser does not step, nothing is drawn by chance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median_low
from typing import Final

import numpy as np
import torch

from luthier.core.run import RunSpec
from luthier.train.dataset import Dataset, Numbers, Sample, batches
from luthier.train.objective import Objective
from luthier.train.policy import Policy
from luthier.train.probe import TOKENS

ENOUGH_S: Final = 3.0  # of measured steps, two at least; of a short run this share of it
ENOUGH_SHARE: Final = 0.03
# Where among an epoch's batches, sorted by their tokens, those stand that are measured: in the middle first.
PLACES: Final = (1 / 2, 1 / 4, 3 / 4, 1 / 8, 7 / 8, 3 / 8, 5 / 8)


def steps_seconds(data: Dataset, spec: RunSpec, learn: Callable[[Sequence[Sample]], object]) -> float:
    """Seconds of all steps, by the tokens in them. `learn` leaves its gradient to the caller.

    The batch with the most tokens goes first: it warms up, and takes the memory that the run will. Of the others the
    median counts, of two the faster one: what else the machine does for a moment does not.
    """
    size, epochs = spec.hyperparameters.batch_size, range(spec.hyperparameters.n_epochs)

    def measured(batch: Numbers) -> float:
        started = time.perf_counter()
        learn(data.read(batch))
        return time.perf_counter() - started

    largest = heaviest(data, spec)
    each_s = measured(largest) / int(data.tokens[largest].sum())
    everything = int(data.tokens.sum()) * len(epochs)
    first = batches(len(data), size, seed=spec.seed, epoch=0)
    tokens = first.sums(data.tokens)
    by_tokens = tokens.argsort(kind="stable")
    seconds, per_token = 0.0, list[float]()
    for count, place in enumerate(PLACES, 1):
        chosen = int(by_tokens[int(place * len(first))])
        took = measured(first[chosen])
        seconds += took
        per_token.append(took / int(tokens[chosen]))
        if count > 1 and seconds > min(ENOUGH_S, ENOUGH_SHARE * each_s * everything):
            break
    return median_low(per_token) * everything


def heaviest(data: Dataset, spec: RunSpec) -> Numbers:
    """The batch with the most tokens of all epochs."""
    found, most = np.zeros(0, np.int64), 0
    for epoch in range(spec.hyperparameters.n_epochs):
        order = batches(len(data), spec.hyperparameters.batch_size, seed=spec.seed, epoch=epoch)
        sums = order.sums(data.tokens)
        place = int(sums.argmax())
        if sums[place] > most:
            found, most = order[place], int(sums[place])
    return found


def row_seconds(policy: Policy, samples: Sequence[Sample]) -> float:
    """Seconds that a row takes by itself, as those that the model is checked by; 0 where there is none."""
    if not samples:
        return 0.0
    started = time.perf_counter()
    with torch.no_grad():
        for sample in samples:
            ids = sample.rows[0].ids
            policy.next_tokens(ids, max(1, len(ids) - TOKENS))
    return (time.perf_counter() - started) / len(samples)


def validation_seconds(policy: Policy, objective: Objective, samples: Sequence[Sample], count: int) -> float:
    """Seconds of measuring `count` samples such as these."""
    started = time.perf_counter()
    objective(policy, samples, learn=False)
    return (time.perf_counter() - started) / max(1, len(samples)) * count
