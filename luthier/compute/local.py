"""Trainers as child processes of this machine. Knows run folders and processes, no jobs.

A trainer holds a lock on `RUN/lock` while it lives, so even a server that was killed and came back can tell
whether one is at work, and stop it before it starts its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final

from luthier.compute.base import NewerClaim, RunState
from luthier.core.errors import StoreAway
from luthier.core.machine import memory_bytes, out_of_memory_kills, process_space
from luthier.core.run import EXIT_NO_ROOM, WAITS_S, RunFolder

WARM_S: Final = WAITS_S - 60.0  # then a waiting trainer is about to end: it is not to be told of a run any more
GRACE_S: Final = 5.0  # after SIGTERM a trainer ends its step and writes its state; then it is killed
POLL_S: Final = 0.02
ELSEWHERE_S: Final = 30.0
LITTLE_MEMORY: Final = 4_000_000_000  # bytes of a machine that has none to spare for a trainer that waits


class LocalCompute:
    """One child process a run. `Compute`'s promises hold across a crash of this process."""

    def __init__(self) -> None:
        self._children: dict[Path, subprocess.Popen[bytes]] = {}
        self._kills: dict[Path, int | None] = {}  # for want of memory, of whomever, when a child was started
        self._waiting: subprocess.Popen[bytes] | None = None  # a trainer that knows no run yet
        self._waits_since = 0.0

    def warm(self) -> None:
        """Start a trainer that imports what it needs, and waits for a run: 300 MB, for `WAITS_S` at most."""
        busy = any(child.poll() is None for child in self._children.values())
        if busy or self._is_warm() or memory_bytes() < LITTLE_MEMORY:
            return
        self.close()
        self._waiting, self._waits_since = _trainer("-", stdin=subprocess.PIPE), time.monotonic()

    def start(self, run: RunFolder, fence: int, *, halve: bool = False) -> None:
        """Fence off and stop whatever trains here, then start a trainer of our own."""
        self._kill(run, fence)
        self._kills[run.path] = out_of_memory_kills()
        arguments = [str(run.path), "--fence", str(fence), *(["--halve"] if halve else [])]
        child = self._told(arguments)
        if child is None:
            with run.log.open("ab") as log:
                child = _trainer(*arguments, log=log)
        self._children[run.path] = child

    def poll(self, run: RunFolder) -> RunState:
        """`finished` as soon as the adapter is there and the trainer is gone."""
        child = self._children.get(run.path)
        if child is not None and child.poll() is None:
            return "running"
        if child is None and _held(run):
            return "running"
        self._children.pop(run.path, None)
        if run.adapter.exists():
            return "finished"
        if child is None:
            return "failed"
        if child.returncode == -signal.SIGKILL and self._was_for_memory(run):
            return "no memory"
        ended: dict[int | None, RunState] = {0: "stopped", EXIT_NO_ROOM: "no room"}
        return ended.get(child.returncode, "failed")

    def stop(self, run: RunFolder, fence: int) -> None:
        """Ask, wait `GRACE_S`, then kill."""
        child = self._children.get(run.path)
        if child is None:
            with contextlib.suppress(NewerClaim, FileNotFoundError):  # no folder, no trainer
                self._kill(run, fence)
            return
        child.terminate()
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def close(self) -> None:
        """End the trainer that waits."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.kill()
            waiting.communicate()

    def _is_warm(self) -> bool:
        waits_s = time.monotonic() - self._waits_since
        return self._waiting is not None and self._waiting.poll() is None and waits_s < WARM_S

    def _told(self, arguments: list[str]) -> subprocess.Popen[bytes] | None:
        """The trainer that waited, now with a run to train; None where none did."""
        waiting = self._waiting
        if waiting is not None and waiting.stdin is not None and self._is_warm():
            with contextlib.suppress(BrokenPipeError):  # it has just ended, whyever
                with waiting.stdin as told:
                    told.write(json.dumps(arguments).encode() + b"\n")
                self._waiting = None
                return waiting
        self.close()
        return None

    def _was_for_memory(self, run: RunFolder) -> bool:
        """Of a SIGKILL, which anybody may have sent: whether the kernel says that it sent one meanwhile."""
        return out_of_memory_kills() != self._kills.get(run.path)

    def _kill(self, run: RunFolder, fence: int) -> None:
        """End a trainer that this process may not have started, and wait until its lock is free.

        One on another machine, or in another container, ends by itself at its next step, for its fence is an old one.
        Errors: `StoreAway` when that takes long; `NewerClaim`, for then the trainer may be that one's.
        """
        child = self._children.pop(run.path, None)
        if child is not None:
            child.kill()
            child.wait()
        deadline = time.monotonic() + ELSEWHERE_S
        while run.raise_fence(fence):
            if not _held(run):
                return
            process, _, space = _lock(run).read_text().partition(" ")
            if space == process_space():
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(int(process), signal.SIGKILL)
            elif time.monotonic() > deadline:
                raise StoreAway("a trainer on another machine, or in another container, still holds this run")
            time.sleep(POLL_S)
        raise NewerClaim


def _trainer(*arguments: str, stdin: int = subprocess.DEVNULL, log: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    said = log or subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, "-m", "luthier.train", *arguments],
        stdin=stdin,
        stdout=said,
        stderr=said,
        start_new_session=True,  # Ctrl-C at the server's terminal is the server's to handle
    )


def _lock(run: RunFolder) -> Path:
    return run.path / "lock"


def _held(run: RunFolder) -> bool:
    """Whether a trainer holds the run's lock; its process id stands in it."""
    with _lock(run).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
