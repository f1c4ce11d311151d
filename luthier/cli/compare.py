"""The comparison from end to end: whom to ask, what they answer, what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from luthier.cli.comparison import Comparison, conclude, measure
from luthier.cli.contenders import (
    Contender,
    Example,
    Role,
    Turn,
    as_many_as_fit,
    ask_all,
    read_examples,
    read_prompts,
    usual_system,
)
from luthier.cli.display import passing_bar, say
from luthier.cli.report import draw, print_table, to_json, write_json
from luthier.core.errors import NotFound
from luthier.core.prices import price_of
from luthier.core.settings import load


def compare_aloud(
    client: OpenAI, model: str, prompts: Path, examples_file: Path | None, system: str | None, out: Path | None
) -> None:
    """`luthier compare`: print the table and the verdict, and write them where asked."""
    job = job_of(client, model)
    if examples_file is not None:
        text = examples_file.read_text(encoding="utf-8")
    else:
        text = client.files.content(job.training_file).text
    examples = read_examples(text)
    turns = read_prompts(prompts, system or usual_system(examples))
    compared = run_comparison(client, job, model, examples, turns)
    print_table(compared)
    if out is not None:
        write_json(out.with_suffix(".json"), to_json(compared))
        draw(compared, out.with_suffix(".png"))
        say(f"written: {out.with_suffix('.json')} and {out.with_suffix('.png')}")


def run_comparison(
    client: OpenAI, job: FineTuningJob, model: str, examples: Sequence[Example], turns: Sequence[Turn]
) -> Comparison:
    """Ask all three the same questions, with a bar."""
    prices = load().prices
    contenders = [
        Contender("stock", job.model),
        as_many_as_fit(client, job.model, examples, turns),
        Contender("tuned", model),
    ]
    measured = []
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with passing_bar(*columns) as bar:
        task = bar.add_task("", total=len(turns) * len(contenders))

        def asked(role: Role, _number: int, _of: int) -> None:
            bar.update(task, description=f"Asking {role}", advance=1)

        for contender in contenders:
            replies = ask_all(client, contender, turns, asked)
            price = price_of(contender.model, prices)
            measured.append(measure(contender.role, contender.model, len(contender.examples), replies, price))
    training_cost = (job.trained_tokens or 0) * price_of(model, prices).training / 1e6
    return conclude(measured, training_cost)


def job_of(client: OpenAI, model: str) -> FineTuningJob:
    """The job that made a model, or the model whose checkpoint it is. Errors: `NotFound`."""
    whole = model.partition(":ckpt-step-")[0]
    for job in client.fine_tuning.jobs.list(limit=100):
        if job.fine_tuned_model == whole:
            return job
    raise NotFound(f"no job here made {model}; `luthier jobs list` shows those there are")
