"""`python -m luthier.train RUN [--fence N] [--halve]`: trains what RUN/spec.json says. The edge of its process.

With `-` for RUN it imports what it needs and waits until its input says, in a line of JSON, the arguments to go on
with; it ends where its input does, and after `WAITS_S`.

Exit codes: 0 the adapter stands, or SIGTERM ended the run at a step whose state stands; 1 the run failed, its last
event says why; 3 a newer claim owns the run; 4 the disk is full, and the run goes on when it is not. One trainer a run:
another one waits for the lock until this one is gone.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import gc
import json
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from luthier.core.errors import JobFailed, LuthierError
from luthier.core.machine import NICENESS, TORCH_ENVIRONMENT, is_no_room, process_space
from luthier.core.run import EXIT_NO_ROOM, WAITS_S, RunFolder
from luthier.train.journal import Fence, FencedOff, say_failed

EXIT_FAILED: Final = 1
EXIT_FENCED: Final = 3
WAITING: Final = Path("-")
M_TRIM_THRESHOLD: Final = -1  # glibc's numbers, from malloc.h
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m luthier.train", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--fence", type=int, default=0)
    parser.add_argument("--halve", action="store_true", help="hold half as many tokens at once as the last trainer")
    given = parser.parse_args()
    for name, value in TORCH_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _keep_freed_memory()
    if given.run == WAITING:
        _import_train()
        if not (arguments := _told_arguments()):
            return 0
        given = parser.parse_args(arguments)
        _say_to(RunFolder(given.run).log)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    run = RunFolder(given.run)
    fence = Fence(run, given.fence)
    with _alone(run):
        try:
            fence.check()
            if not run.adapter.exists():
                _import_train()(run, fence, stop.is_set, halve=given.halve)
        except FencedOff as error:
            print(f"fenced off: {error}", file=sys.stderr)  # noqa: T201  # the trainer's log
            return EXIT_FENCED
        except Exception as error:  # noqa: BLE001  # the process's edge: whatever it is, the run must end with a reason
            with suppress(OSError):  # the log is on the same disk
                traceback.print_exc()
            if is_no_room(error):
                return EXIT_NO_ROOM
            say_failed(run, fence, _as_failure(error))
            return EXIT_FAILED
    return 0


def _import_train() -> Callable[..., bool]:
    """The loop. What is imported stays: the collector's looking through it took 1 s of 5, and 2 % of a short step."""
    gc.disable()
    from luthier.train.loop import train

    gc.freeze()
    gc.enable()
    return train


def _told_arguments() -> list[str]:
    """What the input says; nothing where it ends, or says nothing for too long."""
    ready, _, _ = select.select([sys.stdin], [], [], WAITS_S)
    line = sys.stdin.readline() if ready else ""
    return [str(argument) for argument in json.loads(line)] if line else []


def _say_to(log: Path) -> None:
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to 32 MiB a piece (it keeps no more), and in one place for all threads.

    The next step asks for as much again: new pages, zeroed by the system, took 2 to 3 % of it. Places of their own for
    threads took 110 MB of 1,450.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # others have none
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(M_ARENA_MAX, 1)


@contextmanager
def _alone(run: RunFolder) -> Iterator[None]:
    """Hold the run's lock; wait for whoever holds it. Who we are stands in it, for whoever must end us."""
    with (run.path / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"{os.getpid()} {process_space()}")
        lock.flush()
        yield


def _as_failure(error: Exception) -> JobFailed:
    if isinstance(error, JobFailed):
        return error
    if isinstance(error, LuthierError):
        return JobFailed(error.message, code=error.code or "server_error", param=error.param)
    return JobFailed(f"The trainer failed: {type(error).__name__}: {error}", code="server_error")


if __name__ == "__main__":
    os.nice(NICENESS)
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is on disk; taking torch down takes half a second that a job waits for
