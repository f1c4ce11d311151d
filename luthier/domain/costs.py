"""What was used and what it costs, in buckets of time: rows of usage, and trainings, by the settings' prices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from luthier.core.prices import Price, price_of
from luthier.core.usage import Group, UsageQuery, UsageTotal
from luthier.domain.platform import Platform
from luthier.store import usage

LINES: Final = ("input", "cached input", "output", "training")


@dataclass(frozen=True)
class Cost:
    """Dollars of one bucket and group. `line_item` says what for, and `tokens` how many, where lines are told apart."""

    start: int
    group: Group
    dollars: float
    line_item: str | None = None
    tokens: int | None = None


def usage_totals(platform: Platform, organization_id: str, query: UsageQuery) -> list[UsageTotal]:
    """Requests that were answered with text, by bucket and group."""
    return usage.totals(platform.database, organization_id, query)


def cost_totals(platform: Platform, organization_id: str, query: UsageQuery, *, by_line: bool) -> list[Cost]:
    """What requests and trainings cost, by bucket and group and, if asked for, by model and kind of token."""
    priced = replace(query, group_by=[*query.group_by, "model"])
    totals = [
        *usage.totals(platform.database, organization_id, priced),
        *usage.trained(platform.database, organization_id, priced),
    ]
    dollars: dict[tuple[int, Group, str | None], float] = defaultdict(float)
    tokens: dict[tuple[int, Group, str | None], int] = defaultdict(int)
    for total in totals:
        for line, count, cost in _lines(total, platform.settings.prices):
            item = f"{total.group.model}, {line}" if by_line else None
            key = (total.start, replace(total.group, model=None), item)
            dollars[key] += cost
            tokens[key] += count
    ordered = sorted(dollars, key=lambda key: (key[0], str(key[1]), key[2] or ""))
    return [
        Cost(start, group, dollars[start, group, item], item, tokens[start, group, item] if by_line else None)
        for start, group, item in ordered
    ]


def _lines(total: UsageTotal, prices: Mapping[str, Price]) -> list[tuple[str, int, float]]:
    """What is paid for: its name, its tokens, its dollars."""
    price = price_of(str(total.group.model), prices)
    rates = (price.input, price.cached_input, price.output, price.training)
    fresh = total.input_tokens - total.cached_tokens
    counts = (fresh, total.cached_tokens, total.output_tokens, total.trained_tokens)
    return [(line, count, count * rate / 1e6) for line, count, rate in zip(LINES, counts, rates, strict=True) if count]
