"""`make bench-store`: how long list, retrieve and create take while the store grows, by the official client over HTTP.

Run as `python -m benchmarks.store [JOBS …]`; default 1,000 to 1,000,000 jobs, each with ten events, in one project on
SQLite; then how long a runner takes to claim the next job while up to 100,000 wait. Writes docs/store.json and
docs/store.png. Client and server share one process and its lock, so the times are the worse of both.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import structlog
from sqlalchemy import insert

from luthier.core.jobs import Job
from luthier.core.projects import Project
from luthier.core.states import JobStatus
from luthier.store.jobs import _row, claim, release
from luthier.store.rows import write
from luthier.store.schema import job_events, jobs, projects
from tests.conftest import Server, serving
from tests.contract.objects import BASE

mpl.use("Agg")
DOCS = Path(__file__).parents[1] / "docs"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
WAITING = (100, 1_000, 10_000, 100_000)
EVENTS_PER_JOB, AT_ONCE, CALLS = 10, 5_000, 300
LIMIT_MS = 50


def grow(server: Server, start: int, end: int) -> None:
    """Add ended jobs with their events, many a transaction."""
    project = server.platform.project
    for first in range(start, end, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, end))
        made = [row(project, number, status="cancelled", finished_at=number) for number in numbers]
        told = [
            {
                "id": f"ftevent-{number}-{event}",
                "project_id": project.id,
                "job_id": name(number),
                "key": f"step-{event}",
                "created_at": number,
                "level": "info",
                "message": f"Step {event}/10: training loss=0.50",
                "type": "metrics",
                "data": {"step": event, "train_loss": 0.5},
            }
            for number in numbers
            for event in range(EVENTS_PER_JOB)
        ]
        with server.platform.database.transaction() as connection:
            connection.execute(insert(jobs), made)
            connection.execute(insert(job_events), told)


def row(
    project: Project, number: int, *, status: JobStatus, finished_at: int | None = None, priority: int = 0
) -> dict[str, Any]:
    job = Job(
        id=name(number),
        project_id=project.id,
        organization_id=project.organization_id,
        organization=project.organization,
        created_at=number,
        model=BASE,
        method="supervised",
        hyperparameters={},
        seed=number,
        training_file="file-none",
        validation_file=None,
        suffix=None,
        metadata=None,
        status=status,
        finished_at=finished_at,
        priority=priority,
    )
    return _row(write(job))


def name(number: int) -> str:
    return f"ftjob-bench{number:019}"


def calls(server: Server, size: int, file_id: str) -> dict[str, Callable[[int], Any]]:
    """What is measured: each gets the number of the call."""
    client, draw = server.client.fine_tuning.jobs, np.random.default_rng(0)
    somewhere = [name(int(n)) for n in draw.integers(0, size, CALLS)]
    return {
        "list the newest 20": lambda _: client.list(limit=20),
        "list 20 from anywhere": lambda call: client.list(limit=20, after=somewhere[call]),
        "retrieve": lambda call: client.retrieve(somewhere[call]),
        "list a job's events": lambda call: client.list_events(somewhere[call], limit=20),
        "create": lambda _: client.create(model=BASE, training_file=file_id),
    }


def measure(server: Server, size: int) -> dict[str, list[float]]:
    """Milliseconds of every call: the median and the 99th percentile."""
    file_id = server.client.files.create(file=b'{"messages": []}', purpose="fine-tune").id
    times: dict[str, list[float]] = {}
    for what, call in calls(server, size, file_id).items():
        spent = []
        for number in range(CALLS):
            began = time.perf_counter()
            call(number)
            spent.append((time.perf_counter() - began) * 1000)
        times[what] = [round(float(np.percentile(spent, q)), 2) for q in (50, 99)]
        print(f"{size:>9,} jobs  {what:<22} median {times[what][0]:6.2f} ms   p99 {times[what][1]:6.2f} ms", flush=True)
    return times


def claims(server: Server, first: int) -> dict[int, list[float]]:
    """Milliseconds of taking the next job while so many wait in five projects: the median and the 99th percentile."""
    database, project = server.platform.database, server.platform.project
    own = [replace(project, id=f"proj_{number}") for number in range(5)]
    made = ({"id": p.id, "organization_id": p.organization_id, "name": "bench", "created_at": 1} for p in own)
    with database.transaction() as connection:
        connection.execute(insert(projects), list(made))
    times: dict[int, list[float]] = {}
    have = 0
    for size in WAITING:
        for begin in range(have, size, AT_ONCE):
            numbers = range(begin, min(begin + AT_ONCE, size))
            rows = [row(own[n % 5], first + n, status="queued", priority=n % 3) for n in numbers]
            with database.transaction() as connection:
                connection.execute(insert(jobs), rows)
        have, spent = size, []
        for _ in range(CALLS):
            began = time.perf_counter()
            claimed = claim(database, "bench", ("queued", "running"), now=database.now(), lease_s=60)
            spent.append((time.perf_counter() - began) * 1000)
            assert claimed is not None
            release(database, claimed.id, claimed.fence)
        times[size] = [round(float(np.percentile(spent, q)), 2) for q in (50, 99)]
        print(f"{size:>9,} waiting  claim  median {times[size][0]:6.2f} ms   p99 {times[size][1]:6.2f} ms", flush=True)
    return times


def draw(found: dict[int, dict[str, list[float]]]) -> None:
    """The 99th percentiles over the size of the store."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4))
    for what in next(iter(found.values())):
        axes.plot(list(found), [times[what][1] for times in found.values()], marker="o", label=what)
    axes.axhline(LIMIT_MS, color="grey", linestyle="--", linewidth=1)
    axes.set(
        xscale="log",
        xlabel=f"jobs in the store, {EVENTS_PER_JOB} events each",
        ylabel="p99, milliseconds",
        ylim=(0, 60),
    )
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(DOCS / "store.png", dpi=110)


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    found: dict[int, dict[str, list[float]]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder,
        serving(Path(folder), background=False, recorded=False) as server,
    ):
        have = 0
        for size in sizes:
            began = time.monotonic()
            grow(server, have, size)
            print(f"grew to {size:,} jobs and {size * EVENTS_PER_JOB:,} events in {time.monotonic() - began:.0f} s")
            have = size
            found[size] = measure(server, size)
        claimed = claims(server, have)
        size_bytes = (Path(folder) / "luthier.db").stat().st_size
    (DOCS / "store.json").write_text(
        json.dumps(
            {"cpus": os.cpu_count(), "calls": CALLS, "database_bytes": size_bytes, "ms": found, "claim_ms": claimed},
            indent=1,
        )
        + "\n"
    )
    draw(found)
    return int(any(p99 > LIMIT_MS for times in found.values() for _, p99 in times.values()))


if __name__ == "__main__":
    sys.exit(main())
