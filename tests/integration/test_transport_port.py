"""The promises of the port, held against every transport (`transport.base` says what they are)."""

from __future__ import annotations

import asyncio

import pytest
from wires import PRODUCT, address, eventually

from reconciler.protocol import topics
from reconciler.protocol.topics import Route
from reconciler.transport.base import Delivery, Intake, Message, Presence, PresenceKind

ONE = address("dev-1")


@pytest.fixture
def intake():
    return Intake()


@pytest.fixture
async def served(wire, intake):
    wire.transport.set_products(frozenset({PRODUCT}))
    await wire.serve(intake)
    return wire


async def messages(intake: Intake, count: int) -> list[Message]:
    """The next so many messages; presence between them is left out."""
    found: list[Message] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += [item for item in await intake.take(count - len(found)) if isinstance(item, Message)]
    return found


async def nothing_more(intake: Intake) -> bool:
    """That no message comes. It waits a little, because one can't be waited for that must not come."""
    await asyncio.sleep(0.2)
    waiting = await intake.take(len(intake)) if len(intake) else []
    return not any(isinstance(item, Message) for item in waiting)


async def test_before_it_is_served_nobody_can_be_reached(wire):
    assert not wire.transport.health().ok
    assert wire.transport.connected_for() == 0.0
    assert await wire.transport.publish(ONE, topics.upgrade(ONE), b"{}") is Delivery.OFFLINE


async def test_while_it_is_served_it_is_healthy_and_says_for_how_long(served):
    assert served.transport.health().ok
    await eventually(lambda: served.transport.connected_for() > 0.0)
    await served.stop()
    assert not served.transport.health().ok
    assert served.transport.connected_for() == 0.0


async def test_a_message_arrives_as_it_was_sent_with_its_device_and_its_meaning(served, intake):
    device = await served.device("dev-1")
    for topic, route in (
        (topics.inform(ONE), Route.INFORM),
        (topics.progress(ONE), Route.PROGRESS),
        (topics.firmware_get(ONE), Route.FIRMWARE_GET),
    ):
        device.send(topic, b"\x00not JSON\xff")
        (message,) = await messages(intake, 1)
        assert (message.address, message.route) == (ONE, route)
        assert message.payload == b"\x00not JSON\xff"
        assert not message.duplicate


async def test_messages_of_one_device_keep_their_order(served, intake):
    device = await served.device("dev-1")
    expected = []
    for number in range(300):
        topic = topics.inform(ONE) if number % 3 else topics.progress(ONE)
        device.send(topic, str(number).encode())
        expected.append(str(number).encode())
    found = []
    while len(found) < 300:
        burst = await messages(intake, min(7, 300 - len(found)))
        for message in burst:
            message.acknowledge()
        found += [message.payload for message in burst]
    assert found == expected
    await eventually(lambda: device.waits_for == 0)


async def test_a_message_that_was_not_acknowledged_comes_again_and_says_so(served, intake):
    device = await served.device("dev-1")
    for number in range(3):
        device.send(topics.inform(ONE), str(number).encode())
    first = await messages(intake, 3)
    first[0].acknowledge()
    await asyncio.sleep(0.1)
    await served.interrupt(intake)
    again = await messages(intake, 2)
    assert [(m.payload, m.duplicate) for m in again] == [(b"1", True), (b"2", True)]
    for message in again:
        message.acknowledge()
    await eventually(lambda: device.waits_for == 0)
    await served.interrupt(intake)
    assert await nothing_more(intake)


async def test_an_acknowledgement_that_comes_after_the_connection_is_gone_is_harmless(served, intake):
    device = await served.device("dev-1")
    device.send(topics.inform(ONE), b"early")
    (early,) = await messages(intake, 1)
    await served.interrupt(intake)
    (again,) = await messages(intake, 1)
    early.acknowledge()
    device.send(topics.inform(ONE), b"late")
    (late,) = await messages(intake, 1)
    assert (again.payload, late.payload) == (b"early", b"late")
    again.acknowledge()
    late.acknowledge()
    await eventually(lambda: device.waits_for == 0)


async def test_a_push_is_confirmed_when_it_was_acknowledged_and_arrives_as_it_was(served, intake):
    device = await served.device("dev-1")
    await served.device("dev-2")
    delivery = await served.transport.publish(ONE, topics.upgrade(ONE), b'{"code":"1000"}')
    assert delivery is Delivery.CONFIRMED
    await eventually(lambda: device.pushes)
    assert device.pushes == [(topics.upgrade(ONE), b'{"code":"1000"}')]
    assert served.peers[1].pushes == []


