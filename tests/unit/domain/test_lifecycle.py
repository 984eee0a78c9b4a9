"""How one task moves: clocks, retries, pushes, sources, late messages, and what the log says (platform rules §5).

What every trigger does in every state is in test_transitions; here are the rules that take more than one event.
"""

from __future__ import annotations

import pytest
from moves import (
    CLAIMED,
    FETCHED,
    HIGHER,
    HOUR,
    MINUTE,
    NOW,
    OTHER,
    SECOND,
    SOURCE,
    TARGET,
    TEN_MINUTES,
    TIMEOUT,
    after,
    says,
    task,
)

from reconciler.domain.lifecycle import (
    Entry,
    Event,
    Hold,
    Reason,
    Status,
    Task,
    Trigger,
    again,
    next_push,
    progressed,
    reported,
    step,
)

# --- what messages mean ---


@pytest.mark.parametrize(
    ("number", "reason"),
    [(-1, "upgrade-failed"), (-2, "download-failed"), (-3, "verify-failed"), (-4, "burn-failed")],
)
@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED", "IN_PROGRESS"])
def test_each_failed_step_has_its_reason(status, number, reason):
    ended = after(task(status), progressed(number, "why"))
    assert (ended.status, ended.reason) == ("FAILED", reason)
    assert (ended.step, ended.step_description) == (number, "why")


@pytest.mark.parametrize("percent", [0, 1, 99, 100])
def test_percent_is_progress_and_never_success(percent):
    moved = after(task("NOTIFIED"), progressed(percent, "x"))
    assert (moved.status, moved.step, moved.step_description) == ("IN_PROGRESS", percent, "x")


def test_the_newest_progress_counts_also_when_it_is_less():
    assert after(task("NOTIFIED"), progressed(80, "a"), progressed(20, "b")).step == 20


@pytest.mark.parametrize(
    ("version", "source", "allowed", "downgrades", "trigger"),
    [
        (TARGET, SOURCE, (), False, Trigger.REPORTED_TARGET),
        (TARGET, SOURCE, (SOURCE,), False, Trigger.REPORTED_TARGET),
        (TARGET, TARGET, (), False, Trigger.REPORTED_TARGET),
        (HIGHER, SOURCE, (), False, Trigger.REPORTED_DOWNGRADE),
        (HIGHER, SOURCE, (SOURCE,), False, Trigger.REPORTED_DOWNGRADE),
        (HIGHER, SOURCE, (HIGHER,), False, Trigger.REPORTED_DOWNGRADE),
        (HIGHER, HIGHER, (), False, Trigger.REPORTED_DOWNGRADE),
        (HIGHER, None, (), False, Trigger.REPORTED_DOWNGRADE),
        (HIGHER, SOURCE, (), True, Trigger.REPORTED_OTHER),
        (HIGHER, None, (), True, Trigger.REPORTED_SOURCE),
        (HIGHER, HIGHER, (), True, Trigger.REPORTED_SOURCE),
        (HIGHER, SOURCE, (SOURCE,), True, Trigger.REPORTED_EXCLUDED),
        ("2.0-rc1", SOURCE, (), False, Trigger.REPORTED_OTHER),
        (SOURCE, SOURCE, (), False, Trigger.REPORTED_SOURCE),
        (SOURCE, SOURCE, (SOURCE, "1.2.0"), False, Trigger.REPORTED_SOURCE),
        (SOURCE, None, (), False, Trigger.REPORTED_SOURCE),
        (OTHER, None, (), False, Trigger.REPORTED_SOURCE),
        (OTHER, SOURCE, (), False, Trigger.REPORTED_OTHER),
        ("1.2.0", SOURCE, (SOURCE, "1.2.0"), False, Trigger.REPORTED_OTHER),
        (OTHER, SOURCE, (SOURCE,), False, Trigger.REPORTED_EXCLUDED),
        (OTHER, OTHER, (SOURCE,), False, Trigger.REPORTED_SOURCE),
        (OTHER, None, (SOURCE,), False, Trigger.REPORTED_EXCLUDED),
    ],
)
def test_a_version_is_the_target_or_leads_down_or_is_excluded_or_the_source_or_another(
    version, source, allowed, downgrades, trigger
):
    found = task("NOTIFIED", source_version=source, source_versions=allowed, allow_downgrade=downgrades)
    assert reported(found, version, b"m") == Event(trigger, version=version, mark=b"m")


