"""What one burst of messages and presence does: in which order, and what a redelivery is."""

from __future__ import annotations

from rig import SOURCE, TARGET, address, base, batch

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
