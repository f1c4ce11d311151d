"""The run folder: all that trainer and server share of one job. Knows paths and values, reads no model.

    spec.json             what to train; written by the server before the trainer starts, never changed
    training.jsonl        the data, and validation.jsonl where there is one
    receipt.jsonl         what became of each line of the training file; validation-receipt.jsonl of the other
    events.jsonl          what the trainer did, one `RunEvent` a line, appended
    metrics.csv           OpenAI's result-file columns
    checkpoints/step-N/   adapter (PEFT's safetensors layout), optimiser, RNG, position in the data
    probe.json            what the trained model thinks of a few rows: the served one is held against it
    adapter/              the result; there when training is complete
    fence                 the newest claim's number, which only rises; a trainer of an older one writes nothing
    trainer.log           stdout and stderr of the trainer; wandb.log and wandb/ of what tells Weights & Biases

Whatever stands there is complete when its name appears: temporary name, fsync, rename. A run is a pure function of
its spec:
the same spec on the same machine gives the same adapter, byte for byte, however often it was killed on the way.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final, Literal

from luthier.core.json import JsonObject

Method = Literal["supervised", "dpo"]
EXIT_NO_ROOM: Final = 4  # a trainer's, when the disk is full
WAITS_S: Final = 900.0  # as long a trainer waits for a run that was started without one
MAX_CONTEXT_TOKENS: Final = 2048  # of one training row; a base that sees less sets its own limit
EventKind = Literal["started", "quote", "metrics", "checkpoint", "warning", "finished", "failed"]


PHI_MODULES: Final = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


@dataclass(frozen=True)
class AdapterShape:
    """A LoRA's shape: `rank` rows, scaled by `alpha / rank`, on every linear layer that `modules` names."""

    rank: int = 16
    alpha: int = 32
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    @staticmethod
    def of(architecture: str) -> AdapterShape:
        """On every linear layer of an architecture; Phi's have q, k, v, and gate, up, in one."""
        shape = AdapterShape()
        return replace(shape, modules=PHI_MODULES) if architecture == "phi3" else shape


@dataclass(frozen=True)
class Hyperparameters:
    """Resolved numbers; `auto` is gone. `learning_rate` = the base rate for the model's size x the multiplier."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    learning_rate: float
    beta: float | None = None


@dataclass(frozen=True)
class RunSpec:
    """What a trainer needs to know, and nothing else. Paths of data are relative to the run folder."""

    job_id: str
    base_name: str
    base_sha256: str
    base_dir: str  # prepared weights, tokenizer and template: see `data/base_folder.py`
    method: Method
    hyperparameters: Hyperparameters
    seed: int
    training_sha256: str
    validation_sha256: str | None
    context_tokens: int
    adapter: AdapterShape = field(default_factory=AdapterShape)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    memory_bytes: int | None = None  # what the trainer may take; None: what the device has
    today: str | None = None  # the date that chat templates tell, in ISO's form; None: whichever it is (older runs)

    def to_json(self) -> str:
        """Stable text: the same spec gives the same bytes."""
        return json.dumps(asdict(self), sort_keys=True, indent=1)

    @staticmethod
    def from_json(text: str) -> RunSpec:
        """The spec written by `to_json`."""
        raw = json.loads(text)
        shape = raw.pop("adapter")
        return RunSpec(
            **{k: v for k, v in raw.items() if k != "hyperparameters"},
            hyperparameters=Hyperparameters(**raw["hyperparameters"]),
            adapter=AdapterShape(shape["rank"], shape["alpha"], tuple(shape["modules"])),
        )


@dataclass(frozen=True)
class RunEvent:
    """One line of `events.jsonl`. `(kind, step)` names it: a resumed trainer may say the same thing twice.

    data by kind: started {total_steps, steps_per_epoch, trainable_parameters, precision}; quote {seconds,
    peak_memory_bytes, trained_tokens, row_seconds (of a row learnt from)}: what is to come from
    the first step on;
    metrics {step, total_steps, elapsed_seconds, train_loss,
    train_mean_token_accuracy, valid_loss, valid_mean_token_accuracy, full_valid_loss, full_valid_mean_token_accuracy,
    tokens_seen, tokens_computed, tokens_per_second, matmul_share (of what the machine multiplies at best); absent where
    not measured}; checkpoint {step, + its metrics};
    warning {message, token_budget, measuring (whether the step had been learnt from)};
    finished {trained_tokens, steps, seconds, peak_memory_bytes}; failed {code, message, param}.
    """

    kind: EventKind
    step: int
    created_at: float
    data: JsonObject


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def spec(self) -> Path:
        return self.path / "spec.json"

    @property
    def training(self) -> Path:
        return self.path / "training.jsonl"

    @property
    def validation(self) -> Path:
        return self.path / "validation.jsonl"

    @property
    def receipt(self) -> Path:
        return self.path / "receipt.jsonl"

    @property
    def validation_receipt(self) -> Path:
        return self.path / "validation-receipt.jsonl"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def probe(self) -> Path:
        return self.path / "probe.json"

    @property
    def verdict(self) -> Path:
        """What was asked and trained for the verdict, until it is found."""
        return self.path / "verdict"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def fence(self) -> Path:
        return self.path / "fence"

    @property
    def log(self) -> Path:
        return self.path / "trainer.log"

    @property
    def wandb_log(self) -> Path:
        return self.path / "wandb.log"

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint at an optimiser step; its adapter lies in `adapter/` below."""
        return self.path / "checkpoints" / f"step-{step}"

    def read_spec(self) -> RunSpec:
        """The spec of this run."""
        return RunSpec.from_json(self.spec.read_text())

    def read_fence(self) -> int:
        """The newest claim's number; 0 before any."""
        try:
            return int(self.fence.read_text())
        except FileNotFoundError:
            return 0

    def remove_leavings(self) -> None:
        """Remove what writers left that were killed; there may be no writer now."""
        for left in (*self.path.glob(".*.tmp"), *self.path.rglob(".modules-*")):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)

    def raise_fence(self, number: int) -> bool:
        """Make a claim the newest: trainers of older ones end at their next step. False: there is a newer one."""
        with (self.path / "fence.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            newest = self.read_fence()
            if newest < number:
                write_atomic(self.fence, str(number).encode())
        return newest <= number

    def read_events(self, offset: int = 0) -> Iterator[tuple[RunEvent, int]]:
        """Events from a byte offset on, each with the offset after it; a line still being written is left for later."""
        if not self.events.exists():
            return
        with self.events.open("rb") as lines:
            lines.seek(offset)
            for line in lines:
                offset += len(line)
                if line.endswith(b"\n"):
                    yield RunEvent(**json.loads(line)), offset


def last_words(log: Path, length: int = 500) -> str:
    """The end of a process's log."""
    if not log.exists():
        return "none"
    return log.read_text(errors="replace").strip()[-length:] or "none"


@contextmanager
def new_file(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write: `path` is absent or its old self until the block ends well, then complete, power lost or not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_atomic(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write `content` as a `new_file`."""
    with new_file(path, mode=mode) as file:
        file.write(content)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