@pytest.mark.parametrize("status", ["CONFIRM", "QUEUED", "NOTIFIED", "IN_PROGRESS"])
def test_a_source_not_yet_known_is_learned_from_the_first_report(status):
    moved = says(task(status, source_version=None), OTHER)
    assert (moved.status, moved.source_version) == (status, OTHER)


def test_another_version_during_the_upgrade_fails_it_and_is_not_taken_for_the_source():
    ended = says(task("IN_PROGRESS"), OTHER)
    assert (ended.status, ended.reason, ended.source_version) == ("FAILED", "unexpected-version", SOURCE)


# --- the timeout's clock ---


@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED"])
@pytest.mark.parametrize("percent", [0, 55, 100])
def test_the_first_progress_starts_the_clock(status, percent):
    moved = after(task(status), progressed(percent, ""))
    assert (moved.started_at, moved.deadline_at) == (NOW, NOW + HOUR)


@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED"])
def test_a_failed_step_as_the_first_message_starts_the_clock_too(status):
    ended = after(task(status), progressed(-1, ""))
    assert (ended.status, ended.started_at, ended.deadline_at) == ("FAILED", NOW, None)
    retried = after(task(status, retry=TEN_MINUTES), progressed(-1, ""))
    assert (retried.status, retried.started_at, retried.deadline_at) == (status, NOW, NOW + HOUR)


def test_a_clock_that_runs_is_never_started_again_not_by_a_retry_either():
    first = after(task("NOTIFIED", retry=TEN_MINUTES), progressed(-1, ""))
    later = after(first, CLAIMED, progressed(1, ""), progressed(-2, ""), FETCHED, at=NOW + 10 * MINUTE)
    assert (later.attempt, later.started_at, later.deadline_at) == (2, NOW, NOW + HOUR)


def test_a_timeout_that_changed_in_place_is_not_that_of_a_clock_that_runs():
    running = after(task("NOTIFIED"), progressed(1, ""))
    changed = running._replace(timeout=2 * HOUR)
    assert after(changed, progressed(2, "")).deadline_at == NOW + HOUR


@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED", "IN_PROGRESS"])
def test_a_task_times_out_also_while_its_retry_waits_and_is_not_retried(status):
    waiting = after(task(status, retry=TEN_MINUTES), progressed(-1, ""))
    assert waiting.hold is Hold.RETRY
    ended = after(waiting, TIMEOUT, at=NOW + HOUR)
    assert (ended.status, ended.reason, ended.ended_at) == ("FAILED", "timeout", NOW + HOUR)


def test_without_a_timeout_the_clock_has_no_end():
    moved = after(task("NOTIFIED", timeout=None), progressed(1, ""))
    assert (moved.started_at, moved.deadline_at) == (NOW, None)


# --- silence ---


def test_silence_counts_from_the_first_push_and_further_ones_do_not_restart_it():
    first = after(task(no_response=2 * HOUR), FETCHED)
    assert first.deadline_at == NOW + 2 * HOUR
    assert after(first, FETCHED, at=NOW + MINUTE).deadline_at == NOW + 2 * HOUR


def test_without_a_limit_of_silence_a_push_starts_no_clock():
    assert after(task(), FETCHED).deadline_at is None


@pytest.mark.parametrize(("timeout", "deadline"), [(HOUR, NOW + HOUR), (None, None)])
@pytest.mark.parametrize("number", [0, 100, -1])
def test_the_first_progress_message_of_any_kind_ends_the_silence(number, timeout, deadline):
    pushed = after(task(no_response=2 * HOUR, timeout=timeout, retry=TEN_MINUTES), FETCHED)
    assert after(pushed, progressed(number, "")).deadline_at == deadline


def test_reports_of_versions_do_not_end_the_silence():
    pushed = after(task(no_response=2 * HOUR, source_versions=(SOURCE,), retry=TEN_MINUTES), FETCHED)
    for version in (SOURCE, OTHER):
        assert says(pushed, version).deadline_at == NOW + 2 * HOUR
    retried = says(pushed, OTHER)
    assert (retried.hold, retried.started_at) == (Hold.RETRY, None)
    ended = after(retried, Event(Trigger.NO_RESPONSE), at=NOW + 2 * HOUR)
    assert (ended.status, ended.reason) == ("FAILED", "no-response")


def test_a_device_that_already_failed_a_step_unasked_is_not_silent_after_its_first_push():
    failed = after(task(no_response=2 * HOUR, retry=TEN_MINUTES), progressed(-1, ""))
    assert after(failed, FETCHED, at=NOW + MINUTE).deadline_at == NOW + HOUR


