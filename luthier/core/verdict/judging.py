"""What follows from a trial: one of five verdicts, in a sentence with its numbers. Asks nobody.

tune                 tuned beats every prompt, or is as good as the best one and cheaper
prompt is enough     a prompt does as well
more data needed     neither does much better than guessing, and the examples are few or more of them help
overfitted           a checkpoint is better, or is as good with a validation loss that has risen since
not measurable       too few rows that were not trained on, or replies that do not follow from the prompts
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from luthier.core.prices import break_even_requests
from luthier.core.verdict.contenders import PROMPTED, Row
from luthier.core.verdict.measures import Measure
from luthier.core.verdict.statistics import Interval, difference
from luthier.core.verdict.trial import Measured

Kind = Literal["tune", "prompt is enough", "more data needed", "overfitted", "not measurable"]

FEWEST_ROWS: Final = 8
FEW_EXAMPLES: Final = 50  # OpenAI's own advice: start with 50 good ones
# Below, a model has not taken on what its examples show: an absolute score, or the way from guessing to the reference.
LEARNT: Final = 0.5
EQUAL: Final = 0.01  # prompts this near to each other are as good: the cheaper one counts
SLIGHT: Final = 0.05  # a loss smaller than this, that may be chance, is outweighed by a lower price
TELLING: Final = 0.1  # a gain as large as this is worth having, and more rows to know
# A validation loss that has risen since a checkpoint, by this factor and by so many nats a token, shows that since then
# the model learnt by heart. One that has risen by fewer, as most tokens are known anyway, counts where scores fell too.
LOSS_RISEN: Final = 1.15
LOSS_RISEN_NATS: Final = 0.1
OPENINGS: Final[dict[Kind, str]] = {
    "tune": "Worth it",
    "prompt is enough": "The prompt is enough",
    "more data needed": "More data needed",
    "overfitted": "Overfitted",
    "not measurable": "Not measurable",
}


@dataclass(frozen=True)
class CurvePoint:
    """A model tuned on some of the examples, and its scores on the trial's rows."""

    examples: int
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Forgetting:
    """General questions, with neither examples nor instructions: what stock and tuned get right."""

    stock: tuple[float, ...]
    tuned: tuple[float, ...]

    @property
    def lost(self) -> Interval:
        """How much more stock gets right."""
        return difference(self.stock, self.tuned)


@dataclass(frozen=True)
class Trial:
    """All that is known when it is judged.

    `rows` are those that every contender answered, `guesses` their scores without reading them. Left out were
    `leaked_rows`, which are in the training file, and `unread_rows`, whose last message is no reply in words
    or that are longer than the model reads.
    `losses` are validation losses by step; `teacher_failed` is why a teacher is not among the contenders.
    """

    measure: Measure
    rows: tuple[Row, ...]
    contenders: tuple[Measured, ...]
    guesses: tuple[float, ...]
    training_examples: int
    training_cost: float
    leaked_rows: int = 0
    unread_rows: int = 0
    losses: dict[int, float] = field(default_factory=dict)
    forgetting: Forgetting | None = None
    curve: tuple[CurvePoint, ...] = ()
    teacher_failed: str = ""

    @property
    def tuned(self) -> Measured:
        """The job's model."""
        return next(m for m in self.contenders if m.role == "tuned")

    @property
    def rival(self) -> Measured:
        """The best that needs no tuning; of equals the cheapest."""
        rivals = [m for m in self.contenders if m.role in PROMPTED]
        best = max(m.quality.mean for m in rivals)
        return min((m for m in rivals if m.quality.mean > best - EQUAL), key=lambda m: m.cost_per_1k_requests)

    def break_even(self, rival: Measured) -> float | None:
        """Requests until training has paid for itself against a rival; None where tuned saves nothing."""
        ours, theirs = self.tuned.cost_per_1k_requests / 1000, rival.cost_per_1k_requests / 1000
        return break_even_requests(self.training_cost, ours, theirs)


@dataclass(frozen=True)
class Verdict:
    """What to do, and why. `model`: the one to use, where it is a tuned one."""

    kind: Kind
    sentence: str
    against: str | None
    break_even_requests: float | None
    model: str | None = None


