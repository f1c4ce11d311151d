"""Ways out of the jail, each tried and each contained, by `make test-graders`; it wants bubblewrap, and says so.

A few of them are tried in every run on a machine that has bubblewrap.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from luthier.domain.graders import jail

pytestmark = pytest.mark.anyio
SLOW = pytest.mark.slow
QUICK = pytest.mark.skipif(shutil.which("bwrap") is None, reason="it wants bubblewrap")

# Each is the body of a function that returns what it got hold of; a jail that holds returns nothing, or raises.
READS = {
    "a secret beside the server": "open(SECRET).read()",
    "the secret through ..": "open('/usr/..' + SECRET).read()",
    "the secret through a symlink": "os.symlink(SECRET, '/tmp/link') or open('/tmp/link').read()",
    "the passwords": "open('/etc/passwd').read()",
    "the server's environment": "open('/proc/1/environ').read() or open('/proc/self/environ').read()",
    "the server's memory": "open('/proc/%d/mem' % SERVER, 'rb').read(1)",
    "the root of another process": "os.listdir('/proc/%d/root' % SERVER)",
    "open descriptors": "[n for n in range(3, 64) if n != 3 and readable(n)]",
    "the environment's secrets": "[v for k, v in os.environ.items() if 'SECRET' in k]",
    "home folders": "os.listdir('/root') + os.listdir('/home')",
    "Luthier's own code": "__import__('luthier').__file__",
    "devices": "open('/dev/mem', 'rb').read(1) or open('/dev/sda', 'rb').read(1)",
    "the kernel's log": "syscall(103, 3, buffer(4096), 4096) + 1",
    "a new device": "os.mknod('/dev/x', 0o60600, 2048)",
    "a file by its handle": "syscall(304, -100, 0, 0) + 1",
    "the system's settings": "open('/proc/sys/kernel/core_pattern', 'w').write('|/bin/sh')",
    "a terminal": "fcntl.ioctl(0, termios.TIOCSTI, b'x')",
}
WRITES = {
    "the root": "open('/x', 'w').write('x')",
    "the temporary folder": "open('/tmp/x', 'w').write('x')",
    "shared memory": "open('/dev/shm/x', 'w').write('x')",
    "Python's library": "open(os.__file__, 'a').write('x')",
    "the secret": "open(SECRET, 'w').write('x')",
    "a folder": "os.mkdir('/usr/x')",
    "the mounts": "syscall(165, b'none', b'/tmp', b'tmpfs', 0, 0) + 1",
}
NETWORK = {
    "a server on this machine": "socket.create_connection(('127.0.0.1', PORT), 2)",
    "any address": "socket.create_connection(('1.1.1.1', 53), 2)",
    "a name": "socket.getaddrinfo('example.com', 80)",
    "a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "the host of a virtual machine": "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
    "a socket of the system": "socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket')",
    "raw packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "a download": "urllib.request.urlopen('http://127.0.0.1:%d' % PORT).read()",
}
PROCESSES = {
    "a child": "os.fork() or 1",
    "a shell": "subprocess.run(['/bin/sh', '-c', 'id'], capture_output=True).stdout",
    "a fork bomb": "[os.fork() for _ in range(1000)]",
    "a pool": "multiprocessing.Pool(2).map(abs, [1])",
    "the server by signal": "os.kill(SERVER, 9) or 1",
    "everybody by signal": "os.kill(-1, 0) or 1",
    "a debugger": "syscall(101, 16, SERVER, 0, 0) + 1",
    "new namespaces": "syscall(272, 0x10000000) + 1",
    "another user": "os.setuid(0) or os.getuid() == 0",
    "more rights": "os.chroot('/usr') or 1",
    "old system calls": "syscall(0x40000000 + 57) + 1",
    "the kernel's keys": "syscall(250, 0, -3, 1) + 1",
    "io_uring": "syscall(425, 1, buffer(120)) + 1",
    "a kernel program": "syscall(321, 0, buffer(64), 64) + 1",
    "higher limits": "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)) or 1",
    "memory without a name": "os.memfd_create('x')",
}
ESCAPES = [(kind, name) for kind in ("READS", "WRITES", "NETWORK", "PROCESSES") for name in globals()[kind]]
ALWAYS = {
    ("READS", "a secret beside the server"),
    ("READS", "the server's environment"),
    ("WRITES", "the temporary folder"),
    ("NETWORK", "a server on this machine"),
    ("PROCESSES", "a child"),
    ("PROCESSES", "new namespaces"),
}
SOURCE = """
import ctypes, fcntl, multiprocessing, os, resource, socket, subprocess, termios, urllib.request
SECRET, PORT, SERVER = {secret!r}, {port}, {server}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
buffer = ctypes.create_string_buffer
def syscall(number, *given):
    return libc.syscall(ctypes.c_long(number), *(ctypes.c_long(g) if isinstance(g, int) else g for g in given))
def readable(n):
    try:
        return os.read(n, 1)
    except OSError:
        return None
def grade(sample, item):
    got = {body}
    raise RuntimeError('OUT: %r' % (got,)) if got else SystemError('nothing')
