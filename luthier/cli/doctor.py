"""Commands that keep a server's data well: `doctor`, `backup`, `restore`, `migrate`, `rotate-secrets`. No clients."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

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
    from luthier.core.settings import load
    from luthier.domain.backup import backup as copy

    rows = copy(load(data=data), folder)
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
    to: Annotated[str, typer.Option(help="A version of the tables, or base for none.", show_default="newest")] = "head",
    data: Data = None,
) -> None:
    """Bring the tables to this version, as the server does when it starts; or, with it stopped, to an older one."""
    from luthier.cli.display import say
    from luthier.core.settings import load
    from luthier.store.database import Database

    with contextlib.closing(Database(load(data=data).database)) as database:
        database.migrate(to)
        say(f"tables of version {database.version().found or 'none'}")


def rotate_secrets(data: Data = None) -> None:
    """Encrypt the stored secrets by a new key; the server may run."""
    from luthier.cli.display import say
    from luthier.core.settings import load
    from luthier.store import webhooks
    from luthier.store.database import Database
    from luthier.store.secrets import Secrets

    settings = load(data=data)
    secrets = Secrets(settings.secret_keys)
    secrets.add_key()
    with contextlib.closing(Database(settings.database, secrets)) as database:
        say(f"{webhooks.encrypt_again(database)} secrets encrypted by a new key in {settings.secret_keys}")
