"""`luthier compare`: the verdict that stands on a job, or one on rows of one's own, asked from here."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from openai import BadRequestError, OpenAI
from openai.types.fine_tuning import FineTuningJob

from luthier.cli import spelling
from luthier.cli.display import counting_bars, hint, say
from luthier.cli.report import print_table, write_json
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.jobs import HELD_OUT
from luthier.core.json import JsonObject, numbered
from luthier.core.prices import price_of
from luthier.core.run import write_atomic
from luthier.core.settings import load
from luthier.core.verdict import measures
from luthier.core.verdict.contenders import Contender, Reply, Row, TooLong, as_many_as_fit, row_of, usual_system
from luthier.core.verdict.document import Document, document
from luthier.core.verdict.judging import Trial, judge
from luthier.core.verdict.measures import Measure
from luthier.core.verdict.page import page
from luthier.core.verdict.trial import hold_trial, measure

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

MISSPELLED: Final = Measure(
    "misspelled words", "{who} misspells {share} of a reply's words", lambda reply, _: spelling.measure([reply]).share
)
MEASURES: Final = {"exact": measures.EXACT, "similar": measures.SIMILAR, "misspelled": MISSPELLED}


def compare_aloud(
    client: OpenAI,
    model: str,
    prompts: Path | None,
    examples_file: Path | None,
    system: str | None,
    by: str | None,
    prompt: str | None,
    out: Path | None,
) -> None:
    """Print the table and the verdict, and write them where asked."""
    job = job_of(client, model)
    if prompts is None and prompt is not None:
        raise InvalidRequest("--prompt is tried on the rows of --prompts; give both")
    if prompts is None:
        found = standing_verdict(client, job)
    else:
        text = examples_file.read_text(encoding="utf-8") if examples_file else content_of(client, job.training_file)
        examples = read_examples(text)
        rows = read_prompts(prompts, system or usual_system(examples))
        trial = run_comparison(
            client,
            job.model,
            model,
            examples,
            rows,
            _measure(by, rows, examples),
            prompt,
            trained_tokens=job.trained_tokens or 0,
        )
        found = document(trial, judge(trial))
    print_table(found)
    if out is not None:
        write_json(out.with_suffix(".json"), cast(JsonObject, found))
        write_atomic(out.with_suffix(".html"), page(found, title=model).encode())
        say(f"written: {out.with_suffix('.json')} and {out.with_suffix('.html')}")


def standing_verdict(client: OpenAI, job: FineTuningJob) -> Document:
    """The verdict among a job's result files. Errors: `NotFound`."""
    for file_id in reversed(job.result_files):
        if client.files.retrieve(file_id).filename == "verdict.json":
            found: Document = json.loads(content_of(client, file_id))
            return found
    why = "its verdict is not found yet; `luthier jobs events` will tell"
    if job.validation_file is None and HELD_OUT not in (job.metadata or {}):
        why = "it had no validation file, and held out no share of its training file"
    raise NotFound(f"no verdict stands on {job.id}: {why}. To compare on rows of your own: --prompts FILE")


def content_of(client: OpenAI, file_id: str) -> str:
    """A file's text; result files come in base64."""
    text = client.files.content(file_id).content.decode("utf-8-sig")
    return text if text.lstrip().startswith("{") else base64.b64decode(text).decode("utf-8-sig")


def run_comparison(
    client: OpenAI,
    base: str,
    tuned: str | None,
    examples: Sequence[Row],
    rows: Sequence[Row],
    by: Measure,
    prompt: str | None = None,
    *,
    trained_tokens: int = 0,
) -> Trial:
    """Ask stock, stock with `prompt`, stock with the examples in its prompt, and tuned the same rows, with a bar."""
    prices = load().prices

    def ask(contender: Contender, row: Row, *, limit_tokens: int) -> Reply:
        return answer(client, contender, row, limit_tokens)

    contenders = [Contender("stock", base)]
    if prompt is not None:
        contenders.append(Contender("prompt", base, system=prompt))
    shown = as_many_as_fit(ask, base, examples, rows)
    if shown.examples:
        contenders.append(shown)
    if tuned is not None:
        contenders.append(Contender("tuned", tuned))
    with counting_bars() as bar:
        task = bar.add_task("", total=len(rows) * len(contenders))

        def asked(contender: Contender, _of: int) -> None:
            bar.update(task, description=f"Asking {contender.role}", advance=1)

        replies = hold_trial(contenders, rows, ask, asked=asked)
    return Trial(
        measure=by,
        rows=tuple(rows),
        contenders=tuple(
            measure(contender, rows, said, by, price_of(contender.model, prices))
            for contender, said in zip(contenders, replies, strict=True)
        ),
        guesses=tuple(measures.guesses(by, rows, examples)) if by is not MISSPELLED else (0.0,) * len(rows),
        training_examples=len(examples),
        training_cost=trained_tokens * price_of(tuned or base, prices).training / 1e6,
    )