# --- pushes ---


@pytest.mark.parametrize("status", ["NOTIFIED", "IN_PROGRESS"])
def test_a_device_that_reports_its_source_again_is_pushed_again(status):
    assert says(task(status), SOURCE).push_due_at == NOW


def test_what_is_due_because_its_device_came_goes_out_no_sooner_when_it_reports_its_source():
    settled = NOW + 10 * SECOND
    assert says(task("NOTIFIED", push_due_at=settled), SOURCE).push_due_at == settled


def test_an_attempt_that_failed_before_its_device_had_settled_is_tried_again_after_that():
    settled = NOW + 11 * MINUTE
    retried = after(task("QUEUED", push_due_at=settled, retry=TEN_MINUTES), progressed(-1, ""))
    assert retried.push_due_at == settled


def test_a_queued_task_waits_for_its_first_push_whatever_is_reported():
    assert says(task("QUEUED"), SOURCE).push_due_at is None


@pytest.mark.parametrize("ago", [0, 1, 59, 60, 61, 3600])
def test_a_task_is_pushed_again_at_most_once_a_minute(ago):
    pushed = NOW - ago * SECOND
    moved = says(task("NOTIFIED", last_pushed_at=pushed), SOURCE)
    assert moved.push_due_at == max(NOW, pushed + MINUTE)
    assert next_push(pushed, NOW) == moved.push_due_at
    assert next_push(None, NOW) == NOW


@pytest.mark.parametrize("version", [SOURCE, OTHER])
def test_a_task_with_delivery_pull_is_never_due(version):
    assert says(task("NOTIFIED", push_delivery=False), version).push_due_at is None


@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED", "IN_PROGRESS"])
def test_a_device_that_fetched_its_package_needs_no_push(status):
    moved = after(task(status, push_due_at=NOW), FETCHED)
    assert (moved.first_pushed_at, moved.last_pushed_at, moved.push_due_at) == (NOW, NOW, None)


def test_the_first_push_is_remembered():
    moved = after(task("NOTIFIED", first_pushed_at=NOW - HOUR, last_pushed_at=NOW - HOUR), FETCHED)
    assert (moved.first_pushed_at, moved.last_pushed_at) == (NOW - HOUR, NOW)


# --- what occupies a device ---


@pytest.mark.parametrize(
    ("status", "hold", "holds"),
    [
        ("CONFIRM", "none", True),
        ("QUEUED", "none", True),
        ("QUEUED", "retry", True),
        ("QUEUED", "behind", False),
        ("NOTIFIED", "none", True),
        ("IN_PROGRESS", "retry", True),
        ("SUCCEEDED", "none", False),
        ("FAILED", "none", False),
        ("CANCELED", "none", False),
    ],
)
def test_a_task_occupies_its_device_until_it_ends_unless_it_waits_behind_another(status, hold, holds):
    found = task(status, hold=Hold(hold))
    assert (found.holds, found.state) == (holds, (status, hold))


# --- late messages ---


@pytest.mark.parametrize(
    ("status", "event"),
    [
        ("SUCCEEDED", progressed(-1, "")),
        ("SUCCEEDED", Event(Trigger.REPORTED_SOURCE, version=SOURCE)),
        ("SUCCEEDED", Event(Trigger.REPORTED_DOWNGRADE, version=HIGHER)),
        ("FAILED", progressed(7, "")),
        ("CANCELED", progressed(-1, "")),
        ("CANCELED", Event(Trigger.REPORTED_TARGET, version=TARGET)),
    ],
)
def test_the_first_late_message_is_recorded_and_no_other(status, event):
    first = step(task(status), event, NOW)
    assert first.task == task(status, late_at=NOW)
    assert first.note is not None
    assert first.note.startswith("too late: reported ")
    second = step(first.task, progressed(-3, "other"), NOW + MINUTE)
    assert (second.task, second.note) == (first.task, None)


@pytest.mark.parametrize("number", [-1, 60])
def test_a_device_that_repeats_the_step_its_task_ended_with_says_nothing_late(number):
    ended = task("FAILED", step=number)
    result = step(ended, progressed(number, "again"), NOW)
    assert (result.task, result.note) == (ended, None)


