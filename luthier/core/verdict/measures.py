"""How good a reply is, from 0 to 1, held against the one that is wanted. Knows no models."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from luthier.core.verdict.contenders import Row

Score = Callable[[str, str | None], float]
"""A reply and its reference."""

# Replies that are labels: few different ones, all short. Half a label right is wrong.
MOST_LABELS: Final = 20
LONGEST_LABEL: Final = 40
GUESSES: Final = 20


@dataclass(frozen=True)
class Measure:
    """A score, its name, and how a sentence says it of a contender. `absolute`: below a half is mostly wrong."""

    name: str
    phrase: str
    score: Score
    absolute: bool = True


def exact(reply: str, reference: str | None) -> float:
    """1 for the same text; case and space around it do not count."""
    return float(reply.strip().casefold() == (reference or "").strip().casefold())


def similar(reply: str, reference: str | None) -> float:
    """rapidfuzz's ratio: 1 less the insertions and deletions from one to the other, over both lengths."""
    from rapidfuzz import fuzz

    return fuzz.ratio(reply.strip(), (reference or "").strip()) / 100


EXACT: Final = Measure("exact match", "{who} gets {share} of the rows right", exact)
SIMILAR: Final = Measure(
    "likeness to the reference", "{who} comes {share} near to the references", similar, absolute=False
)


def measure_for(rows: Sequence[Row], examples: Sequence[Row]) -> Measure:
    """`EXACT` where replies are labels, which many examples share; else `SIMILAR`."""
    references = [row.reference or "" for row in (*rows, *examples)]
    labels = {text.strip().casefold() for text in references}
    few = len(labels) <= min(MOST_LABELS, len(references) // 3)
    return EXACT if few and max(map(len, labels), default=0) <= LONGEST_LABEL else SIMILAR


def guesses(measure: Measure, rows: Sequence[Row], examples: Sequence[Row], seed: int = 0) -> list[float]:
    """What each row's score would be without reading it.

    A label: the commonest of the examples. A text: any of theirs, on the mean of `GUESSES`.
    """
    if not examples:
        return [0.0 for _ in rows]
    replies = [example.reference or "" for example in examples]
    if measure is EXACT:
        drawn = [Counter(text.strip().casefold() for text in replies).most_common(1)[0][0]]
    else:
        drawn = random.Random(seed).sample(replies, min(GUESSES, len(replies)))
    return [fmean(measure.score(guess, row.reference) for guess in drawn) for row in rows]
