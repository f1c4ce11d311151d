"""`luthier`: the commands by name. Each parses, calls and prints; slow imports wait until they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luthier.cli import data, evals, jobs, models, organization, webhooks
from luthier.cli.demo import demo
from luthier.cli.distil import distil
from luthier.cli.doctor import backup, doctor, migrate, restore, rotate_secrets
from luthier.cli.errors import Commands
from luthier.cli.options import (
    BatchSize,
    Beta,
    Epochs,
    LearningRateMultiplier,
    Method,
    Model,
    Seed,
    Suffix,
    tune_options,
)
from luthier.cli.serve import serve
from luthier.cli.taking import export, import_adapter

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="OpenAI's fine-tuning platform on your own machine: same API, same JSONL, same clients.\n\n"
    "Client commands read OPENAI_BASE_URL and OPENAI_API_KEY, so they work against OpenAI as well; without a base URL "
    "they talk to the server on this machine.",
)
app.command()(serve)
app.command()(demo)
app.add_typer(data.app, name="data")
app.command()(distil)
app.command()(export)
app.command("import-adapter")(import_adapter)
for command in (doctor, backup, restore, migrate, rotate_secrets):
    app.command()(command)
app.add_typer(jobs.app, name="jobs")
app.add_typer(models.app, name="models")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(evals.app, name="evals")
app.add_typer(organization.keys, name="keys")
app.add_typer(organization.projects, name="projects")

File = Annotated[Path, typer.Argument(metavar="FILE", help="A JSONL file of chats.", show_default=False)]
System = Annotated[str | None, typer.Option("--system", help="A system message before the question.")]


@app.command()
def upload(
    file: File,
    purpose: Annotated[
        str, typer.Option(help="fine-tune, batch, evals, assistants, vision or user_data.")
    ] = "fine-tune",
) -> None:
    """Upload FILE and print its id."""
    from luthier.cli.client import upload_file
    from luthier.cli.display import hint, say
    from luthier.cli.session import connect_aloud

    uploaded = upload_file(file, purpose=purpose, client=connect_aloud(), progress=True)  # type: ignore[arg-type]  # the server checks it
    say(uploaded.id)
    hint(f"next: luthier jobs create {uploaded.id}")


@app.command()
def tune(
    file: File,
    model: Model = None,
    suffix: Suffix = None,
    validation: Annotated[Path | None, typer.Option(help="A JSONL file to measure on, never trained on.")] = None,
    method: Method = "supervised",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate_multiplier: LearningRateMultiplier = None,
    beta: Beta = None,
    seed: Seed = None,
    held_out: Annotated[
        str | None, typer.Option(help="Without --validation: a share of FILE to measure on, never trained on; 20%.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="For the verdict: a better system message for the base, too; 512 characters."),
    ] = None,
) -> None:
    """Upload FILE, tune a model on it, follow the job to its end, and print how to call the result."""
    from luthier.cli.client import upload_file
    from luthier.cli.session import connect_aloud, tune_aloud
    from luthier.core.errors import InvalidRequest
    from luthier.core.jobs import HELD_OUT

    if prompt is not None and validation is None and held_out is None:
        raise InvalidRequest(
            "--prompt is for the verdict, which needs rows to measure on: give --validation or --held-out too"
        )
    client = connect_aloud()
    options = tune_options(model, suffix, method, epochs, batch_size, learning_rate_multiplier, beta, seed)
    metadata = {"verdict_prompt": prompt, HELD_OUT: held_out}
    options["metadata"] = {key: value for key, value in metadata.items() if value is not None} or None
    if validation is not None:
        options["validation_file"] = upload_file(validation, client=client, progress=True).id
    tune_aloud(client, file, options)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="The model's name.", show_default=False)],
    message: Annotated[
        str | None, typer.Argument(help="What to ask; without it, a conversation.", show_default=False)
    ] = None,
    system: System = None,
) -> None:
    """Ask MODEL something, or talk with it."""
    from luthier.cli.session import connect_aloud, converse

    converse(connect_aloud(), model, message, system)


@app.command()
def compare(
    model: Annotated[str, typer.Argument(help="A tuned model of yours.", show_default=False)],
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Held-out chats in JSONL, whose last reply is the one that is wanted; or questions, one a line.",
            show_default="the verdict that stands on its job",
        ),
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(help="The chats it was tuned on.", show_default="its job's training file")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="The system message.", show_default="that of the examples")
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(
            help="exact, similar or misspelled.", show_default="exact for labels, similar for texts, else misspelled"
        ),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="A better system message for the base, to be tried too.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write PATH.json and PATH.html too.")] = None,
) -> None:
    """Was it worth it? MODEL against its base, and against its base with the examples in the prompt."""
    from luthier.cli.compare import compare_aloud
    from luthier.cli.session import connect_aloud

    compare_aloud(connect_aloud(), model, prompts, examples, system, measure, prompt, out)


@app.command()
def advise(
    file: File,
    model: Model = None,
    prompt: Annotated[str | None, typer.Option(help="A better system message for the base, to be tried too.")] = None,
) -> None:
    """Should you tune at all? The base, alone and with examples, and a model tuned on up to 50, on held-out chats."""
    from luthier.cli.advise import advise_aloud
    from luthier.cli.client import DEFAULT_MODEL
    from luthier.cli.session import connect_aloud

    advise_aloud(connect_aloud(), file, model or DEFAULT_MODEL, prompt)


@app.command()
def cost(days: Annotated[int, typer.Option(help="How far back.", min=1)] = 30) -> None:
    """What requests and trainings cost by the server's prices, and what tokens cost: now, and in 2023."""
    from luthier.cli.costs import print_costs
    from luthier.cli.session import connect_aloud

    print_costs(connect_aloud(), days)


if __name__ == "__main__":
    app()