def test_the_target_version_after_a_failure_is_a_late_success_once():
    success = Event(Trigger.REPORTED_TARGET, version=TARGET)
    late = step(task("FAILED"), success, NOW)
    assert (late.task, late.note) == (task("FAILED", late_success=True, late_at=NOW), "late success")
    once_more = step(late.task, success, NOW + MINUTE)
    assert (once_more.task, once_more.note) == (late.task, None)


def test_a_late_success_is_noted_also_after_another_late_message():
    first = after(task("FAILED"), progressed(3, ""))
    late = step(first, Event(Trigger.REPORTED_TARGET, version=TARGET), NOW + MINUTE)
    assert (late.task.late_at, late.task.late_success, late.note) == (NOW, True, "late success")


# --- upgraded again ---


def ended(status: str) -> Task:
    return task(
        status, reason=Reason.TIMEOUT, ended_at=NOW, attempt=2, started_at=NOW - HOUR, late_at=NOW,
        late_success=True, step=100, step_description="done", first_pushed_at=NOW - HOUR,
        last_pushed_at=NOW - HOUR, timeout=HOUR,
    )  # fmt: skip


@pytest.mark.parametrize("status", ["FAILED", "CANCELED"])
@pytest.mark.parametrize(
    ("entry", "confirm", "to"),
    [
        (Entry.FREE, False, ("QUEUED", "none")),
        (Entry.FREE, True, ("CONFIRM", "none")),
        (Entry.BEHIND, False, ("QUEUED", "behind")),
        (Entry.BEHIND, True, ("QUEUED", "behind")),
    ],
)
def test_a_task_that_is_upgraded_again_enters_like_a_new_one(status, entry, confirm, to):
    found = again(ended(status)._replace(confirm=confirm), entry, OTHER)
    fresh = task(source_version=OTHER, confirm=confirm, last_pushed_at=NOW - HOUR)
    assert found == fresh._replace(status=Status(to[0]), hold=Hold(to[1]))


def test_what_was_pushed_a_moment_ago_is_not_pushed_at_once_though_it_begins_again():
    found = again(ended("FAILED")._replace(last_pushed_at=NOW), Entry.FREE, SOURCE)
    assert next_push(found.last_pushed_at, NOW) == NOW + MINUTE


@pytest.mark.parametrize(("said", "source"), [(OTHER, OTHER), (None, SOURCE)])
def test_the_trigger_does_the_same_on_the_version_that_its_device_reports(said, source):
    found = step(ended("FAILED"), Event(Trigger.AGAIN, version=said), NOW)
    assert (found.task, found.note) == (again(ended("FAILED"), Entry.FREE, source), "again")


# --- waiting behind another task ---


def test_a_task_whose_device_is_free_starts_from_the_version_that_it_has_now():
    behind = task(hold=Hold.BEHIND)
    freed = step(behind, Event(Trigger.FREED, version=OTHER), NOW)
    assert (freed.task, freed.note) == (task(source_version=OTHER), "freed")


def test_a_task_that_waits_behind_another_hears_only_that_its_device_is_on_the_target():
    behind = task(hold=Hold.BEHIND, source_versions=(SOURCE,))
    for version in (SOURCE, OTHER, HIGHER):
        assert says(behind, version) == behind
    assert says(behind, TARGET).status == "SUCCEEDED"


# --- the log ---


@pytest.mark.parametrize(
    ("status", "event", "note"),
    [
        ("CONFIRM", Event(Trigger.CONFIRMED), "confirmed"),
        ("QUEUED", FETCHED, "fetched"),
        ("QUEUED", Event(Trigger.REPORTED_OTHER, version=OTHER), f"reported version {OTHER}"),
        ("NOTIFIED", progressed(5, "erasing"), "reported step 5: erasing"),
        ("NOTIFIED", progressed(-3, ""), "reported step -3"),
        ("IN_PROGRESS", Event(Trigger.REPORTED_TARGET, version=TARGET), f"reported version {TARGET}"),
        ("IN_PROGRESS", progressed(60, ""), None),
        ("NOTIFIED", Event(Trigger.REPORTED_SOURCE, version=SOURCE), None),
        ("NOTIFIED", FETCHED, None),
    ],
)
def test_the_log_gets_a_line_for_each_change_of_state_or_source(status, event, note):
    assert step(task(status), event, NOW).note == note


def test_the_log_gets_a_line_for_each_attempt():
    found = step(task("NOTIFIED", retry=TEN_MINUTES), progressed(-2, "no route"), NOW)
    assert found.note == "reported step -2: no route"
    assert step(found.task, CLAIMED, NOW).note == "claimed"
