"""Rewrite `requirements.lock`: versions and hashes for plain pip, no download addresses. Run by `make lock` (takes
minutes).

torch has two files of one version, the CPU build and PyPI's own; the lock names the version once and lists both hashes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        LOCK.write_text(without_torch(LOCK.read_text()))
        python = f"{folder}/bin/python"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "pip-tools"], check=True)
        compile_lock = [
            f"{folder}/bin/pip-compile",
            "-q",
            "--extra=dev",
            "--generate-hashes",
            "--strip-extras",
            "--allow-unsafe",
        ]
        quiet = ["--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links", "--no-header"]
        files = ["-c", "constraints.txt", "-o", LOCK.name, "pyproject.toml"]
        subprocess.run([*compile_lock, *quiet, *files], check=True, cwd=ROOT)
        report = Path(folder, "report.json")
        pinned = (ROOT / "constraints.txt").read_text().strip()
        dry = [
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--dry-run",
            "--no-deps",
            "--ignore-installed",
            "--report",
            str(report),
            pinned,
        ]
        subprocess.run(dry, check=True, env={**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""})
        public = json.loads(report.read_text())["install"][0]["download_info"]["archive_info"]["hashes"]["sha256"]
    made = with_both_builds(LOCK.read_text(), pinned, public)
    if "\nnvidia-" in made:
        raise SystemExit("the lock would bring gigabytes of CUDA: pip finds torch's public build here, not the CPU's")
    LOCK.write_text(made)


def without_torch(lock: str) -> str:
    """The lock before it is made anew. pip-compile keeps what stands there, and to keep torch takes the CUDA build."""
    blocks = re.split(r"^(?=\S)", lock, flags=re.MULTILINE)
    return "".join(block for block in blocks if not block.startswith(("torch==", "triton==", "nvidia-", "cuda-")))


def with_both_builds(lock: str, pinned: str, public_sha256: str) -> str:
    """The lock with torch's local version label gone and the public file's hash beside the local one's."""
    block = re.search(r"^torch==\S+ \\\n((?:    --hash=\S+(?: \\)?\n)+)", lock, re.MULTILINE)
    if block is None:
        raise SystemExit("requirements.lock names no torch; was it compiled?")
    hashes = sorted({*re.findall(r"sha256:(\w+)", block[1]), public_sha256})
    lines = " \\\n".join(f"    --hash=sha256:{h}" for h in hashes)
    return lock[: block.start()] + f"{pinned} \\\n{lines}\n" + lock[block.end() :]


if __name__ == "__main__":
    main()
