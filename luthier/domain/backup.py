"""Backups of a server that goes on working, and what becomes of one: rows, blobs, runs and keys in a folder.

Bytes are there before the rows that name them, so rows are copied first, then the bytes that they name; if some were
deleted meanwhile, the rows are copied again, the last time while writers wait: most bytes are copied by then.
Base models are not in it: they can be fetched again.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from luthier.core.errors import Conflict, InvalidRequest, NotFound
from luthier.core.run import write_atomic
from luthier.core.settings import Settings
from luthier.store import consistency
from luthier.store.blobs import Blobs
from luthier.store.copying import copy, require_empty
from luthier.store.database import Database

UNHELD_TRIES: Final = 2
KEY_FILES: Final = ("api_key", "secret_keys")
# What a copy made while a trainer works needs first: a state of it may lack what was written later, never earlier.
RUN_ORDER: Final = ("adapter", "checkpoints")
EXPORTED_BY: Final = ("spec.json", "probe.json", "certificate.json")  # beside an adapter
LEFT: Final = shutil.ignore_patterns("lock", "fence", "fence.lock", ".*")


def backup(settings: Settings, folder: Path) -> int:
    """Copy everything into a new folder; how many rows.

    Errors: `Conflict` for a folder that has something in it; `NotFound` when bytes that a row needs are not there.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty; give a new folder for each backup")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with contextlib.closing(Database(settings.database)) as source:
            return _copy(source, settings, folder)
    except BaseException:  # half a backup is none, and would stand in the way of the next
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _copy(source: Database, settings: Settings, folder: Path) -> int:
    for _ in range(UNHELD_TRIES):
        with contextlib.suppress(NotFound):
            return _copy_all(source, settings, folder)
    with consistency.held(source):
        return _copy_all(source, settings, folder)


def restore(settings: Settings, folder: Path) -> int:
    """Fill an empty data folder, database and blob store from a backup; how many rows.

    Errors: `InvalidRequest` for a folder that is no backup; `Conflict` when there is something already.
    """
    if not (folder / "luthier.db").is_file():
        raise InvalidRequest(f"{folder} is no backup, or one that was not finished: it has no luthier.db")
    folders = [path for path in (settings.runs, settings.added_bases) if path.exists()]
    if any((settings.data / name).exists() for name in KEY_FILES) or any(any(path.iterdir()) for path in folders):
        raise Conflict(f"{settings.data} is in use; restore into a new data folder (--data)")
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    source, target = Database(f"sqlite:///{folder / 'luthier.db'}"), Database(settings.database)
    with contextlib.closing(source), contextlib.closing(target):
        source.migrate()
        target.migrate()
        require_empty(target)
        _copy_blobs(source, Blobs((folder / "blobs").absolute().as_uri()), Blobs(settings.blobs))
        shutil.copytree(folder / "runs", settings.runs, dirs_exist_ok=True)
        _copy_tree(folder / "bases", settings.added_bases)
        rows = copy(source, target)
    _copy_keys(folder, settings.data)
    return rows


def _copy_all(source: Database, settings: Settings, folder: Path) -> int:
    growing = folder / ".luthier.db.part"
    growing.unlink(missing_ok=True)
    with contextlib.closing(Database(f"sqlite:///{growing}")) as target:
        target.migrate()
        rows = copy(source, target)
        _copy_blobs(target, Blobs(settings.blobs), Blobs((folder / "blobs").absolute().as_uri()))
        _copy_runs(target, settings.runs, folder / "runs")
    _copy_tree(settings.added_bases, folder / "bases")
    _copy_keys(settings.data, folder)
    growing.rename(folder / "luthier.db")  # last of all, for it makes the folder a backup
    return rows


def _copy_blobs(rows: Database, source: Blobs, target: Blobs) -> None:
    """Errors: `NotFound` when one is gone; `Unavailable` when one is damaged."""
    there = {key for key, _ in target.sizes()}
    for needed in consistency.blobs(rows):
        if needed.blob not in there:
            chunks = source.read(needed.blob, needed.sha256)
            with target.writer(needed.blob) as writer:
                for chunk in chunks:
                    writer.write(chunk)
                writer.close()


def _copy_runs(rows: Database, source: Path, target: Path) -> None:
    """Adapters that answer, and the run folders of jobs that go on. Errors: `NotFound` when one is gone."""
    target.mkdir(exist_ok=True, mode=0o700)
    unfinished = set(consistency.unfinished_jobs(rows))
    for job_id in unfinished:
        for part in _parts(source / job_id):
            _copy_tree(part, target / part.relative_to(source))
    for name, adapter in consistency.adapters(rows):
        if not (target / adapter).exists():
            _copy_tree(source / adapter, target / adapter)
            if not (target / adapter).exists():
                raise NotFound(f"the adapter of {name} is gone from {source / adapter}")
            run = adapter.partition("/")[0]
            for told in EXPORTED_BY:
                _copy_tree(source / run / told, target / run / told)


def _parts(run: Path) -> Iterator[Path]:
    if not run.exists():
        return
    names = sorted(path.name for path in run.iterdir())
    for name in [*RUN_ORDER, *(name for name in names if name not in RUN_ORDER)]:
        path = run / name
        if path.exists() and name not in LEFT(str(run), names):
            yield from path.iterdir() if name == "checkpoints" else [path]


def _copy_tree(source: Path, target: Path) -> None:
    """A file or folder, whole or not at all: what vanishes on the way is not there."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        if source.is_dir():
            shutil.copytree(source, temporary, ignore=LEFT)
        else:
            shutil.copyfile(source, temporary)
    except (FileNotFoundError, shutil.Error):
        shutil.rmtree(temporary, ignore_errors=True)
        if source.exists():  # it did not vanish: a disk is full, or a file cannot be read
            raise
        return
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def _copy_keys(source: Path, target: Path) -> None:
    for name in KEY_FILES:
        if (source / name).exists():
            write_atomic(target / name, (source / name).read_bytes(), mode=0o600)
