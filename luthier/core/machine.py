"""What this machine has for us, memory and room on its disk, where its process ids hold, and how torch is to use it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")
_COUNTS: Final = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))  # this container's, or the machine's
# Read when torch is loaded, where the environment says nothing else. Threads that spin while they wait for each other
# made a step 10 to 25 times slower as soon as another process wanted a core; threads that sleep at once made a quiet
# machine's a half slower (1.6 s against 1.0 s; a product of LoRA's 250 µs against 80). So they spin for some 10 µs,
# then sleep.
TORCH_ENVIRONMENT: Final = {
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "1000",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # CUDA's products, the same bytes every time
}
# What computes for seconds lets what answers in milliseconds go first: the server's loop, whose bursts come when all
# cores are taken. Engine and trainer have the same, so neither gains on the other.
NICENESS: Final = 5
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


def memory_bytes() -> int:
    """The machine's memory, or what this process's container or service is allowed of it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _limits():
        with suppress(OSError, ValueError):  # no such file, or "max"
            memory = min(memory, int(limit.read_text()))
    return memory


def _limits() -> Iterator[Path]:
    """Files that may hold a limit: of the cgroup that this process is in and of those around it, of the first version's
    one for all."""
    yield _CGROUPS / "memory/memory.limit_in_bytes"
    own = _CGROUPS
    with suppress(OSError, StopIteration):
        path = next(line[3:] for line in _OWN_CGROUP.read_text().splitlines() if line.startswith("0::"))
        own = _CGROUPS / path.lstrip("/")
    yield from (folder / "memory.max" for folder in (own, *own.parents) if folder.is_relative_to(_CGROUPS))


def out_of_memory_kills() -> int | None:
    """How many processes the kernel has killed for want of memory since it started; None where it does not tell."""
    for path in _COUNTS:
        with suppress(OSError, KeyError):
            return int(dict(line.split() for line in path.read_text().splitlines())["oom_kill"])
    return None


def process_space() -> str:
    """In which a process id means one process: this machine since it was started, or this container of it."""
    with suppress(OSError):  # Linux alone says it
        return f"{_BOOT.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def is_no_room(error: BaseException) -> bool:
    """Whether something failed for want of room on a disk; libraries in Rust tell of it in their words alone."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return True
    return any(f"os error {number}" in str(error) for number in _NO_ROOM)
