"""What came of an eval: a table, a document and a picture. Asks nobody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from openai.types.evals import RunRetrieveResponse

from luthier.core.json import JsonObject

Z95: Final = 1.959964
UUID_LENGTH: Final = 37  # a criterion's id is its name and `-UUID`
COLOURS: Final = ("#9aa5b1", "#f0a04b", "#2a9d8f", "#5b7db1", "#c65b7c", "#8a6fb0")
INK: Final = "#22303c"


@dataclass(frozen=True)
class Share:
    """How many passed; `low` and `high` are the ends of Wilson's 95 % interval (Wilson 1927)."""

    passed: int
    total: int

    @property
    def share(self) -> float:
        return self.passed / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        n, p = max(self.total, 1), self.share
        middle, spread = p + Z95**2 / (2 * n), Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
        scale = 1 + Z95**2 / n
        return max((middle - spread) / scale, 0.0), min((middle + spread) / scale, 1.0)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.passed} of {self.total}  {self.share:.0%} ({low:.0%} to {high:.0%})" if self.total else "none"


@dataclass(frozen=True)
class Measured:
    """One run: shares by criterion, and of rows that passed all; tokens are those of the model that was asked."""

    model: str
    run_id: str
    criteria: dict[str, Share]
    rows: Share
    errored: int
    completion_tokens: int
    report_url: str


def measure(run: RunRetrieveResponse, names: Sequence[str]) -> Measured:
    """What came of a run."""
    results = run.per_testing_criteria_results or ()
    found = {r.testing_criteria[:-UUID_LENGTH]: Share(r.passed, r.passed + r.failed) for r in results}
    used = [u.completion_tokens for u in run.per_model_usage or () if u.run_model_name == run.model]
    counts = run.result_counts
    return Measured(
        model=run.model or run.name,
        run_id=run.id,
        criteria={name: found.get(name, Share(0, 0)) for name in names},
        rows=Share(counts.passed, counts.passed + counts.failed),
        errored=counts.errored,
        completion_tokens=sum(used),
        report_url=run.report_url,
    )


def print_table(measured: Sequence[Measured]) -> None:
    """The models side by side."""
    from luthier.cli.display import table

    rows: list[tuple[str, ...]] = [(n, *(str(m.criteria[n]) for m in measured)) for n in measured[0].criteria]
    if len(rows) > 1:
        rows.append(("all of them", *(str(m.rows) for m in measured)))
    rows.append(("not graded", *(str(m.errored) for m in measured)))
    rows.append(("tokens said", *(f"{m.completion_tokens:,}" for m in measured)))
    rows.append(("run", *(m.run_id for m in measured)))
    table(None, ("passed", *(m.model for m in measured)), rows, right=True)


def to_json(name: str, measured: Sequence[Measured]) -> JsonObject:
    """The result as PATH.json holds it."""
    return {"name": name, "runs": [asdict(m) for m in measured]}


def draw(name: str, measured: Sequence[Measured], path: Path) -> None:
    """A bar for each model in each criterion, with its interval."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(measured[0].criteria)
    width = 0.8 / len(measured)
    with mpl.rc_context({"font.size": 11, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK}):
        figure, axis = plt.subplots(figsize=(max(6.0, 1.6 * len(names) * len(measured)), 4.6), dpi=150)
        for index, one in enumerate(measured):
            shares = [one.criteria[n] for n in names]
            at = [place + (index - (len(measured) - 1) / 2) * width for place in range(len(names))]
            ends = [[100 * abs(s.share - s.interval[end]) for s in shares] for end in (0, 1)]
            colour = COLOURS[index % len(COLOURS)]
            axis.bar(
                at, [100 * s.share for s in shares], width * 0.9, yerr=ends, capsize=4, color=colour, label=one.model
            )
            for x, s in zip(at, shares, strict=True):
                axis.text(x, 103, f"{s.share:.0%}", ha="center", fontweight="bold")
        axis.set_ylim(0, 112)
        axis.set_xticks(range(len(names)), names)
        axis.set_yticks([0, 50, 100], ["0", "50", "100 %"])
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(f"{name}: rows that passed", loc="left", fontweight="bold", pad=12)
        axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
        figure.text(0.99, 0.01, "lines: 95 % intervals", ha="right", fontsize=8.5)
        figure.savefig(path, bbox_inches="tight")
        plt.close(figure)
