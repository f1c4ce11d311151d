"""The training loop: from a spec to an adapter, the same bytes however often it is stopped on the way.

Reads from top to bottom: open the run, go on where its newest state stands or quote, step, tell, save.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final

from luthier.core.errors import JobFailed
from luthier.core.json import JsonObject
from luthier.core.run import Hyperparameters, Method, RunFolder, RunSpec
from luthier.data.base_folder import BaseFolder
from luthier.data.chats import DataFile, Which
from luthier.data.receipt import check
from luthier.data.rows import Rows
from luthier.train.budget import Budget
from luthier.train.checkpoints import KEPT_EPOCHS, Checkpoints, Progress
from luthier.train.dataset import Batches, Dataset, Sample, batches, read_kept
from luthier.train.device import peak_bytes
from luthier.train.dpo import Dpo
from luthier.train.journal import Fence, Journal
from luthier.train.objective import Measured, Objective
from luthier.train.optimiser import Optimiser
from luthier.train.policy import Policy, load_policy, require_memory
from luthier.train.probe import PROBES, passes, write_probe
from luthier.train.quote import Forecast, Pace, heaviest, validation_seconds
from luthier.train.supervised import supervised
from luthier.train.trie import build_trie

STATE_EVERY_S: Final = 5.0  # what a kill may cost
SAVING_RESTS: Final = 20  # times as long as the last save took: 60 MB take 0.1 to 1.2 s on a busy disk
VALIDATE_EVERY: Final = 10  # steps, and at the first
VALIDATION_GROUP: Final = 64  # samples that share one trie when a whole file is measured

OBJECTIVES: Final[dict[Method, Callable[[Hyperparameters], Objective]]] = {
    "supervised": lambda _: supervised,
    "dpo": lambda hyperparameters: Dpo(hyperparameters.beta or 0.0),
}


def train(run: RunFolder, fence: Fence, stop_asked: Callable[[], bool], *, halve: bool = False) -> bool:
    """Train until the adapter stands, or until asked to stop; whether it stands.

    `halve`: the system killed the last trainer for its memory, so fewer tokens are held at once.
    Errors: `JobFailed` for data or hyperparameters that end the run, `FencedOff` when the run is another's.
    """
    spec = run.read_spec()
    base = BaseFolder(Path(spec.base_dir))
    rows = Rows(base, spec.context_tokens, date.fromisoformat(spec.today) if spec.today else date.today())
    data = _training_data(run, base, rows)
    validation = _validation_data(run, base, rows)
    objective = OBJECTIVES[spec.method](spec.hyperparameters)
    size = spec.hyperparameters.batch_size
    steps_per_epoch = math.ceil(len(data) / size)
    total = steps_per_epoch * spec.hyperparameters.n_epochs

    require_memory(base, spec, int(data.tokens.max()))
    policy = load_policy(base, spec)
    optimiser = Optimiser(policy.adapter, spec.hyperparameters.learning_rate, total)
    checkpoints = Checkpoints(run, fence, spec.base_name)
    progress = checkpoints.load(policy.adapter, optimiser)
    policy.token_budget = progress.token_budget or policy.token_budget
    peak = policy.matmul_peak()
    with Journal(run, fence, progress.step) as journal:
        budget = Budget(policy, journal)
        if halve:
            rows_of = [row for sample in data.read(heaviest(data, spec)) for row in sample.rows]
            most = build_trie(rows_of).tokens_computed
            budget.halve_ahead(progress.step + 1 if progress.step else 0, most)  # 0: the quote
        journal.say(
            "started",
            0,
            {
                "total_steps": total,
                "steps_per_epoch": steps_per_epoch,
                "trainable_parameters": policy.adapter.parameters,
                "precision": policy.precision,
            },
        )
        if progress.epoch_end:  # killed after the checkpoint stood and before it was told
            journal.say("checkpoint", progress.step, progress.metrics)
        forecast = None if progress.step else _forecast(policy, objective, data, validation, spec, budget)
        order: Batches | None = None
        saved_at, save_s = time.monotonic(), 0.0
        begun = saved_at - progress.seconds
        for step in range(progress.step + 1, total + 1):
            started = time.monotonic()
            epoch, place = divmod(step - 1, steps_per_epoch)
            if place == 0 or order is None:
                order = batches(len(data), size, seed=spec.seed, epoch=epoch)
            samples = data.read(order[place])
            multiplied = policy.flops
            measured = budget.fit(partial(objective, policy, samples, learn=True), step)
            if forecast is not None:
                forecast.pace.add(order[place], time.monotonic() - started)
                taken = peak_bytes(policy.adapter.flat.device)
                journal.say("quote", 0, forecast.told(taken, policy.token_bytes, policy.token_budget))
                forecast = None
            norm = optimiser.step(step)
            if not (math.isfinite(measured.loss) and math.isfinite(norm)):
                look = partial(_not_finite, policy, objective, samples, step, "training")
                raise budget.fit(look, step, measuring=True)
            epoch_end = place + 1 == steps_per_epoch
            seen, computed = (
                progress.tokens_seen + measured.tokens_seen,
                progress.tokens_computed + measured.tokens_computed,
            )
            elapsed_s = time.monotonic() - started
            metrics: JsonObject = {
                "step": step,
                "total_steps": total,
                "elapsed_seconds": time.monotonic() - begun,
                "train_loss": measured.loss,
                "train_mean_token_accuracy": measured.accuracy,
                "tokens_seen": seen,
                "tokens_computed": computed,
                "tokens_per_second": measured.tokens_seen / elapsed_s,
                "matmul_share": (policy.flops - multiplied) / elapsed_s / peak,
            }
            if validation is not None:
                measure = partial(_validate, policy, objective, validation, step, size, whole=epoch_end)
                metrics |= budget.fit(measure, step, measuring=True)
            seconds = time.monotonic() - begun
            progress = Progress(step, seen, computed, metrics, epoch_end, policy.token_budget, seconds)
            journal.add_metrics(step, metrics)
            stopping = stop_asked()
            saving = time.monotonic()
            kept = epoch_end and (validation is not None or epoch >= spec.hyperparameters.n_epochs - KEPT_EPOCHS)
            if kept or stopping or saving - saved_at > max(STATE_EVERY_S, SAVING_RESTS * save_s):
                journal.sync()
                checkpoints.save(progress, policy.adapter, optimiser)
                saved_at = time.monotonic()
                save_s = saved_at - saving
            if epoch_end:
                journal.say("checkpoint", step, metrics)
            if stopping and step < total:
                return False

        probed = validation or data
        examples = probed.examples(range(min(PROBES, len(probed))))
        write_probe(run.probe, policy, examples, rows, base.template.read_text())
        journal.say(
            "finished",
            total,
            {
                "trained_tokens": progress.tokens_seen,
                "steps": total,
                "seconds": time.monotonic() - begun,
                "peak_memory_bytes": peak_bytes(policy.adapter.flat.device),
            },
        )
        journal.sync()
        checkpoints.publish_adapter(policy.adapter)
    return True


def _forecast(
    policy: Policy, objective: Objective, data: Dataset, validation: Dataset | None, spec: RunSpec, budget: Budget
) -> Forecast:
    """What is to come, measured but for the first step."""
    numbers = spec.hyperparameters

    def learn(samples: Sequence[Sample]) -> None:
        budget.fit(partial(objective, policy, samples, learn=True), 0)
        policy.adapter.gradient.zero_()

    pace, validating_s = Pace(data, spec, learn), 0.0
    if validation is not None:
        steps = math.ceil(len(data) / numbers.batch_size) * numbers.n_epochs
        parts = (1 + steps // VALIDATE_EVERY) * min(numbers.batch_size, len(validation))
        group = validation.read(range(min(VALIDATION_GROUP, len(validation))))
        count = parts + numbers.n_epochs * len(validation)
        validating_s = budget.fit(partial(validation_seconds, policy, objective, group, count), 0)
    row_tokens = float((validation or data).tokens[:PROBES].mean())
    return Forecast(pace, validating_s, row_tokens, passes(policy), int(data.tokens.sum()) * numbers.n_epochs)


def _data(file: DataFile, receipt: Path, run: RunFolder, base: BaseFolder, rows: Rows) -> Dataset:
    """The lines of a file that have something to learn, as its receipt says, which is written where there is none."""
    spec = run.read_spec()
    if not receipt.exists():
        check(file, base, spec.method, spec.context_tokens, today=rows.today, receipt=receipt)
    return Dataset(file, rows, spec.method, read_kept(receipt))


def _training_data(run: RunFolder, base: BaseFolder, rows: Rows) -> Dataset:
    return _data(DataFile(run.training), run.receipt, run, base, rows)


def _validation_data(run: RunFolder, base: BaseFolder, rows: Rows) -> Dataset | None:
    if not run.validation.exists():
        return None
    return _data(DataFile(run.validation, "validation"), run.validation_receipt, run, base, rows)


def _validate(policy: Policy, objective: Objective, data: Dataset, step: int, size: int, *, whole: bool) -> JsonObject:
    """OpenAI's validation metrics: of a batch that moves through the file, and of all of it when `whole`.

    Errors: `JobFailed` naming the lines whose loss is not finite.
    """

    def measured(numbers: Iterable[int]) -> Measured:
        samples = data.read(numbers)
        found = objective(policy, samples, learn=False)
        if not math.isfinite(found.loss_sum):
            raise _not_finite(policy, objective, samples, step, "validation")
        return found

    found: JsonObject = {}
    if step == 1 or step % VALIDATE_EVERY == 0:
        first = step // VALIDATE_EVERY * size
        part = measured((first + i) % len(data) for i in range(min(size, len(data))))
        if part.weight:
            found = {"valid_loss": part.loss, "valid_mean_token_accuracy": part.accuracy}
    if whole:
        full = Measured()
        for start in range(0, len(data), VALIDATION_GROUP):
            full += measured(range(start, min(start + VALIDATION_GROUP, len(data))))
        found |= {"full_valid_loss": full.loss, "full_valid_mean_token_accuracy": full.accuracy}
    return found


def _not_finite(policy: Policy, objective: Objective, samples: Sequence[Sample], step: int, which: Which) -> JobFailed:
    """Name the lines whose own loss is not finite, or else all of the samples."""
    broken = [s for s in samples if not math.isfinite(objective(policy, [s], learn=False).loss)]
    lines = ", ".join(str(sample.line) for sample in broken or samples)
    return JobFailed(
        f"The {'validation ' * (which == 'validation')}loss of step {step} is not a finite number; line {lines} of the "
        f"{which} file caused it. A lower learning_rate_multiplier may help.",
        code="server_error",
        param=f"{which}_file",
    )
