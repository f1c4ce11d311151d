"""The database: connections, transactions, its clock, its migrations. SQLite or PostgreSQL, by the same code.

Knows no table by name; the verbs are in one module per noun beside this one.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, extract, func, inspect, make_url, select, text
from sqlalchemy.exc import DataError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from luthier.core.errors import InvalidRequest, StoreAway, Unavailable
from luthier.core.outbox import Kind
from luthier.store.glance import Glance
from luthier.store.secrets import Secrets

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_TIMEOUT_S: Final = 30
Work = Kind | Literal["job", "batch", "eval_run"]
NEWS: Final = "news"  # kinds of work that a transaction brings, in its connection's `info`
MIGRATIONS: Final = Path(__file__).parent / "migrations"

T = TypeVar("T")
P = ParamSpec("P")


class Turn(IntEnum):
    """What servers of one database do one after another. The numbers are those of no other lock of the database."""

    MIGRATION = 7_104_118
    CLAIM = 7_104_119
    FIRST_PROJECT = 7_104_120
    KEY = 7_104_121
    ANSWER = 7_104_122
    PERMISSION = 7_104_123


@dataclass(frozen=True)
class Version:
    """Versions of the tables; None: there are none."""

    found: str | None
    wanted: str | None

    @property
    def current(self) -> bool:
        return self.found == self.wanted


class Database:
    """One per process. Threads may share it."""

    def __init__(self, url: str, secrets: Secrets | None = None) -> None:
        """`secrets` encrypts what rows keep secret; without it those rows can be neither read nor written."""
        self._secrets = secrets
        self.sqlite = make_url(url).get_backend_name() == "sqlite"
        self._engine = _sqlite_engine(url) if self.sqlite else create_engine(url, pool_size=16, pool_pre_ping=True)
        options = {} if self.sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reads = self._engine.execution_options(reads=True, **options)
        # SQLite lets one connection write and has the others poll with growing naps; a line here is faster and fairer.
        self._writer: AbstractContextManager[object] = threading.RLock() if self.sqlite else nullcontext()
        self._bells: list[tuple[frozenset[Work], threading.Event]] = []
        self._driver: sqlite3.Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that may write: all of it or nothing is kept. Never open one inside another."""
        with self._writer, _translated(), self._engine.begin() as connection:
            connection.info[NEWS] = news = set[Work]()
            yield connection
        for kinds, bell in self._bells:
            if kinds & news:
                bell.set()

    def bell(self, *kinds: Work) -> threading.Event:
        """An event that is set whenever this process commits work of these kinds: see `announce`."""
        bell = threading.Event()
        self._bells.append((frozenset(kinds), bell))
        return bell

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, from one moment's state, and keeps no writer waiting."""
        with _translated(), self._reads.begin() as connection:
            yield connection

    def one_at_a_time(self, connection: Connection, turn: Turn) -> None:
        """Of the transactions that come here for this turn, one at a time goes on. SQLite's writers do anyway."""
        if not self.sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(int(turn))))

    async def ask(self, query: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `query`, which only reads, finds, for an event loop.

        SQLite is asked in the loop: its readers wait for nobody, and a thread takes longer than their answer.
        """
        if self.sqlite:
            return query(*args, **kwargs)
        return await asyncio.to_thread(query, *args, **kwargs)

    def glance(self, query: Glance, parameters: Mapping[str, str]) -> Mapping[Any, Any] | None:
        """The row that a query finds at this moment; in SQLite in a tenth of the time that `read` takes."""
        if not self.sqlite:
            with self.read() as connection:
                return connection.execute(query.statement, parameters).mappings().first()
        with _translated():
            if self._driver is None:
                file = str(self._engine.url.database)
                self._driver = sqlite3.connect(file, BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            return query.first(self._driver, parameters)

    @property
    def secrets(self) -> Secrets:
        """What encrypts. Errors: `Unavailable` when the database was opened without."""
        if self._secrets is None:
            raise Unavailable("this database was opened without the key of its secrets")
        return self._secrets

    def now(self) -> float:
        """Unix time by the clock that all processes on this database share: leases are compared with it."""
        if self.sqlite:
            return time.time()
        with self.read() as connection:
            return float(connection.execute(select(extract("epoch", func.clock_timestamp()))).scalar_one())

    def ping(self) -> None:
        """Errors: `StoreAway`."""
        with self.read() as connection:
            connection.execute(select(1))

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables up to this version, from any older one or from nothing; or down to an older one."""
        if revision == "head" and self.version().current:
            return  # without Alembic, which takes 12 MB and a quarter of a second
        from alembic import command
        from alembic.script import ScriptDirectory

        with self.transaction() as connection:
            self.one_at_a_time(connection, Turn.MIGRATION)  # two servers may start at once
            config = migrations(connection)
            scripts = ScriptDirectory.from_config(config)
            known = sorted(step.revision for step in scripts.walk_revisions())
            if revision not in ("head", "base", *known):
                raise InvalidRequest(f"there is no version {revision} of the tables; known are {', '.join(known)}")
            done = scripts.iterate_revisions(_at(connection) or "base", "base")
            older = revision == "base" or revision in {step.revision for step in done}
            (command.downgrade if older else command.upgrade)(config, revision)

    def version(self) -> Version:
        """Which version the tables have, and which this program wants."""
        with self.read() as connection:
            return Version(_at(connection), _newest())

    def close(self) -> None:
        """Close idle connections."""
        self._engine.dispose()
        if self._driver is not None:
            self._driver.close()


def announce(connection: Connection, kind: Work) -> None:
    """This transaction brings work of this kind: once it is kept, whoever asked for a `bell` is woken."""
    connection.info[NEWS].add(kind)


def _at(connection: Connection) -> str | None:
    """The version that Alembic notes."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _newest() -> str:
    """The version that this program wants: they are numbered, and their files named by them."""
    return max(file.name.partition("_")[0] for file in MIGRATIONS.glob("versions/0*.py"))


def migrations(connection: Connection) -> Config:
    """Alembic's configuration for a connection; `migrations/env.py` uses its transaction."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, pool_size=16, max_overflow=64, connect_args={"timeout": BUSY_TIMEOUT_S})
    path = Path(engine.url.database or "")
    if path.parent.is_dir():
        path.touch(mode=0o600)  # SQLite gives its journal the database's mode

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver's guess
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "secure_delete=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes may fail half-way; one that takes the write lock at once waits.
        reads = connection.get_execution_options().get("reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DataError as error:  # PostgreSQL keeps no NUL in its texts
        raise InvalidRequest(f"The database cannot keep this value: {error.orig}", code="invalid_value") from error
    except OverflowError as error:  # SQLite's driver, of a number beyond 64 bits
        raise InvalidRequest(f"A number of this request is too large: {error}", code="invalid_value") from error
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON's escapes can bring in
        raise InvalidRequest(f"The database cannot keep this text: {error}", code="invalid_value") from error
    except (OperationalError, InterfaceError, InternalError) as error:  # the last: a server that only reads by now
        raise StoreAway(f"the database does not answer: {error.orig}; nothing was changed, try again") from error
    except sqlite3.OperationalError as error:  # the driver's own, of a glance
        raise StoreAway(f"the database does not answer: {error}; nothing was changed, try again") from error
    except PoolTimeout as error:
        raise StoreAway("the database answers nobody: all connections to it wait; try again") from error
