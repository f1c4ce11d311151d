"""A verdict as a page of its own: no network, no script, readable on a phone. Knows the document alone."""

from __future__ import annotations

from html import escape
from typing import Final

from luthier.core.verdict.document import Asked, Document, Entry
from luthier.core.verdict.judging import OPENINGS
from luthier.core.verdict.plots import Bar, bars, line

STYLE: Final = """
:root{--ink:#1f2a33;--soft:#5d6b78;--paper:#fff;--track:#edf0f3;
--tuned:#2a9d8f;--stock:#9aa5b1;--few:#e8963a;--ckpt:#6d5bd0;--prompt:#c65b7c;
--teacher:#5b7db1}
@media(prefers-color-scheme:dark){:root{--ink:#e8edf1;--soft:#9fb0bd;--paper:#14191d;--track:#262e35}}
*{box-sizing:border-box}
body{margin:0 auto;padding:20px 16px 60px;max-width:720px;color:var(--ink);background:var(--paper);
font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:.2em 0}h2{font-size:1.1rem;margin:2em 0 .3em}p{margin:.4em 0}
.model,.note{color:var(--soft);overflow-wrap:anywhere;font-size:.9rem}
.sentence{font-size:1.1rem;border-left:4px solid var(--tuned);padding-left:12px;overflow-wrap:anywhere}
svg{width:100%;max-width:560px;display:block;margin:.6em 0}
svg text{fill:var(--ink);font:13px system-ui,sans-serif}.value{text-anchor:end;font-weight:600!important}
.at{text-anchor:middle;font-size:12px!important}.track{fill:var(--track)}.tuned{fill:var(--tuned)}
.stock{fill:var(--stock)}.few-shot{fill:var(--few)}.checkpoint{fill:var(--ckpt)}.prompt{fill:var(--prompt)}
.teacher{fill:var(--teacher)}
.whisker{stroke:var(--ink);stroke-width:1.5;fill:none}.mark{stroke:var(--soft);stroke-dasharray:4 4;fill:none}
.axis{stroke:var(--track)}.curve{stroke:var(--tuned);stroke-width:2;fill:none}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;min-width:100%}
th,td{text-align:right;padding:5px 0 5px 14px;white-space:nowrap;border-bottom:1px solid var(--track)}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal;min-width:7.5em}
details{border-bottom:1px solid var(--track);padding:.45em 0}summary{cursor:pointer;overflow-wrap:anywhere}
dl{margin:.5em 0 .5em 1em}dt{color:var(--soft);font-size:.85rem}
dd{margin:0 0 .5em;overflow-wrap:anywhere;white-space:pre-wrap}
.up{color:var(--tuned)}.down{color:#d1495b}
"""


def page(found: Document, *, title: str) -> str:
    """The whole page."""
    sentence = found["verdict"].partition(": ")[2]
    parts = [
        f'<p class="model">{escape(title)}</p>',
        f"<h1>{OPENINGS[found['kind']]}</h1>",
        f'<p class="sentence">{escape(sentence[:1].upper() + sentence[1:])}</p>',
    ]
    if found["comparison"]:
        parts += [_quality(found), _costs(found), _table(found)]
    parts += [_forgetting(found), _curve(found), _losses(found), _rows(found)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Was it worth it? {escape(title)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{share * 100:.0f} %"


def _quality(found: Document) -> str:
    shown = [_bar(e, e["quality"], e["quality_low"], e["quality_high"]) for e in found["comparison"]]
    guess = found["guess"]
    left_out = [
        f"{found['leaked_rows']} rows were left out because the training file has them too"
        * (found["leaked_rows"] > 0),
        f"{found['unread_rows']} because they do not end in a reply in words, or are longer than the model reads"
        * (found["unread_rows"] > 0),
    ]
    notes = [
        f"Measured by {found['measure']} on {len(found['rows'])} rows that were not trained on.",
        "The thin lines are 95 % intervals: the true value lies within them 95 times of 100.",
        f"The dashed lines ({percent(guess)}) are what a reply would have that ignores the question." if guess else "",
        f"{' and '.join(filter(None, left_out)).capitalize()}." if any(left_out) else "",
    ]
    return f"<h2>Quality</h2>{bars(shown, percent, most=1.0, mark=guess or None)}{_note(' '.join(filter(None, notes)))}"


def _costs(found: Document) -> str:
    entries = [e for e in found["comparison"] if e["contender"] != "checkpoint"]
    cost = bars([_bar(e, e["cost_per_1k_requests"]) for e in entries], lambda value: f"${value:.4f}")
    latency = bars([_bar(e, e["mean_latency_ms"]) for e in entries], lambda value: f"{value:,.0f} ms")
    pays = [
        f"against {e['label']} after {requests:,.0f} requests"
        for e in entries
        if (requests := e["break_even_requests"]) is not None
    ]
    never = [
        f"against {e['label']} never" for e in entries if e["contender"] != "tuned" and e["break_even_requests"] is None
    ]
    cut = sum(e["cut_replies"] for e in entries)
    words = f"Training cost ${found['training_cost']:.3f}. By price alone it pays for itself {', '.join(pays + never)}."
    if cut:
        words += f" {cut} replies were cut, so they would have cost more."
    return f"<h2>Cost of 1,000 requests</h2>{cost}{_note(words)}<h2>Time for a reply</h2>{latency}"


def _table(found: Document) -> str:
    head = ("", "tuned better / worse", "gain", "95 %", "words", "tokens in", "tokens out")
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(e))}</tr>" for e in found["comparison"])
    heads = "".join(f"<th>{name}</th>" for name in head)
    note = _note("Gain is by how many points tuned is better, row by row; the other numbers are means of one reply.")
    return f'<h2>Side by side</h2><div class="wide"><table><tr>{heads}</tr>{rows}</table></div>{note}'


