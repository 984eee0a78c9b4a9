"""What one burst of messages and presence does: in which order, and what a redelivery is."""

from __future__ import annotations

from rig import SOURCE, TARGET, address, base, batch
from sqlalchemy import select

from reconciler.protocol import topics
from reconciler.protocol.topics import Route
from reconciler.store import tables
from reconciler.transport.base import Delivery

ONE = "dev-1"


async def test_a_device_that_comes_and_asks_at_once_is_answered_and_not_pushed(rig):
    await rig.commit(base(ONE), batch())
    rig.connect(ONE)
    rig.inform(ONE, SOURCE)
    rig.ask(ONE)
    await rig.hear()
    assert len(rig.pushed(ONE)) == 1
    assert await rig.wait(90) == 0


async def test_a_device_that_comes_and_says_that_it_is_done_is_not_pushed(rig):
    await rig.commit(base(ONE), batch())
    rig.connect(ONE)
    rig.inform(ONE, TARGET)
    await rig.hear()
    assert rig.status(ONE) == "SUCCEEDED"
    assert await rig.wait(90) == 0
    rig.check()


async def test_a_device_that_came_reported_and_left_in_one_burst_is_heard_and_gone(rig):
    await rig.commit(base(ONE), batch())
    rig.connect(ONE)
    rig.inform(ONE, SOURCE)
    rig.wire.disconnect(address(ONE))
    await rig.hear()
    assert rig.task(ONE).source_version == SOURCE
    assert rig.task(ONE).push_due_at is None
    assert await rig.wait(90) == 0


# --- redeliveries ---


async def heard_again(rig, *said: str) -> None:
    for version in said:
        rig.inform(ONE, version, duplicate=True)
    await rig.hear()


def version(rig) -> str:
    return rig.rows(select(tables.device_version.c.version))[0].version


async def test_a_report_whose_first_copy_was_lost_is_heard_although_an_earlier_boot_said_the_same(rig):
    await rig.commit(base(ONE), batch())
    rig.connect(ONE)
    rig.inform(ONE, SOURCE)
    await rig.wait(12)
    rig.inform(ONE, TARGET)
    await rig.hear()
    await heard_again(rig, SOURCE)  # rolled back
    assert version(rig) == SOURCE


async def test_redelivered_reports_that_a_newer_one_follows_are_skipped(rig):
    await rig.commit(base(ONE), batch())
    rig.connect(ONE)
    rig.inform(ONE, SOURCE)
    await rig.wait(12)
    rig.inform(ONE, TARGET)
    await rig.hear()
    before = rig.dump("seen_message")
    await heard_again(rig, SOURCE, TARGET)
    assert rig.dump("seen_message") == before
    assert rig.ingest.counted[Route.INFORM, "repeated"] == 2


async def test_a_question_that_comes_again_is_answered_again(rig):
    await rig.commit(base(ONE), batch())
    rig.connect(ONE)
    for duplicate in (False, True):
        rig.say(ONE, topics.firmware_get, {"id": 7, "params": {}}, duplicate=duplicate)
        await rig.hear()
    assert len(rig.pushed(ONE)) == 2


# --- what a device says of its task is as good as the acknowledgement of its push ---


async def pushed_in_vain(rig) -> None:
    """A push that the device got, and whose acknowledgement never comes."""
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    await rig.commit(base(ONE), batch(timeout="60m"))
    rig.wire.delivery = Delivery.TIMED_OUT
    assert await rig.dispatch.round() == 1
    rig.clock.advance(1)


async def test_a_device_that_works_on_its_push_is_not_pushed_again_for_want_of_an_acknowledgement(rig):
    await pushed_in_vain(rig)
    rig.progress(ONE, 5)
    await rig.hear()
    assert await rig.wait(300) == 0
    assert rig.status(ONE) == "IN_PROGRESS"


async def test_a_device_that_asked_after_its_push_is_not_pushed_again_for_want_of_an_acknowledgement(rig):
    await pushed_in_vain(rig)
    rig.ask(ONE)
    await rig.hear()
    assert await rig.wait(300) == 0


async def test_a_device_that_came_back_to_its_source_is_pushed_again_until_it_is_heard_of(rig):
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    await rig.commit(base(ONE), batch(timeout="60m"))
    await rig.push()
    rig.progress(ONE, 5)
    rig.inform(ONE, SOURCE)
    rig.wire.delivery = Delivery.TIMED_OUT
    assert await rig.wait(130) == 2
    rig.progress(ONE, 6)
    assert await rig.wait(1) == 0
    assert rig.task(ONE).claim_epoch is None
    rig.check()
