"""Files from outside that Git names: the intent to have each, how far it is, and that it has come.

Written by apply (what Git names) and by the fetch service (what came of it), read for plans and by who looks. An intent
lasts as long as Git names the file, so that what has come for a package that is held or refused is kept for it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection, and_, delete, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from reconciler.domain import actual
from reconciler.domain.desired import ForeignFile
from reconciler.store import products, tables

_fetch, _blob = tables.fetch, tables.blob


class Failure(enum.StrEnum):
    """Why a file is not asked for any more."""

    MISMATCH = "mismatch"
    """What is at the source is another file: it stays so until the manifest names another one, or another place."""
    REFUSED = "refused"
    """It may not be fetched: it stays so until the daemon begins with other settings."""


def declare(connection: Connection, files: Iterable[ForeignFile], now: datetime) -> bool:
    """The files that the newest commit names; True when they are others than before."""
    wanted: dict[tuple[str, str], int | None] = {}
    for file in files:
        wanted.setdefault((file.sha256, file.source), file.size)
    known = {(row.sha256, row.source): row for row in connection.execute(select(_fetch))}
    new = [place for place in wanted if place not in known]
    resized = [place for place in wanted if place in known and known[place].size != wanted[place]]
    gone = [row.id for place, row in known.items() if place not in wanted]
    for sha256, source in new:
        values = {"sha256": sha256, "source": source, "size": wanted[sha256, source], "created_at": now}
        connection.execute(insert(_fetch).values(values))
    for place in resized:
        anew = {"size": wanted[place], "failure": None, "retry_at": None, "message": ""}
        connection.execute(update(_fetch).where(_fetch.c.id == known[place].id).values(anew))
    if gone:
        connection.execute(delete(_fetch).where(_fetch.c.id.in_(gone)))
    return bool(new or resized or gone)


def load(connection: Connection) -> Mapping[tuple[str, str], actual.Fetch]:
    """How far each file from outside is, by digest and source."""
    return {
        (row.sha256, row.source): actual.Fetch(row.received, row.total, row.message, failed=bool(row.failure))
        for row in connection.execute(select(_fetch))
    }


def stored(connection: Connection) -> Mapping[str, actual.Content]:
    """All files that are in the store, by digest."""
    query = select(_blob.c.sha256, _blob.c.size, _blob.c.md5).where(_blob.c.stored)
    return {row.sha256: actual.Content(row.size, row.md5) for row in connection.execute(query)}


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """A file to be fetched now."""

    id: int
    source: str
    sha256: str
    size: int | None
    attempts: int


_AWAY = or_(_blob.c.id.is_(None), ~_blob.c.stored)


def due(connection: Connection, now: datetime) -> list[Due]:
    """The files that are not here and whose time has come; those that were tried least first."""
    query = (
        select(_fetch.c.id, _fetch.c.source, _fetch.c.sha256, _fetch.c.size, _fetch.c.attempts)
        .outerjoin(_blob, _blob.c.sha256 == _fetch.c.sha256)
        .where(_AWAY, _fetch.c.failure.is_(None))
        .where(or_(_fetch.c.retry_at.is_(None), _fetch.c.retry_at <= now))
        .order_by(_fetch.c.attempts, _fetch.c.id)
    )
    return [Due(*row) for row in connection.execute(query)]


def begin(connection: Connection) -> None:
    """A daemon starts: what was not allowed may be allowed now."""
    refused = update(_fetch).where(_fetch.c.failure == Failure.REFUSED)
    connection.execute(refused.values(failure=None, retry_at=None))


@dataclasses.dataclass(frozen=True, slots=True)
class Far:
    """How far a fetch is."""

    received: int
    total: int | None


def advance(connection: Connection, far: Mapping[int, Far]) -> None:
    """Writes down how far fetches are."""
    for fetch_id, given in far.items():
        moved = update(_fetch).where(_fetch.c.id == fetch_id)
        connection.execute(moved.values(received=given.received, total=given.total))


@dataclasses.dataclass(frozen=True, slots=True)
class Came:
    """A file that is whole, checked, and in the store."""

    sha256: str
    md5: str
    size: int


def arrived(connection: Connection, fetch_id: int, came: Came, now: datetime) -> None:
    """A file is here, whatever became of the intent meanwhile."""
    products.put_blob(connection, sha256=came.sha256, md5=came.md5, size=came.size, now=now)
    values = {"received": came.size, "total": came.size, "attempts": 0, "retry_at": None, "message": ""}
    connection.execute(update(_fetch).where(_fetch.c.id == fetch_id).values(values))


def try_again(connection: Connection, fetch_id: int, message: str, attempts: int, at: datetime) -> None:
    """An attempt came to nothing; the next one is at some moment."""
    values = {"message": message, "attempts": attempts, "retry_at": at}
    connection.execute(update(_fetch).where(_fetch.c.id == fetch_id).values(values))


def fail(connection: Connection, fetch_id: int, failure: Failure, message: str) -> None:
    """Trying again changes nothing."""
    values = {"message": message, "failure": failure, "received": 0, "total": None}
    connection.execute(update(_fetch).where(_fetch.c.id == fetch_id).values(values))


def lost(connection: Connection) -> set[str]:
    """Files that were in the store once, and are not."""
    return set(connection.execute(select(_blob.c.sha256).where(~_blob.c.stored)).scalars())


def regain(connection: Connection, digests: Iterable[str]) -> None:
    """Files that are in the store again."""
    back = update(_blob).where(_blob.c.sha256.in_(list(digests)))
    connection.execute(back.values(stored=True, unused_since=None))


def lose(connection: Connection, digests: Iterable[str]) -> int:
    """Files that should be in the store went missing there: they are got again. The number of them."""
    gone = and_(_blob.c.stored, _blob.c.sha256.in_(list(digests)))
    return connection.execute(update(_blob).where(gone).values(stored=False)).rowcount
