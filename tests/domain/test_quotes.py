"""A quote in words, and how a job's own pace takes its place."""

import pytest

from luthier.core.quotes import Quote, Takes, duration
from luthier.core.run import RunEvent
from luthier.domain.progress import seconds_left


def step(number, elapsed_s):
    return RunEvent("metrics", number, 0.0, {"total_steps": 50, "elapsed_seconds": elapsed_s})


def test_what_is_left_goes_by_the_quote_then_by_the_jobs_own_pace():
    assert seconds_left(step(1, 1.0), quoted_s=50.0) == pytest.approx(49.0)
    assert seconds_left(step(1, 4.0), quoted_s=50.0) == pytest.approx(49 * 1.5)  # one slow step is no pace
    assert seconds_left(step(40, 160.0), quoted_s=50.0) == pytest.approx(10 * 165 / 45)
    assert seconds_left(step(50, 60.0), quoted_s=50.0) == 0


def test_in_words():
    quoted = Takes(133.0, 1_379_328_000, 10_495, 0.0315)
    assert str(Quote(quoted)) == "About 2 min 10 s until the model answers, 1.4 GB of memory at most, $0.032"
    held = Quote(quoted, Takes(125.0, 1_400_000_000, 10_495, 0.0315))
    words = "Quoted 2 min 10 s, 1.4 GB of memory, $0.032; it took 2 min, 1.4 GB of memory, $0.032"
    assert str(held) == words
    assert [duration(s) for s in (0.2, 99, 3_000, 12_000)] == ["1 s", "99 s", "50 min", "3 h 20 min"]
