"""A share of a job's training file that is held out: asked for in its metadata, measured on, never trained on.

A line keeps its number: it stands in one of the run folder's two files, and is blank in the other.
"""

from __future__ import annotations

import hashlib
import random
from typing import Final

from luthier.core.errors import InvalidRequest, JobFailed
from luthier.core.jobs import HELD_OUT, Job
from luthier.core.run import RunFolder, new_file
from luthier.data.chats import MIN_EXAMPLES, DataFile, read_examples

SHARES: Final = {f"{percent}%": percent / 100 for percent in range(1, 51)}


def check(metadata: dict[str, str], validation_file: str | None) -> None:
    """Errors: `InvalidRequest` for a share that is none, or beside a validation file."""
    given, param = metadata.get(HELD_OUT), f"metadata.{HELD_OUT}"
    if given is not None and given not in SHARES:
        words = f"Invalid '{param}': '{given}'; give a share of the training file from '1%' to '50%'."
        raise InvalidRequest(words, code="invalid_value", param=param)
    if given is not None and validation_file is not None:
        words = f"'{param}' cannot be given with 'validation_file': rows to measure on are there already."
        raise InvalidRequest(words, code="invalid_value", param=param)


def hold_out(job: Job, run: RunFolder) -> str:
    """Move the job's share of lines, drawn by its seed, into the run's validation file: that file's SHA-256.

    Errors: `JobFailed` for a line that will not do, or when too few are left to train on.
    """
    file = DataFile(run.training, "training", job.training_file)
    numbers = [number for number, _ in read_examples(file, job.method)]
    share = SHARES[(job.metadata or {})[HELD_OUT]]
    held = set(random.Random(job.seed).sample(numbers, round(share * len(numbers)) or 1))
    if len(numbers) - len(held) < MIN_EXAMPLES:
        why = f"Training file has {len(numbers)} example(s), {len(held)} of them to be held out, but must have at least"
        raise JobFailed(f"{why} {MIN_EXAMPLES} to train on", code="invalid_n_examples", param="training_file")
    digest = hashlib.sha256()
    with run.training.open("rb") as lines, new_file(run.training) as training, new_file(run.validation) as validation:
        for number, line in enumerate(lines, 1):
            kept, given = (b"\n", line) if number in held else (line, b"\n")
            training.write(kept)
            validation.write(given)
            digest.update(given)
    return digest.hexdigest()
