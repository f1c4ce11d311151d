"""What answers are worth: shares, lengths, prices, break-even, and a verdict from these numbers alone. Asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from luthier.cli import spelling
from luthier.cli.contenders import Reply, Role
from luthier.core.prices import Price, break_even_requests, request_cost

# Shares closer than this are called equal: with 20 replies of 7 words, chance alone moves a share by some 4 points.

EQUAL: Final = 0.05
# Below this a tuned model has not taken on what its examples show.
LEARNT: Final = 0.5
LABELS: Final[dict[Role, str]] = {
    "stock": "stock",
    "few-shot": "stock with the examples in its prompt",
    "tuned": "tuned",
}


@dataclass(frozen=True)
class Measured:
    """What one contender did. Tokens are means of one request; cost is in dollars."""

    contender: Role
    model: str
    examples: int
    misspelled: int
    words: int
    misspelled_share: float
    mean_reply_words: float
    mean_latency_ms: float
    prompt_tokens: float
    completion_tokens: float
    cost_per_1k_requests: float
    first_reply: str


@dataclass(frozen=True)
class Comparison:
    """All contenders, what training cost, and what follows. `break_even_requests` is None where tuned saves nothing."""

    contenders: tuple[Measured, ...]
    training_cost: float
    against: Role
    break_even_requests: float | None
    verdict: str


def measure(role: Role, model: str, examples: int, replies: Sequence[Reply], price: Price) -> Measured:
    """One contender's numbers."""
    texts = [reply.text for reply in replies]
    spelled = spelling.measure(texts)

    def mean(value: Callable[[Reply], float]) -> float:
        return fmean(value(reply) for reply in replies)

    cost = mean(
        lambda r: request_cost(
            price,
            prompt_tokens=r.prompt_tokens,
            completion_tokens=r.completion_tokens,
            cached_tokens=r.cached_tokens,
        )
    )
    return Measured(
        contender=role,
        model=model,
        examples=examples,
        misspelled=spelled.misspelled,
        words=spelled.words,
        misspelled_share=spelled.share,
        mean_reply_words=fmean(len(spelling.words(text)) for text in texts),
        mean_latency_ms=mean(lambda r: r.latency_ms),
        prompt_tokens=mean(lambda r: r.prompt_tokens),
        completion_tokens=mean(lambda r: r.completion_tokens),
        cost_per_1k_requests=cost * 1000,
        first_reply=texts[0],
    )


def conclude(contenders: Sequence[Measured], training_cost: float) -> Comparison:
    """The verdict. Tuned is held against the prompt-only contender that misspells most; of equals, the cheaper one."""
    tuned = next(m for m in contenders if m.contender == "tuned")
    rivals = [m for m in contenders if m.contender != "tuned"]
    best = max(m.misspelled_share for m in rivals)
    rival = min((m for m in rivals if m.misspelled_share > best - EQUAL), key=lambda m: m.cost_per_1k_requests)
    requests = break_even_requests(training_cost, tuned.cost_per_1k_requests / 1000, rival.cost_per_1k_requests / 1000)
    return Comparison(
        tuple(contenders), training_cost, rival.contender, requests, _verdict(tuned, rival, training_cost, requests)
    )


def _verdict(tuned: Measured, rival: Measured, training_cost: float, requests: float | None) -> str:
    gain = tuned.misspelled_share - rival.misspelled_share
    shares = (
        f"tuned misspells {tuned.misspelled_share:.0%} of its words, "
        f"{LABELS[rival.contender]} {rival.misspelled_share:.0%}"
    )
    prices = f"${tuned.cost_per_1k_requests:.3f} against ${rival.cost_per_1k_requests:.3f} per 1,000 requests"
    if tuned.misspelled_share < LEARNT:
        return f"Not worth it yet: {shares}, so the examples were not learnt. Add examples or epochs and tune again."
    if gain <= -EQUAL:
        return f"Not worth it: {shares}, so the prompt alone does better. Add or improve examples before tuning again."
    if gain < EQUAL and requests is None:
        return f"Not worth it: {shares}, about the same, and tuned costs more ({prices}); keep the prompt."
    if requests is None:
        return (
            f"Worth it: {shares}; it costs more ({prices}, and training ${training_cost:.2f}), so you pay for quality."
        )
    if gain < EQUAL:
        repaid = f"which repays training (${training_cost:.2f})"
        return f"Worth it from {requests:,.0f} requests on: {shares}, about the same, but cheaper ({prices}), {repaid}."
    repaid = f"so training (${training_cost:.2f}) pays for itself after {requests:,.0f} requests"
    return f"Worth it: {shares}; it is cheaper too ({prices}), {repaid}."
