"""One service wakes another, and neither outlives its cancellation."""

from __future__ import annotations

import asyncio

import pytest

from reconciler.services.bell import Bell


async def test_a_ring_before_the_wait_is_heard():
    bell = Bell()
    bell.ring()
    assert await bell.wait(10)


async def test_nobody_waits_longer_than_asked():
    assert not await Bell().wait(0)


@pytest.mark.parametrize("turns", range(5))
async def test_a_cancellation_that_comes_with_the_ring_is_not_lost(turns):
    bell = Bell()

    async def serve():
        while True:
            await bell.wait(10)

    serving = asyncio.create_task(serve())
    for _ in range(3):
        await asyncio.sleep(0)
    bell.ring()
    for _ in range(turns):
        await asyncio.sleep(0)
    serving.cancel()
    done, _ = await asyncio.wait([serving], timeout=2)
    serving.cancel()
    await asyncio.wait([serving])
    assert done == {serving}
