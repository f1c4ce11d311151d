"""`make fuzz-inputs`: a million inputs that nobody wrote, through the readers of files and the doors of a server.

    python -m tests.inputs [INPUTS] [--seed N]
    python -m tests.inputs --replay TARGET FILE

Fails on anything that is no refusal in our words: a crash, more than `LIMIT_S` for one input, a 5xx, memory that grows.
An input that fails is kept in `fuzz-failures/`. The same seed makes the same inputs.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

from tests.inputs import doors, readers
from tests.inputs.readers import Target, drawn

LIMIT_S = 10
SPARE_BYTES = 4 << 30  # that a reader may ask for beyond what it began with
MOST_GROWTH_MB = 64  # from a fifth of the way to the end
SAMPLES = 20
MOST_KEPT = 5  # failures of a target
KEPT = Path("fuzz-failures")


class Hang(BaseException):
    """An input took longer than `LIMIT_S`; no reader catches it."""


@dataclass
class Outcome:
    """What became of a target's inputs. `rss_mb`: of whoever reads them, as they go."""

    inputs: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    rss_mb: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def growth_mb(self) -> int:
        return self.rss_mb[-1] - self.rss_mb[len(self.rss_mb) // 5] if self.rss_mb else 0

    @property
    def failed_inputs(self) -> int:
        return self.counts["failed"] or len(self.failures)

    def row(self, name: str) -> str:
        counts = ", ".join(f"{count:,} {what}" for what, count in self.counts.most_common())
        memory = f"{self.rss_mb[len(self.rss_mb) // 5]:>9} {self.rss_mb[-1]:>6}" if self.rss_mb else " " * 16
        return f"{name:<18}{self.inputs:>10,}{self.failed_inputs:>8}{self.seconds:>9.0f} {memory}  {counts}"

    @property
    def failed(self) -> bool:
        return bool(self.failures) or self.growth_mb > MOST_GROWTH_MB


def feed(target: Target, seed: int, count: int, pid: int, told) -> Outcome:
    """Give a target its inputs. `told` gets the number of each; `pid` is whose memory is looked at."""
    found, began = Outcome(), time.monotonic()
    signal.signal(signal.SIGALRM, _too_long)
    every = max(1, count // SAMPLES)
    for number in range(count):
        told.value = number
        data = drawn(target, seed, number)
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
        try:
            found.counts[target.read(data)] += 1
        except BaseException as error:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if isinstance(error, KeyboardInterrupt):
                raise
            found.counts["failed"] += 1
            if len(found.failures) < MOST_KEPT:
                found.failures.append(f"{keep(target, seed, number, data)}\n{traceback.format_exc(limit=-4)}")
        signal.setitimer(signal.ITIMER_REAL, 0)
        found.inputs += 1
        if number % every == 0:
            found.rss_mb.append(_rss_mb(pid))
    found.rss_mb.append(_rss_mb(pid))
    found.seconds = time.monotonic() - began
    return found


def keep(target: Target, seed: int, number: int, data: bytes) -> str:
    """Write a failing input down; how to replay it."""
    KEPT.mkdir(exist_ok=True)
    path = KEPT / f"{target.name.replace(' ', '-')}-{seed}-{number}"
    path.write_bytes(data)
    return f"python -m tests.inputs --replay '{target.name}' {path}"


def fed_aside(make, seed: int, inputs: int, bar: Progress) -> tuple[str, Outcome]:
    """Feed a reader in a process of its own, with bounded memory: what kills that process is a failure as well."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    told, total = context.Value("q", 0, lock=False), context.Value("q", 0, lock=False)

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="luthier-inputs-", dir=_memory()) as folder:
            target = make(Path(folder))
            total.value = share(target, inputs)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES,) * 2)
            theirs.send((target.name, feed(target, seed, total.value, os.getpid(), told)))

    process, line = context.Process(target=work), bar.add_task(make.__name__, total=None)
    process.start()
    last, since = -1, time.monotonic()
    while not ours.poll(0.2) and process.is_alive():
        bar.update(line, completed=told.value, total=total.value or None)
        if told.value != last:
            last, since = told.value, time.monotonic()
        elif total.value and time.monotonic() - since > 3 * LIMIT_S:  # deep in C, where no signal is heard
            process.kill()
    if ours.poll():
        name, found = ours.recv()
    else:
        with tempfile.TemporaryDirectory() as folder:
            target = make(Path(folder))
            where = keep(target, seed, told.value, drawn(target, seed, told.value))
        name, found = target.name, Outcome(told.value, Counter(failed=1), failures=[f"{where}\nit ended its process"])
    process.join()
    bar.update(line, description=name, completed=found.inputs, total=found.inputs)
    bar.console.print(found.row(name), highlight=False, soft_wrap=True)
    return name, found


def fed_to_server(seed: int, inputs: int, bar: Progress) -> dict[str, Outcome]:
    """Send the forms, then leave the streams; what the server's end finds wrong is a failure of the last."""
    outcomes: dict[str, Outcome] = {}

    class Told:
        def __init__(self, line) -> None:
            self.__dict__["line"] = line

        def __setattr__(self, _: str, number: int) -> None:
            bar.update(self.line, completed=number)

    with tempfile.TemporaryDirectory(prefix="luthier-inputs-") as folder:
        try:
            with doors.running(Path(folder)) as server:
                for make in (doors.forms, doors.streams):
                    target = make(server)
                    line = bar.add_task(target.name, total=share(target, inputs))
                    found = feed(target, seed, share(target, inputs), server.process.pid, Told(line))
                    outcomes[target.name] = found
                    bar.update(line, completed=found.inputs)
                    bar.console.print(found.row(target.name), highlight=False, soft_wrap=True)
        except doors.ServerError as error:
            outcomes["the server's end"] = Outcome(failures=[str(error)])
    return outcomes


def share(target: Target, inputs: int) -> int:
    return max(20, target.share * inputs // 1_000_000)


def replay(name: str, path: Path) -> None:
    """Give a kept input to its target again; its traceback is shown."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for number, make in enumerate(readers.READERS):
            target = make(Path(folder) / str(number))
            if target.name == name:
                break
        else:
            server = stack.enter_context(doors.running(Path(folder)))
            target = next(made for made in (doors.forms(server), doors.streams(server)) if made.name == name)
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(LIMIT_S)
        print(target.read(path.read_bytes()))
        signal.alarm(0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.inputs")
    parser.add_argument("inputs", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "FILE"))
    given = parser.parse_args()
    if given.replay:
        replay(given.replay[0], Path(given.replay[1]))
        return 0
    print(f"seed {given.seed}: the same inputs again by --seed {given.seed}")
    print(f"{'':<18}{'inputs':>10}{'failed':>8}{'seconds':>9}  MB at 20 %, end  outcomes", flush=True)
    with Progress() as bar:
        outcomes = dict(fed_aside(make, given.seed, given.inputs, bar) for make in readers.READERS)
        outcomes |= fed_to_server(given.seed, given.inputs, bar)
    print(*(failure for found in outcomes.values() for failure in found.failures), sep="\n")
    total = {
        "seed": given.seed,
        "inputs": sum(found.inputs for found in outcomes.values()),
        "failed": sum(found.failed_inputs for found in outcomes.values()),
        "most_growth_mb": max(found.growth_mb for found in outcomes.values()),
        "seconds": round(sum(found.seconds for found in outcomes.values())),
    }
    print(json.dumps(total))
    return int(any(found.failed for found in outcomes.values()) or total["inputs"] < given.inputs)


def _too_long(*_: object) -> None:
    raise Hang(f"more than {LIMIT_S} s")


def _rss_mb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() >> 20


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main())
