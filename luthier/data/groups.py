"""Items in groups, so that what is held at once is bounded by number and by size. Knows neither lines nor rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

MOST: Final = 256  # texts tokenised in one call: enough to keep the tokenizer's threads busy, small beside any memory
ENOUGH: Final = 1 << 20  # characters; a token of an encoding takes some hundred bytes, and a line may have 16 MiB
T = TypeVar("T")


def groups(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Groups that end with `MOST` items, or as soon as their sizes come to `ENOUGH`."""
    group: list[T] = []
    total = 0
    for item in items:
        group.append(item)
        total += size(item)
        if len(group) >= MOST or total >= ENOUGH:
            yield group
            group, total = [], 0
    if group:
        yield group
