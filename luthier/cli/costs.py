"""What tuning has cost, and what tokens cost: the table of the settings, and 2023's beside it."""

from __future__ import annotations

from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from luthier.cli.comparison import price_of
from luthier.cli.display import say, table
from luthier.core.prices import FINE_TUNING_2023, PRICES_2023
from luthier.core.settings import load


def print_costs(client: OpenAI) -> None:
    """Each job with its trained tokens and their price, then the price tables."""
    prices = load().prices
    rows = []
    total = 0.0
    for job in client.fine_tuning.jobs.list(limit=100):
        if job.trained_tokens is not None:
            dollars = job.trained_tokens * price_of(job.fine_tuned_model or job.model, prices).training / 1e6
            total += dollars
            rows.append((job.id, job.fine_tuned_model, f"{job.trained_tokens:,}", f"{dollars:.4f}"))
    if rows:
        table("Training", ("job", "model", "trained tokens", "$"), [*rows, ("in all", None, None, f"{total:.4f}")])
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
