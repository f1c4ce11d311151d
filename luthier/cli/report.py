"""A verdict as a table and as a picture. Computes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from luthier.core.json import JsonObject
from luthier.core.run import write_atomic
from luthier.core.verdict.document import Document, Entry

COLOURS: Final = {
    "stock": "#9aa5b1",
    "prompt": "#c65b7c",
    "few-shot": "#f0a04b",
    "tuned": "#2a9d8f",
    "checkpoint": "#6d5bd0",
    "teacher": "#5b7db1",
}
INK: Final = "#22303c"

Line = tuple[str, list[str]]


def print_table(found: Document, first: Sequence[Line] = ()) -> None:
    """The contenders side by side, what each said first, and the verdict; `first` stands above the other lines."""
    from luthier.cli.display import CONSOLE, say, table

    entries = found["comparison"]
    lines: list[Line] = [
        *(first or _quality(found)),
        ("words in a reply", [f"{e['mean_reply_words']:.1f}" for e in entries]),
        ("latency", [f"{e['mean_latency_ms']:,.0f} ms" for e in entries]),
        ("tokens in the prompt", [f"{e['prompt_tokens']:,.0f}" for e in entries]),
        ("tokens in the reply", [f"{e['completion_tokens']:,.1f}" for e in entries]),
        ("cost of 1,000 requests", [f"${e['cost_per_1k_requests']:.4f}" for e in entries]),
    ]
    if entries:
        headings = [_name(entry).replace("\n", " ") for entry in entries]
        table(None, ("", *headings), [(name, *values) for name, values in lines], right=True)
    for said in found["rows"][0]["replies"] if found["rows"] else ():
        say(f"\n{said['contender']}: {_cropped(said['text'])}")
    CONSOLE.print(f"\n{found['verdict']}", style="bold", markup=False)


def _quality(found: Document) -> list[Line]:
    entries = found["comparison"]
    return [
        (found["measure"], [f"{e['quality']:.0%}" for e in entries]),
        ("  95 %", [f"{e['quality_low'] * 100:.0f} to {e['quality_high'] * 100:.0f}" for e in entries]),
        ("tuned better / worse", ["" if e["gain"] is None else f"{e['better']} / {e['worse']}" for e in entries]),
    ]


def write_json(path: Path, document: JsonObject) -> None:
    """Write a document for people and programs."""
    write_atomic(path, (json.dumps(document, indent=2) + "\n").encode())


def draw(found: Document, path: Path, *, title: str) -> None:
    """Three panels: what was asked for, how long replies are, what a thousand requests cost."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    entries = found["comparison"]
    panels = (
        (title, [e["quality"] * 100 for e in entries], "{:.0f} %"),
        ("Words in a reply", [e["mean_reply_words"] for e in entries], "{:.1f}"),
        ("Cost of 1,000 requests", [e["cost_per_1k_requests"] for e in entries], "${:.3f}"),
    )
    with mpl.rc_context({"font.size": 11, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK}):
        figure, axes = plt.subplots(1, 3, figsize=(11, 4.6), dpi=150)
        for axis, (title, values, shape) in zip(axes, panels, strict=True):
            colours = [COLOURS[e["contender"]] for e in entries]
            bars = axis.bar([_name(e) for e in entries], values, color=colours, width=0.62)
            axis.bar_label(bars, [shape.format(v) for v in values], padding=4, fontweight="bold", color=INK)
            axis.set_title(title, loc="left", fontweight="bold", pad=14)
            axis.set_ylim(0, max(max(values) * 1.15, 1e-9))
            axis.spines[["top", "right", "left"]].set_visible(False)
            axis.spines["bottom"].set_color("#c6ced6")
            axis.tick_params(axis="both", length=0)
            axis.set_yticks([])
        figure.suptitle("Was it worth it?", x=0.02, ha="left", fontsize=17, fontweight="bold")
        figure.text(0.02, 0.02, _wrapped(found["verdict"]), ha="left", va="bottom", fontsize=10.5)
        figure.tight_layout(rect=(0.01, 0.13, 0.99, 0.97), w_pad=3)
        figure.savefig(path)
        plt.close(figure)


def _name(entry: Entry) -> str:
    if entry["contender"] == "few-shot":
        return f"few-shot\n({entry['examples']} examples)"
    return entry["label"]


def _cropped(text: str, width: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[:width]} …"


def _wrapped(text: str, width: int = 140) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text.replace("$", r"\$"), width))
