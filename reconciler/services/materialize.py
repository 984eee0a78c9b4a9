"""Turns what was applied into rows, chunk by chunk: devices of inventories, tasks of runs, ends of cancelled tasks.

Between two chunks ingest and dispatch get their turn at the writer, so a million tasks keep nobody waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from reconciler import errors
from reconciler.services import backoff
from reconciler.services.bell import Bell
from reconciler.services.clock import Clock
from reconciler.store import deadlines, devices, jobs, materialization, runs
from reconciler.store.database import Connection, Database

_log = logging.getLogger(__name__)


async def run(
    database: Database,
    clock: Clock,
    presence: devices.Presence,
    applied: Bell,
    done: Callable[[], Awaitable[None]],
) -> None:
    """Works whenever something was applied, and looks every ten seconds, until cancelled.

    Args:
        database: the state.
        clock: time.
        presence: what makes a push due at once.
        applied: wakes this.
        done: awaited after something was materialised; again until it succeeds.
    """
    retry = backoff.Backoff(0.2, 10.0)
    is_owed = False
    while True:
        try:
            while await _chunk_of(database, clock, presence):
                is_owed = True
            if is_owed:
                await done()
                is_owed = False
        except errors.ReconcilerError as error:
            _log.warning("materialising waits: %s", error.message)
            await asyncio.sleep(retry.failed())
            continue
        retry.succeeded()
        await applied.wait(10.0)


async def everything(database: Database, clock: Clock, presence: devices.Presence) -> bool:
    """Materialises until nothing is left; True when there was anything."""
    found = False
    while await _chunk_of(database, clock, presence):
        found = True
    return found


async def _chunk_of(database: Database, clock: Clock, presence: devices.Presence) -> bool:
    """One chunk, when there is any; an idle look writes nothing."""
    if not await database.read(_anything_due, clock.now()):
        return False
    beginning = await database.read(jobs.unprepared)
    if beginning is not None:  # it took seconds, and kept nobody from writing
        await database.write(jobs.begin, beginning.job_id, beginning.arguments)
    return await database.write(_chunk, presence, clock.now())


def _anything_due(connection: Connection, now: datetime) -> bool:
    return materialization.anything_due(connection) or deadlines.schedule_due(connection, now)


def _chunk(connection: Connection, presence: devices.Presence, now: datetime) -> bool:
    """The schedule first: what has ended makes no tasks."""
    moved = [runs.end_due(connection, now), runs.start_due(connection, now)]
    return materialization.work(connection, presence, now) or any(moved)
