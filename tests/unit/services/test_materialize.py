"""The service that makes rows of what was applied, and tells who has to know."""

from __future__ import annotations

import asyncio

from rig import base, batch
from sqlalchemy import select

from reconciler import errors
from reconciler.services import materialize
from reconciler.services.bell import Bell
from reconciler.store import tables


async def nothing() -> None:
    """Leaves the work to the service."""


async def test_who_has_to_know_of_new_rows_is_told_until_it_succeeds(rig):
    rig.materialize = nothing
    await rig.commit(base("dev-1"), batch())
    told, understood = [], asyncio.Event()

    async def done() -> None:
        told.append(len(rig.rows(select(tables.task))))
        if len(told) == 1:
            raise errors.TransientError("away")
        understood.set()

    running = asyncio.create_task(materialize.run(rig.database, rig.clock, rig.presence, Bell(), done))
    async with asyncio.timeout(10):
        await understood.wait()
    assert told == [1, 1]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
