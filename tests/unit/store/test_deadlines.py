"""What the clock ends, and what it means that a deadline passed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rows import EPOCH, HOUR, MINUTE, NOW, Rows, counted
from rows import row as row_of
from sqlalchemy import update

from reconciler.domain import lifecycle
from reconciler.store import deadlines, devices, events, tables

SECOND = timedelta(seconds=1)
PRESENCE = devices.Presence(EPOCH, timedelta(0))
STARTED = {"started_at": NOW - HOUR}


@pytest.fixture
def rows(database):
    with database.writing() as connection:
        made = Rows(connection)
        made.world()
        for number in range(1, 6):
            made.device(f"dev-{number}", "1.3.0", online=True)
        yield made


def task(rows, number=1):
    return row_of(rows.connection, tables.task, number)


def expire(rows, now=NOW, heard_until=None, **options):
    return deadlines.expire(rows.connection, PRESENCE, now, heard_until, **options)


def messages(rows, device="dev-1"):
    return [line.message for line in events.read(rows.connection, events.Filter(device=device), 99)]


UNFINISHED = [state for state in lifecycle.TABLE if state.status in lifecycle.UNFINISHED]


@pytest.mark.parametrize("state", UNFINISHED, ids="-".join)
@pytest.mark.parametrize("trigger", [lifecycle.Trigger.TIMEOUT, lifecycle.Trigger.NO_RESPONSE])
def test_a_deadline_that_passed_does_what_the_table_says(rows, state, trigger):
    clock = STARTED if trigger is lifecycle.Trigger.TIMEOUT else {}
    run = rows.run()
    retry = {"retry_at": NOW} if state.hold is lifecycle.Hold.RETRY else {}
    rows.task(run, 1, str(state.status), hold=str(state.hold), deadline_at=NOW, **clock, **retry)
    rule = lifecycle.TABLE[state].get(trigger)
    assert expire(rows, NOW - SECOND) == 0
    assert expire(rows) == (rule is not None)
    if rule is None:
        assert task(rows).status == state.status
        return
    after = task(rows)
    assert (after.status, after.reason, after.hold) == ("FAILED", str(rule.reason), "none")
    assert (after.holds, after.ended_at, after.deadline_at, after.retry_at) == (False, NOW, None, None)
    assert counted(rows.connection, run) == {"FAILED": 1}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({**STARTED, "status": "IN_PROGRESS", "step": 100}, "100 %, but no version was reported"),
        ({**STARTED, "status": "IN_PROGRESS", "step": 99}, "no version was reported in time"),
        ({**STARTED, "status": "NOTIFIED", "step": None}, "no version was reported in time"),
        ({"status": "NOTIFIED"}, "no progress was reported in time"),
    ],
)
def test_the_log_says_what_was_missing(rows, given, message):
    rows.task(rows.run(), 1, deadline_at=NOW, **given)
    expire(rows)
    assert messages(rows)[-2:] == [message, "all tasks have ended"] or messages(rows)[-1] == message


def test_the_last_one_completes_the_run(rows):
    run = rows.run()
    rows.task(run, 1, "IN_PROGRESS", deadline_at=NOW, **STARTED)
    expire(rows)
    assert row_of(rows.connection, tables.run, run).phase == "COMPLETED"


def test_who_waited_behind_goes_on(rows):
    rows.task(rows.run("first"), 1, "IN_PROGRESS", deadline_at=NOW, **STARTED)
    rows.task(rows.run("second"), 1, hold="behind")
    expire(rows)
    assert (task(rows, 2).status, task(rows, 2).hold, task(rows, 2).holds) == ("QUEUED", "none", True)


def test_many_expire_in_bounded_parts(rows):
    run = rows.run()
    for number in range(1, 6):
        rows.task(run, number, "IN_PROGRESS", deadline_at=NOW - number * SECOND, **STARTED)
    assert expire(rows, limit=2) == 2
    assert task(rows, 5).status == task(rows, 4).status == "FAILED"
    assert expire(rows, limit=2) == 2
    assert expire(rows, limit=2) == 1
    assert expire(rows, limit=2) == 0


def test_the_oldest_deadlines_pass_first_whatever_they_mean(rows):
    run = rows.run()
    clocks = [STARTED, {}, {**STARTED, "step": 100}, {}, STARTED]
    for number, clock in enumerate(clocks, start=1):
        status = "IN_PROGRESS" if clock else "NOTIFIED"
        rows.task(run, number, status, deadline_at=NOW - number * SECOND, **clock)
    assert expire(rows, limit=3) == 3
    assert [task(rows, number).status == "FAILED" for number in range(1, 6)] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_a_deadline_that_means_nothing_keeps_no_other_from_passing(rows):
    run = rows.run()
    rows.task(run, 1, "QUEUED", deadline_at=NOW - HOUR)
    rows.task(run, 2, "NOTIFIED", deadline_at=NOW)
    assert expire(rows, limit=1) == 1
    assert task(rows, 2).status == "FAILED"


def test_a_deadline_counts_only_as_far_as_devices_were_heard(rows):
    rows.task(rows.run(), 1, "IN_PROGRESS", deadline_at=NOW, **STARTED)
    assert not deadlines.any_due(rows.connection, NOW - SECOND)
    assert expire(rows, NOW + MINUTE, NOW - SECOND) == 0
    assert deadlines.any_due(rows.connection, NOW)
    assert expire(rows, NOW + MINUTE, NOW) == 1
    assert task(rows).ended_at == NOW + MINUTE


def test_our_own_absence_is_given_back_to_every_device_s_clock_and_to_no_retry(rows):
    rows.task(rows.run(), 1, "NOTIFIED", deadline_at=NOW)
    rows.task(rows.run("b"), 2, "NOTIFIED", hold="retry", retry_at=NOW, push_due_at=NOW)
    deadlines.extend_deadlines(rows.connection, MINUTE)
    assert (task(rows, 1).deadline_at, task(rows, 2).deadline_at) == (NOW + MINUTE, None)
    assert (task(rows, 2).retry_at, task(rows, 2).push_due_at) == (NOW, NOW)


# --- attempts that cannot be made ---


@pytest.fixture
def delta(rows):
    """A delta from 1.3.0, whose three tasks wait for their next attempt; the second device left that version."""
    run = rows.run(delta=True, source_versions=["1.3.0"], push_delivery=False)
    for number in (1, 2, 3):
        rows.task(run, number, "IN_PROGRESS", hold="retry", retry_at=NOW, **STARTED)
    version = tables.device_version
    rows.connection.execute(update(version).where(version.c.device_id == 2).values(version="1.2.0"))
    return run


def strayed(rows, since, until, **options):
    found = deadlines.strayed(rows.connection, since, until, **options)
    ended = deadlines.end_strayed(rows.connection, PRESENCE, found, NOW)
    assert ended == len(found)
    return ended


def test_when_its_next_attempt_is_due_a_delta_s_task_ends_whose_device_left_the_source(rows, delta):
    assert strayed(rows, NOW - HOUR, NOW - SECOND) == 0
    assert strayed(rows, NOW - HOUR, NOW) == 1
    assert (task(rows, 2).status, task(rows, 2).reason) == ("FAILED", "unexpected-version")
    assert counted(rows.connection, delta) == {"IN_PROGRESS": 2, "FAILED": 1}


def test_what_was_looked_at_before_is_not_looked_at_again(rows, delta):
    assert strayed(rows, NOW, NOW + HOUR) == 0


@pytest.mark.parametrize("other", [{"hold": "none", "retry_at": None}, {"status": "FAILED", "ended_at": NOW}])
def test_only_waiting_attempts_end_so(rows, delta, other):
    more = {"hold": "none", "holds": False, "retry_at": None} if "status" in other else {}
    rows.connection.execute(update(tables.task).where(tables.task.c.id == 2).values(**more | other))
    assert strayed(rows, NOW - HOUR, NOW) == 0


def test_a_full_package_is_tried_again_on_whatever_version_its_device_is(rows, delta):
    rows.connection.execute(update(tables.run).values(delta=False))
    assert strayed(rows, NOW - HOUR, NOW) == 0


def test_many_strayed_ones_end_in_bounded_parts(rows, delta):
    rows.connection.execute(update(tables.device_version).values(version="1.2.0"))
    ended = [strayed(rows, NOW - HOUR, NOW, limit=2) for _ in range(3)]
    assert ended == [2, 1, 0]
    assert counted(rows.connection, delta) == {"FAILED": 3}


def test_who_came_back_to_the_source_after_the_look_is_tried_again(rows, delta):
    found = deadlines.strayed(rows.connection, NOW - HOUR, NOW)
    rows.connection.execute(update(tables.device_version).values(version="1.3.0"))
    assert deadlines.end_strayed(rows.connection, PRESENCE, found, NOW) == 0
    assert task(rows, 2).status == "IN_PROGRESS"


# --- schedules ---

PLANNED = {"phase": "PLANNED", "started_at": None}


@pytest.mark.parametrize(
    ("run", "due"),
    [
        ({}, False),
        (PLANNED, True),
        ({**PLANNED, "start_at": NOW}, True),
        ({**PLANNED, "start_at": NOW + SECOND}, False),
        ({"phase": "CANCELED", "started_at": None}, False),
        ({"end_at": NOW}, True),
        ({"end_at": NOW, "phase": "COMPLETED"}, False),
        ({"end_at": NOW, "schedule_ended": True}, False),
        ({"end_at": NOW + SECOND}, False),
    ],
)
def test_a_cheap_look_says_whether_a_batch_may_have_to_start_or_end(rows, run, due):
    rows.run(**run)
    assert deadlines.schedule_due(rows.connection, NOW) is due


def test_what_is_left_of_a_batch_that_was_cancelled_before_its_start_starts_too(rows):
    rows.task(rows.run(phase="CANCELED", started_at=None), 1)
    assert deadlines.schedule_due(rows.connection, NOW)


@pytest.mark.parametrize(
    ("verification", "type_", "due"),
    [
        ("verified", "Static", True),
        ("verifying", "Static", False),
        ("failed", "Static", False),
        ("verifying", "Verify", True),
    ],
)
def test_a_batch_waits_for_the_verification_of_its_package_and_the_verification_does_not(
    rows, verification, type_, due
):
    rows.connection.execute(update(tables.package).values(verification=verification))
    rows.run(**PLANNED, type=type_)
    assert deadlines.schedule_due(rows.connection, NOW) is due