"""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def built():
    """No jail, no test: a machine without bubblewrap fails here, and says what to install."""
    jail.check()


def first_always(*values):
    """The first in every run, the others when they are asked for."""
    return [pytest.param(value, marks=SLOW if number else QUICK) for number, value in enumerate(values)]


async def call(source):
    return await jail.run(source, {"output_text": "x"}, {})


@SLOW
def test_there_are_at_least_thirty_ways():
    assert len(ESCAPES) >= 30


@pytest.mark.parametrize(
    ("kind", "name"), [pytest.param(*way, marks=QUICK if way in ALWAYS else SLOW) for way in ESCAPES]
)
async def test_no_way_leads_out(kind, name, tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    monkeypatch.setenv("LUTHIER_SECRET", "SECRET")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        body = globals()[kind][name]
        outcome = await call(SOURCE.format(secret=str(secret), port=port, server=os.getpid(), body=body))
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert outcome.score is None
    assert outcome.jail_error is None
    assert "OUT:" not in outcome.code_error, outcome
    assert secret.read_text() == "SECRET"


@pytest.mark.parametrize(
    "body",
    first_always(
        "bytearray(3 << 30)",
        "[bytearray(1 << 20) for _ in range(4000)]",
        "'x' * (3 << 30)",
        "__import__('mmap').mmap(-1, 3 << 30)",
        "[__import__('threading').Thread(target=__import__('time').sleep, args=(60,)).start() for _ in range(9999)]",
        "(lambda f: f(f))(lambda f: f(f))",
    ),
)
async def test_memory_is_limited(body):
    outcome = await call(f"def grade(sample, item):\n    {body}\n    return 1.0")
    assert outcome.score is None
    assert outcome.code_error


@pytest.mark.parametrize(
    "body",
    first_always(
        "__import__('time').sleep(999)",
        "while True: pass",
        "__import__('signal').pause()",
        "[__import__('signal').signal(s, 1) for s in (2, 15, 24)]; __import__('time').sleep(999)",
    ),
)
async def test_time_is_limited(body, monkeypatch):
    jail._frame()  # it is made once, with the processor's limit as it is
    monkeypatch.setattr(jail, "WALL_S", 1)
    began = time.monotonic()
    outcome = await call(f"def grade(sample, item):\n    {body}\n")
    assert "still running after 1 seconds" in outcome.code_error
    assert time.monotonic() - began < 60


@SLOW
async def test_two_minutes_of_a_processor_are_the_limit():
    assert "--cpu=120" in jail._frame()


@SLOW
@pytest.mark.parametrize(
    "body",
    [
        "while True: os.write(3, b'x' * 65536)",
        "[os.write(n, b'x' * 100000) for n in range(3, 9)]",
        "os.write(3, b'score 1.0 and more')",
        "os._exit(0)",
        "os.kill(os.getpid(), 9)",
        "__import__('ctypes').string_at(0)",
    ],
)
async def test_whoever_takes_over_the_answer_gets_no_score(body):
    outcome = await call(f"import os\ndef grade(sample, item):\n    {body}\n    os._exit(0)")
    assert outcome.score is None
    assert outcome.code_error


@SLOW
async def test_what_is_printed_is_not_the_answer():
    source = "import sys\nprint('score 9')\ndef grade(s, i):\n    print('score 9'); sys.stderr.write('x'); return 0.5"
    assert (await call(source)).score == 0.5


@SLOW
@pytest.mark.parametrize("package", ["numpy", "rapidfuzz", "rouge_score", "nltk", "jsonschema", "pydantic", "yaml"])
async def test_packages_beside_luthier_can_be_imported(package):
    outcome = await call(f"import {package}\ndef grade(sample, item): return 1.0")
    assert outcome == jail.Outcome(1.0)


@SLOW
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def grade(sample, item): return 1", "returned int, not a float"),
        ("def grade(sample, item): return 1 / 0", "ZeroDivisionError: division by zero, line 1"),
        ("\n\ndef grade(:", "SyntaxError"),
        ("grade = 1", "defines no function grade"),
    ],
)
async def test_what_is_wrong_with_the_code_is_said_with_its_line(source, words):
    assert words in (await call(source)).code_error


@SLOW
async def test_a_call_that_nobody_waits_for_ends_at_once():
    with anyio.move_on_after(1):
        await call("def grade(sample, item):\n    __import__('time').sleep(60)")
    assert not descendants(os.getpid())


@SLOW
def test_a_server_that_is_killed_leaves_no_grader_behind():
    program = """
import anyio
from luthier.domain.graders import jail
anyio.run(jail.run, "def grade(sample, item):\\n    __import__('time').sleep(60)", {}, {})
"""
    server = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 20
    while not (jailed := descendants(server.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.send_signal(signal.SIGKILL)
    server.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in jailed):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def descendants(pid):
    """The processes below another, when there are three: bubblewrap, its init and Python."""
    found, todo = [], [str(pid)]
    while todo:
        below = [
            child for task in Path(f"/proc/{todo.pop()}/task").glob("*/children") for child in task.read_text().split()
        ]
        found += below
        todo += below
    return found if len(found) >= 3 else []
