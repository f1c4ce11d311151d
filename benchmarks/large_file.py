"""A large training file, from upload to the first step: how long, and how much memory server and trainer take.

    python -m benchmarks.large_file [--megabytes 1024] [--training-memory 2GB]

Starts a server on a data folder of its own, uploads chats by the official client, starts a job, reads the peaks that
the kernel keeps for the server and its children (Linux), and cancels the job after its first step.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Final

from openai import OpenAI

from benchmarks.train_sets import SETS
from luthier.cli.demo import running_server

DISTINCT: Final = 20_000  # chats that are made; the file repeats them


def write_file(path: Path, size_bytes: int) -> int:
    """Write a file of chats; how many."""
    dice = random.Random(1)
    _, make = SETS["turns"]
    lines = [json.dumps(make(dice)).encode() + b"\n" for _ in range(DISTINCT)]
    count = written = 0
    with path.open("wb") as file:
        while written < size_bytes:
            written += file.write(lines[count % DISTINCT])
            count += 1
    return count


def peaks() -> dict[str, int]:
    """Peak resident MB of this process's children and theirs, by what they run: the server, trainer, engine."""
    parents: dict[int, int] = {}
    found: dict[int, tuple[str, int]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except (OSError, ValueError):
            continue
        if "VmHWM" in status and len(command) > 2:
            parents[int(pid)] = int(status["PPid"])
            found[int(pid)] = command[2], int(status["VmHWM"].split()[0]) // 1024
    mine = (os.getpid(), *(pid for pid, parent in parents.items() if parent == os.getpid()))
    return dict(found[pid] for pid, parent in parents.items() if parent in mine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--training-memory", default="2GB")
    options = parser.parse_args()
    os.environ["LUTHIER_TRAINING_MEMORY"] = options.training_memory
    with tempfile.TemporaryDirectory() as folder:
        path, data = Path(folder) / "chats.jsonl", Path(folder) / "data"
        examples = write_file(path, options.megabytes << 20)
        with running_server(data) as client:
            report = follow(client, path, options.megabytes)
    print(json.dumps({"bench": "large_file", "megabytes": options.megabytes, "examples": examples, **report}))


def follow(client: OpenAI, path: Path, megabytes: int) -> dict[str, object]:
    """Upload, start, wait for the first step."""
    # An upload holds at most 512 MB in one request, so larger files come in parts, as the client does it.
    began = time.monotonic()
    if path.stat().st_size <= 512 << 20:
        training_file = client.files.create(file=path, purpose="fine-tune").id
    else:
        upload = client.uploads.upload_file_chunked(file=path, mime_type="text/jsonl", purpose="fine-tune")
        assert upload.file is not None
        training_file = upload.file.id
    uploaded_s = time.monotonic() - began
    print(f"{megabytes} MB uploaded in {uploaded_s:.0f} s; peak MB {peaks()}")
    began = time.monotonic()
    job = client.fine_tuning.jobs.create(
        model="smollm2-135m-instruct",
        training_file=training_file,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
    )
    stages: dict[str, float] = {}
    most: dict[str, int] = {}
    while "first step" not in stages:
        time.sleep(0.5)
        for name, peak_mb in peaks().items():
            most[name] = max(peak_mb, most.get(name, 0))
        status = client.fine_tuning.jobs.retrieve(job.id)
        if status.status in ("failed", "cancelled"):
            raise SystemExit(f"the job {status.status}: {status.error}")
        if status.status == "running":
            stages.setdefault("checked", round(time.monotonic() - began, 1))
        if any(event.type == "metrics" for event in client.fine_tuning.jobs.list_events(job.id, limit=5).data):
            stages["first step"] = round(time.monotonic() - began, 1)
    client.fine_tuning.jobs.cancel(job.id)
    print(f"{stages}; peak MB {most}")
    return {"upload_s": round(uploaded_s, 1), "seconds": stages, "peak_mb": most}


if __name__ == "__main__":
    main()
