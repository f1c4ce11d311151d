"""Training in bfloat16 against training in float32: the losses of three epochs on the example chats, by seed.

Run by `make bench-precision`. A process a run. Both lose alike where their curves stay within a per cent and the final
validation losses are no further apart than those of two seeds. Prints a table and a line of JSON, and draws
docs/precision.png. Where the machine has no instructions for bfloat16, its products are made as those make them: of
numbers rounded to bfloat16, added up in float32, and rounded once; PyTorch's own take up to a hundred times as long.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, Literal, cast

import matplotlib as mpl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from luthier.core import settings
from luthier.core.run import Hyperparameters, RunSpec
from luthier.data.base_folder import BaseFolder
from luthier.data.chats import DataFile
from luthier.data.rows import Rows
from luthier.domain.bases import Bases
from luthier.train.dataset import Dataset, batches
from luthier.train.device import precision
from luthier.train.optimiser import Optimiser
from luthier.train.policy import Policy, load_policy
from luthier.train.supervised import supervised

PRODUCTS: Final = {torch.ops.aten.mm.default, torch.ops.aten.bmm.default, torch.ops.aten.addmm.default}
CHATS: Final = Path(__file__).parents[1] / "luthier/examples/misspell.jsonl"
PICTURE: Final = Path(__file__).parents[1] / "docs/precision.png"
HELD_OUT: Final = 10
EPOCHS: Final = 3
BATCH: Final = 5
RATE: Final = 1e-3
KINDS: Final = ("float32", "bfloat16")

Found = dict[str, Any]


class Widened(TorchDispatchMode):
    """Products of bfloat16 in float32, rounded at the end."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype is torch.bfloat16:
            if func is torch.ops.aten.addmm_.default:
                return args[0].copy_(torch.addmm(*(one.float() for one in args)))
            if func in PRODUCTS:
                return func(*(one.float() for one in args)).bfloat16()
        return func(*args, **(kwargs or {}))


def one(kind: Literal["float32", "bfloat16"], seed: int, folder: Path) -> Found:
    """The loss of each step, and of the validation rows at the end."""
    base = base_folder()
    facts = base.read_facts()
    numbers = Hyperparameters(EPOCHS, BATCH, 1.0, RATE)
    spec = RunSpec(
        "bench",
        facts.name,
        facts.sha256,
        str(base.path),
        "supervised",
        numbers,
        seed,
        "",
        None,
        facts.context_tokens,
        precision=kind,
    )
    policy = load_policy(base, spec)
    with nullcontext() if precision("auto", policy.adapter.flat.device) is torch.bfloat16 else Widened():
        return _trained(policy, base, spec, folder)


def _trained(policy: Policy, base: BaseFolder, spec: RunSpec, folder: Path) -> Found:
    facts, seed = base.read_facts(), spec.seed
    rows = Rows(base, facts.context_tokens)
    training, validation = (Dataset(DataFile(folder / name), rows, "supervised") for name in ("train", "valid"))
    total = EPOCHS * -(-len(training) // BATCH)
    optimiser = Optimiser(policy.adapter, RATE, total)
    losses: list[float] = []
    for epoch in range(EPOCHS):
        order = batches(len(training), BATCH, seed=seed, epoch=epoch)
        for place in range(len(order)):
            losses.append(supervised(policy, training.read(order[place]), learn=True).loss)
            optimiser.step(len(losses))
    held = supervised(policy, validation.read(range(len(validation))), learn=False).loss
    return {"losses": losses, "validation": held}


def base_folder() -> BaseFolder:
    found = settings.load()
    return Bases(found.cache).pull(found.default_base)


def run(kind: str, seed: int, folder: Path) -> Found:
    command = [sys.executable, "-m", "benchmarks.precision", "--one", kind, str(seed), str(folder)]
    return cast("Found", json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def apart(runs: dict[str, list[Found]]) -> list[float]:
    """Of each epoch, how far its mean losses are apart, by seed averaged: a share of float32's."""
    means = {kind: [_epoch_means(found["losses"]) for found in seeds] for kind, seeds in runs.items()}
    return [
        statistics.mean(abs(b[epoch] - a[epoch]) / a[epoch] for a, b in zip(*means.values(), strict=True))
        for epoch in range(EPOCHS)
    ]


def _epoch_means(losses: list[float]) -> list[float]:
    steps = len(losses) // EPOCHS
    return [statistics.mean(losses[start : start + steps]) for start in range(0, len(losses), steps)]


def draw(runs: dict[str, list[Found]]) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4))
    for kind, style in zip(KINDS, ("-", "--"), strict=True):
        for number, found in enumerate(runs[kind]):
            axes.plot(found["losses"], style, color=f"C{number}", label=f"{kind}, seed {number + 1}")
    axes.set(xlabel="step", ylabel="training loss", title="SmolLM2-135M on the misspelling chats")
    axes.legend()
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, seed, folder = options.one
        print(json.dumps(one(kind, int(seed), Path(folder))))
        return
    mpl.use("Agg")
    base_folder()
    lines = CHATS.read_text().splitlines(keepends=True)
    runs: dict[str, list[Found]] = {kind: [] for kind in KINDS}
    print(
        f"{'seed':>5}{'precision':>10}" + "".join(f"{f'epoch {n + 1}':>10}" for n in range(EPOCHS)) + f"{'valid':>10}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train").write_text("".join(lines[:-HELD_OUT]))
        (folder / "valid").write_text("".join(lines[-HELD_OUT:]))
        for seed in range(1, options.seeds + 1):
            for kind in KINDS:
                runs[kind].append(found := run(kind, seed, folder))
                means = "".join(f"{mean:>10.4f}" for mean in _epoch_means(found["losses"]))
                print(f"{seed:>5}{kind:>10}{means}{found['validation']:>10.4f}", flush=True)
    draw(runs)
    held = {kind: [found["validation"] for found in runs[kind]] for kind in KINDS}
    between = [abs(a - b) for a, b in zip(held["float32"], held["bfloat16"], strict=True)]
    told = {
        "bench": "precision",
        "curves_apart": [round(share, 4) for share in apart(runs)],
        "validation": held,
        "validation_apart": round(statistics.mean(between), 4),
        "between_seeds": round(max(held["float32"]) - min(held["float32"]), 4),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
