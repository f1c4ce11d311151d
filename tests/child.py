"""`luthier serve` as a process of its own: one that can be killed, and one that speaks https."""

import os
import subprocess
import sys
from contextlib import contextmanager

from tests.conftest import KEY
from tests.databases import blobs_url, database_url

TOML = '[bases.tiny]\nsource = "file:/nowhere/m.gguf"\nsha256 = "' + "0" * 64 + '"\nlicence = "Apache-2.0"\n'


@contextmanager
def served(folder, *options):
    """The process and its URL; data and cache are in `folder`, where a base `tiny` may stand. Killed at the end."""
    (folder / "luthier.toml").write_text(TOML)
    passed = {name: value for name, value in os.environ.items() if name == "PYTHONPATH" or name.startswith("AWS_")}
    environment = passed | {
        "PATH": "",
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "LUTHIER_API_KEY": KEY,
        "LUTHIER_CACHE": str(folder / "cache"),
        "LUTHIER_DEFAULT_BASE": "tiny",
        "LUTHIER_ENGINE": "echo",
        "LUTHIER_WARM_TRAINER": "false",
    }
    kept = {"LUTHIER_DATABASE_URL": database_url(folder), "LUTHIER_BLOBS_URL": blobs_url(folder)}
    environment |= {name: url for name, url in kept.items() if url}
    command = [sys.executable, "-m", "luthier.cli.main", "serve", "--port", "0", "--data", folder / "data", *options]
    log = folder / "server.log"
    with (
        log.open("ab") as stderr,
        subprocess.Popen(
            command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        try:
            first = process.stdout.readline()
            assert first.startswith("Luthier listens on "), log.read_text()
            yield process, first.split()[-1]
        finally:
            process.kill()
