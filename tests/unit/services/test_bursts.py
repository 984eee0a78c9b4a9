"""What one burst of messages and presence does: in which order, and what a redelivery is."""

from __future__ import annotations

from rig import SOURCE, TARGET, address, base, batch
from sqlalchemy import select

from reconciler.protocol import topics
from reconciler.protocol.topics import Route
from reconciler.store import tables

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
