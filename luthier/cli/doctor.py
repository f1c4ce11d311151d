"""Commands that keep a server's data well: `doctor`, `backup`, `restore`, `migrate`, `rotate-secrets`. No clients."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from luthier.core.settings import Settings

Data = Annotated[Path | None, typer.Option("--data", help="Data folder.", show_default="~/.luthier")]


def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte that is kept, and check it.")] = False,
    data: Data = None,
) -> None:
    """Find what is wrong, and say how to mend it; the exit status is 1 if something is. The server may run."""
    from luthier.cli.display import say
    from luthier.core.settings import load
    from luthier.domain.doctor import examine

    wrong = 0
    for finding in examine(load(data=data), deep=deep):
        wrong += finding.mend is not None
        say(f"{'well ' if finding.mend is None else 'WRONG'}  {finding.subject}: {finding.words}")
        if finding.mend is not None:
            say(f"       → {finding.mend}")
    if wrong:
        raise typer.Exit(1)


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.", show_default=False)], data: Data = None
) -> None:
    """Copy database, files, models and keys into DIR; the server may run. DIR holds secrets: keep it as safe."""
    from luthier.cli.display import say
    from luthier.domain.backup import backup as copy

    rows = copy(_settings(data), folder)
    say(f"{rows:,} rows and all that belongs to them are in {folder}; back again by: luthier restore {folder}")


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A backup.", show_default=False)], data: Data = None
) -> None:
    """Fill an empty data folder and database from the backup in DIR, then start the server on it."""
    from luthier.cli.display import say
    from luthier.core.settings import load
    from luthier.domain.backup import restore as copy

    settings = load(data=data)
    rows = copy(settings, folder)
    say(f"{rows:,} rows restored into {settings.data}; look at it by: luthier doctor --deep")


def migrate(
    to: Annotated[str, typer.Option(help="A version of the tables.", show_default="newest")] = "head",
    data: Data = None,
) -> None:
    """Bring the tables to this version, as the server does when it starts; or, with it stopped, to an older one."""
    from luthier.cli.display import say
    from luthier.core.errors import Conflict, InvalidRequest
    from luthier.domain.alive import living
    from luthier.store.database import Database

    settings = _settings(data)
    if to == "base":
        raise InvalidRequest("before the first version there are no tables: to delete everything, delete them yourself")
    if to != "head" and living(settings.data / "runners"):
        raise Conflict(f"a server works on {settings.data}; stop it first")
    with contextlib.closing(Database(settings.database)) as database:
        database.migrate(to)
        say(f"tables of version {database.version().found or 'none'}")


def rotate_secrets(data: Data = None) -> None:
    """Encrypt the stored secrets by a new key; the server may run."""
    from luthier.cli.display import say
    from luthier.store import webhooks
    from luthier.store.database import Database
    from luthier.store.secrets import Secrets

    settings = _settings(data)
    secrets = Secrets(settings.secret_keys)
    secrets.add_key()
    with contextlib.closing(Database(settings.database, secrets)) as database:
        count = webhooks.encrypt_again(database)
    secrets.drop_old_keys()
    say(f"{count} secret(s) encrypted by a new key in {settings.secret_keys}")


def _settings(data: Path | None) -> Settings:
    """The settings of a server that was started. Errors: `InvalidRequest` when its data folder is not there."""
    from luthier.core.errors import InvalidRequest
    from luthier.core.settings import load

    settings = load(data=data)
    if not settings.data.is_dir():
        raise InvalidRequest(
            f"there is no data folder {settings.data}; start the server once (luthier serve), or give another by --data"
        )
    return settings
