"""Batches to measure with: made through the store, and worked off as the daemon does it."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import seeding

from reconciler.domain import actual, targeting
from reconciler.services import materialize
from reconciler.services.clock import SystemClock
from reconciler.store import devices, runs
from reconciler.store.database import Connection, Database

PRESENCE = devices.Presence(seeding.EPOCH, timedelta(0))
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def now() -> datetime:
    """This moment."""
    return SystemClock().now()


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[Database]:
    """A database, for as long as it is needed."""
    database = Database.open(seeding.url(path), upgrade=False)
    yield database
    database.close()


def declare(
    connection: Connection, number: int, *, sources: tuple[str, ...] = (), dynamic: bool = False, **rules: Any
) -> int:
    """A batch for everybody, or for whoever reports one of some versions; its run's id. Tasks come later."""
    made = runs.NewRun(
        object_id=100 + number,
        batch=f"batch-{number}",
        type=actual.RunType.DYNAMIC if dynamic else actual.RunType.STATIC,
        product_id=1,
        package_id=1,
        revision_id=1,
        conditions=targeting.Conditions("default", seeding.TARGET, sources),
        push_rate=10_000,
        **rules,
    )
    return runs.create(connection, made, now())


async def work_off(database: Database) -> None:
    """Every job, as the daemon works on them: chunk after chunk through the one writer."""
    await materialize.everything(database, SystemClock(), PRESENCE)


def created(folder: pathlib.Path, count: int) -> pathlib.Path:
    """A fleet with a batch that has a task for each of its devices: made once in a run, not to be written to."""
    path = folder / f"created-{count}.db"
    if not path.exists():
        making = seeding.fleet(folder, count, "making")
        with opened(making) as database:
            with database.writing() as connection:
                declare(connection, 1)
            asyncio.run(work_off(database))
        making.rename(path)
    return path
