"""The bounded queue between a transport and ingest."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from reconciler.protocol.topics import Address, Route
from reconciler.transport.base import Intake, Message


def message(number: int = 0) -> Message:
    return Message(Address("pk", "dev-1"), Route.INFORM, str(number).encode())


async def test_items_come_out_in_the_order_in_which_they_went_in():
    intake = Intake()
    for number in range(5):
        intake.offer(message(number))
    assert [m.payload for m in await intake.take(3)] == [b"0", b"1", b"2"]
    assert [m.payload for m in await intake.take(3)] == [b"3", b"4"]


async def test_take_waits_until_there_is_something():
    intake = Intake()
    taking = asyncio.create_task(intake.take(10))
    await asyncio.sleep(0)
    assert not taking.done()
    intake.offer(message())
    assert len(await taking) == 1


async def test_an_intake_is_full_at_its_capacity_and_still_loses_nothing():
    intake = Intake(capacity=2)
    intake.offer(message(0))
    assert not intake.full
    intake.offer(message(1))
    assert intake.full
    intake.offer(message(2))
    assert len(await intake.take(10)) == 3


async def test_room_is_said_once_when_less_than_half_is_left():
    intake = Intake(capacity=4)
    for number in range(4):
        intake.offer(message(number))
    said: list[int] = []
    intake.when_room(lambda: said.append(len(intake)))
    await intake.take(2)
    assert said == []
    await intake.take(1)
    await intake.take(1)
    assert said == [1]


async def test_room_is_said_at_once_when_there_is_some():
    said: list[bool] = []
    Intake(capacity=4).when_room(lambda: said.append(True))
    assert said == [True]


async def test_a_callback_that_fills_the_intake_again_may_wait_for_room_again():
    intake = Intake(capacity=2)

    def refill() -> None:
        while not intake.full:
            intake.offer(message())
        intake.when_room(refill)

    refill()
    for _ in range(3):
        assert len(await intake.take(2)) == 2
    assert intake.full


async def test_age_is_that_of_the_oldest_and_zero_when_nothing_waits():
    intake = Intake()
    assert intake.age() == 0.0
    intake.offer(message())
    await asyncio.sleep(0.01)
    first = intake.age()
    intake.offer(message())
    assert intake.age() >= first >= 0.01
    await intake.take(2)
    assert intake.age() >= first  # it is on its way
    intake.committed()
    assert intake.age() == 0.0


@given(st.lists(st.integers(min_value=1, max_value=7), min_size=1, max_size=30))
def test_whatever_the_bursts_are_nothing_is_lost_doubled_or_reordered(bursts):
    async def all_bursts() -> None:
        intake = Intake(capacity=3)
        for number in range(sum(bursts)):
            intake.offer(message(number))
        taken: list[bytes] = []
        for burst in bursts:
            taken += [m.payload for m in await intake.take(burst)]
        assert taken == [str(number).encode() for number in range(sum(bursts))]

    asyncio.run(all_bursts())
