"""A run's states on disk, each complete when its folder's name appears: what is needed to go on to the same bytes.

An epoch's end keeps its adapter, usable by name, for the last three epochs; so does the one whose validation loss was
lowest, since what comes after it may only have learnt by heart. State that is only for going on is written
every few seconds and dropped as soon as a newer one stands. No random state is held: every draw is a function of the
spec's seed and the position.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from luthier.core.json import JsonObject
from luthier.core.run import RunFolder, sync_folder
from luthier.train.journal import Fence
from luthier.train.lora import Adapter
from luthier.train.optimiser import Optimiser

KEPT_EPOCHS: Final = 3
_STATE: Final = "state.safetensors"
_METRICS: Final = "metrics.json"


@dataclass(frozen=True)
class Progress:
    """How far a run has come: optimiser steps done, tokens over all of them, and the last step's metrics.

    `token_budget` is what memory held at once; sums depend on it, so a run that goes on keeps it. 0: before any step.
    `seconds` were spent on steps that stand.
    """

    step: int = 0
    tokens_seen: int = 0
    tokens_computed: int = 0
    metrics: JsonObject = field(default_factory=dict)
    epoch_end: bool = False
    token_budget: int = 0
    seconds: float = 0.0


class Checkpoints:
    """The states of one run."""

    def __init__(self, run: RunFolder, fence: Fence, base_name: str) -> None:
        self._run = run
        self._fence = fence
        self._base_name = base_name
        self._folder = run.path / "checkpoints"
        self._folder.mkdir(exist_ok=True)
        for leftover in self._folder.glob(".*"):
            shutil.rmtree(leftover)

    def load(self, adapter: Adapter, optimiser: Optimiser) -> Progress:
        """Set adapter and optimiser to the newest state, and say where it stands."""
        for folder in reversed(self._all()):
            if (folder / _STATE).exists():
                tensors = load_file(folder / _STATE)
                adapter.flat.copy_(tensors.pop("flat"))
                with safe_open(folder / _STATE, "pt") as file:
                    progress = Progress(**json.loads(file.metadata()["progress"]))
                optimiser.load(tensors, progress.step)
                return progress
        return Progress()

    def save(self, progress: Progress, adapter: Adapter, optimiser: Optimiser) -> None:
        """Write a state; at an epoch's end its adapter too. Older ones that nobody needs any more go."""
        target = self._run.checkpoint(progress.step)
        temporary = self._folder / f".{target.name}.tmp"
        temporary.mkdir()
        tensors = {"flat": adapter.flat, **optimiser.tensors()}
        save_file(tensors, temporary / _STATE, metadata={"progress": json.dumps(asdict(progress))})
        if progress.epoch_end:
            (temporary / _METRICS).write_text(json.dumps(progress.metrics))
            (temporary / "adapter").mkdir()
            adapter.save(temporary / "adapter", self._base_name)
        _publish(temporary, target, self._fence)
        self._prune(target)

    def publish_adapter(self, adapter: Adapter) -> None:
        """Make the adapter the run's result."""
        temporary = self._run.path / ".adapter.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        adapter.save(temporary, self._base_name)
        _publish(temporary, self._run.adapter, self._fence)

    def _all(self) -> list[Path]:
        return sorted(self._folder.glob("step-*"), key=lambda folder: int(folder.name.removeprefix("step-")))

    def _prune(self, newest: Path) -> None:
        """Keep the newest state, and the adapters of the last epochs' ends and of the best one."""
        older = [folder for folder in self._all() if folder != newest]
        ends = [folder for folder in [*older, newest] if (folder / "adapter").exists()]
        best = min(ends, key=_valid_loss, default=newest)
        kept = {*ends[-KEPT_EPOCHS:], *([best] if ends and _valid_loss(best) < math.inf else [])}
        for folder in older:
            (folder / _STATE).unlink(missing_ok=True)
            if folder not in kept:
                trash = folder.rename(folder.with_name(f".{folder.name}.old"))
                shutil.rmtree(trash)


def _valid_loss(folder: Path) -> float:
    """A kept epoch's loss on all of the validation file; infinite where there is none."""
    return float(json.loads((folder / _METRICS).read_text()).get("full_valid_loss", math.inf))


def _publish(temporary: Path, target: Path, fence: Fence) -> None:
    """Make a folder's content durable, then give it its name."""
    for file in sorted(temporary.rglob("*")):
        if file.is_dir():
            sync_folder(file)
        else:
            with file.open("rb") as written:
                os.fsync(written.fileno())
    sync_folder(temporary)
    fence.check()
    temporary.rename(target)
    sync_folder(target.parent)