def _cells(entry: Entry) -> list[str]:
    gain, low, high = entry["gain"], entry["gain_low"], entry["gain_high"]
    ours = gain is None or low is None or high is None
    return [
        entry["label"],
        "" if ours else f"{entry['better']} / {entry['worse']}",
        "" if gain is None else f"{round(gain * 100):+}",
        "" if low is None or high is None else f"{round(low * 100):+} to {round(high * 100):+}",
        f"{entry['mean_reply_words']:.1f}",
        f"{entry['prompt_tokens']:,.0f}",
        f"{entry['completion_tokens']:.1f}",
    ]


def _forgetting(found: Document) -> str:
    if (general := found["forgetting"]) is None:
        return ""
    shown = [
        Bar("stock", general["stock"] / general["questions"], "stock"),
        Bar("tuned", general["tuned"] / general["questions"], "tuned"),
    ]
    words = f"Right answers to {general['questions']} general questions, asked without instructions or examples."
    return f"<h2>What it still knows</h2>{bars(shown, percent, most=1.0)}{_note(words)}"


def _curve(found: Document) -> str:
    if not found["learning_curve"]:
        return ""
    points = [(float(point["examples"]), point["quality"]) for point in found["learning_curve"]]
    note = _note("Quality of models tuned on some of the examples, and on all of them.")
    return f"<h2>More examples</h2>{line(points, percent, names=lambda x: f'{x:.0f}')}{note}"


def _losses(found: Document) -> str:
    losses = found["validation_losses"]
    if len(losses) < 2:
        return ""
    best = min(losses, key=lambda at: at[1])[0]
    note = _note("Validation loss at the end of each epoch, by step. Where it rises, the examples are learnt by heart.")
    plot = line([(float(s), v) for s, v in losses], lambda v: f"{v:.2f}", names=lambda x: f"{x:.0f}", marked=best)
    return f"<h2>While it trained</h2>{plot}{note}"


def _rows(found: Document) -> str:
    if not found["rows"]:
        return ""
    shown = "".join(_row(row) for row in found["rows"])
    return f"<h2>Row by row</h2>{_note('Tap a row to see what each said, and its score.')}{shown}"


def _row(row: Asked) -> str:
    ours = next(said["score"] for said in row["replies"] if said["contender"] == "tuned")
    stock = next(said["score"] for said in row["replies"] if said["contender"] == "stock")
    sign = '<span class="up">▲</span>' if ours > stock else '<span class="down">▼</span>' if ours < stock else "="
    said = "".join(
        f"<dt>{escape(reply['contender'])}, {percent(reply['score'])}</dt><dd>{escape(reply['text'])}</dd>"
        for reply in row["replies"]
    )
    wanted = f"<dt>wanted</dt><dd>{escape(row['reference'])}</dd>" if row["reference"] is not None else ""
    prompt = row["prompt"] if len(row["prompt"]) <= 160 else f"{row['prompt'][:159]}…"
    return f"<details><summary>{sign} {escape(prompt)}</summary><dl>{wanted}{said}</dl></details>"


def _bar(entry: Entry, value: float, low: float | None = None, high: float | None = None) -> Bar:
    return Bar(entry["label"], value, entry["contender"], low, high)


def _note(words: str) -> str:
    return f'<p class="note">{escape(words)}</p>'
