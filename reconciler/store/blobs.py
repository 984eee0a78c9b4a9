"""Which stored files anything still needs: packages in force, runs and tasks that are not over, and Git itself.

Asked by the collector. Whatever a task could still ask for is needed, also one whose package left Git long ago.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, or_, select, update

from reconciler.domain import actual
from reconciler.store import counts, tables

_blob, _file = tables.blob, tables.package_file


def _needed() -> ColumnElement[bool]:
    """Whether something needs a blob."""
    package, run, fetch = tables.package, tables.run, tables.fetch
    working = select(run.c.package_id).where(or_(run.c.phase.in_(actual.UNENDED), counts.goes_on()))
    packages = select(package.c.id).where(or_(~package.c.removed, package.c.id.in_(working)))
    by_packages = select(_file.c.blob_id).where(_file.c.package_id.in_(packages))
    return or_(_blob.c.id.in_(by_packages), _blob.c.sha256.in_(select(fetch.c.sha256)))


def collect(
    connection: Connection, grace: timedelta, now: datetime, discard: Callable[[str], bool]
) -> list[str]:
    """Takes out what nothing has needed for some time; the digests of what is gone.

    Args:
        connection: a writing transaction: nobody begins to need a file while it runs.
        grace: for how long a file stays that nothing needs.
        now: this moment.
        discard: removes a file; False when somebody is about to use it, so that it stays.
    """
    needed = _needed()
    used = update(_blob).where(_blob.c.unused_since.is_not(None), needed)
    connection.execute(used.values(unused_since=None))
    unused = update(_blob).where(_blob.c.stored, _blob.c.unused_since.is_(None), ~needed)
    connection.execute(unused.values(unused_since=now))
    query = select(_blob.c.sha256).where(_blob.c.stored, _blob.c.unused_since <= now - grace)
    gone = [sha256 for sha256 in connection.execute(query).scalars() if discard(sha256)]
    connection.execute(update(_blob).where(_blob.c.sha256.in_(gone)).values(stored=False))
    return gone


def are_gone(connection: Connection, run_id: int) -> bool:
    """Whether a file of a run's package was taken out: the run had ended, and the package had left Git."""
    run = tables.run
    query = (
        select(_blob.c.id)
        .join(_file, _file.c.blob_id == _blob.c.id)
        .join(run, run.c.package_id == _file.c.package_id)
        .where(run.c.id == run_id, ~_blob.c.stored)
    )
    return connection.execute(query.limit(1)).first() is not None


def strangers(connection: Connection, digests: set[str]) -> set[str]:
    """Which of some files in the store no row knows as stored: they were put for something that never came."""
    known = connection.execute(select(_blob.c.sha256).where(_blob.c.stored)).scalars()
    return digests.difference(known, connection.execute(select(tables.fetch.c.sha256)).scalars())


def wanted(connection: Connection) -> list[str]:
    """Digests of files that are being fetched, or will be."""
    fetch = tables.fetch
    here = select(_blob.c.sha256).where(_blob.c.stored)
    return list(connection.execute(select(fetch.c.sha256).where(fetch.c.sha256.not_in(here))).scalars())
