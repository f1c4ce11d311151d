"""Whether the quote was true: three jobs on a server of their own, quoted against actual time and peak memory.

    make bench-quote [QUOTES="misspell turns"]

The story's 50 chats; long chats of four turns; chats that share no beginning, a fifth of them held out to measure on.
Prints a table and a line of JSON. Some eight minutes on two cores, if nothing else runs there. What a virtual machine's
host gave to others meanwhile is told ("stolen"): two threads that wait for each other lose what either of them loses.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from benchmarks.train_sets import write_set
from luthier.cli.client import TuneOptions, fine_tune_data
from luthier.cli.demo import running_server
from luthier.core.jobs import HELD_OUT

STORY: Final = Path(__file__).parents[1] / "luthier/examples/misspell.jsonl"
JOBS: Final[dict[str, TuneOptions]] = {
    "misspell": {"seed": 1},
    "turns": {"seed": 1, "n_epochs": 4, "batch_size": 4},
    "unshared": {"seed": 1, "metadata": {HELD_OUT: "20%"}},
}


def main() -> None:
    table: list[dict[str, Any]] = []
    print(
        f"{'set':>9}{'quoted s':>12}{'actual s':>12}{'off':>8}{'quoted MB':>12}{'actual MB':>12}{'off':>8}{'stolen':>8}"
    )
    for name in sys.argv[1:] or JOBS:
        options = JOBS[name]
        with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as client:
            file = STORY
            if name != "misspell":
                write_set(name, file := Path(folder) / f"{name}.jsonl")
            before = _jiffies()
            job = fine_tune_data(file, client=client, **options)
            stolen = _stolen(before, _jiffies())
        found: dict[str, Any] = (job.model_extra or {})["quote"]
        quoted, actual = found["quoted"], found["actual"]
        off = {key: quoted[key] / actual[key] - 1 for key in ("seconds", "peak_memory_bytes")}
        table.append({"set": name, "quoted": quoted, "actual": actual, "stolen": stolen})
        print(
            f"{name:>9}{quoted['seconds']:>12.1f}{actual['seconds']:>12.1f}{off['seconds']:>+8.0%}"
            f"{quoted['peak_memory_bytes'] / 1e6:>12,.0f}{actual['peak_memory_bytes'] / 1e6:>12,.0f}"
            f"{off['peak_memory_bytes']:>+8.0%}{stolen:>8.1%}",
            flush=True,
        )
    print(json.dumps({"bench": "quote", "jobs": table}))


def _jiffies() -> list[int]:
    """The cores' time by what it was spent on (`man proc_stat`: the eighth is stolen); nothing where Linux is not."""
    with suppress(OSError):
        return [int(count) for count in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return []


def _stolen(before: list[int], after: list[int]) -> float:
    spent = [b - a for a, b in zip(before, after, strict=True)]
    return spent[7] / sum(spent) if spent else math.nan


if __name__ == "__main__":
    main()