def judge(trial: Trial) -> Verdict:
    """The verdict."""
    rows = len(trial.rows)
    if rows < FEWEST_ROWS:
        return Verdict("not measurable", f"{OPENINGS['not measurable']}: {_too_few(trial)}.", None, None)
    tuned, rival = _best_of_ours(trial), trial.rival
    gain = difference(tuned.scores, rival.scores)
    shares = f"{_shares(trial, tuned, rival)} on {rows} rows"
    if gain.low > 0 and tuned.role == "checkpoint":
        return _overfitted(trial, tuned, f"{shares}; ")
    if gain.low > 0 and (lack := _lack(trial, tuned)):
        return _more(trial, f"{shares}, {_points(gain)} more, but {lack}")
    if gain.low > 0:
        words = f"{shares}, {_points(gain)} more; {_cost(trial, rival)}"
        return _verdict(trial, "tune", words, model=tuned.model)
    if _above(trial, rival.scores):
        return _against_a_prompt_that_works(trial, tuned, gain, shares)
    return _against_guessing(trial, tuned, gain, shares)


def _too_few(trial: Trial) -> str:
    why = f"{len(trial.rows)} rows to measure on are too few; hold out {FEWEST_ROWS} or more, better 50"
    if trial.leaked_rows:
        why += f", that are not in the training file, as {trial.leaked_rows} others are or nearly"
    if trial.unread_rows:
        why += f", that are chats, end in a reply in words and fit the model, as {trial.unread_rows} others do not"
    return why


def _best_of_ours(trial: Trial) -> Measured:
    """The tuned model, unless a checkpoint makes it look overfitted."""
    tuned = trial.tuned
    for checkpoint in sorted(trial.contenders, key=lambda m: -m.quality.mean):
        if checkpoint.role != "checkpoint" or not _above(trial, checkpoint.scores):
            continue
        better = difference(checkpoint.scores, tuned.scores)
        rise = _rise(trial, checkpoint)
        if better.low > 0 or (rise > LOSS_RISEN_NATS and better.mean >= 0) or (rise > 0 and better.mean >= TELLING):
            return checkpoint
    return tuned


def _rise(trial: Trial, checkpoint: Measured) -> float:
    """By how many nats a token validation loss has risen since; 0 where that may be noise, or is not known."""
    loss = trial.losses.get(_step(checkpoint), math.inf)
    final = trial.losses.get(max(trial.losses, default=0), 0.0)
    return final - loss if final > LOSS_RISEN * loss else 0.0


def _overfitted(trial: Trial, checkpoint: Measured, shares: str) -> Verdict:
    tuned = trial.tuned
    then, since = (f"{trial.losses.get(step, 0):.2f}" for step in (_step(checkpoint), max(trial.losses, default=0)))
    losses = f"validation loss rose from {then} to {since} after it; " if 0 < float(then) < float(since) else ""
    words = (
        f"{shares}the finished model {_percent(tuned.quality.mean)}; {losses}"
        f"use {checkpoint.model}, or tune again with fewer epochs"
    )
    return _verdict(trial, "overfitted", words, model=checkpoint.model)


def _against_a_prompt_that_works(trial: Trial, tuned: Measured, gain: Interval, shares: str) -> Verdict:
    rival, rows = trial.rival, len(trial.rows)
    cheaper = trial.break_even(rival)
    within = f"a difference of {_points(gain)}"
    if gain.high >= 0 and gain.mean >= -SLIGHT and cheaper is not None:
        if tuned.role == "checkpoint":
            return _overfitted(trial, tuned, f"{shares}, about the same ({within}); ")
        words = f"{shares}, about the same ({within}), but {_cost(trial, rival)}"
        return _verdict(trial, "tune", words, model=trial.tuned.model)
    if gain.mean > 0 and gain.high > TELLING:
        wanted = round(rows * (gain.high - gain.low) ** 2 / (4 * (gain.mean or 1) ** 2))
        words = f"{shares}, {within}, which may be chance; hold out some {max(wanted, rows * 2)} rows"
        return _verdict(trial, "not measurable", words)
    words = f"{shares}, {within}; keep {rival.label}" + (", which is cheaper too" if _saved(trial, rival) < 0 else "")
    return _verdict(trial, "prompt is enough", words)


def _against_guessing(trial: Trial, tuned: Measured, gain: Interval, shares: str) -> Verdict:
    guessed = f"{shares}, {_guessed(trial)}"
    if trial.training_examples < FEW_EXAMPLES or _rising(trial) or _above(trial, tuned.scores):
        return _more(trial, guessed)
    words = f"{guessed}{_parts(trial)}: the replies do not follow from the prompts, in a way that is to be seen here"
    return _verdict(trial, "not measurable", words)


