"""Opens the database and owns its threads: one writer, a few readers, never the event loop.

Called by bootstrap (the daemon) and by the CLI (short looks beside a running daemon). It decides how a
transaction begins and what an outage of the database means; it knows no table but its own row.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

import orjson
import sqlalchemy
from sqlalchemy import Engine, event

from reconciler import errors
from reconciler.store import migrate, writer

Connection = sqlalchemy.Connection
"""A connection inside a transaction, for those who only hand it on."""

P = ParamSpec("P")
T = TypeVar("T")
Statement = Callable[Concatenate[Connection, P], T]

_BUSY_SECONDS = 15
_READERS = 3


class Database:
    """A database whose schema is current.

    Functions given to `read` and `write` get a connection inside a transaction; when they raise, nothing of what
    they did remains. Writers begin IMMEDIATE, because a transaction that reads first and writes later fails
    under contention otherwise.
    """

    def __init__(self, url: str) -> None:
        self._writer_engine = _engine(url, "BEGIN IMMEDIATE")
        self._reader_engine = _engine(url, "BEGIN", read_only=True)
        self._writer = writer.Writer()
        self._readers = concurrent.futures.ThreadPoolExecutor(_READERS, thread_name_prefix="database-reader")

    @classmethod
    def open(cls, url: str, *, upgrade: bool) -> Self:
        """Opens a database.

        Args:
            url: an SQLAlchemy URL.
            upgrade: bring the schema up to date (the daemon); otherwise an older schema is refused (a look).

        Raises:
            UserError: the URL is not one that we support, or the schema is newer or older than this program.
            TransientError: the database can't be reached.
        """
        path = _check(url)
        if not upgrade and path is not None and not path.exists():
            raise errors.UserError(
                f"there is no database at {path}",
                remedy="Name the daemon's --data-dir, or start `reconciler run` or `reconciler apply` with it first.",
            )
        database = cls(url)
        try:
            with _wrapped():
                migrate.ensure(database._writer_engine, upgrade=upgrade)
        except errors.ReconcilerError:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one moment, on the calling thread."""
        with _wrapped(), self._reader_engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write, on the calling thread."""
        with _wrapped(), self._writer_engine.begin() as connection:
            yield connection

    async def read(
        self, statement: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs `statement` in a reader thread."""

        def work() -> T:
            with self.reading() as connection:
                return statement(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def write(
        self, statement: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs `statement` in the writer thread; the future is done after the commit."""
        return await asyncio.wrap_future(self._writer.submit(self._writes(statement, *args, **kwargs)))

    async def write_first(
        self, statement: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same, before everything that waits for the writer: somebody outside waits for this."""
        work = self._writes(statement, *args, **kwargs)
        return await asyncio.wrap_future(self._writer.submit(work, first=True))

    def _writes(
        self, statement: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Callable[[], T]:
        def work() -> T:
            with self.writing() as connection:
                return statement(connection, *args, **kwargs)

        return work

    def close(self) -> None:
        """Waits for what runs, then closes every connection."""
        self._writer.close()
        self._readers.shutdown()
        self._writer_engine.dispose()
        self._reader_engine.dispose()


def _check(url: str) -> Path | None:
    """The file of an SQLite URL; refuses what is not supported."""
    try:
        parsed = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError as error:
        raise errors.UserError(
            f"{url!r} is not a database URL", remedy="Try sqlite:///data/state.db."
        ) from error
    if parsed.get_backend_name() != "sqlite":
        raise errors.UserError(
            f"the database {parsed.get_backend_name()!r} is not supported yet",
            remedy="Use SQLite: leave --database away, or give sqlite:///path/to/state.db.",
        )
    return Path(parsed.database) if parsed.database else None


def _engine(url: str, begin: str, *, read_only: bool = False) -> Engine:
    engine = sqlalchemy.create_engine(
        url,
        json_serializer=lambda value: orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode(),
        json_deserializer=orjson.loads,
        pool_size=_READERS + 1,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        # FULL: what was acknowledged to a device must survive a power cut.
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "cache_size=-65536",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if read_only:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@contextlib.contextmanager
def _wrapped() -> Iterator[None]:
    """Turns the database's own outages into errors that say what happens next."""
    try:
        yield
    except sqlalchemy.exc.OperationalError as error:
        text = str(error.orig)
        if "disk is full" in text or "readonly" in text:
            raise errors.StalledError(
                f"the database can't be written: {text}", remedy="Free disk space or mend the permissions."
            ) from error
        raise errors.TransientError(f"the database is away: {text}", retry_after=1.0) from error
    except sqlalchemy.exc.DatabaseError as error:
        if type(error.orig) is not sqlite3.DatabaseError:
            raise  # a broken constraint is a bug
        raise errors.StalledError(
            f"the database can't be used: {error.orig}",
            remedy="Restore it from a backup, or move it away: a new one is rebuilt from Git and from reports.",
        ) from error
