"""What tuning has cost, and what tokens cost: the table of the settings, and 2023's beside it."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Final

from openai import OpenAI, omit
from openai.types.admin.organization.usage_costs_response import DataResultOrganizationCostsResult
from openai.types.fine_tuning import FineTuningJob

from luthier.cli.display import say, table
from luthier.core.prices import FINE_TUNING_2023, PRICES_2023, price_of
from luthier.core.settings import load

DAY_S: Final = 86_400
DAYS_A_PAGE: Final = 180


def print_costs(client: OpenAI, days: int) -> None:
    """What requests and trainings of the last days cost, by model and kind of token, then the price tables."""
    client.admin_api_key = client.admin_api_key or client.api_key
    dollars: dict[str, float] = defaultdict(float)
    tokens: dict[str, float] = defaultdict(float)
    start = int(time.time()) - days * DAY_S
    page: str | None = None
    while True:
        found = client.admin.organization.usage.costs(
            start_time=start, group_by=["line_item"], limit=DAYS_A_PAGE, page=page or omit
        )
        for bucket in found.data:
            for result in bucket.results:
                if isinstance(result, DataResultOrganizationCostsResult):
                    line = result.line_item or "other"
                    dollars[line] += (result.amount.value or 0.0) if result.amount else 0.0
                    tokens[line] += result.quantity or 0.0
        page = found.next_page
        if page is None:
            break
    rows = [(line, f"{tokens[line]:,.0f}", f"{dollars[line]:.4f}") for line in sorted(dollars)]
    total = ("in all", None, f"{sum(dollars.values()):.4f}")
    table(f"The last {days} days", ("what for", "tokens", "$"), [*rows, total])
    say()
    print_prices()


def print_training(job: FineTuningJob) -> None:
    """What one job's training costs: now, and in 2023."""
    tokens = job.trained_tokens or 0
    now = tokens * price_of(job.fine_tuned_model or job.model, load().prices).training / 1e6
    then = tokens * FINE_TUNING_2023 / 1e5
    say(f"\nTraining on {tokens:,} tokens: ${now:.2f} under this table, ${then:.2f} in 2023.")


def print_prices() -> None:
    """Both price tables."""
    names = ("$ per million tokens", "training", "input", "cached input", "output")
    rows = [(name, p.training, p.input, p.cached_input, p.output) for name, p in load().prices.items()]
    table("Prices (the settings' table)", names, rows)
    say()
    then = [(name, entered, left) for name, (entered, left) in PRICES_2023.items()]
    table("2023", ("$ per 100,000 tokens", "input", "output"), [*then, ("fine-tuning", FINE_TUNING_2023, None)])
