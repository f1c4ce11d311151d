"""`luthier distil`: a teacher's answers to prompts, sifted: a training file, and where each line came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import Model, Suffix, tune_options

if TYPE_CHECKING:
    from openai import OpenAI

RETRIES = 5  # of a teacher who is busy or away, with pauses that grow to 8 s


def distil(
    output: Annotated[Path, typer.Option(help="The training file to write.", show_default=False)],
    prompts: Annotated[
        Path | None,
        typer.Argument(
            metavar="PROMPTS", help="A JSONL file of chats; a reply at a chat's end is replaced.", show_default=False
        ),
    ] = None,
    stored: Annotated[bool, typer.Option("--stored", help="The server's stored chats instead of PROMPTS.")] = False,
    metadata: Annotated[
        list[str] | None, typer.Option(help="With --stored: only chats with this KEY=VALUE; may be repeated.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="The model that answers.", show_default="the setting `teacher`")
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            help="Its server, any that speaks OpenAI's API; its key is read from LUTHIER_TEACHER_API_KEY.",
            show_default="the setting `teacher_url`, else the server that all commands talk to",
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="A longer answer is cut, and dropped.", min=1)] = 1024,
    budget: Annotated[
        str | None,
        typer.Option(
            help="What all answers in --output may take: tokens (200000) or money (2.50usd, by the settings' prices).",
            show_default="no limit",
        ),
    ] = None,
    grader: Annotated[
        Path | None, typer.Option(help="A JSON file with one of OpenAI's graders; the server runs it.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="With --grader: the least reward that is kept.")] = None,
    tune: Annotated[bool, typer.Option("--tune", help="Tune a model on what came out.")] = False,
    model: Model = None,
    suffix: Suffix = None,
) -> None:
    """Ask a teacher, drop what a grader refuses and what repeats, and write chats to tune on.

    Answers are kept in OUTPUT.answers.jsonl as they come: the same command goes on where it was stopped, and asks
    nothing twice. OUTPUT.provenance.jsonl says of each answer who gave it, when, at what cost, and what became of it.
    """
    from luthier.cli.distil_answers import Answers
    from luthier.cli.distil_asking import Teacher, ask_all, parse_budget
    from luthier.cli.distil_grading import grade_all, read_grading
    from luthier.cli.distil_prompts import read_prompts, stored_prompts
    from luthier.cli.distil_sifting import report, sift, write
    from luthier.cli.session import connect_aloud, tune_aloud
    from luthier.core.errors import InvalidRequest
    from luthier.core.settings import load

    settings = load()
    name, url = teacher or settings.teacher, base_url or settings.teacher_url
    if name is None:
        raise InvalidRequest("no teacher: name the model that is to answer by --teacher, or by the setting `teacher`")
    if (prompts is None) != stored:
        raise InvalidRequest("give a file of PROMPTS, or --stored for the server's stored chats")
    if (grader is None) != (threshold is None):
        raise InvalidRequest("--grader and --threshold go together: a file, and the least reward that is kept")
    server = connect_aloud() if stored or grader or tune or url is None else None
    asked = _elsewhere(url, settings.teacher_api_key) if url is not None else server
    assert asked is not None
    purse = parse_budget(budget, name, settings.prices)
    grading = read_grading(server, grader) if server and grader else None
    questions = read_prompts(prompts) if prompts else stored_prompts(server, metadata or []) if server else []
    who = Teacher(asked.with_options(max_retries=RETRIES), name, max_tokens)
    with Answers(output) as answers:
        left = ask_all(who, questions, answers, purse)
        rewards = grade_all(grading, who, questions, answers) if grading else [None] * len(questions)
        fates = sift(who, questions, answers, rewards, threshold)
        write(output, who, fates)
    report(output, fates, answers, purse, left)
    if tune and server is not None:
        tune_aloud(server, output, tune_options(model, suffix, "supervised", None, None, None, None, None))


def _elsewhere(url: str, key: str | None) -> OpenAI:
    from openai import OpenAI

    from luthier.cli.display import hint
    from luthier.cli.errors import Commands

    if key is None:
        hint(f"LUTHIER_TEACHER_API_KEY is not set: {url} is asked without a key")
    return Commands.opened.enter_context(OpenAI(base_url=url, api_key=key or "none"))
