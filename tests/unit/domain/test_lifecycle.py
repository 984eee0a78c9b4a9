"""How tasks move: every status with every trigger, typed from platform rules §5 and from nothing in the code."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain import lifecycle
from reconciler.domain.lifecycle import (
    Event,
    Reason,
    Status,
    Task,
    Trigger,
    next_push,
    progressed,
    reported,
    sources,
    step,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
ENDED = {Status.SUCCEEDED, Status.FAILED, Status.CANCELED}
SOURCE, TARGET, OTHER = "1.3.0", "1.4.0", "9.9.9"

EVENTS = {
    Trigger.CLAIMED: Event(Trigger.CLAIMED),
    Trigger.FETCHED: Event(Trigger.FETCHED),
    Trigger.PROGRESS: Event(Trigger.PROGRESS, step=40, description="writing"),
    Trigger.STEP_FAILED: Event(Trigger.STEP_FAILED, step=-2, description="no route"),
    Trigger.REPORTED_TARGET: Event(Trigger.REPORTED_TARGET, version=TARGET),
    Trigger.REPORTED_SOURCE: Event(Trigger.REPORTED_SOURCE, version=SOURCE),
    Trigger.REPORTED_OTHER: Event(Trigger.REPORTED_OTHER, version=OTHER),
    Trigger.REPORTED_EXCLUDED: Event(Trigger.REPORTED_EXCLUDED, version=OTHER),
    Trigger.TIMEOUT: Event(Trigger.TIMEOUT),
    Trigger.CANCELED: Event(Trigger.CANCELED),
}

# (before, trigger) → (after, reason). What the table of platform rules §5 does not list stays as it is.
EXPECTED = {
    ("QUEUED", "claimed"): ("NOTIFIED", None),
    ("QUEUED", "fetched"): ("NOTIFIED", None),
    ("QUEUED", "progress"): ("IN_PROGRESS", None),
    ("QUEUED", "step-failed"): ("FAILED", "download-failed"),
    ("QUEUED", "reported-target"): ("SUCCEEDED", None),
    ("QUEUED", "reported-source"): ("QUEUED", None),
    ("QUEUED", "reported-other"): ("QUEUED", None),
    ("QUEUED", "reported-excluded"): ("FAILED", "unexpected-version"),
    ("QUEUED", "timeout"): ("QUEUED", None),
    ("QUEUED", "canceled"): ("CANCELED", "canceled"),
    ("NOTIFIED", "claimed"): ("NOTIFIED", None),
    ("NOTIFIED", "fetched"): ("NOTIFIED", None),
    ("NOTIFIED", "progress"): ("IN_PROGRESS", None),
    ("NOTIFIED", "step-failed"): ("FAILED", "download-failed"),
    ("NOTIFIED", "reported-target"): ("SUCCEEDED", None),
    ("NOTIFIED", "reported-source"): ("NOTIFIED", None),
    ("NOTIFIED", "reported-other"): ("NOTIFIED", None),
    ("NOTIFIED", "reported-excluded"): ("FAILED", "unexpected-version"),
    ("NOTIFIED", "timeout"): ("NOTIFIED", None),
    ("NOTIFIED", "canceled"): ("CANCELED", "canceled"),
    ("IN_PROGRESS", "claimed"): ("IN_PROGRESS", None),
    ("IN_PROGRESS", "fetched"): ("IN_PROGRESS", None),
    ("IN_PROGRESS", "progress"): ("IN_PROGRESS", None),
    ("IN_PROGRESS", "step-failed"): ("FAILED", "download-failed"),
    ("IN_PROGRESS", "reported-target"): ("SUCCEEDED", None),
    ("IN_PROGRESS", "reported-source"): ("IN_PROGRESS", None),
    ("IN_PROGRESS", "reported-other"): ("FAILED", "unexpected-version"),
    ("IN_PROGRESS", "reported-excluded"): ("FAILED", "unexpected-version"),
    ("IN_PROGRESS", "timeout"): ("FAILED", "timeout"),
    ("IN_PROGRESS", "canceled"): ("CANCELED", "canceled"),
}


def task(status: str = Status.QUEUED, **changes: object) -> Task:
    found = Task(
        id=1,
        run_id=2,
        device_id=3,
        module="default",
        status=Status(status),
        target_version=TARGET,
        source_version=SOURCE,
        timeout=HOUR,
    )
    if status in ENDED:
        found = dataclasses.replace(found, ended_at=NOW - HOUR, reason=_reason_of(status))
    return dataclasses.replace(found, **changes)


def _reason_of(status: str) -> Reason | None:
    return {Status.FAILED: Reason.TIMEOUT, Status.CANCELED: Reason.CANCELED}.get(Status(status))


# --- the table ---


@pytest.mark.parametrize("trigger", Trigger)
@pytest.mark.parametrize("status", [Status.QUEUED, Status.NOTIFIED, Status.IN_PROGRESS])
def test_an_unfinished_task_moves_as_the_rules_say(status, trigger):
    after = step(task(status), EVENTS[trigger], NOW).task
    status_after, reason = EXPECTED[status.value, trigger.value]
    assert (after.status, after.reason) == (status_after, reason)


@pytest.mark.parametrize("trigger", Trigger)
@pytest.mark.parametrize("status", sorted(ENDED))
def test_an_ended_task_never_changes_but_for_the_note_that_something_came_late(status, trigger):
    before = task(status)
    after = step(before, EVENTS[trigger], NOW).task
    assert dataclasses.replace(after, late_at=None, late_success=False) == before


def test_every_status_and_every_trigger_is_in_the_expectations():
    unfinished = {Status.QUEUED, Status.NOTIFIED, Status.IN_PROGRESS}
    assert set(Status) == ENDED | unfinished
    assert set(EXPECTED) == {(status.value, trigger.value) for status in unfinished for trigger in Trigger}
    assert set(lifecycle.UNFINISHED) == unfinished
    assert set(lifecycle.ENDED) == ENDED


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("trigger", Trigger)
def test_an_ended_task_has_its_time_and_nothing_left_to_do(status, trigger):
    waiting = {"push_due_at": NOW, "deadline_at": NOW + HOUR} if status not in ENDED else {}
    after = step(task(status, **waiting), EVENTS[trigger], NOW).task
    assert (after.ended_at is not None) == (after.status in ENDED)
    if after.status in ENDED:
        assert (after.push_due_at, after.deadline_at) == (None, None)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("trigger", Trigger)
def test_the_same_event_again_changes_nothing_more(status, trigger):
    once = step(task(status), EVENTS[trigger], NOW)
    again = step(once.task, EVENTS[trigger], NOW)
    assert again.task == once.task
    assert again.note is None


def test_bulk_statements_take_their_statuses_from_the_table():
    assert sources(Trigger.TIMEOUT) == (Status.IN_PROGRESS,)
    assert sources(Trigger.CANCELED) == (Status.QUEUED, Status.NOTIFIED, Status.IN_PROGRESS)


# --- what messages mean ---


@pytest.mark.parametrize(
    ("number", "reason"),
    [(-1, "upgrade-failed"), (-2, "download-failed"), (-3, "verify-failed"), (-4, "burn-failed")],
)
@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED", "IN_PROGRESS"])
def test_each_failed_step_has_its_reason(status, number, reason):
    after = step(task(status), progressed(number, "why"), NOW).task
    assert (after.status, after.reason) == ("FAILED", reason)
    assert (after.step, after.step_description) == (number, "why")


@pytest.mark.parametrize("percent", [0, 1, 99, 100])
def test_percent_is_progress_and_never_success(percent):
    after = step(task("NOTIFIED"), progressed(percent, "x"), NOW).task
    assert (after.status, after.step, after.step_description) == ("IN_PROGRESS", percent, "x")


def test_the_newest_progress_counts_also_when_it_is_less():
    first = step(task("NOTIFIED"), progressed(80, "a"), NOW).task
    assert step(first, progressed(20, "b"), NOW).task.step == 20


@pytest.mark.parametrize(
    ("version", "source", "allowed", "trigger"),
    [
        (TARGET, SOURCE, (), Trigger.REPORTED_TARGET),
        (TARGET, SOURCE, (SOURCE,), Trigger.REPORTED_TARGET),
        (TARGET, None, (SOURCE,), Trigger.REPORTED_TARGET),
        (SOURCE, SOURCE, (), Trigger.REPORTED_SOURCE),
        (SOURCE, SOURCE, (SOURCE, "1.2.0"), Trigger.REPORTED_SOURCE),
        (SOURCE, None, (), Trigger.REPORTED_SOURCE),
        (OTHER, None, (), Trigger.REPORTED_SOURCE),
        (OTHER, SOURCE, (), Trigger.REPORTED_OTHER),
        ("1.2.0", SOURCE, (SOURCE, "1.2.0"), Trigger.REPORTED_OTHER),
        (OTHER, SOURCE, (SOURCE,), Trigger.REPORTED_EXCLUDED),
        (OTHER, None, (SOURCE,), Trigger.REPORTED_EXCLUDED),
    ],
)
def test_a_reported_version_is_the_target_the_source_another_or_excluded(version, source, allowed, trigger):
    found = task("NOTIFIED", source_version=source, source_versions=allowed)
    assert reported(found, version) == Event(trigger, version=version)


@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED", "IN_PROGRESS"])
def test_a_source_not_yet_known_is_learned_from_the_first_report(status):
    before = task(status, source_version=None)
    after = step(before, reported(before, OTHER), NOW)
    assert (after.task.status, after.task.source_version) == (status, OTHER)
    assert after.note == f"reported version {OTHER}"


@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED"])
def test_another_version_becomes_the_source_before_the_upgrade_began(status):
    before = task(status)
    after = step(before, reported(before, OTHER), NOW).task
    assert (after.status, after.source_version) == (status, OTHER)


def test_another_version_during_the_upgrade_fails_it_and_is_not_taken_for_the_source():
    before = task("IN_PROGRESS")
    after = step(before, reported(before, OTHER), NOW).task
    assert (after.status, after.reason, after.source_version) == ("FAILED", "unexpected-version", SOURCE)


@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED", "IN_PROGRESS"])
def test_a_version_that_the_batch_excludes_fails_the_task(status):
    before = task(status, source_versions=(SOURCE,))
    after = step(before, reported(before, OTHER), NOW).task
    assert (after.status, after.reason) == ("FAILED", "unexpected-version")


# --- clocks ---


@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED"])
@pytest.mark.parametrize("percent", [0, 55])
def test_the_first_progress_starts_the_clock(status, percent):
    after = step(task(status), progressed(percent, ""), NOW).task
    assert (after.started_at, after.deadline_at) == (NOW, NOW + HOUR)


@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED"])
def test_a_failed_step_as_the_first_message_starts_the_clock_too(status):
    assert step(task(status), progressed(-1, ""), NOW).task.started_at == NOW


def test_without_a_timeout_the_clock_has_no_end():
    after = step(task("NOTIFIED", timeout=None), progressed(1, ""), NOW).task
    assert (after.started_at, after.deadline_at) == (NOW, None)


@given(
    st.lists(
        st.one_of(
            st.builds(progressed, st.integers(0, 100), st.just("")),
            st.sampled_from(
                [Event(Trigger.CLAIMED), Event(Trigger.FETCHED), EVENTS[Trigger.REPORTED_SOURCE]]
            ),
        ),
        max_size=12,
    )
)
def test_a_clock_that_runs_is_never_started_again(events):
    current = step(task("NOTIFIED"), progressed(1, ""), NOW).task
    for seconds, event in enumerate(events, 1):
        current = step(current, event, NOW + seconds * SECOND).task
        assert (current.started_at, current.deadline_at) == (NOW, NOW + HOUR)


def test_the_timeout_ends_the_clock():
    running = step(task("NOTIFIED"), progressed(100, ""), NOW).task
    after = step(running, Event(Trigger.TIMEOUT), NOW + HOUR).task
    assert (after.status, after.reason, after.ended_at) == ("FAILED", "timeout", NOW + HOUR)


# --- pushes ---


@pytest.mark.parametrize("status", ["NOTIFIED", "IN_PROGRESS"])
def test_a_device_that_reports_its_source_again_is_pushed_again(status):
    after = step(task(status), EVENTS[Trigger.REPORTED_SOURCE], NOW).task
    assert (after.status, after.push_due_at) == (status, NOW)


def test_a_queued_task_waits_for_its_first_push_whatever_is_reported():
    assert step(task("QUEUED"), EVENTS[Trigger.REPORTED_SOURCE], NOW).task.push_due_at is None


@pytest.mark.parametrize("ago", [0, 1, 59, 60, 61, 3600])
def test_a_task_is_pushed_again_at_most_once_a_minute(ago):
    pushed = NOW - ago * SECOND
    after = step(task("NOTIFIED", last_pushed_at=pushed), EVENTS[Trigger.REPORTED_SOURCE], NOW).task
    assert after.push_due_at == max(NOW, pushed + MINUTE)
    assert next_push(pushed, NOW) == after.push_due_at
    assert next_push(None, NOW) == NOW


@pytest.mark.parametrize("trigger", [Trigger.REPORTED_SOURCE, Trigger.REPORTED_OTHER])
def test_a_task_with_delivery_pull_is_never_due(trigger):
    after = step(task("NOTIFIED", push_delivery=False), EVENTS[trigger], NOW).task
    assert after.push_due_at is None


@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED", "IN_PROGRESS"])
def test_a_device_that_fetched_its_package_needs_no_push(status):
    before = task(status, push_due_at=NOW)
    after = step(before, Event(Trigger.FETCHED), NOW).task
    assert (after.first_pushed_at, after.last_pushed_at, after.push_due_at) == (NOW, NOW, None)


def test_the_first_push_is_remembered():
    before = task("NOTIFIED", first_pushed_at=NOW - HOUR, last_pushed_at=NOW - HOUR)
    after = step(before, Event(Trigger.FETCHED), NOW).task
    assert (after.first_pushed_at, after.last_pushed_at) == (NOW - HOUR, NOW)


# --- late messages ---


@pytest.mark.parametrize(
    ("status", "event"),
    [
        ("SUCCEEDED", progressed(-1, "")),
        ("SUCCEEDED", EVENTS[Trigger.REPORTED_SOURCE]),
        ("SUCCEEDED", EVENTS[Trigger.REPORTED_OTHER]),
        ("SUCCEEDED", EVENTS[Trigger.REPORTED_EXCLUDED]),
        ("FAILED", progressed(7, "")),
        ("FAILED", progressed(-1, "")),
        ("CANCELED", progressed(7, "")),
        ("CANCELED", progressed(-1, "")),
        ("CANCELED", EVENTS[Trigger.REPORTED_TARGET]),
    ],
)
def test_the_first_late_message_is_recorded_and_no_other(status, event):
    first = step(task(status), event, NOW)
    assert first.task.late_at == NOW
    assert first.note is not None
    assert first.note.startswith("too late: reported ")
    second = step(first.task, progressed(8, "other"), NOW + MINUTE)
    assert (second.task, second.note) == (first.task, None)


@pytest.mark.parametrize(
    ("status", "trigger"),
    [("SUCCEEDED", Trigger.PROGRESS), ("SUCCEEDED", Trigger.REPORTED_TARGET), ("FAILED", Trigger.TIMEOUT)],
)
def test_what_was_to_be_expected_afterwards_is_no_news(status, trigger):
    result = step(task(status), EVENTS[trigger], NOW)
    assert (result.task, result.note) == (task(status), None)


@pytest.mark.parametrize("number", [-1, 60])
def test_a_device_that_repeats_the_step_its_task_ended_with_says_nothing_late(number):
    ended = task("FAILED", step=number)
    result = step(ended, progressed(number, "again"), NOW)
    assert (result.task, result.note) == (ended, None)


def test_the_target_version_after_a_failure_is_a_late_success_once():
    late = step(task("FAILED"), EVENTS[Trigger.REPORTED_TARGET], NOW)
    assert (late.task.late_success, late.task.late_at, late.note) == (True, NOW, "late success")
    assert late.task.status == "FAILED"
    again = step(late.task, EVENTS[Trigger.REPORTED_TARGET], NOW + MINUTE)
    assert (again.task, again.note) == (late.task, None)


def test_a_late_success_is_noted_also_after_another_late_message():
    first = step(task("FAILED"), progressed(3, ""), NOW).task
    late = step(first, EVENTS[Trigger.REPORTED_TARGET], NOW + MINUTE)
    assert (late.task.late_at, late.task.late_success, late.note) == (NOW, True, "late success")


# --- the log ---


@pytest.mark.parametrize(
    ("status", "event", "note"),
    [
        ("QUEUED", Event(Trigger.FETCHED), "fetched"),
        ("NOTIFIED", progressed(5, "erasing"), "reported step 5: erasing"),
        ("NOTIFIED", progressed(-3, ""), "reported step -3"),
        ("IN_PROGRESS", Event(Trigger.REPORTED_TARGET, version=TARGET), f"reported version {TARGET}"),
        ("IN_PROGRESS", progressed(60, ""), None),
        ("NOTIFIED", Event(Trigger.REPORTED_SOURCE, version=SOURCE), None),
        ("NOTIFIED", Event(Trigger.FETCHED), None),
    ],
)
def test_the_log_gets_a_line_for_each_change_of_status_or_source(status, event, note):
    assert step(task(status), event, NOW).note == note