def _lack(trial: Trial, tuned: Measured) -> str:
    """What shows that a model better than any prompt has learnt little; nothing where it has learnt enough."""
    if trial.measure.absolute:
        if not _above(trial, tuned.scores):
            return _guessed(trial)
        return "wrong more often than right" if tuned.quality.mean < LEARNT else ""
    guess = _mean(trial.guesses)
    little = tuned.quality.mean - guess < min(TELLING, LEARNT * (1 - guess))
    return _guessed(trial) if little and trial.training_examples < FEW_EXAMPLES else ""


def _guessed(trial: Trial) -> str:
    return f"a reply that ignores the question would have {_percent(_mean(trial.guesses))}"


def _more(trial: Trial, words: str) -> Verdict:
    why = "are not enough, and more of them help" if _rising(trial) else "are too few to learn from"
    wanted = max(FEW_EXAMPLES, 2 * trial.training_examples)
    words = f"{words}{_parts(trial)}: {trial.training_examples} examples {why}; write {wanted}"
    return _verdict(trial, "more data needed", words)


def _parts(trial: Trial) -> str:
    parts = ", ".join(f"{_percent(_mean(point.scores))} with {point.examples}" for point in trial.curve)
    return f"; tuned on fewer examples: {parts}" if parts else ""


def _rising(trial: Trial) -> bool:
    """Whether the smallest part of the examples does worse than all of them."""
    return bool(trial.curve) and difference(trial.tuned.scores, trial.curve[0].scores).low > 0


def _above(trial: Trial, scores: Sequence[float]) -> bool:
    return difference(scores, trial.guesses).low > 0


def _verdict(trial: Trial, kind: Kind, words: str, *, model: str | None = None) -> Verdict:
    forgot = ""
    if model is not None and trial.forgetting is not None and trial.forgetting.lost.low > 0:
        stock, tuned = sum(trial.forgetting.stock), sum(trial.forgetting.tuned)
        of = f"of {len(trial.forgetting.stock)} general questions stock knows {stock:.0f}, tuned {tuned:.0f}"
        forgot = f" It forgot much else: {of}."
    rival = trial.rival
    sentence = f"{OPENINGS[kind]}: {words}.{forgot}{_teacher(trial)}"
    return Verdict(kind, sentence, rival.role, trial.break_even(rival), model)


def _teacher(trial: Trial) -> str:
    if trial.teacher_failed:
        return f" The teacher was left out: {trial.teacher_failed.rstrip('.')}."
    for m in trial.contenders:
        if m.role == "teacher":
            said = trial.measure.phrase.format(who=f"The teacher ({m.model})", share=_percent(m.quality.mean))
            return f" {said}, for ${m.cost_per_1k_requests:.3f} per 1,000 requests."
    return ""


def _shares(trial: Trial, tuned: Measured, rival: Measured) -> str:
    said = trial.measure.phrase.format(who=tuned.label, share=_percent(tuned.quality.mean))
    return f"{said}, {rival.label} {_percent(rival.quality.mean)}"


def _cost(trial: Trial, rival: Measured) -> str:
    prices = f"${trial.tuned.cost_per_1k_requests:.3f} against ${rival.cost_per_1k_requests:.3f} per 1,000 requests"
    requests = trial.break_even(rival)
    if requests is not None:
        repaid = f"training (${trial.training_cost:.2f}) pays for itself after {requests:,.0f} requests"
        return f"it is cheaper too ({prices}), so {repaid}"
    more = "costs more" if _saved(trial, rival) < 0 else "costs as much"
    return f"it {more} ({prices}, and training ${trial.training_cost:.2f}), so you pay for quality"


def _saved(trial: Trial, rival: Measured) -> float:
    """Dollars that tuned saves against a rival on 1,000 requests."""
    return rival.cost_per_1k_requests - trial.tuned.cost_per_1k_requests


def _points(gain: Interval) -> str:
    mean, low, high = (round(share * 100) for share in (gain.mean, gain.low, gain.high))  # no -0
    return f"{mean} points ({low} to {high})"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)


def _step(checkpoint: Measured) -> int:
    return int(checkpoint.model.rpartition("-")[2])
