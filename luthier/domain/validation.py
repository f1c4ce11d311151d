"""A job's first leg: its files become a run folder, checked line by line, with every hyperparameter a number.

Knows no trainer and no lease. Doing it twice does no harm: everything is written anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from luthier.core import hyper
from luthier.core.errors import JobFailed
from luthier.core.files import FileObject
from luthier.core.jobs import Asked, Job, NewEvent
from luthier.core.run import (
    MAX_CONTEXT_TOKENS,
    AdapterShape,
    Hyperparameters,
    RunFolder,
    RunSpec,
    new_file,
    write_atomic,
)
from luthier.data.base_folder import BaseFolder
from luthier.data.chats import DataFile, Which
from luthier.data.receipt import Summary, check
from luthier.data.repeats import Seen
from luthier.domain.bases import Bases
from luthier.domain.held_out import hold_out
from luthier.store import files
from luthier.store.blobs import Blobs
from luthier.store.database import Database


@dataclass(frozen=True)
class Validated:
    """What a job's validation found: its numbers, and what its user should know."""

    hyperparameters: Hyperparameters
    said: list[NewEvent]


def validate(
    job: Job,
    run: RunFolder,
    database: Database,
    blobs: Blobs,
    bases: Bases,
    *,
    memory_bytes: int | None,
    go_on: Callable[[], None],
) -> Validated:
    """Check the job's files and write everything that its trainer needs, and what memory it may take.

    `go_on`, called often, raises what is to end it.
    Errors: `JobFailed` for files that will not do; `Unavailable` for a base model that cannot be had.
    """
    run.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    run.remove_leavings()
    base = bases.pull(job.model)
    facts = base.read_facts()
    context_tokens = min(facts.context_tokens, MAX_CONTEXT_TOKENS)
    today = date.fromtimestamp(job.created_at)  # for chat templates that tell the date: the same at every start
    training = _bring(job, "training", job.training_file, run.training, database, blobs)
    validation_sha256, others = None, "validation file"
    if job.validation_file is not None:
        validation_sha256 = _bring(job, "validation", job.validation_file, run.validation, database, blobs).sha256
    elif job.measured:
        validation_sha256, others = hold_out(job, run), "held-out lines"
    named = DataFile(run.training, "training", training.id)
    seen = Seen()
    summary = check(named, base, job.method, context_tokens, today=today, receipt=run.receipt, seen=seen, go_on=go_on)
    said = _told("training", "training file", summary, context_tokens)
    if validation_sha256 is not None:
        named = DataFile(run.validation, "validation", job.validation_file or training.id)
        receipt = run.validation_receipt
        checked = check(
            named, base, job.method, context_tokens, today=today, receipt=receipt, leaks_from=seen, go_on=go_on
        )
        said += _told("validation", others, checked, context_tokens)
    resolved = hyper.resolve(
        examples=summary.examples,
        parameters=facts.parameters,
        n_epochs=_whole(job.hyperparameters.get("n_epochs")),
        batch_size=_whole(job.hyperparameters.get("batch_size")),
        learning_rate_multiplier=_number(job.hyperparameters.get("learning_rate_multiplier")),
        beta=_number(job.hyperparameters.get("beta")),
        dpo=job.method == "dpo",
    )
    _write_spec(job, run, base, resolved, context_tokens, today, memory_bytes, training.sha256, validation_sha256)
    return Validated(resolved, said)


def public_hyperparameters(resolved: Hyperparameters) -> dict[str, int | float]:
    """The numbers under OpenAI's names; what OpenAI does not have is left out."""
    names = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")
    return {name: value for name, value in asdict(resolved).items() if name in names and value is not None}


def _write_spec(
    job: Job,
    run: RunFolder,
    base: BaseFolder,
    resolved: Hyperparameters,
    context_tokens: int,
    today: date,
    memory_bytes: int | None,
    training_sha256: str,
    validation_sha256: str | None,
) -> None:
    facts = base.read_facts()
    spec = RunSpec(
        job_id=job.id,
        base_name=facts.name,
        base_sha256=facts.sha256,
        base_dir=str(base.path),
        method=job.method,
        hyperparameters=resolved,
        seed=job.seed,
        training_sha256=training_sha256,
        validation_sha256=validation_sha256,
        context_tokens=context_tokens,
        adapter=AdapterShape.of(facts.architecture),
        memory_bytes=memory_bytes,
        today=today.isoformat(),
    )
    write_atomic(run.spec, spec.to_json().encode())


def _bring(job: Job, which: Which, file_id: str, target: Path, database: Database, blobs: Blobs) -> FileObject:
    """Copy a file's bytes into the run folder, checked against their hash on the way."""
    file = files.get(database, job.project_id, file_id)
    if file is None:
        raise JobFailed(
            f"The job failed because its {which} file {file_id} was deleted before it was read.",
            code=f"invalid_{which}_file",
            param=f"{which}_file",
        )
    with new_file(target) as copy:
        for chunk in blobs.read(file.blob, file.sha256):
            copy.write(chunk)
    return file


def _told(which: Which, name: str, summary: Summary, context_tokens: int) -> list[NewEvent]:
    """The receipt in a sentence, then what of it may surprise."""
    learnt = f"{summary.examples} example(s), {summary.tokens:,} tokens, {summary.trained_tokens:,} of them trained on"
    if which == "validation":
        learnt = f"{summary.examples} example(s), {summary.trained_tokens:,} tokens to measure on"
    data = {name: value for name, value in asdict(summary).items() if which == "validation" or name != "leaked_lines"}
    said = [NewEvent(f"{which}-receipt", f"Receipt of the {name}: {learnt}", data=data)]
    whose = f"of the {name}"
    warnings = {
        "cut": summary.cut_lines
        and f"{summary.cut_lines} example(s) {whose} are longer than {context_tokens} tokens; "
        f"{summary.cut_tokens} tokens past the end are cut.",
        "dropped": summary.dropped_lines
        and f"{summary.dropped_lines} example(s) {whose} have nothing to learn in them and are passed over.",
        "repeats": (repeated := summary.duplicate_lines + summary.near_duplicate_lines)
        and f"{repeated} example(s) {whose} say what an earlier one says, {summary.duplicate_lines} of them in the "
        "same words. The receipt names both lines.",
        "leaks": summary.leaked_lines
        and f"{summary.leaked_lines} example(s) {whose} are in the training file too, or nearly: what is measured on "
        "them says nothing about new questions.",
    }
    return [*said, *(NewEvent(f"{which}-{what}", words, "warn") for what, words in warnings.items() if words)]


def _number(asked: Asked | None) -> float | None:
    return float(asked) if isinstance(asked, (int, float)) else None


def _whole(asked: Asked | None) -> int | None:
    return int(asked) if isinstance(asked, (int, float)) else None
