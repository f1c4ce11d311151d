"""What a run's steps will take, measured on its own batches before the first is learnt from. Knows no run folder.

The first step's gradient is the last that is measured, and is learnt from; of a short run it is the only one. Else
nothing of the run changes: gradients are dropped, the optimiser does not step, nothing is drawn by chance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

import numpy as np

from luthier.core.json import JsonObject
from luthier.core.run import RunSpec
from luthier.train.dataset import Dataset, Numbers, Sample, batches
from luthier.train.objective import Objective
from luthier.train.policy import Policy

ENOUGH_S: Final = 3.0  # of measured steps beside the first
ENOUGH_SHARE: Final = 0.03  # of a run's tokens, for the heaviest batch and for the others
# Where among an epoch's batches, sorted by their tokens, those stand that are measured: in the middle first.
PLACES: Final = (1 / 2, 1 / 4, 3 / 4, 1 / 8, 7 / 8, 3 / 8, 5 / 8)


@dataclass(frozen=True)
class Forecast:
    """What a run will take. `validating_s`: its validation; `row_tokens`: of one of the `PROBES` rows."""

    pace: Pace
    validating_s: float
    row_tokens: float
    passes: int
    trained_tokens: int

    def told(self, memory_bytes: int, token_bytes: int, token_budget: int) -> JsonObject:
        """The event's data: seconds from the first step to the adapter, and the most memory.

        `memory_bytes`: what was taken so far; `token_bytes`: by each token more at once, of `token_budget` at most. A
        row that is only looked at takes half of one that is learnt from: one product with a frozen weight, not two.
        """
        row_s = self.pace.token_s * self.row_tokens
        return {
            "seconds": self.pace.seconds + self.validating_s + self.passes * row_s / 2,
            "row_seconds": row_s,
            "peak_memory_bytes": memory_bytes + self.pace.tokens_to_come(token_budget) * token_bytes,
            "trained_tokens": self.trained_tokens,
        }


class Pace:
    """Seconds a token of a run's steps. `learn` leaves its gradient to the caller.

    The batch with the most tokens goes first: it warms up, and takes the memory that the run will. A run of 33
    steps or fewer does without, as it would take longer by that step. Of the others the median counts, of two the
    faster one: what else the machine does for a moment does not.
    """

    def __init__(self, data: Dataset, spec: RunSpec, learn: Callable[[Sequence[Sample]], object]) -> None:
        self._tokens = data.tokens
        self._everything = int(data.tokens.sum()) * spec.hyperparameters.n_epochs
        self._each_s: list[float] = []
        largest = heaviest(data, spec)
        self._most = int(data.tokens[largest].sum())
        self._held = 0
        if self._most > ENOUGH_SHARE * self._everything:
            return

        def measured(batch: Numbers) -> float:
            started = time.perf_counter()
            learn(data.read(batch))
            return time.perf_counter() - started

        expected_s = measured(largest) / self._most
        self._held = self._most
        first = batches(len(data), spec.hyperparameters.batch_size, seed=spec.seed, epoch=0)
        tokens = first.sums(data.tokens)
        by_tokens = tokens.argsort(kind="stable")
        enough_s = min(ENOUGH_S, ENOUGH_SHARE * expected_s * self._everything)
        for place in PLACES:
            batch = first[int(by_tokens[int(place * len(first))])]
            if enough_s < expected_s * int(data.tokens[batch].sum()):
                return
            took = measured(batch)
            enough_s -= took
            self.add(batch, took)

    def add(self, batch: Numbers, took: float) -> None:
        """A step that was measured elsewhere."""
        tokens = int(self._tokens[batch].sum())
        self._held = max(self._held, tokens)
        self._each_s.append(took / tokens)

    @property
    def token_s(self) -> float:
        """Of one token."""
        return median_low(self._each_s)

    def tokens_to_come(self, token_budget: int) -> int:
        """How many more tokens the run will hold at once than were so far, before what they share."""
        return min(self._most, token_budget) - min(self._held, token_budget)

    @property
    def seconds(self) -> float:
        """Of all steps, by the tokens in them."""
        return self.token_s * self._everything


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


def validation_seconds(policy: Policy, objective: Objective, samples: Sequence[Sample], count: int) -> float:
    """Seconds of measuring `count` samples such as these."""
    started = time.perf_counter()
    objective(policy, samples, learn=False)
    return (time.perf_counter() - started) / max(1, len(samples)) * count
