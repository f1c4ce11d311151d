"""Plots as inline SVG, drawn for a phone's width. Know numbers and words, no verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 360
ROW: Final = 44
BAR: Final = 14
CHARS: Final = 52  # of a label that fits above its bar
RIGHT: Final = 74  # room for the value
PLOT_HEIGHT: Final = 170
MARGIN: Final = 34

Shape = Callable[[float], str]


@dataclass(frozen=True)
class Bar:
    """A value with its name, its kind (a CSS class), and the interval that it lies in."""

    label: str
    value: float
    kind: str
    low: float | None = None
    high: float | None = None


def bars(rows: Sequence[Bar], shape: Shape, *, most: float | None = None, mark: float | None = None) -> str:
    """Horizontal bars, each under its name; `mark` is a dashed line across each."""
    reach = WIDTH - RIGHT
    most = most or max(max(row.high or row.value for row in rows), 1e-12)
    drawn = []
    for number, row in enumerate(rows):
        top = number * ROW
        middle = top + 22 + BAR / 2
        end = row.value / most * reach
        label = row.label if len(row.label) <= CHARS else f"{row.label[: CHARS - 1]}…"
        drawn.append(f'<text class="name" x="0" y="{top + 14}">{escape(label)}</text>')
        drawn.append(f'<rect class="track" x="0" y="{top + 22}" width="{reach}" height="{BAR}" rx="3"/>')
        drawn.append(f'<rect class="{row.kind}" x="0" y="{top + 22}" width="{max(end, 1):.1f}" height="{BAR}" rx="3"/>')
        if row.low is not None and row.high is not None:
            low, high = row.low / most * reach, row.high / most * reach
            drawn.append(
                f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 5}v10M{high:.1f} '
                f'{middle - 5}v10"/>'
            )
        drawn.append(f'<text class="value" x="{WIDTH}" y="{middle + 5}">{escape(shape(row.value))}</text>')
        if mark is not None:
            drawn.append(f'<path class="mark" d="M{mark / most * reach:.1f} {top + 18}v{BAR + 8}"/>')
    return _svg(len(rows) * ROW, drawn)


def line(points: Sequence[tuple[float, float]], shape: Shape, *, names: Shape, marked: float | None = None) -> str:
    """Values over numbers, each point with its value; `marked` is the point that matters."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    least, most = min(0.0, *ys), max(*ys, 1e-12)
    width = WIDTH - 2 * MARGIN

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - min(xs)) / (max(xs) - min(xs) or 1)
        return MARGIN + across * width, 20 + (most - y) / (most - least) * (PLOT_HEIGHT - 50)

    placed = [place(x, y) for x, y in points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
    drawn = [
        f'<path class="axis" d="M0 {PLOT_HEIGHT - 24}H{WIDTH}"/>',
        f'<path class="curve" d="M{path}"/>',
    ]
    every = -(-len(points) // 6)  # as many words as stand side by side
    for number, ((x, y), (px, py)) in enumerate(zip(points, placed, strict=True)):
        important = x == marked
        drawn.append(f'<circle class="{"checkpoint" if important else "tuned"}" cx="{px:.1f}" cy="{py:.1f}" r="4"/>')
        if important or number == len(points) - 1 or (number % every == 0 and len(points) - number > every):
            drawn.append(f'<text class="at" x="{px:.1f}" y="{py - 9:.1f}">{escape(shape(y))}</text>')
            drawn.append(f'<text class="at" x="{px:.1f}" y="{PLOT_HEIGHT - 8}">{escape(names(x))}</text>')
    return _svg(PLOT_HEIGHT, drawn)


def _svg(height: float, drawn: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img">{"".join(drawn)}</svg>'
