"""What tokens cost: a table per million tokens, by model name. Knows no usage and no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens."""

    training: float
    input: float
    cached_input: float
    output: float


# A user's own machine bills nobody, so by default a local token costs what the same token costs at OpenAI in 2026
# (gpt-4o-mini and its fine-tuned form): the table answers "what would this have cost", and a settings table replaces
# it.
DEFAULT: Final[dict[str, Price]] = {
    "base": Price(training=3.00, input=0.15, cached_input=0.075, output=0.60),
    "tuned": Price(training=3.00, input=0.30, cached_input=0.15, output=1.20),
}

# Dollars per 100,000 tokens in August 2023, as the announcement printed them: (input, output); fine-tuning itself 0.80.
FINE_TUNING_2023: Final = 0.80
PRICES_2023: Final[dict[str, tuple[float, float]]] = {
    "gpt-3.5-turbo 4k": (0.15, 0.20),
    "gpt-3.5-turbo 16k": (0.30, 0.40),
    "gpt-3.5-turbo tuned": (1.20, 1.60),
    "gpt-4 8k": (3.0, 6.0),
    "gpt-4 32k": (6.0, 12.0),
}


def price_of(model: str, prices: Mapping[str, Price]) -> Price:
    """A model's own price, or that of all base or all tuned models."""
    return prices.get(model) or prices["tuned" if model.startswith("ft:") else "base"]


def request_cost(price: Price, *, prompt_tokens: float, completion_tokens: float, cached_tokens: float = 0) -> float:
    """Dollars of one request; cached tokens are part of the prompt's and cost their own rate."""
    fresh = prompt_tokens - cached_tokens
    return (fresh * price.input + cached_tokens * price.cached_input + completion_tokens * price.output) / 1e6


def break_even_requests(training_cost: float, tuned_cost: float, other_cost: float) -> float | None:
    """Requests after which training has paid for itself against a contender; None when it never does."""
    saved = other_cost - tuned_cost
    return training_cost / saved if saved > 0 else None
