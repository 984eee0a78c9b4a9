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


async def test_a_share_is_taken_of_those_that_fit_when_the_work_begins(rig):
    rig.materialize = nothing
    fleet = [f"dev-{number}" for number in range(10)]
    await rig.commit(base(*fleet), batch(target={"gray": {"percent": 33.3}}))
    await materialize.everything(rig.database, rig.clock, rig.presence)
    assert len(rig.rows(select(tables.task))) == 3


async def test_an_idle_look_writes_nothing(rig):
    rig.materialize = nothing
    await rig.commit(base("dev-1"), batch())
    assert await materialize.everything(rig.database, rig.clock, rig.presence)
    before = rig.rows(select(tables.event))
    assert not await materialize.everything(rig.database, rig.clock, rig.presence)
    assert rig.rows(select(tables.event)) == before
