"""What the product's verbs work on, opened once per process: database, blobs, base models, engines. Knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field

from luthier.core.errors import InvalidRequest
from luthier.core.projects import Project
from luthier.core.run import write_atomic
from luthier.core.settings import Settings
from luthier.domain import keys
from luthier.domain.background import Background
from luthier.domain.bases import Bases
from luthier.engines.pool import EnginePool
from luthier.store.blobs import Blobs
from luthier.store.database import Database
from luthier.store.secrets import Secrets


@dataclass(frozen=True)
class Platform:
    """`first_key` is set on the first run alone: the only time that the key can be shown."""

    settings: Settings
    database: Database
    blobs: Blobs
    bases: Bases
    engines: EnginePool
    project: Project
    first_key: str | None
    background: Background = field(default_factory=Background)

    def close(self) -> None:
        """Give back what `open_platform` took. Engines are closed before, by the event loop that asked them."""
        self.database.close()


def open_platform(settings: Settings) -> Platform:
    """Make the data folder, migrate the database, see that there are a project and a key.

    A key made here is kept in the data folder too (0600), for client commands on this machine.
    """
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.runs.mkdir(exist_ok=True, mode=0o700)
    database = Database(settings.database, Secrets(settings.secret_keys))
    database.migrate()
    project = keys.ensure_project(database, settings.organization)
    first_key = keys.ensure_key(database, project, settings.api_key)
    if first_key is not None:
        write_atomic(settings.key_file, first_key.encode(), mode=0o600)
    bases = Bases(settings.cache, settings.bases, settings.added_bases)
    if strange := set(settings.engines) - set(bases.names()):
        known = ", ".join(bases.names())
        raise InvalidRequest(f"setting engines: no base model is named {', '.join(sorted(strange))}; known are {known}")
    engines = EnginePool(
        settings.engine,
        bases.get,
        engines={**bases.elsewhere(), **settings.engines},
        adapters=settings.runs,
        engine_api_key=settings.engine_api_key,
        memory=settings.serving_memory,
    )
    return Platform(settings, database, Blobs(settings.blobs), bases, engines, project, first_key)
