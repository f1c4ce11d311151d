"""A job's states and the only ways between them.

    validating_files → queued → running → succeeded
           │             │         │
           └─────────────┴─────────┴──→ failed | cancelled

`running → queued` happens when a job is paused; the six names are OpenAI's and there is no seventh.
"""

from __future__ import annotations

from typing import Final, Literal

JobStatus = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]

FINAL: Final[frozenset[JobStatus]] = frozenset({"succeeded", "failed", "cancelled"})

TRANSITIONS: Final[dict[JobStatus, frozenset[JobStatus]]] = {
    "validating_files": frozenset({"queued", "failed", "cancelled"}),
    "queued": frozenset({"running", "failed", "cancelled"}),
    "running": frozenset({"queued", "succeeded", "failed", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
