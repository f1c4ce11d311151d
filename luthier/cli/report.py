"""A comparison as a table, as a document and as a picture. Computes nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

from luthier.cli.comparison import Comparison, Measured
from luthier.core.json import JsonObject
from luthier.core.run import write_atomic

COLOURS: Final = {"stock": "#9aa5b1", "few-shot": "#f0a04b", "tuned": "#2a9d8f"}
INK: Final = "#22303c"


def print_table(comparison: Comparison) -> None:
    """The contenders side by side, what each said first, and the verdict."""
    from luthier.cli.display import CONSOLE, say, table

    contenders = comparison.contenders
    rows = (
        ("misspelled words", [f"{m.misspelled:,} of {m.words:,}" for m in contenders]),
        ("  share", [f"{m.misspelled_share:.0%}" for m in contenders]),
        ("words in a reply", [f"{m.mean_reply_words:.1f}" for m in contenders]),
        ("latency", [f"{m.mean_latency_ms:,.0f} ms" for m in contenders]),
        ("tokens in the prompt", [f"{m.prompt_tokens:,.0f}" for m in contenders]),
        ("tokens in the reply", [f"{m.completion_tokens:,.1f}" for m in contenders]),
        ("cost of 1,000 requests", [f"${m.cost_per_1k_requests:.4f}" for m in contenders]),
    )
    headings = [_name(m).replace("\n", " ") for m in contenders]
    table(None, ("", *headings), [(name, *values) for name, values in rows], right=True)
    for measured in contenders:
        say(f"\n{measured.contender}: {_cropped(measured.first_reply)}")
    CONSOLE.print(f"\n{comparison.verdict}", style="bold", markup=False)


def to_json(comparison: Comparison) -> JsonObject:
    """The comparison as `demo-report.json` holds it."""
    return {
        "comparison": [asdict(m) for m in comparison.contenders],
        "training_cost": comparison.training_cost,
        "break_even_against": comparison.against,
        "break_even_requests": comparison.break_even_requests,
        "verdict": comparison.verdict,
    }


def write_json(path: Path, document: JsonObject) -> None:
    """Write a document for people and programs."""
    write_atomic(path, (json.dumps(document, indent=2) + "\n").encode())


def draw(comparison: Comparison, path: Path) -> None:
    """Three panels: what was asked for, how long replies are, what a thousand requests cost."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = (
        ("Misspelled words", [m.misspelled_share * 100 for m in comparison.contenders], "{:.0f} %"),
        ("Words in a reply", [m.mean_reply_words for m in comparison.contenders], "{:.1f}"),
        ("Cost of 1,000 requests", [m.cost_per_1k_requests for m in comparison.contenders], "${:.3f}"),
    )
    with mpl.rc_context({"font.size": 11, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK}):
        figure, axes = plt.subplots(1, 3, figsize=(11, 4.6), dpi=150)
        for axis, (title, values, shape) in zip(axes, panels, strict=True):
            colours = [COLOURS[m.contender] for m in comparison.contenders]
            bars = axis.bar(_names(comparison), values, color=colours, width=0.62)
            axis.bar_label(bars, [shape.format(v) for v in values], padding=4, fontweight="bold", color=INK)
            axis.set_title(title, loc="left", fontweight="bold", pad=14)
            axis.set_ylim(0, max(max(values) * 1.15, 1e-9))
            axis.spines[["top", "right", "left"]].set_visible(False)
            axis.spines["bottom"].set_color("#c6ced6")
            axis.tick_params(axis="both", length=0)
            axis.set_yticks([])
        figure.suptitle("Was it worth it?", x=0.02, ha="left", fontsize=17, fontweight="bold")
        figure.text(0.02, 0.02, _wrapped(comparison.verdict), ha="left", va="bottom", fontsize=10.5)
        figure.tight_layout(rect=(0.01, 0.13, 0.99, 0.97), w_pad=3)
        figure.savefig(path)
        plt.close(figure)


def _names(comparison: Comparison) -> list[str]:
    return [_name(m) for m in comparison.contenders]


def _name(measured: Measured) -> str:
    return f"few-shot\n({measured.examples} examples)" if measured.contender == "few-shot" else measured.contender


def _cropped(text: str, width: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[:width]} …"


def _wrapped(text: str, width: int = 140) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text.replace("$", r"\$"), width))