def answer(client: OpenAI, contender: Contender, row: Row, limit_tokens: int) -> Reply:
    """One contender's answer to one row."""
    started = time.perf_counter()
    try:
        said = client.chat.completions.create(
            model=contender.model,
            messages=cast("list[ChatCompletionMessageParam]", contender.messages(row)),  # the file's own
            temperature=0,
            max_completion_tokens=limit_tokens,
            extra_body={"tools": list(row.tools)} if row.tools else None,
        )
    except BadRequestError as error:
        if is_too_long(error):
            raise TooLong from error
        raise
    latency_ms = (time.perf_counter() - started) * 1000
    usage = said.usage
    details = usage.prompt_tokens_details if usage else None
    return Reply(
        text=said.choices[0].message.content or "",
        latency_ms=latency_ms,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
        cached_tokens=(details.cached_tokens or 0) if details else 0,
        cut=said.choices[0].finish_reason == "length",
    )


def is_too_long(error: BadRequestError) -> bool:
    """Whether a question was refused because its model's context does not hold it."""
    return "context" in f"{error.code} {error.message}"


def read_examples(text: str) -> list[Row]:
    """The chats of a training file that end in a reply in words."""
    lines = (json.loads(line) for line in text.split("\n") if line.strip())
    return [row for line in lines if (row := row_of(line.get("messages") or []))]


def read_prompts(path: Path, system: str | None) -> list[Row]:
    """Questions of a file: one a line under `system`, or, in a `.jsonl`, chats, whose last reply is the reference.

    Errors: `InvalidRequest` naming the line.
    """
    if not path.is_file():
        raise InvalidRequest(f"{path}: no such file")
    before: list[JsonObject] = [{"role": "system", "content": system}] if system else []
    rows = []
    for number, line in numbered(path):
        if path.suffix != ".jsonl":
            rows.append(Row((*before, {"role": "user", "content": line.decode().strip()})))
            continue
        try:
            messages = [dict(message) for message in json.loads(line)["messages"]]
            rows.append(row_of(messages) or Row(tuple(m for m in messages if m["role"] != "assistant" or m["content"])))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRequest(f'{path}, line {number}: no chat; each line needs {{"messages": [...]}}') from error
    if not rows:
        raise InvalidRequest(f"{path}: no prompts in it; write one a line")
    return rows


def job_of(client: OpenAI, model: str) -> FineTuningJob:
    """The job that made a model, or the model whose checkpoint it is. Errors: `NotFound`."""
    whole = model.partition(":ckpt-step-")[0]
    for job in client.fine_tuning.jobs.list(limit=100):
        if job.fine_tuned_model == whole:
            return job
    raise NotFound(f"no job here made {model}; `luthier jobs list` shows those there are")


def _measure(name: str | None, rows: Sequence[Row], examples: Sequence[Row]) -> Measure:
    referenced = all(row.reference is not None for row in rows)
    if name is None and not referenced:
        hint("no replies to compare with in --prompts, so what is counted are misspelled words")
        return MISSPELLED
    if name is None:
        return measures.measure_for(rows, examples)
    if name not in MEASURES:
        raise InvalidRequest(f"--measure {name}: there is none; known are {', '.join(MEASURES)}")
    if name != "misspelled" and not referenced:
        raise InvalidRequest(f"--measure {name} needs a reply in each row: give --prompts a JSONL file of whole chats")
    return MEASURES[name]
