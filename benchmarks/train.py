"""Training speed and memory: Luthier against TRL, on the same token rows, in turns, in one run.

    make bench-train [SETS=short,long] [ROUNDS=2]

Both train the default base with a LoRA of rank 16 on every linear layer, 10 examples a step, in the type that this
machine multiplies best, with threads that wait alike. A process a measurement: one step to warm up, then an epoch.
Tokens are those of the rows, padding not counted. Prints a table and a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.train_sets import SETS, write_set
from luthier.core import settings
from luthier.core.run import Hyperparameters, Method, RunSpec
from luthier.data.base_folder import BaseFolder
from luthier.data.chats import DataFile
from luthier.data.rows import Row, Rows
from luthier.domain.bases import Bases

BATCH: Final = 10
THREADS: Final = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
PEER: Final = Path(__file__).with_name("train_trl.py")


@dataclass(frozen=True)
class Run:
    """One process's figures. `seconds` are those of an epoch."""

    seconds: float
    peak_mb: float
    matmul_share: float = 0.0
    computed: float = 1.0  # tokens computed, of those seen


def method_of(name: str) -> Method:
    return "dpo" if name == "dpo" else "supervised"


def ours(data: Path, name: str, base: BaseFolder, steps: int) -> None:
    """Luthier's side, in a process of its own: steps as the training loop makes them."""
    from luthier.train.dataset import Dataset, batches
    from luthier.train.loop import OBJECTIVES
    from luthier.train.optimiser import Optimiser
    from luthier.train.policy import load_policy

    method, facts = method_of(name), base.read_facts()
    numbers = Hyperparameters(1, BATCH, 1.0, 1e-3, beta=0.1)
    spec = RunSpec(
        "bench", facts.name, facts.sha256, str(base.path), method, numbers, 1, "", None, facts.context_tokens
    )
    policy = load_policy(base, spec)
    peak = policy.matmul_peak()
    rows = Dataset(DataFile(data), Rows(base, facts.context_tokens), method)
    optimiser = Optimiser(policy.adapter, numbers.learning_rate, steps + 1)
    objective = OBJECTIVES[method](numbers)
    order = batches(len(rows), BATCH, seed=1, epoch=0)
    objective(policy, rows.read(order[0]), learn=True)
    optimiser.step(1)
    flops, started, seen, computed = policy.flops, time.perf_counter(), 0, 0
    for step, numbers_of in enumerate(order, 2):
        measured = objective(policy, rows.read(numbers_of), learn=True)
        optimiser.step(step)
        seen, computed = seen + measured.tokens_seen, computed + measured.tokens_computed
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "matmul_share": (policy.flops - flops) / seconds / peak,
                "computed": computed / seen,
            }
        )
    )


def measure_ours(data: Path, name: str, steps: int) -> Run:
    command = [sys.executable, "-m", "benchmarks.train", "--ours", str(data), name, str(steps)]
    return Run(**_last_line(command, ""))


def measure_peer(python: str, task: dict[str, Any]) -> Run:
    said = _last_line([python, str(PEER)], json.dumps(task))
    return Run(sum(said["seconds"][1:]), said["peak_mb"])


def _last_line(command: list[str], given: str) -> dict[str, Any]:
    done = subprocess.run(
        command, input=given, env={**os.environ, **THREADS}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def peer_rows(base: BaseFolder, data: Path, method: Method) -> tuple[list[dict[str, Any]], int]:
    """The rows that Luthier trains on, as TRL takes them, and how many tokens they have."""
    from tokenizers import Tokenizer

    from luthier.data.chats import read_examples

    rows = Rows(base, base.read_facts().context_tokens).encode(list(read_examples(DataFile(data), method)))
    tokens = sum(len(row.ids) for group in rows for row in group)
    if method == "supervised":
        return [_labelled(row) for (row,) in rows], tokens
    tokenizer = Tokenizer.from_file(str(base.tokenizer))

    def text(row: Row, *, learnt: bool) -> str:
        ids = [int(i) for i, weight in zip(row.ids, row.weights, strict=True) if (weight > 0) == learnt]
        return str(tokenizer.decode(ids[:-1] if learnt else ids, skip_special_tokens=False))  # TRL adds the end itself

    made = []
    for better, worse in rows:
        prompt = int((better.weights > 0).argmax())
        made.append(
            {
                "prompt": tokenizer.decode(better.ids[:prompt].tolist(), skip_special_tokens=False),
                "chosen": text(better, learnt=True),
                "rejected": text(worse, learnt=True),
            }
        )
    return made, tokens


def _labelled(row: Row) -> dict[str, Any]:
    labels = [int(i) if weight else -100 for i, weight in zip(row.ids, row.weights, strict=True)]
    return {"input_ids": row.ids.tolist(), "labels": labels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peer", default=".venv-bench/bin/python", help="a Python that has trl")
    parser.add_argument("--ours", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    base = Bases(settings.load().cache).pull(settings.load().default_base)
    if options.ours:
        ours(Path(options.ours[0]), options.ours[1], base, int(options.ours[2]))
        return
    from luthier.train.device import find_device, precision

    kind = str(precision("auto", find_device())).removeprefix("torch.")
    table: list[dict[str, Any]] = []
    heads = ("set", "TRL tokens/s", "Luthier tokens/s", "ratio", "TRL MB", "Luthier MB", "computed", "of matmul peak")
    print(("{:>9}" + "{:>17}" * 7).format(*heads), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sets.split(","):
            data = Path(folder) / f"{name}.jsonl"
            write_set(name, data)
            rows, tokens = peer_rows(base, data, method_of(name))
            steps = -(-len(rows) // BATCH)
            task = {
                "base": str(base.hf),
                "method": method_of(name),
                "precision": kind,
                "batch": BATCH,
                "steps": steps + 1,
                "rows": rows,
            }
            theirs, mine = [], []
            for _round in range(options.rounds):
                mine.append(measure_ours(data, name, steps))
                theirs.append(measure_peer(options.peer, task))
            table.append(row := _compare(name, tokens, theirs, mine))
            print(
                f"{name:>9}{row['peer_tokens_per_s']:>17,.0f}{row['luthier_tokens_per_s']:>17,.0f}{row['ratio']:>17.1f}"
                f"{row['peer_peak_mb']:>17,.0f}{row['luthier_peak_mb']:>17,.0f}{row['computed']:>17.0%}"
                f"{row['matmul_share']:>17.0%}",
                flush=True,
            )
    print(json.dumps({"bench": "train", "precision": kind, "rows": table}))


def _compare(name: str, tokens: int, theirs: list[Run], mine: list[Run]) -> dict[str, Any]:
    peer_s, mine_s = (statistics.median(run.seconds for run in runs) for runs in (theirs, mine))
    return {
        "set": name,
        "peer_tokens_per_s": round(tokens / peer_s, 1),
        "luthier_tokens_per_s": round(tokens / mine_s, 1),
        "ratio": round(peer_s / mine_s, 2),
        "peer_peak_mb": round(statistics.median(run.peak_mb for run in theirs)),
        "luthier_peak_mb": round(statistics.median(run.peak_mb for run in mine)),
        "matmul_share": round(statistics.median(run.matmul_share for run in mine), 3),
        "computed": round(mine[0].computed, 3),
    }


if __name__ == "__main__":
    main()
