"""Intervals against scipy's, and against what they promise."""

import numpy as np
import pytest
import scipy.stats

from luthier.core.verdict.statistics import Interval, difference, interval, t_quantile

SIMULATIONS = 1000


@pytest.mark.parametrize("freedom", [4, 7, 19, 99])
def test_students_t_is_scipys(freedom):
    assert t_quantile(0.975, freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=0.01)


def test_many_values_give_scipys_bootstrap_interval():
    values = np.random.default_rng(1).beta(2, 5, 400)
    found = interval(list(values), least=0, most=1)
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(2))
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.002)


def test_equal_values_leave_the_doubt_that_their_count_leaves():
    clopper = scipy.stats.binomtest(20, 20).proportion_ci(0.95, method="exact")
    assert interval([1.0] * 20, least=0, most=1) == Interval(1.0, pytest.approx(clopper.low), 1.0)


@pytest.mark.parametrize("kind", ["likeness", "labels"])
@pytest.mark.parametrize("rows", [20, 50])
def test_differences_of_paired_scores_are_covered(kind, rows):
    """Of 1,000 simulated trials, 93 to 97 % have the true difference in their interval."""
    chance = np.random.default_rng(rows)
    hits = 0
    for _ in range(SIMULATIONS):
        hard = chance.normal(0, 0.15, rows)  # what a row is hard for, it is hard for both
        if kind == "likeness":
            ours, theirs = np.clip(0.6 + hard + chance.normal(0, 0.1, (2, rows)) - [[0], [0.1]], 0, 1)
            truth = LIKENESS
        else:
            ours, theirs = (chance.random((2, rows)) < np.clip([0.8 + hard, 0.55 + hard], 0, 1)).astype(float)
            truth = LABELS
        found = difference(list(ours), list(theirs))
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / SIMULATIONS <= 0.97, hits


def _truth(kind):
    """The true difference, from half a million rows."""
    chance = np.random.default_rng(0)
    hard = chance.normal(0, 0.15, 500_000)
    if kind == "labels":
        return float(np.mean(np.clip(0.8 + hard, 0, 1) - np.clip(0.55 + hard, 0, 1)))
    noise = chance.normal(0, 0.1, (2, len(hard)))
    return float(np.mean(np.clip(0.6 + hard + noise[0], 0, 1) - np.clip(0.5 + hard + noise[1], 0, 1)))


LIKENESS, LABELS = _truth("likeness"), _truth("labels")
