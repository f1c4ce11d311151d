"""`luthier jobs`: fine-tuning jobs, one by one."""

from __future__ import annotations

from typing import Annotated

import typer

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

app = typer.Typer(no_args_is_help=True, help="Create, list, show, follow and cancel fine-tuning jobs.")
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, ftjob-…", show_default=False)]


@app.command()
def create(
    training_file: Annotated[str, typer.Argument(metavar="FILE_ID", help="An uploaded file's id.", show_default=False)],
    model: Model = None,
    suffix: Suffix = None,
    validation_file: Annotated[str | None, typer.Option(help="An uploaded file's id.")] = None,
    method: Method = "supervised",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate_multiplier: LearningRateMultiplier = None,
    beta: Beta = None,
    seed: Seed = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
) -> None:
    """Start a job on an uploaded file."""
    from luthier.cli.client import create_job
    from luthier.cli.display import hint, say
    from luthier.cli.session import connect_aloud, follow_aloud

    client = connect_aloud()
    options = tune_options(model, suffix, method, epochs, batch_size, learning_rate_multiplier, beta, seed)
    options["validation_file"] = validation_file
    job = create_job(client, training_file, **options)
    if wait:
        say(str(follow_aloud(client, job.id).fine_tuned_model))
    else:
        say(job.id)
        hint(f"next: luthier jobs events {job.id} --follow")


@app.command("list")
def list_jobs(limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20) -> None:
    """List jobs, newest first."""
    from luthier.cli.display import moment, table
    from luthier.cli.session import connect_aloud

    page = connect_aloud().fine_tuning.jobs.list(limit=limit)
    rows = [(job.id, job.status, moment(job.created_at), job.model, job.fine_tuned_model) for job in page.data]
    table(None, ("job", "status", "created", "base", "model"), rows)


@app.command()
def show(job_id: JobId) -> None:
    """Show a job."""
    from luthier.cli.display import moment, table
    from luthier.cli.session import connect_aloud
    from luthier.core.jobs import HELD_OUT
    from luthier.core.quotes import Quote

    job = connect_aloud().fine_tuning.jobs.retrieve(job_id)
    quote = (job.model_extra or {}).get("quote")  # OpenAI's jobs have none
    seconds = job.finished_at - job.created_at if job.finished_at else None
    hyperparameters = job.hyperparameters.model_dump(exclude_none=True)
    facts = {
        "job": job.id,
        "status": job.status,
        "base": job.model,
        "model": job.fine_tuned_model,
        "training file": job.training_file,
        "validation file": job.validation_file,
        "held out": (job.metadata or {}).get(HELD_OUT),
        "hyperparameters": ", ".join(f"{name} {value}" for name, value in hyperparameters.items()),
        "seed": job.seed,
        "created": moment(job.created_at),
        "quote": Quote.read(quote) if quote else None,
        "took": f"{seconds} s" if seconds is not None else None,
        "should end": moment(job.estimated_finish) or None,
        "trained tokens": f"{job.trained_tokens:,}" if job.trained_tokens else None,
        "result files": ", ".join(job.result_files) or None,
        "error": job.error.message if job.error else None,
    }
    table(None, ("", ""), [(name, str(value)) for name, value in facts.items() if value is not None])


@app.command()
def events(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
) -> None:
    """Print what happened to a job, oldest first."""
    from openai.types.fine_tuning import FineTuningJobEvent

    from luthier.cli.client import follow as follow_job
    from luthier.cli.client import new_events
    from luthier.cli.display import moment, say
    from luthier.cli.session import connect_aloud

    def told(event: FineTuningJobEvent) -> None:
        say(f"{moment(event.created_at)}  {event.level:<5}  {event.message}")

    client = connect_aloud()
    if follow:
        follow_job(client, job_id, told)
    else:
        for event in new_events(client, job_id, set()):
            told(event)


@app.command()
def cancel(job_id: JobId) -> None:
    """End a job that is not done."""
    from luthier.cli.display import say
    from luthier.cli.session import connect_aloud

    job = connect_aloud().fine_tuning.jobs.cancel(job_id)
    say(f"{job.id} {job.status}")
