"""The trial: every contender answers the same rows, some rows at a time, until all are answered or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from luthier.core.prices import Price, request_cost
from luthier.core.verdict.contenders import Ask, Contender, Reply, Role, Row
from luthier.core.verdict.measures import Measure
from luthier.core.verdict.statistics import Interval, interval

# In one round each contender answers so many rows in a row: its examples stay in the engine's cache meanwhile.
ROUND: Final = 10
# Beyond this a reply is cut, whoever says it: a small model that lost its thread talks to the end of its context.
LONGEST_REPLY_TOKENS: Final = 256
SHORTEST_LIMIT_TOKENS: Final = 32

Asked = Callable[[Contender, int], None]
"""Told before each question: whom, and how many rows there are."""


@dataclass(frozen=True)
class Measured:
    """What one contender did on the rows of the trial. Tokens and latency are means of one request; cost is dollars."""

    role: Role
    model: str
    label: str
    examples: int
    scores: tuple[float, ...]
    quality: Interval
    replies: tuple[Reply, ...]
    mean_reply_words: float
    mean_latency_ms: float
    prompt_tokens: float
    completion_tokens: float
    cost_per_1k_requests: float


def limit_for(rows: Sequence[Row]) -> int:
    """How many tokens a reply may have: as many as the longest reference has bytes, within bounds."""
    longest = max(
        (len(row.reference.encode()) for row in rows if row.reference is not None), default=LONGEST_REPLY_TOKENS
    )
    return min(max(longest, SHORTEST_LIMIT_TOKENS), LONGEST_REPLY_TOKENS)


def hold_trial(
    contenders: Sequence[Contender],
    rows: Sequence[Row],
    ask: Ask,
    *,
    budget_s: float | None = None,
    asked: Asked = lambda _contender, _of: None,
) -> list[list[Reply]]:
    """Each contender's replies, to the same first rows: all, or as many whole rounds as begin within the budget.

    One question at a time, so that latencies are those of a quiet server. A contender's first question, not counted,
    pays for what only the first one pays: loading, and the examples' way into the cache.
    """
    replies: list[list[Reply]] = [[] for _ in contenders]
    limit, started = limit_for(rows), time.monotonic()
    for start in range(0, len(rows), ROUND):
        if budget_s is not None and start and time.monotonic() - started > budget_s:
            break
        for contender, said in zip(contenders, replies, strict=True):
            if not start:
                ask(contender, rows[0], limit_tokens=1)
            for row in rows[start : start + ROUND]:
                asked(contender, len(rows))
                said.append(ask(contender, row, limit_tokens=limit))
    return replies


def measure(contender: Contender, rows: Sequence[Row], replies: Sequence[Reply], by: Measure, price: Price) -> Measured:
    """One contender's numbers."""
    scores = [by.score(reply.text, row.reference) for reply, row in zip(replies, rows, strict=False)]

    def mean(value: Callable[[Reply], float]) -> float:
        return fmean(value(reply) for reply in replies)

    def cost(reply: Reply) -> float:
        return request_cost(
            price,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cached_tokens=reply.cached_tokens,
        )

    return Measured(
        role=contender.role,
        model=contender.model,
        label=contender.label,
        examples=len(contender.examples),
        scores=tuple(scores),
        quality=interval(scores, least=0.0, most=1.0),
        replies=tuple(replies),
        mean_reply_words=mean(lambda r: len(r.text.split())),
        mean_latency_ms=mean(lambda r: r.latency_ms),
        prompt_tokens=mean(lambda r: r.prompt_tokens),
        completion_tokens=mean(lambda r: r.completion_tokens),
        cost_per_1k_requests=mean(cost) * 1000,
    )
