"""What messages do to the tasks of one device when it has several, when attempts fail, and when it asks."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rig import SOURCE, TARGET, address, base, batch, package
from sqlalchemy import select, update

from reconciler.store import tables

ONE = "dev-1"
MODULES = [{"name": "mcu"}, {"name": "radio"}]


def retry(interval="10m", limit=2):
    return {"interval": interval, "limit": limit}


async def notified(rig, *more, **spec):
    """A device that was pushed its package."""
    await rig.commit(base(ONE, modules=MODULES), *more)
    await rig.arrive(ONE)
    await rig.commit(base(ONE, modules=MODULES), *more, batch(**{"timeout": "60m", **spec}))
    await rig.wait(1)
    assert rig.status(ONE) == "NOTIFIED"


# --- failed attempts ---


async def test_a_failed_step_is_tried_again_after_its_interval_as_often_as_the_batch_says(rig):
    await notified(rig, retry=retry("10m", 2))
    for attempt in (1, 2):
        rig.progress(ONE, 40, number=f"p{attempt}")
        rig.progress(ONE, -2, number=f"f{attempt}")
        await rig.hear()
        task = rig.task(ONE)
        assert (rig.status(ONE), task.attempt) == ("IN_PROGRESS retry", attempt)
        assert task.retry_at == task.push_due_at == rig.clock.now() + timedelta(minutes=10)
        assert await rig.wait(599, each=599) == 0
        assert await rig.wait(1) == 1
        assert rig.status(ONE) == "IN_PROGRESS"
    rig.progress(ONE, -2, number="f3")
    await rig.hear()
    assert rig.status(ONE) == "FAILED download-failed"
    rig.check()


async def test_the_log_says_when_a_failed_attempt_is_tried_again(rig):
    await notified(rig, retry=retry("30m", 5))
    rig.progress(ONE, -3)
    await rig.hear()
    at = rig.clock.now() + timedelta(minutes=30)
    line = rig.events("task")[-1]
    assert line.message == f"reported step -3; retry 1 of 5 at {at:%Y-%m-%d %H:%M:%S} UTC"
    assert (line.from_status, line.to_status) == ("NOTIFIED", "NOTIFIED")


async def test_while_a_retry_waits_what_the_device_says_of_the_old_attempt_changes_nothing(rig):
    await notified(rig, retry=retry())
    rig.progress(ONE, -1)
    await rig.hear()
    before = rig.task(ONE)
    rig.progress(ONE, 70, number="other")
    rig.progress(ONE, -4, number="another")
    await rig.hear()
    after = rig.task(ONE)
    assert (after.status, after.hold, after.step, after.attempt) == (before.status, "retry", -1, 1)


async def test_a_device_that_repeats_its_failure_has_failed_once_even_after_it_was_pushed_again(rig):
    await notified(rig, retry=retry("0s", 1))
    for _ in range(3):
        rig.progress(ONE, -1)
    await rig.hear()
    assert rig.task(ONE).attempt == 1
    await rig.wait(61)
    assert rig.status(ONE) == "NOTIFIED"
    rig.progress(ONE, -1)
    await rig.hear()
    assert rig.status(ONE) == "NOTIFIED"
    rig.progress(ONE, -1, number="2")
    await rig.hear()
    assert rig.status(ONE) == "FAILED upgrade-failed"


@pytest.mark.parametrize("between", ["progress", "inform", "ask", "ask in vain"])
async def test_any_other_message_between_makes_the_same_failure_another_one(rig, between):
    await notified(rig, retry=retry("0s", 1))
    rig.progress(ONE, -1)
    await rig.wait(61)
    if between == "progress":
        rig.progress(ONE, 10)
    elif between == "inform":
        rig.inform(ONE, SOURCE)  # no news, but something else than the failure
    else:
        suspend = between == "ask in vain"
        with rig.database.writing() as connection:
            connection.execute(update(tables.run).values(suspended=suspend))
        rig.ask(ONE)
        await rig.hear()
        assert (rig.answers(ONE) == [{}]) is suspend
    rig.progress(ONE, -1)
    await rig.hear()
    assert rig.status(ONE) == "FAILED upgrade-failed"


async def test_what_concerns_another_module_is_no_other_message_about_this_one(rig):
    await notified(rig, retry=retry("0s", 1))
    rig.progress(ONE, -1)
    await rig.wait(61)
    rig.progress(ONE, 10, module="mcu")
    rig.progress(ONE, -1)
    await rig.hear()
    assert rig.status(ONE) == "NOTIFIED"


async def test_an_unexpected_version_in_progress_is_tried_again_and_becomes_the_source(rig):
    await notified(rig, retry=retry("10m", 1))
    rig.progress(ONE, 5)
    rig.inform(ONE, "0.9")
    await rig.hear()
    assert (rig.status(ONE), rig.task(ONE).source_version) == ("IN_PROGRESS retry", "0.9")
    assert await rig.wait(600, each=600) == 1
    rig.inform(ONE, "0.9")  # where it stands: pushed again, no failure
    await rig.hear()
    assert rig.status(ONE) == "IN_PROGRESS"
    rig.check()


async def test_a_retry_that_waits_is_over_when_the_device_reports_the_target(rig):
    await notified(rig, retry=retry())
    rig.progress(ONE, -1)
    rig.inform(ONE, TARGET)
    await rig.hear()
    assert rig.status(ONE) == "SUCCEEDED"
    rig.check()


async def test_a_retry_waits_for_its_device_and_never_comes_before_its_time(rig):
    await notified(rig, retry=retry("10m", 1))
    rig.progress(ONE, -1)
    await rig.hear()
    rig.wire.disconnect(address(ONE))
    await rig.wait(60, each=30)
    rig.connect(ONE)
    assert await rig.wait(500, each=100) == 0
    assert await rig.wait(60, each=20) == 1


# --- several tasks of one device ---


async def two_modules(rig, **spec):
    """Both modules of a device are upgraded at once."""
    mcu = package("mcu-2", TARGET, module="mcu")
    await rig.commit(base(ONE, modules=MODULES), mcu)
    await rig.arrive(ONE)
    rig.inform(ONE, "m1", module="mcu")
    await rig.hear()
    two = batch(multiModule=True, **spec), batch("mcu", package="mcu-2", multiModule=True, **spec)
    await rig.commit(base(ONE, modules=MODULES), mcu, *two)


async def test_each_module_s_messages_step_its_own_task(rig):
    await two_modules(rig)
    assert [rig.status(ONE), rig.status(ONE, "mcu")] == ["QUEUED", "QUEUED"]
    rig.progress(ONE, 10)
    rig.progress(ONE, 20, module="mcu")
    rig.inform(ONE, TARGET, module="mcu")
    await rig.hear()
    assert [rig.status(ONE), rig.status(ONE, "mcu")] == ["IN_PROGRESS", "SUCCEEDED"]
    rig.progress(ONE, -1)
    await rig.hear()
    assert [rig.status(ONE), rig.status(ONE, "mcu")] == ["FAILED upgrade-failed", "SUCCEEDED"]
    rig.check()


async def test_each_module_is_answered_with_its_own_package(rig):
    await two_modules(rig)
    rig.ask(ONE, module="mcu")
    rig.ask(ONE, module="radio")
    await rig.hear()
    assert [data.get("module") for data in rig.answers(ONE)] == ["mcu", None]
    assert rig.answers(ONE)[1] == {}
    assert [rig.status(ONE), rig.status(ONE, "mcu")] == ["QUEUED", "NOTIFIED"]


async def waiting(rig, *more, **spec):
    """A device in one task, and others of the same module behind it."""
    await rig.commit(base(ONE, modules=MODULES), package(), *more)
    await rig.arrive(ONE)
    first, second = batch("first", **spec), batch("second", package="lamp-3", conflict="Wait")
    await rig.commit(base(ONE, modules=MODULES), package(), *more, first, second)
    assert rig.status(ONE, "second") == "QUEUED behind"


async def test_what_a_device_says_is_about_the_task_that_it_has_and_not_about_those_that_wait(rig):
    await waiting(rig)
    rig.progress(ONE, 10)
    rig.inform(ONE, "0.5")
    await rig.hear()
    assert [rig.status(ONE, name) for name in ("first", "second")] == ["FAILED unexpected-version", "QUEUED"]
    assert rig.task(ONE, "second").source_version == "0.5"
    rig.check()


async def test_a_waiting_task_is_done_when_its_target_is_reported_before_its_turn(rig):
    await waiting(rig, allowDowngrade=True)
    rig.inform(ONE, "3.0.0")
    await rig.hear()
    assert [rig.status(ONE, name) for name in ("first", "second")] == ["QUEUED", "SUCCEEDED"]
    rig.check()


async def test_the_next_task_enters_with_the_burst_that_freed_its_device_and_is_pushed(rig):
    await waiting(rig)
    await rig.wait(1)
    rig.progress(ONE, 10)
    rig.inform(ONE, TARGET)
    rig.progress(ONE, 55)  # late: for the first task
    assert await rig.wait(2) == 1
    assert [rig.status(ONE, name) for name in ("first", "second")] == ["SUCCEEDED", "NOTIFIED"]
    assert rig.task(ONE, "second").source_version == TARGET
    assert rig.pushed(ONE)[-1]["data"]["version"] == "3.0.0"
    rig.check()


async def test_a_task_that_waits_is_not_pushed_when_its_device_comes_and_gets_nothing_when_it_asks(rig):
    await waiting(rig)
    with rig.database.writing() as connection:
        connection.execute(update(tables.run).where(tables.run.c.batch == "first").values(suspended=True))
    rig.wire.disconnect(address(ONE))
    await rig.hear()
    rig.connect(ONE)
    rig.ask(ONE)
    assert await rig.wait(90, each=30) == 0
    assert rig.answers(ONE) == [{}]


# --- questions ---


async def test_a_task_that_waits_for_confirmation_is_neither_pushed_nor_offered(rig):
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    await rig.commit(base(ONE), batch(confirm=True))
    rig.ask(ONE)
    assert await rig.wait(90, each=30) == 0
    assert (rig.status(ONE), rig.answers(ONE)) == ("CONFIRM", [{}])
    rig.inform(ONE, TARGET)
    await rig.hear()
    assert rig.status(ONE) == "SUCCEEDED"


@pytest.mark.parametrize(
    ("run", "offered"),
    [
        ({"suspended": True}, False),
        ({"suspended_by": "alice"}, False),
        ({"started_at": None}, False),
        ({"end_at": timedelta(0)}, False),
        ({"end_at": timedelta(seconds=1)}, True),
        ({"phase": "CANCELED"}, True),
    ],
)
async def test_a_device_that_asks_is_answered_with_its_package_unless_the_batch_holds_it_back(
    rig, run, offered
):
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    await rig.commit(base(ONE), batch())
    values = {
        name: rig.clock.now() + value if isinstance(value, timedelta) else value
        for name, value in run.items()
    }
    with rig.database.writing() as connection:
        connection.execute(update(tables.run).values(**values))
    rig.ask(ONE)
    await rig.hear()
    assert bool(rig.answers(ONE)[0]) is offered
    assert rig.status(ONE) == ("NOTIFIED" if offered else "QUEUED")
    slots = rig.rows(select(tables.rate_slot))
    assert len(slots) == offered


async def test_what_was_notified_before_the_schedule_ended_is_still_offered(rig):
    await notified(rig)
    with rig.database.writing() as connection:
        connection.execute(update(tables.run).values(end_at=rig.clock.now()))
    rig.ask(ONE)
    await rig.hear()
    assert rig.answers(ONE)[0]["version"] == TARGET


async def test_a_retry_that_waits_is_answered_at_once_and_counts_as_pushed(rig):
    await notified(rig, retry=retry("30m", 1))
    rig.progress(ONE, -1)
    rig.ask(ONE)
    await rig.hear()
    task = rig.task(ONE)
    assert (rig.status(ONE), task.retry_at, task.push_due_at) == ("NOTIFIED", None, None)
    assert task.last_pushed_at == rig.clock.now()
    assert rig.answers(ONE)[0]["version"] == TARGET


DELTA = {"package": "delta", "target": {"all": {}, "sourceVersions": [SOURCE]}, "retry": retry("10m", 1)}


def delta():
    return package("delta", TARGET, type="Delta", sourceVersion=SOURCE)


async def test_a_delta_is_offered_to_who_reports_its_source_version_only(rig):
    await notified(rig, delta(), **DELTA)
    rig.ask(ONE)
    await rig.hear()
    assert rig.answers(ONE)[0]["isDiff"] == 1
    rig.progress(ONE, 5)
    rig.inform(ONE, "0.9")
    rig.ask(ONE)
    await rig.hear()
    assert rig.answers(ONE)[1] == {}
    assert rig.status(ONE) == "IN_PROGRESS retry"
    rig.inform(ONE, SOURCE)  # rolled back
    rig.ask(ONE)
    await rig.hear()
    assert rig.answers(ONE)[2]["isDiff"] == 1
    rig.check()


@pytest.mark.parametrize("delivery", ["Push", "Pull"])
async def test_when_a_delta_s_next_attempt_is_due_its_device_must_be_on_the_source_version(rig, delivery):
    await rig.commit(base(ONE), delta())
    await rig.arrive(ONE)
    await rig.commit(base(ONE), delta(), batch(**DELTA, delivery=delivery))
    rig.ask(ONE)
    rig.progress(ONE, 5)
    rig.inform(ONE, "0.9")
    await rig.hear()
    await rig.wait(599, each=599)
    assert rig.status(ONE) == "IN_PROGRESS retry"
    assert await rig.wait(2) == 0
    assert rig.status(ONE) == "FAILED unexpected-version"
    rig.check()


async def test_a_delta_that_waits_for_its_device_ends_when_that_leaves_the_source_version(rig):
    await rig.commit(base(ONE), delta())
    await rig.arrive(ONE)
    await rig.commit(base(ONE), delta(), batch(**DELTA, delivery="Pull"))
    rig.progress(ONE, -1)
    await rig.hear()
    await rig.wait(601, each=601)
    assert rig.status(ONE) == "QUEUED retry"
    rig.inform(ONE, "0.9")
    await rig.hear()
    assert rig.status(ONE) == "FAILED unexpected-version"
    assert "delta's source version" in rig.events("task")[-1].message
    rig.check()


# --- silence, and delivery Pull ---


async def test_a_package_that_was_fetched_starts_the_clock_of_those_that_never_answer(rig):
    await rig.commit(base(ONE))
    await rig.arrive(ONE)
    await rig.commit(base(ONE), batch(delivery="Pull", noResponseTimeout="10m", timeout="30m"))
    assert rig.task(ONE).deadline_at is None
    rig.ask(ONE)
    await rig.hear()
    task = rig.task(ONE)
    assert (task.first_pushed_at, task.deadline_at) == (
        rig.clock.now(),
        rig.clock.now() + timedelta(minutes=10),
    )
    rig.clock.advance(60)
    rig.ask(ONE, 8)
    await rig.hear()
    assert rig.task(ONE).deadline_at == task.deadline_at
    rig.progress(ONE, 1)
    await rig.hear()
    assert rig.task(ONE).deadline_at == rig.clock.now() + timedelta(minutes=30)
