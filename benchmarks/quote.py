"""Whether the quote was true: three jobs on a server of their own, quoted against actual time and peak memory.

    make bench-quote [QUOTES="misspell turns"]

The story's 50 chats; long chats of four turns; chats that share no beginning, a fifth of them held out to measure on.
Prints a table and a line of JSON. Some six minutes on two cores, if nothing else runs there.
"""

from __future__ import annotations

import json
import sys
import tempfile
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
    print(f"{'set':>9}{'quoted s':>12}{'actual s':>12}{'off':>8}{'quoted MB':>12}{'actual MB':>12}{'off':>8}")
    for name in sys.argv[1:] or JOBS:
        options = JOBS[name]
        with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as client:
            file = STORY
            if name != "misspell":
                write_set(name, file := Path(folder) / f"{name}.jsonl")
            job = fine_tune_data(file, client=client, **options)
        found: dict[str, Any] = (job.model_extra or {})["quote"]
        quoted, actual = found["quoted"], found["actual"]
        off = {key: quoted[key] / actual[key] - 1 for key in ("seconds", "peak_memory_bytes")}
        table.append({"set": name, "quoted": quoted, "actual": actual})
        print(
            f"{name:>9}{quoted['seconds']:>12.1f}{actual['seconds']:>12.1f}{off['seconds']:>+8.0%}"
            f"{quoted['peak_memory_bytes'] / 1e6:>12,.0f}{actual['peak_memory_bytes'] / 1e6:>12,.0f}"
            f"{off['peak_memory_bytes']:>+8.0%}",
            flush=True,
        )
    print(json.dumps({"bench": "quote", "jobs": table}))


if __name__ == "__main__":
    main()
