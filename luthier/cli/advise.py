"""`luthier advise`: should you tune at all? Held-out rows go to prompts, and to a model tuned on some of the rest."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openai import OpenAI

from luthier.cli.client import create_job, wait_for
from luthier.cli.compare import run_comparison
from luthier.cli.display import CONSOLE, hint, say, table
from luthier.cli.report import print_table
from luthier.core.errors import InvalidRequest
from luthier.core.prices import price_of, request_cost
from luthier.core.quotes import duration
from luthier.core.settings import load
from luthier.core.states import FINAL
from luthier.core.verdict import measures
from luthier.core.verdict.contenders import Row, row_of
from luthier.core.verdict.document import document
from luthier.core.verdict.judging import FEW_EXAMPLES, FEWEST_ROWS, Trial, judge
from luthier.core.verdict.statistics import difference
from luthier.data.chats import MIN_EXAMPLES, Chat, DataFile, read_examples
from luthier.data.repeats import Seen, words_of
from luthier.data.survey import format_errors

HELD_OUT: Final = 0.2
MOST_ROWS: Final = 30
WELL: Final = 0.9  # a prompt that does as well leaves little to gain


@dataclass(frozen=True)
class Share:
    """Examples to show or to tune on, and rows that are held out from them."""

    examples: list[Row]
    rows: list[Row]


def advise_aloud(client: OpenAI, file: Path, base: str, prompt: str | None) -> None:
    """Print who does how well at what cost, and what follows."""
    share = hold_out(file)
    by = measures.measure_for(share.rows, share.examples)
    part = share.examples[:FEW_EXAMPLES]
    if any(job.status not in FINAL for job in client.fine_tuning.jobs.list(limit=20)):
        hint("the server has another job to do, so nothing is tuned: prompts alone are tried")
        trial = run_comparison(client, base, None, share.examples, share.rows, by, prompt)
        _print(trial)
        CONSOLE.print(f"\n{without_tuning(trial)}", style="bold", markup=False)
        return
    lines = "\n".join(map(_line, part)).encode()
    uploaded = client.files.create(file=("advise.jsonl", lines), purpose="fine-tune")
    job = wait_for(client, create_job(client, uploaded.id, model=base, suffix="advise").id, progress=True)
    model, tokens = str(job.fine_tuned_model), job.trained_tokens or 0
    try:
        trial = run_comparison(client, base, model, part, share.rows, by, prompt, trained_tokens=tokens)
        print_table(document(trial, judge(trial)))
    finally:
        checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id)
        for name in (model, *(checkpoint.fine_tuned_model_checkpoint for checkpoint in checkpoints)):
            client.models.delete(name)
        client.files.delete(uploaded.id)
    every = len(share.examples) + len(share.rows)
    cost = tokens / len(part) * every * price_of(model, load().prices).training / 1e6
    quote = (job.model_extra or {}).get("quote")  # OpenAI's jobs have none
    takes = f" and takes about {duration(quote['actual']['seconds'] / len(part) * every)}" if quote else ""
    say(f"\nTuned on {len(part)} of {every} examples, and deleted again.")
    say(f"Training on all costs about ${cost:.3f}{takes}:")
    say(f"  luthier tune {file}")


def hold_out(file: Path) -> Share:
    """Chats that end in words, without repeats; one in five is held out. Errors: `InvalidRequest`."""
    data, seen, found = DataFile(file), Seen(), list[Row]()
    if errors := format_errors(data, "supervised"):
        raise InvalidRequest(f"{file}: {errors[0]}; `luthier data check` shows all errors")
    for number, example in read_examples(data, "supervised"):
        row = row_of(example.messages, example.tools) if isinstance(example, Chat) else None
        if row is not None and seen.add(number, words_of(example)) is None:
            found.append(row)
    random.Random(len(found)).shuffle(found)
    held = min(max(FEWEST_ROWS, round(len(found) * HELD_OUT)), MOST_ROWS)
    if len(found) - held < MIN_EXAMPLES:
        raise InvalidRequest(
            f"{file}: {len(found)} different chats that end in a reply in words are too few to try anything on: "
            f"{FEWEST_ROWS} are held out, and {MIN_EXAMPLES} are learnt from; write {FEW_EXAMPLES}"
        )
    return Share(found[held:], found[:held])


def without_tuning(trial: Trial) -> str:
    """What prompts alone say about tuning."""
    best, stock = trial.rival, next(m for m in trial.contenders if m.role == "stock")
    said = trial.measure.phrase.format(who=best.label, share=f"{best.quality.mean:.0%}")
    numbers = f"{said} ({best.quality.low:.0%} to {best.quality.high:.0%}) on {len(trial.rows)} rows"
    usual = request_cost(
        price_of("ft:", load().prices), prompt_tokens=stock.prompt_tokens, completion_tokens=best.completion_tokens
    )
    costs = f"for ${best.cost_per_1k_requests:.3f} per 1,000 requests; tuned, they would cost about ${usual * 1000:.3f}"
    guess = sum(trial.guesses) / len(trial.guesses)
    if difference(best.scores, trial.guesses).low <= 0:
        return f"Tune: no prompt does better than a reply that ignores the question ({guess:.0%}); {numbers}, {costs}."
    if best.quality.mean >= WELL:
        return f"Keep the prompt: {numbers}, {costs}."
    return f"Try tuning: the best prompt leaves room. {numbers[:1].upper()}{numbers[1:]}, {costs}."


def _line(row: Row) -> str:
    chat = {"messages": [*row.messages, {"role": "assistant", "content": row.reference}]}
    return json.dumps({**chat, "tools": row.tools} if row.tools else chat)


def _print(trial: Trial) -> None:
    rows = [
        (
            m.label,
            f"{m.quality.mean:.0%}",
            f"{m.quality.low * 100:.0f} to {m.quality.high * 100:.0f}",
            f"{m.mean_latency_ms:,.0f} ms",
            f"${m.cost_per_1k_requests:.4f}",
        )
        for m in trial.contenders
    ]
    table(None, ("", trial.measure.name, "95 %", "latency", "cost of 1,000 requests"), rows, right=True)
