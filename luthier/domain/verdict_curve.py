"""The learning curve behind a verdict: the job once more, on a part of its examples. Knows no engine and no verdict."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Final

from luthier.compute.registry import make_compute
from luthier.core.run import RunFolder, write_atomic
from luthier.data.receipt import read_receipt

MOST_TRAINING_S: Final = 300.0  # what the job's own training may have taken: the parts take up to three quarters of it
SHARES: Final = (0.25, 0.5)
FEWEST: Final = 3
POLL_S: Final = 0.2


def worth_a_curve(run: RunFolder) -> bool:
    """Whether the job trained so quickly that its parts may be trained unasked."""
    times = [event.created_at for event, _ in run.read_events() if event.kind in {"started", "finished"}]
    return len(times) > 1 and times[-1] - times[0] <= MOST_TRAINING_S


def parts_of(examples: int) -> list[int]:
    """How many examples each part has."""
    return sorted({max(FEWEST, round(examples * share)) for share in SHARES} - {examples})


def tune_on_part(compute_name: str, run: RunFolder, count: int, hold: Callable[[], None]) -> Path | None:
    """A run folder with the adapter that `count` of the job's examples make; None where its trainer fails.

    The same spec otherwise, and no validation. One that stands from before is taken as it is.
    Errors: what `hold` raises; the trainer is stopped then.
    """
    part = RunFolder(run.verdict / f"part-{count}")
    if part.adapter.exists():
        return part.path
    _write(run, part, count)
    compute, fence = make_compute(compute_name), part.read_fence() + 1
    compute.start(part, fence)
    try:
        while (state := compute.poll(part)) == "running":
            hold()
            time.sleep(POLL_S)
    except BaseException:
        compute.stop(part, fence)
        raise
    return part.path if state == "finished" else None


def _write(run: RunFolder, part: RunFolder, count: int) -> None:
    part.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    spec = run.read_spec()
    kept = [line for line in read_receipt(run.receipt) if not line.dropped]
    chosen = {line.line: line for line in random.Random(spec.seed).sample(kept, min(count, len(kept)))}
    lines, receipts = [], []
    with run.training.open("rb") as data:
        for number, line in enumerate(islice(data, max(chosen, default=0)), 1):
            if number in chosen:
                lines.append(line.removeprefix(b"\xef\xbb\xbf").rstrip() + b"\n")
                receipts.append(json.dumps(asdict(replace(chosen[number], line=len(lines)))) + "\n")
    write_atomic(part.training, b"".join(lines))
    write_atomic(part.receipt, "".join(receipts).encode())
    write_atomic(part.spec, replace(spec, validation_sha256=None).to_json().encode())
