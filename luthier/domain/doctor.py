"""What is wrong with a server's data, and how to mend it. Looks, and changes nothing."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luthier.core.errors import LuthierError
from luthier.core.settings import Settings
from luthier.domain.bases import Bases
from luthier.store import consistency, counts
from luthier.store.blobs import Blobs
from luthier.store.database import Database

LEAST_FREE_BYTES: Final = 2 << 30  # a training run of the default base, twice over
CPU_FLAGS: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `mend` is None when it is well."""

    subject: str
    words: str
    mend: str | None = None


def examine(settings: Settings, *, deep: bool) -> Iterator[Finding]:
    """Look at everything; `deep` reads every byte that is kept, too."""
    yield from _folder(settings)
    yield from _engine(settings)
    if not settings.data.is_dir():
        return
    database = Database(settings.database)
    with contextlib.closing(database):
        try:
            database.ping()
            version = database.version()
        except LuthierError as error:
            yield Finding("database", error.message, "check LUTHIER_DATABASE_URL and that the database runs")
            return
        if not version.current:
            found = version.found or "none"
            yield Finding(
                "database", f"its tables are of version {found}, not {version.wanted}", "run: luthier migrate"
            )
            return
        yield Finding("database", f"answers, tables of version {version.found}")
        yield from _queue(database)
        if deep:
            yield from _contents(settings, database)


def _folder(settings: Settings) -> Iterator[Finding]:
    data = settings.data
    if not data.is_dir():
        yield Finding("data folder", f"{data} is not there", "start the server once, or give another by --data")
        return
    exposed = [path for path in (data, *data.iterdir()) if path.stat().st_mode & 0o077]
    if exposed:
        names = " ".join(map(str, exposed[:5]))
        yield Finding("data folder", f"other users of this machine can read {names}", f"run: chmod -R go= {data}")
    else:
        yield Finding("data folder", f"{data}, for nobody else to read")
    free_bytes = shutil.disk_usage(data).free
    mend = None if free_bytes >= LEAST_FREE_BYTES else "free some: a training run writes some hundred megabytes"
    yield Finding("disk", f"{free_bytes / 1e9:,.1f} GB free", mend)


def _engine(settings: Settings) -> Iterator[Finding]:
    base = settings.default_base
    ready = Bases(settings.cache, settings.bases, settings.added_bases).ready(base)
    there = "is" if ready else "is not"
    yield Finding(
        "base model", f"{base} {there} on this machine", None if ready else f"run: luthier models pull {base}"
    )
    if settings.engine == "llamacpp":
        has = importlib.util.find_spec("xllamacpp") is not None
        mend = None if has else "run: pip install xllamacpp"
        yield Finding("engine", "xllamacpp is installed" if has else "xllamacpp is not installed", mend)
        if CPU_FLAGS.exists() and " avx2" not in CPU_FLAGS.read_text():
            yield Finding("engine", "this processor has no AVX2", "build xllamacpp for it, or use a machine that has")


def _queue(database: Database) -> Iterator[Finding]:
    found = counts.unfinished(database, now=database.now())
    jobs = sum(found.jobs.values())
    late = found.oldest_unclaimed_s > 60 and not found.at_work
    words = f"{jobs} unfinished jobs, {sum(found.batches.values())} batches, {sum(found.outbox.values())} notices"
    waits = f"; the first job has waited for {found.oldest_unclaimed_s:,.0f} s and nobody works on any"
    yield Finding("queue", words + (waits if late else ""), "is the server running? luthier serve" if late else None)
    for item, error in consistency.troubled_notices(database):
        yield Finding("notices", f"{item}: {error}", "mend the receiver; what was not given up is sent again")


def _contents(settings: Settings, database: Database) -> Iterator[Finding]:
    wrong = consistency.contradictions(database)
    yield from (Finding("rows", words, "restore a backup, and report this") for words in wrong)
    if not wrong:
        yield Finding("rows", "agree with each other")
    blobs = Blobs(settings.blobs)
    checked, bad, needed = 0, 0, set()
    for wanted in consistency.blobs(database):
        needed.add(wanted.blob)
        try:
            checked += sum(map(len, blobs.read(wanted.blob, wanted.sha256)))
        except LuthierError as error:
            bad += 1
            yield Finding("bytes", f"{wanted.owner}: {error.message}", "restore them from a backup")
    if not bad:
        yield Finding("bytes", f"{len(needed):,} blobs, {checked:,} bytes, all as they were written")
    orphans = [size for key, size in blobs.sizes() if key not in needed]
    if orphans:
        yield Finding("bytes", f"{len(orphans)} blobs ({sum(orphans):,} bytes) that no row names: a crash left them")
    adapters = consistency.adapters(database)
    gone = [name for name, adapter in adapters if not (settings.runs / adapter / "adapter_model.safetensors").is_file()]
    yield from (Finding("models", f"{name}: its adapter is gone", "delete it, or restore a backup") for name in gone)
    if not gone:
        yield Finding("models", f"{len(adapters)} tuned models, every adapter is there")
