"""What a job takes of time, memory and money: as quoted before it trains, and as it was. Knows no trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Takes:
    """`seconds` from the quote to a model that answers, those that the job rested left out; the trainer's memory."""

    seconds: float
    peak_memory_bytes: int
    trained_tokens: int
    dollars: float

    def __str__(self) -> str:
        return f"{duration(self.seconds)}, {size(self.peak_memory_bytes)} of memory, {money(self.dollars)}"


@dataclass(frozen=True)
class Quote:
    """What was quoted, and what it was once the job has succeeded."""

    quoted: Takes
    actual: Takes | None = None

    @staticmethod
    def read(raw: dict[str, Any]) -> Quote:
        """The quote that `asdict` wrote."""
        return Quote(Takes(**raw["quoted"]), Takes(**raw["actual"]) if raw["actual"] else None)

    def __str__(self) -> str:
        if self.actual is not None:
            return f"Quoted {self.quoted}; it took {self.actual}"
        most = f"{size(self.quoted.peak_memory_bytes)} of memory at most, {money(self.quoted.dollars)}"
        return f"About {duration(self.quoted.seconds)} until the model answers, {most}"


def duration(seconds: float) -> str:
    """As people say it: 50 s, 2 min 10 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes, tens = divmod(round(seconds / 10), 6)
    if minutes < 10:
        return f"{minutes} min {10 * tens} s" if tens else f"{minutes} min"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def money(dollars: float) -> str:
    """To the cent, small sums to a tenth of it: $0.031, $1.20."""
    return f"${dollars:.2f}" if dollars >= 0.1 else f"${dollars:.3f}"


def size(count: float) -> str:
    """Bytes as people say them: 340 MB, 1.1 GB."""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