async def test_many_pushes_at_once_are_all_confirmed_and_each_arrives_once(served, intake):
    devices = [await served.device(f"dev-{number:02}") for number in range(30)]
    who = [address(f"dev-{number:02}") for number in range(30)]
    deliveries = await asyncio.gather(
        *(
            served.transport.publish(each, topics.upgrade(each), str(number).encode())
            for number in range(10)
            for each in who
        )
    )
    assert set(deliveries) == {Delivery.CONFIRMED}
    await eventually(lambda: all(len(device.pushes) == 10 for device in devices))
    for device in devices:
        assert sorted(payload for _, payload in device.pushes) == [str(n).encode() for n in range(10)]


async def test_a_full_intake_slows_the_senders_down_and_loses_nothing(wire):
    small = Intake(capacity=20)
    wire.transport.set_products(frozenset({PRODUCT}))
    await wire.serve(small)
    devices = {name: await wire.device(name) for name in ("dev-1", "dev-2", "dev-3", "dev-4")}
    for number in range(50):
        for name, device in devices.items():
            device.send(topics.inform(address(name)), str(number).encode())
    await eventually(lambda: small.full)
    await asyncio.sleep(0.3)
    assert len(small) <= 20 + 50
    found: dict[str, list[bytes]] = {name: [] for name in devices}
    for _ in range(200):
        (message,) = await messages(small, 1)
        message.acknowledge()
        found[message.address.device_name].append(message.payload)
    assert set(map(tuple, found.values())) == {tuple(str(number).encode() for number in range(50))}
    await eventually(lambda: all(device.waits_for == 0 for device in devices.values()))


async def test_pushes_get_through_while_the_intake_is_full(wire):
    small = Intake(capacity=2)
    wire.transport.set_products(frozenset({PRODUCT}))
    await wire.serve(small)
    device = await wire.device("dev-1")
    for number in range(10):
        device.send(topics.inform(ONE), str(number).encode())
    await eventually(lambda: small.full)
    pushing = asyncio.create_task(wire.transport.publish(ONE, topics.upgrade(ONE), b"{}"))
    await eventually(lambda: device.pushes)
    await messages(small, 10)
    assert await pushing is Delivery.CONFIRMED


async def test_a_product_that_is_added_while_it_is_served_is_heard(served, intake):
    other = address("dev-9", "other")
    served.transport.set_products(frozenset({PRODUCT, "other"}))
    await asyncio.sleep(0.1)
    device = await served.device("dev-9", "other")
    device.send(topics.inform(other), b"{}")
    (message,) = await messages(intake, 1)
    assert message.address == other


async def test_a_topic_of_nobody_never_enters_the_intake_and_costs_others_nothing(served, intake):
    await served.device("dev-1")
    stranger = await served.device("dev-2")
    stranger.send("/some/where/else", b"{}")
    served.peers[0].send(topics.inform(ONE), b"{}")
    (message,) = await messages(intake, 1)
    assert message.address == ONE
    assert await nothing_more(intake)


async def test_presence_is_said_by_those_who_know_it_and_by_nobody_else(served, intake):
    device = await served.device("dev-1")
    device.send(topics.inform(ONE), b"{}")
    await eventually(lambda: len(intake) >= (2 if served.transport.presence is PresenceKind.EXACT else 1))
    items = await intake.take(10)
    said = [item for item in items if isinstance(item, Presence)]
    if served.transport.presence is PresenceKind.ASSUMED:
        assert said == []
        return
    assert items[0] is said[0], "a device comes before it says something"
    assert (said[0].address, said[0].online) == (ONE, True)
    await device.leave()
    (gone,) = await intake.take(1)
    assert gone == Presence(ONE, online=False, session=said[0].session)
    assert await served.transport.publish(ONE, topics.upgrade(ONE), b"{}") is Delivery.OFFLINE
    await device.come()
    (back,) = await intake.take(1)
    assert isinstance(back, Presence)
    assert back.online
    assert back.session > gone.session


async def test_when_serving_ends_pushes_that_wait_are_told_so(served):
    device = await served.device("dev-1")
    await served.stop()
    assert await served.transport.publish(ONE, topics.upgrade(ONE), b"{}") is Delivery.OFFLINE
    assert device.pushes == []
