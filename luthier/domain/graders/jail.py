"""A jail for strangers' Python: bubblewrap, limits and a filter of system calls. Linux only.

Inside there are Python, the packages beside Luthier, /dev/null and /dev/urandom, all read-only: no network, no other
file, no /proc, no second process. Knows no grader.
"""

from __future__ import annotations

import asyncio
import marshal
import os
import shutil
import sys
import sysconfig
from asyncio.subprocess import PIPE
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from anyio import CancelScope, CapacityLimiter

from luthier.core.errors import InvalidRequest
from luthier.core.json import JsonObject
from luthier.domain.graders import seccomp

WALL_S: Final = 120
MEMORY_BYTES: Final = 2 << 30
OPEN_FILES: Final = 64
MAX_ANSWER_BYTES: Final = 1 << 16
INSIDE: Final = (Path(__file__).parent / "inside.py").read_text()
# Half of a call is waiting for the kernel to make and end its namespaces.
SLOTS: Final = CapacityLimiter(2 * (os.cpu_count() or 1))
ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", "HOME": "/"}


@dataclass(frozen=True)
class Outcome:
    """What came of a call: a score, what was wrong with the code, or what was wrong with the jail."""

    score: float | None = None
    code_error: str | None = None
    jail_error: str | None = None


def check() -> None:
    """Errors: `InvalidRequest` where no jail can be built, saying how to mend it."""
    if not sys.platform.startswith("linux"):
        raise InvalidRequest(
            "Python graders need a jail, which this server has on Linux only.", code="unsupported_value"
        )
    for tool, package in (("bwrap", "bubblewrap"), ("prlimit", "util-linux")):
        if shutil.which(tool) is None:
            raise InvalidRequest(
                f"Python graders run in a jail, and this server has no '{tool}'. Install it on the server: apt-get "
                f"install {package} (Debian, Ubuntu) or dnf install {package} (Fedora).",
                code="unsupported_value",
            )
    seccomp.program()


async def run(source: str, sample: JsonObject, item: JsonObject, *, only_check: bool = False) -> Outcome:
    """Call the `grade` of a source, or just see that it has one. Errors: as `check`."""
    check()
    given: dict[str, Any] = {"source": source, "sample": sample, "item": item, "path": _packages(), "check": only_check}
    async with SLOTS:
        filtered = os.memfd_create("seccomp")
        try:
            os.write(filtered, seccomp.program())
            os.lseek(filtered, 0, os.SEEK_SET)
            process = await asyncio.create_subprocess_exec(
                *_command(filtered), stdin=PIPE, stdout=PIPE, stderr=PIPE, pass_fds=(filtered,), env=ENVIRONMENT
            )
        finally:
            os.close(filtered)
        try:
            async with asyncio.timeout(WALL_S):
                answer, complaint = await _talk(process, marshal.dumps(given))
                if len(answer) <= MAX_ANSWER_BYTES:
                    await process.wait()
        except TimeoutError:
            return Outcome(code_error=f"the grader was still running after {WALL_S} seconds")
        finally:
            if process.returncode is None:  # too slow, too loud, or nobody waits any more
                process.kill()
                with CancelScope(shield=True):  # reads what is left: asyncio sees no end of a process before that
                    await process.communicate()
    return _read(answer, complaint, process.returncode)


async def _talk(process: asyncio.subprocess.Process, given: bytes) -> tuple[bytes, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(given)
    process.stdin.close()
    answer = b""
    while len(answer) <= MAX_ANSWER_BYTES and (chunk := await process.stdout.read(MAX_ANSWER_BYTES)):
        answer += chunk
    return answer, b"" if answer else await process.stderr.read(2000)


def _read(answer: bytes, complaint: bytes, status: int | None) -> Outcome:
    if not answer and complaint:
        return Outcome(jail_error=complaint.decode(errors="replace").strip())
    kind, _, told = answer[:MAX_ANSWER_BYTES].decode(errors="replace").partition(" ")
    if kind == "score":
        with suppress(ValueError):
            return Outcome(float(told))
    if kind == "error":
        return Outcome(code_error=told)
    return Outcome(code_error=f"the grader ended without a score (status {status}): out of memory or time?")


def _packages() -> list[str]:
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


@cache
def _frame() -> tuple[str, ...]:
    """The command up to the filter's descriptor. Only what is named here is to be seen inside."""
    limits = ["--cpu", "--as", "--nofile", "--fsize", "--core"]
    values = [WALL_S, MEMORY_BYTES, OPEN_FILES, 0, 0]
    limited = [f"{name}={value}" for name, value in zip(limits, values, strict=True)]
    command = ["prlimit", *limited, "bwrap", "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534"]
    command += ["--cap-drop", "ALL", "--new-session", "--die-with-parent", "--hostname", "jail"]
    command += ["--ro-bind", "/usr", "/usr"]
    for name in ("/lib", "/lib64", "/lib32", "/bin"):
        if os.path.islink(name):
            command += ["--symlink", os.readlink(name), name]
        else:
            command += ["--ro-bind-try", name, name]
    for place in (sys.base_prefix, *_packages()):
        if not place.startswith("/usr/"):
            command += ["--ro-bind", place, place]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    command += ["--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom"]
    return (*command, "--remount-ro", "/", "--chdir", "/")


def _command(filtered: int) -> list[str]:
    python = os.path.realpath(sys.executable)
    return [*_frame(), "--seccomp", str(filtered), python, "-I", "-S", "-B", "-c", INSIDE]
