"""The transport for tests: what its hooks do. Its promises are in the suite for all transports."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from reconciler.protocol import topics
from reconciler.protocol.topics import Address
from reconciler.transport.base import Delivery, Intake, Message, Presence
from reconciler.transport.memory import MemoryTransport, Push

ONE, TWO = Address("pk", "dev-1"), Address("pk", "dev-2")


@contextlib.asynccontextmanager
async def served(transport: MemoryTransport, intake: Intake):
    transport.set_products(frozenset({"pk"}))
    task = asyncio.create_task(transport.serve(intake))
    await asyncio.sleep(0)
    yield transport
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_session_number_grows_with_every_connection():
    intake = Intake()
    async with served(MemoryTransport(), intake) as transport:
        first = transport.connect(ONE)
        transport.disconnect(ONE)
        second = transport.connect(ONE)
        assert second > first
        assert await intake.take(10) == [
            Presence(ONE, online=True, session=first),
            Presence(ONE, online=False, session=first),
            Presence(ONE, online=True, session=second),
        ]


async def test_what_was_sent_before_it_is_served_waits():
    transport, intake = MemoryTransport(), Intake()
    transport.set_products(frozenset({"pk"}))
    transport.connect(ONE)
    transport.send(ONE, topics.inform(ONE), b"{}")
    assert len(intake) == 0
    async with served(transport, intake):
        assert len(intake) == 2


async def test_acknowledgements_are_dropped_on_demand_although_the_push_arrives():
    pushed: list[Push] = []
    async with served(MemoryTransport(pushed.append), Intake()) as transport:
        transport.connect(ONE)
        transport.delivery = Delivery.TIMED_OUT
        assert await transport.publish(ONE, topics.upgrade(ONE), b"1") is Delivery.TIMED_OUT
        transport.delivery = Delivery.BUSY
        assert await transport.publish(ONE, topics.upgrade(ONE), b"2") is Delivery.BUSY
    assert [push.payload for push in pushed] == [b"1"]
    assert transport.published == pushed


async def test_a_test_that_plays_an_impossible_device_is_told():
    transport = MemoryTransport()
    with pytest.raises(ValueError, match="not served"):
        transport.connect(ONE)
    with pytest.raises(ValueError, match="not connected"):
        transport.send(ONE, topics.inform(ONE), b"{}")


async def test_a_product_that_is_served_no_more_loses_its_devices():
    async with served(MemoryTransport(), Intake()) as transport:
        transport.connect(ONE)
        transport.set_products(frozenset({"other"}))
        assert await transport.publish(ONE, topics.upgrade(ONE), b"") is Delivery.OFFLINE


async def test_a_topic_of_nobody_is_counted_and_needs_no_acknowledgement():
    async with served(MemoryTransport(), Intake()) as transport:
        transport.connect(ONE)
        transport.send(ONE, "/some/where/else", b"{}")
        assert transport.foreign == 1
        assert transport.unacknowledged(ONE) == []


async def test_only_the_senders_own_messages_come_again():
    intake = Intake()
    async with served(MemoryTransport(), intake) as transport:
        for address in (ONE, TWO):
            transport.connect(address)
            transport.send(address, topics.inform(address), b"{}")
        await intake.take(10)
        transport.disconnect(ONE)
        transport.connect(ONE)
        again = [item for item in await intake.take(10) if isinstance(item, Message)]
        assert [(m.address, m.duplicate) for m in again] == [(ONE, True)]
        again[0].acknowledge()
        again[0].acknowledge()
        assert transport.unacknowledged(ONE) == []
        assert len(transport.unacknowledged(TWO)) == 1
