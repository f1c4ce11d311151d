"""A verdict as JSON: what programs read, and what the page and the table are drawn from."""

from __future__ import annotations

from statistics import fmean
from typing import TypedDict

from luthier.core.verdict.contenders import text_of
from luthier.core.verdict.judging import Kind, Trial, Verdict
from luthier.core.verdict.statistics import Interval, difference, interval
from luthier.core.verdict.trial import Measured


class Entry(TypedDict):
    """One contender. `gain` is by how much tuned is better; `better` and `worse` count rows where it is."""

    contender: str
    model: str
    label: str
    examples: int
    quality: float
    quality_low: float
    quality_high: float
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    better: int
    worse: int
    mean_reply_words: float
    mean_latency_ms: float
    prompt_tokens: float
    completion_tokens: float
    cut_replies: int
    cost_per_1k_requests: float
    break_even_requests: float | None


class Point(TypedDict):
    """A model tuned on so many of the examples."""

    examples: int
    quality: float
    quality_low: float
    quality_high: float


class Forgot(TypedDict):
    """General questions: how many, and who knows how many."""

    questions: int
    stock: int
    tuned: int


class Said(TypedDict):
    """One contender's reply to a row."""

    contender: str
    text: str
    score: float


class Asked(TypedDict):
    """A row: its last question, the reply that is wanted, and who said what."""

    prompt: str
    reference: str | None
    replies: list[Said]


class Document(TypedDict):
    """The whole."""

    kind: Kind
    verdict: str
    model: str | None
    measure: str
    guess: float | None
    training_examples: int
    training_cost: float
    leaked_rows: int
    unread_rows: int
    break_even_against: str | None
    break_even_requests: float | None
    comparison: list[Entry]
    validation_losses: list[tuple[int, float]]
    forgetting: Forgot | None
    learning_curve: list[Point]
    rows: list[Asked]


def document(trial: Trial, verdict: Verdict) -> Document:
    """The JSON of a verdict and all that it rests on."""
    forgetting = trial.forgetting
    return Document(
        kind=verdict.kind,
        verdict=verdict.sentence,
        model=verdict.model,
        measure=trial.measure.name,
        guess=fmean(trial.guesses) if trial.guesses else None,
        training_examples=trial.training_examples,
        training_cost=trial.training_cost,
        leaked_rows=trial.leaked_rows,
        unread_rows=trial.unread_rows,
        break_even_against=verdict.against,
        break_even_requests=verdict.break_even_requests,
        comparison=[_entry(trial, measured) for measured in trial.contenders],
        validation_losses=sorted(trial.losses.items()),
        forgetting=Forgot(
            questions=len(forgetting.stock), stock=int(sum(forgetting.stock)), tuned=int(sum(forgetting.tuned))
        )
        if forgetting
        else None,
        learning_curve=_curve(trial),
        rows=[_asked(trial, number) for number in range(len(trial.rows) if trial.contenders else 0)],
    )


def _entry(trial: Trial, measured: Measured) -> Entry:
    ours = trial.tuned
    gain = None if measured is ours else difference(ours.scores, measured.scores)
    pairs = list(zip(ours.scores, measured.scores, strict=True))
    return Entry(
        contender=measured.role,
        model=measured.model,
        label=measured.label,
        examples=measured.examples,
        quality=measured.quality.mean,
        quality_low=measured.quality.low,
        quality_high=measured.quality.high,
        gain=gain.mean if gain else None,
        gain_low=gain.low if gain else None,
        gain_high=gain.high if gain else None,
        better=sum(a > b for a, b in pairs),
        worse=sum(a < b for a, b in pairs),
        mean_reply_words=measured.mean_reply_words,
        mean_latency_ms=measured.mean_latency_ms,
        prompt_tokens=measured.prompt_tokens,
        completion_tokens=measured.completion_tokens,
        cut_replies=sum(reply.cut for reply in measured.replies),
        cost_per_1k_requests=measured.cost_per_1k_requests,
        break_even_requests=None if measured.role in {"tuned", "checkpoint"} else trial.break_even(measured),
    )


def _curve(trial: Trial) -> list[Point]:
    if not trial.curve:
        return []
    parts = [(point.examples, interval(point.scores, least=0.0, most=1.0)) for point in trial.curve]
    return [_point(count, quality) for count, quality in [*parts, (trial.training_examples, trial.tuned.quality)]]


def _point(examples: int, quality: Interval) -> Point:
    return Point(examples=examples, quality=quality.mean, quality_low=quality.low, quality_high=quality.high)


def _asked(trial: Trial, number: int) -> Asked:
    row = trial.rows[number]
    said = [
        Said(contender=m.label, text=m.replies[number].text, score=round(m.scores[number], 4)) for m in trial.contenders
    ]
    return Asked(prompt=text_of(row.messages[-1]) if row.messages else "", reference=row.reference, replies=said)
