"""What devices say reaches the database, in order, once, and is acknowledged after the commit only."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import pytest
from rig import SOURCE, START, TARGET, Rig, address, base, batch, turn
from sqlalchemy import select, text

from reconciler import errors
from reconciler.protocol import topics
from reconciler.protocol.topics import Route
from reconciler.store import tables

ONE, TWO = "dev-1", "dev-2"


@pytest.fixture
async def ready(rig):
    """Two devices that are there, and a batch that waits for them."""
    await rig.commit(base(ONE, TWO))
    await rig.arrive(ONE, TWO)
    await rig.commit(base(ONE, TWO), batch(timeout="60m"))
    return rig


# --- versions ---


async def test_a_report_is_kept_with_an_event_and_the_same_again_is_no_news(ready):
    ready.inform(ONE, "1.0.1")
    await ready.hear()
    ready.inform(ONE, "1.0.1")
    await ready.hear()
    versions = {row.device_id: row.version for row in ready.rows(select(tables.device_version))}
    assert sorted(versions.values()) == [SOURCE, "1.0.1"]
    lines = [line.message for line in ready.events("version") if line.device == ONE]
    assert lines == [f"default: {SOURCE}", f"default: {SOURCE} → 1.0.1"]


async def test_a_report_that_changes_nothing_touches_no_row(ready):
    before = ready.dump("seen_message")
    ready.inform(ONE, SOURCE)
    await ready.hear()
    assert ready.dump("seen_message") == before


async def test_last_seen_is_written_every_five_minutes_at_most(ready):
    seen = select(tables.device.c.last_seen_at).where(tables.device.c.name == ONE)
    for seconds, moved in ((200, False), (90, False), (11, True)):
        ready.clock.advance(seconds)
        before = ready.rows(seen)
        ready.inform(ONE, SOURCE)
        await ready.hear()
        assert (ready.rows(seen) != before) is moved


# --- tasks ---


async def test_an_upgrade_from_the_first_progress_to_the_new_version(ready):
    await ready.push()
    assert ready.status(ONE) == "NOTIFIED"
    ready.progress(ONE, 10)
    await ready.hear()
    assert (ready.status(ONE), ready.task(ONE).step) == ("IN_PROGRESS", 10)
    ready.progress(ONE, 100)
    await ready.hear()
    assert (ready.status(ONE), ready.task(ONE).step) == ("IN_PROGRESS", 100)
    ready.inform(ONE, TARGET)
    await ready.hear()
    assert ready.status(ONE) == "SUCCEEDED"
    assert ready.run().phase == "IN_PROGRESS"
    ready.inform(TWO, TARGET)
    await ready.hear()
    assert (ready.status(TWO), ready.run().phase) == ("SUCCEEDED", "COMPLETED")
    assert [line.message for line in ready.events("completed")] == ["all tasks have ended"]
    ready.check()


@pytest.mark.parametrize(
    ("step", "reason"),
    [(-1, "upgrade-failed"), (-2, "download-failed"), (-3, "verify-failed"), (-4, "burn-failed")],
)
async def test_a_failed_step_fails_the_task(ready, step, reason):
    ready.progress(ONE, step)
    await ready.hear()
    assert ready.status(ONE) == f"FAILED {reason}"
    assert ready.status(TWO) == "QUEUED"
    ready.check()


async def test_a_version_that_is_neither_source_nor_target_fails_what_is_in_progress(ready):
    ready.inform(ONE, "1.0.1")
    ready.progress(ONE, 5)
    ready.inform(ONE, "0.9")
    await ready.hear()
    task = ready.task(ONE)
    assert (task.status, task.reason, task.source_version) == ("FAILED", "unexpected-version", "1.0.1")


async def test_a_burst_is_stepped_in_the_order_of_arrival(ready):
    ready.progress(ONE, 5)
    ready.inform(ONE, TARGET)
    ready.progress(TWO, -2)
    ready.inform(TWO, TARGET)
    await ready.hear()
    assert [ready.status(ONE), ready.status(TWO)] == ["SUCCEEDED", "FAILED download-failed"]
    assert ready.task(TWO).late_success
    moves = [(line.from_status, line.to_status) for line in ready.events("task") if line.device == ONE]
    assert moves == [("QUEUED", "IN_PROGRESS"), ("IN_PROGRESS", "SUCCEEDED")]
    assert [(line.device, line.message) for line in ready.events("late")] == [(TWO, "late success")]
    ready.check()


async def test_progress_is_folded_but_every_change_of_status_has_its_event(ready):
    for step in (1, 2, 3, 4, 5, -1, 6):
        ready.progress(ONE, step)
    await ready.hear()
    lines = [(line.type, line.to_status) for line in ready.events() if line.device == ONE and line.to_status]
    assert lines == [("task", "IN_PROGRESS"), ("task", "FAILED"), ("late", "FAILED")]


async def test_what_concerns_another_module_leaves_the_task_alone(rig):
    await rig.commit(base(ONE, modules=[{"name": "mcu"}]))
    await rig.arrive(ONE)
    await rig.commit(base(ONE, modules=[{"name": "mcu"}]), batch())
    before = rig.task(ONE)
    rig.inform(ONE, TARGET, module="mcu")
    rig.say(ONE, topics.progress, {"id": "1", "params": {"step": "-1", "desc": "", "module": "mcu"}})
    await rig.hear()
    assert rig.task(ONE) == before


async def test_a_conflict_that_no_device_ever_heard_of_is_not_the_task_that_late_messages_are_for(ready):
    await ready.commit(base(ONE, TWO), batch(timeout="60m"), batch("second"))
    assert ready.status(ONE, "second") == "FAILED conflict"
    ready.inform(ONE, TARGET)
    await ready.hear()
    assert ready.status(ONE) == "SUCCEEDED"
    before = ready.dump("seen_message")
    ready.inform(ONE, TARGET)
    await ready.hear()
    assert ready.dump("seen_message") == before


# --- what can have no effect ---


async def test_what_means_nothing_is_counted_and_acknowledged(ready, caplog):
    await ready.hear()
    before = ready.dump()
    ready.say(ONE, topics.inform, b"{")
    ready.say(ONE, topics.progress, {"id": "1", "params": {"step": "101"}})
    ready.say(ONE, lambda a: f"/ota/device/request/{a.product_key}/{a.device_name}", {})
    await ready.hear()
    assert ready.dump() == before
    assert ready.ingest.counted[Route.INFORM, "malformed"] == 1
    assert ready.ingest.counted[Route.PROGRESS, "malformed"] == 1
    assert ready.ingest.counted[Route.REQUEST, "unsupported"] == 1
    assert ready.wire.unacknowledged(address(ONE)) == []


async def test_an_undeclared_module_counts_as_malformed_and_changes_nothing(ready):
    before = ready.dump("seen_message")
    ready.inform(ONE, TARGET, module="mcu")
    await ready.hear()
    assert ready.dump("seen_message") == before
    assert ready.ingest.counted[Route.INFORM, "malformed"] == 1


async def test_a_version_of_another_form_than_the_product_has_counts_as_malformed(rig):
    await rig.commit(base(ONE, versionFormat="Numeric"))
    await rig.arrive(ONE, version="beta")
    assert rig.rows(select(tables.device_version)) == []
    assert rig.ingest.counted[Route.INFORM, "malformed"] == 1


async def test_an_unknown_device_is_counted_logged_once_a_minute_and_changes_nothing(ready, caplog):
    before = ready.dump("seen_message")
    ready.connect("stranger")
    for _ in range(3):
        ready.inform("stranger", SOURCE)
        await ready.hear()
    assert ready.ingest.counted[Route.INFORM, "unknown_device"] == 3
    assert ready.dump("seen_message") == before
    lines = [record.message for record in caplog.records if "stranger" in record.message]
    assert lines == [f"{address('stranger')}: inform message dropped: unknown device"]
    ready.clock.advance(61)
    ready.inform("stranger", SOURCE)
    await ready.hear()
    assert "(2 more since the last line)" in caplog.records[-1].message


# --- devices that declare themselves ---


async def test_a_device_registers_itself_where_its_product_allows_it(rig):
    await rig.commit(base(registration="Auto"))
    await rig.arrive("fresh-1")
    device = rig.rows(select(tables.device))[0]
    assert (device.name, device.state) == ("fresh-1", "registered")
    assert [line.device for line in rig.events("registered")] == ["fresh-1"]
    await rig.commit(base(registration="Auto"), batch())
    await rig.push()
    assert rig.status("fresh-1") == "NOTIFIED"


async def test_only_a_name_as_long_as_the_operator_allows_registers_itself(rig):
    await rig.commit(base(registration="Auto"))
    for length in (3, 4, 5, 31, 32, 33):
        rig.connect("d" * length)
        rig.inform("d" * length, SOURCE)
    await rig.hear()
    assert sorted(len(row.name) for row in rig.rows(select(tables.device))) == [4, 5, 31, 32]


async def test_a_device_that_came_before_it_registered_itself_is_there_once_it_did(rig):
    await rig.commit(base(registration="Auto"))
    rig.connect("fresh-1")
    await rig.hear()
    rig.inform("fresh-1", SOURCE)
    await rig.hear()
    await rig.commit(base(registration="Auto"), batch())
    assert await rig.wait(12) == 1


async def test_a_device_that_came_before_it_was_declared_is_there_once_it_is(rig):
    await rig.commit(base())
    rig.connect(ONE)
    await rig.hear()
    rig.inform(ONE, SOURCE)
    await rig.hear()
    await rig.commit(base(ONE), batch())
    assert await rig.wait(12) == 1


async def test_a_stranger_that_left_again_is_not_there(rig):
    await rig.commit(base())
    rig.connect(ONE)
    await rig.hear()
    rig.wire.disconnect(address(ONE))
    await rig.hear()
    await rig.commit(base(ONE), batch())
    await rig.wait(12)
    assert rig.rows(select(tables.device.c.online_epoch)) == [(None,)]


# --- questions ---


async def test_a_device_that_asks_gets_its_package_and_counts_as_notified(ready):
    ready.ask(ONE, "abc")
    await ready.hear()
    (reply,) = ready.pushed(ONE)
    assert (reply["id"], reply["code"], reply["data"]["version"]) == ("abc", 200, TARGET)
    assert ready.status(ONE) == "NOTIFIED"
    assert ready.task(ONE).push_due_at is None


@pytest.mark.parametrize("name", [ONE, "stranger"])
async def test_whoever_asks_without_a_task_is_told_that_there_is_nothing(rig, name):
    await rig.commit(base(ONE))
    rig.connect(name)
    rig.ask(name)
    await rig.hear()
    assert [reply["data"] for reply in rig.pushed(name)] == ([{}] if name == ONE else [])


async def test_after_the_end_there_is_nothing_to_get(ready):
    ready.progress(ONE, -1)
    ready.ask(ONE)
    await ready.hear()
    assert [reply["data"] for reply in ready.pushed(ONE)] == [{}]


async def test_each_answer_takes_a_slot_of_the_rate(ready):
    for _ in range(3):
        ready.ask(ONE)
    ready.ask(TWO)
    await ready.hear()
    slots = ready.rows(select(tables.rate_slot.c.second, tables.rate_slot.c.pushed))
    assert slots == [(int(ready.clock.now().timestamp()), 4)]
    assert len(ready.pushed(ONE)) == 3


# --- once ---


async def test_a_redelivery_is_acknowledged_and_skipped(ready):
    ready.progress(ONE, 5)
    ready.inform(ONE, SOURCE)
    await ready.hear()
    before = ready.dump("seen_message")
    ready.clock.advance(90)
    ready.progress(ONE, 5, duplicate=True)
    ready.inform(ONE, SOURCE, duplicate=True)
    await ready.hear()
    assert ready.dump() == {**before, "seen_message": ready.dump()["seen_message"]}
    assert ready.ingest.counted[Route.PROGRESS, "repeated"] == 1
    assert ready.wire.unacknowledged(address(ONE)) == []


async def test_a_redelivery_that_was_never_committed_counts(ready):
    ready.progress(ONE, 5, duplicate=True)
    await ready.hear()
    assert ready.status(ONE) == "IN_PROGRESS"


async def test_the_ring_of_messages_outlives_a_restart(ready):
    ready.inform(ONE, "1.0.1")
    ready.progress(ONE, 5)
    await ready.hear()
    await ready.kill()
    await ready.boot()
    ready.connect(ONE)
    ready.inform(ONE, "1.0.1", duplicate=True)
    await ready.hear()
    assert ready.ingest.counted[Route.INFORM, "repeated"] == 1


async def test_a_device_that_repeats_its_failure_counts_once(ready):
    ready.progress(ONE, -1)
    await ready.hear()
    before = ready.dump("seen_message")
    ready.progress(ONE, -1)
    await ready.hear()
    assert ready.dump("seen_message") == before


# --- acknowledgements ---


async def test_nothing_is_acknowledged_before_the_commit(ready):
    ready.inform(ONE, "1.0.1")
    items = await ready.intake.take(10)
    assert len(ready.wire.unacknowledged(address(ONE))) == 1
    await ready.ingest.process(items)
    assert ready.wire.unacknowledged(address(ONE)) == []


async def test_a_database_that_fails_acknowledges_nothing_and_a_later_try_does(ready):
    with ready.database.writing() as connection:
        connection.execute(text("ALTER TABLE device_version RENAME TO elsewhere"))
    ready.inform(ONE, "1.0.1")
    ready.progress(ONE, 5)
    items = await ready.intake.take(10)
    before = ready.task(ONE)
    with pytest.raises(errors.TransientError):
        await ready.ingest.process(items)
    assert len(ready.wire.unacknowledged(address(ONE))) == 2
    assert ready.task(ONE) == before
    with ready.database.writing() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO device_version"))
    await ready.ingest.process(items)
    assert ready.wire.unacknowledged(address(ONE)) == []
    assert ready.status(ONE) == "IN_PROGRESS"


async def test_the_daemon_s_loop_waits_out_a_database_that_is_away(ready):
    with ready.database.writing() as connection:
        connection.execute(text("ALTER TABLE device_version RENAME TO elsewhere"))
    running = asyncio.create_task(ready.ingest.run(ready.intake))
    ready.inform(ONE, TARGET)
    async with asyncio.timeout(10):
        while ready.ingest.away is None:  # noqa: ASYNC110 - its own backoff is what is watched
            await asyncio.sleep(0.01)
        assert ready.wire.unacknowledged(address(ONE))
        with ready.database.writing() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO device_version"))
        while ready.wire.unacknowledged(address(ONE)):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    assert ready.ingest.away is None
    assert ready.status(ONE) == "SUCCEEDED"
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


# --- presence ---


async def test_presence_is_that_of_the_newest_connection(ready):
    online = select(tables.device.c.online_epoch).where(tables.device.c.name == ONE)
    assert ready.rows(online) != [(None,)]
    ready.wire.disconnect(address(ONE))
    ready.connect(ONE)
    await ready.hear()
    assert ready.rows(online) != [(None,)]
    ready.wire.disconnect(address(ONE))
    await ready.hear()
    assert ready.rows(online) == [(None,)]
    assert ready.task(ONE).push_due_at is None


@pytest.mark.parametrize("together", [True, False])
async def test_the_late_end_of_a_replaced_connection_says_nothing(ready, together):
    first = await _session(ready)
    ready.connect(ONE)
    (came,) = await ready.intake.take(10)
    late = dataclasses.replace(came, online=False, session=first)
    for items in [[came, late]] if together else [[came], [late]]:
        await ready.ingest.process(items)
    assert (await _session(ready)) == came.session


async def _session(rig: Rig) -> int | None:
    return rig.rows(select(tables.device.c.session).where(tables.device.c.name == ONE))[0].session


async def test_whoever_comes_is_pushed_after_it_has_settled(rig):
    await rig.commit(base(ONE), batch())
    rig.connect(ONE)
    await rig.hear()
    assert rig.task(ONE).push_due_at == START.replace(second=10)
    assert await rig.wait(9) == 0
    assert await rig.wait(1) == 1


async def test_a_device_that_reports_the_target_when_it_comes_is_never_pushed(rig):
    await rig.commit(base(ONE), batch())
    rig.connect(ONE)
    rig.inform(ONE, TARGET)
    assert await rig.wait(30) == 0
    await turn()
    assert rig.status(ONE) == "SUCCEEDED"
