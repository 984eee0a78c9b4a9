"""One task, in worked examples: platform-rules.md §5 row by row, the amendments, pushes and limits, by hand."""

from __future__ import annotations

import pytest

from reference import stage
from reference.stage import DAY, HOUR, MINUTE, Stage

STEPS = [(-1, "upgrade-failed"), (-2, "download-failed"), (-3, "verify-failed"), (-4, "burn-failed")]


@pytest.fixture
def one():
    """One device on 1.0.0 that is online, and a package 2.0.0."""
    return Stage()


# ---- §5, row by row ----


def test_a_new_task_is_queued(one):
    one.batch("b")
    assert one.task("b") == ("QUEUED", None, None)


def test_a_new_task_waits_for_confirmation_when_the_batch_asks_for_it(one):
    one.batch("b", confirm=True)
    assert one.task("b") == ("CONFIRM", None, None)


def test_keep_fails_the_new_task_at_once(one):
    one.batch("a")
    one.batch("b")
    assert one.task("a") == ("QUEUED", None, None)
    assert one.task("b") == ("FAILED", None, "conflict")
    assert one.phase("b") == "COMPLETED"


@pytest.mark.parametrize("confirm", [False, True])
def test_overwrite_cancels_the_older_task_unless_it_is_in_progress(one, confirm):
    one.batch("a", confirm=confirm)
    one.batch("b", conflict="Overwrite")
    assert one.task("a") == ("CANCELED", None, "overwritten")
    assert one.task("b") == ("QUEUED", None, None)
    one.progress(5)
    one.batch("c", conflict="Overwrite")
    assert one.task("b") == ("IN_PROGRESS", None, None)
    assert one.task("c") == ("FAILED", None, "conflict")


def test_wait_queues_behind_and_is_checked_again_when_the_device_is_free(one):
    one.batch("a")
    one.batch("b", conflict="Wait", package="pkg-3")
    assert one.task("b") == ("QUEUED", "behind", None)
    one.inform("2.0.0")
    assert one.task("a") == ("SUCCEEDED", None, None)
    assert one.task("b") == ("QUEUED", None, None)
    assert one.source("b") == "2.0.0"


def test_a_waiting_task_asks_for_confirmation_when_its_turn_comes(one):
    one.batch("a")
    one.batch("b", conflict="Wait", confirm=True)
    one.fleet.cancel_task("a", one.dev)
    assert one.task("b") == ("CONFIRM", None, None)


@pytest.mark.parametrize(
    ("reported", "sources", "ends"),
    [
        ("2.0.0", (), ("SUCCEEDED", None, None)),
        ("1.1.0", ("1.0.0",), ("FAILED", None, "unexpected-version")),
        ("3.0.0", (), ("CANCELED", None, "downgrade")),
    ],
)
def test_a_waiting_task_is_judged_on_the_present_version(one, reported, sources, ends):
    one.batch("a", package="pkg-3", allow_downgrade=True)
    one.batch("b", conflict="Wait", sources=sources, retry=(0, 1))
    one.inform(reported)
    one.fleet.cancel_task("a", one.dev)
    assert one.task("b") == ends


def test_a_waiting_task_succeeds_at_once_when_its_device_reports_the_target(one):
    one.batch("a", package="pkg-3", allow_downgrade=True)
    one.batch("b", conflict="Wait")
    one.inform("2.0.0")
    assert one.task("a") == ("QUEUED", None, None)
    assert one.task("b") == ("SUCCEEDED", None, None)


def test_progress_of_a_waiting_task_changes_nothing(one):
    one.batch("a")
    one.batch("b", conflict="Wait")
    one.progress(-1)
    assert one.task("a") == ("FAILED", None, "upgrade-failed")
    assert one.task("b") == ("QUEUED", None, None)


def test_the_oldest_waiting_task_goes_first(one):
    one.batch("z")
    one.batch("y", conflict="Wait")
    one.batch("x", conflict="Wait")
    one.fleet.cancel_task("z", one.dev)
    assert one.task("y") == ("QUEUED", None, None)
    assert one.task("x") == ("QUEUED", "behind", None)


def test_confirming_queues_the_task(one):
    one.batch("b", confirm=True)
    assert one.get() is None
    assert one.fleet.confirm("b", one.dev) is None
    assert one.task("b") == ("QUEUED", None, None)


def test_a_claim_notifies(one):
    one.batch("b")
    assert one.push() is None
    assert one.task("b") == ("NOTIFIED", None, None)


def test_a_fetch_notifies(one):
    one.batch("b")
    assert one.get() == "2.0.0"
    assert one.task("b") == ("NOTIFIED", None, None)


@pytest.mark.parametrize("pushed", [False, True])
@pytest.mark.parametrize("step", [0, 100])
def test_progress_moves_a_queued_or_notified_task_on(one, pushed, step):
    one.batch("b", timeout=MINUTE)
    if pushed:
        one.push()
    one.progress(step)
    assert one.task("b") == ("IN_PROGRESS", None, None)
    one.later(59)
    one.progress(7)
    assert (one.of("b").step, one.task("b")[0]) == (7, "IN_PROGRESS")
    one.later(1)
    assert one.task("b") == ("FAILED", None, "timeout")


def test_progress_of_an_unconfirmed_task_changes_nothing(one):
    one.batch("b", confirm=True)
    one.progress(50)
    one.progress(-1)
    assert one.task("b") == ("CONFIRM", None, None)


@pytest.mark.parametrize("prepare", [stage.confirm, stage.queue, stage.notify, stage.begin])
def test_the_target_version_succeeds_from_every_status(one, prepare):
    prepare(one)
    one.inform("2.0.0")
    assert one.task("b") == ("SUCCEEDED", None, None)
    assert one.phase("b") == "COMPLETED"


@pytest.mark.parametrize("prepare", [stage.queue, stage.notify, stage.begin])
@pytest.mark.parametrize(("step", "reason"), STEPS)
def test_a_failed_step_fails(one, prepare, step, reason):
    prepare(one)
    one.progress(step)
    assert one.task("b") == ("FAILED", None, reason)


@pytest.mark.parametrize("prepare", [stage.queue, stage.notify, stage.begin])
def test_a_failed_step_with_retries_left_waits_in_its_status(one, prepare):
    prepare(one, retry=(10 * MINUTE, 1))
    status = one.task("b")[0]
    one.progress(-2)
    assert one.task("b") == (status, "retry", None)
    one.later(10 * MINUTE - 1)
    assert one.push()
    one.later(1)
    assert one.push() is None
    assert one.task("b") == ("IN_PROGRESS" if status == "IN_PROGRESS" else "NOTIFIED", None, None)
    one.progress(-2)
    assert one.task("b") == ("FAILED", None, "download-failed")


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_task_is_retried_exactly_as_often_as_its_limit_says(one, limit):
    stage.begin(one, retry=(0, limit))
    for attempt in range(limit):
        one.progress(-1)
        assert one.task("b") == ("IN_PROGRESS", "retry", None)
        assert one.of("b").retries == attempt + 1
        one.later(MINUTE)
        assert one.push() is None
    one.progress(-1)
    assert one.task("b") == ("FAILED", None, "upgrade-failed")


def test_a_failed_first_message_starts_the_clock_too(one):
    one.batch("b", retry=(10 * MINUTE, 1), timeout=11 * MINUTE)
    one.push()
    one.progress(-1)
    one.later(10 * MINUTE)
    one.push()
    assert one.task("b") == ("NOTIFIED", None, None)
    one.later(MINUTE)
    assert one.task("b") == ("FAILED", None, "timeout")


def test_another_version_in_progress_is_unexpected(one):
    stage.begin(one)
    one.inform("1.5.0")
    assert one.task("b") == ("FAILED", None, "unexpected-version")


def test_another_version_in_progress_is_retried(one):
    stage.begin(one, retry=(0, 1))
    one.inform("1.5.0")
    assert one.task("b") == ("IN_PROGRESS", "retry", None)
    assert one.source("b") == "1.5.0"


@pytest.mark.parametrize("prepare", [stage.confirm, stage.queue, stage.notify])
def test_another_version_before_any_progress_becomes_the_source(one, prepare):
    prepare(one)
    status = one.task("b")
    one.inform("1.5.0")
    assert one.task("b") == status
    assert one.source("b") == "1.5.0"


@pytest.mark.parametrize("prepare", [stage.confirm, stage.queue, stage.notify])
def test_a_version_that_is_not_among_the_sources_is_unexpected(one, prepare):
    prepare(one, sources=("1.0.0", "1.1.0"))
    one.inform("1.1.0")
    assert one.source("b") == "1.1.0"
    one.inform("1.5.0")
    assert one.task("b") == ("FAILED", None, "unexpected-version")


def test_a_version_that_is_not_among_the_sources_is_retried_as_retries_do_not_depend_on_them(one):
    one.batch("b", sources=("1.0.0",), retry=(10 * MINUTE, 1))
    one.inform("1.5.0")
    assert one.task("b") == ("QUEUED", "retry", None)
    one.later(10 * MINUTE)
    assert one.push() is None
    one.inform("2.0.0")
    assert one.task("b") == ("SUCCEEDED", None, None)


@pytest.mark.parametrize("prepare", [stage.notify, stage.begin])
def test_its_source_version_has_it_pushed_again_once_a_minute_at_most(one, prepare):
    prepare(one)
    status = one.task("b")
    assert one.push()
    one.inform("1.0.0")
    one.later(59)
    assert one.push()
    one.later(1)
    assert one.push() is None
    assert one.task("b") == status


def test_a_source_that_was_unknown_is_learned_from_the_first_report():
    one = Stage(version=None)
    stage.begin(one)
    one.inform("1.7.0")
    assert one.task("b") == ("IN_PROGRESS", None, None)
    assert one.source("b") == "1.7.0"
    one.inform("1.8.0")
    assert one.task("b") == ("FAILED", None, "unexpected-version")


@pytest.mark.parametrize("step", [0, 99, -1, -4])
def test_progress_while_a_retry_waits_changes_nothing(one, step):
    stage.begin(one, retry=(HOUR, 1))
    one.progress(-1)
    one.progress(step)
    assert one.task("b") == ("IN_PROGRESS", "retry", None)


def test_reports_while_a_retry_waits_only_teach_the_source_and_the_target_succeeds(one):
    stage.begin(one, retry=(HOUR, 1))
    one.progress(-1)
    one.inform("1.5.0")
    assert (one.task("b"), one.source("b")) == (("IN_PROGRESS", "retry", None), "1.5.0")
    one.later(MINUTE)
    assert one.push()
    one.inform("2.0.0")
    assert one.task("b") == ("SUCCEEDED", None, None)


def test_asking_while_a_retry_waits_is_as_good_as_the_retry(one):
    stage.begin(one, retry=(HOUR, 1))
    one.progress(-1)
    assert one.get() == "2.0.0"
    assert one.task("b") == ("IN_PROGRESS", None, None)
    one.later(HOUR)
    assert one.push()


def test_an_unanswered_push_fails_from_the_first_push_on(one):
    one.batch("b", no_response=2 * MINUTE)
    one.later(HOUR)
    one.push()
    one.later(MINUTE)
    one.inform("1.0.0")
    one.push()
    one.later(59)
    assert one.task("b") == ("NOTIFIED", None, None)
    one.later(1)
    assert one.task("b") == ("FAILED", None, "no-response")


def test_a_fetch_starts_the_no_response_clock_and_progress_ends_it(one):
    one.batch("b", no_response=MINUTE, delivery="Pull")
    one.get()
    one.later(59)
    one.progress(0)
    one.later(DAY)
    assert one.task("b") == ("IN_PROGRESS", None, None)


def test_a_retried_failure_as_first_message_ends_the_no_response_clock(one):
    one.batch("b", no_response=HOUR, retry=(10 * MINUTE, 1))
    one.push()
    one.progress(-1)
    one.later(2 * HOUR)
    assert one.task("b") == ("NOTIFIED", "retry", None)


def test_a_first_push_that_nobody_confirmed_has_not_started_the_no_response_clock(one):
    one.batch("b", no_response=MINUTE)
    one.push()
    one.fleet.push_lost(one.dev)
    one.later(HOUR)
    assert one.task("b") == ("NOTIFIED", None, None)


def test_the_timeout_ends_a_waiting_retry_and_is_never_retried(one):
    stage.begin(one, retry=(30 * MINUTE, 5), timeout=31 * MINUTE)
    one.progress(-1)
    one.later(30 * MINUTE)
    one.push()
    one.later(MINUTE)
    assert one.task("b") == ("FAILED", None, "timeout")


@pytest.mark.parametrize("confirm", [False, True])
def test_what_was_not_notified_is_cancelled_when_the_schedule_ends(one, confirm):
    one.batch("b", confirm=confirm, start=0, end=HOUR)
    one.later(HOUR - 1)
    assert one.task("b")[0] in ("QUEUED", "CONFIRM")
    one.later(1)
    assert one.task("b") == ("CANCELED", None, "schedule-ended")
    assert one.phase("b") == "COMPLETED"


def test_what_was_notified_goes_on_after_the_schedule(one):
    one.batch("b", start=0, end=HOUR)
    one.push()
    one.later(2 * HOUR)
    assert one.task("b") == ("NOTIFIED", None, None)
    assert one.get() == "2.0.0"
    one.inform("2.0.0")
    assert one.phase("b") == "COMPLETED"


@pytest.mark.parametrize("prepare", [stage.confirm, stage.queue, stage.notify, stage.begin])
def test_an_operator_cancels_one_task_in_any_unfinished_status(one, prepare):
    prepare(one, retry=(0, 5))
    assert one.fleet.cancel_task("b", one.dev) is None
    assert one.task("b") == ("CANCELED", None, "cancelled")
    assert one.fleet.cancel_task("b", one.dev)


def test_a_late_message_changes_nothing_and_a_late_target_is_shown(one):
    stage.begin(one)
    one.progress(-1)
    one.progress(50)
    assert one.task("b") == ("FAILED", None, "upgrade-failed")
    assert not one.of("b").late_success
    one.inform("2.0.0")
    assert one.task("b") == ("FAILED", None, "upgrade-failed")
    assert one.of("b").late_success


# ---- amendments ----


@pytest.mark.parametrize("prepare", [stage.confirm, stage.queue, stage.notify])
def test_a_device_above_the_target_is_a_downgrade_before_any_progress(one, prepare):
    prepare(one, sources=("1.0.0",), retry=(0, 5))
    one.inform("2.0.1")
    assert one.task("b") == ("CANCELED", None, "downgrade")


def test_a_device_above_the_target_is_unexpected_in_progress_without_retry(one):
    stage.begin(one, retry=(HOUR, 5))
    one.inform("2.0.1")
    assert one.task("b") == ("FAILED", None, "unexpected-version")


def test_a_device_above_the_target_is_a_downgrade_while_a_retry_waits(one):
    stage.begin(one, retry=(HOUR, 5))
    one.progress(-1)
    one.inform("2.0.1")
    assert one.task("b") == ("CANCELED", None, "downgrade")


def test_a_downgrade_that_is_allowed_is_a_version_like_any_other(one):
    one.batch("b", allow_downgrade=True)
    one.inform("2.0.1")
    assert (one.task("b"), one.source("b")) == (("QUEUED", None, None), "2.0.1")


def test_its_own_repeat_of_a_failure_is_no_second_failure_also_after_the_retry(one):
    stage.begin(one, retry=(0, 1))
    one.progress(-1, message_id="7")
    one.later(MINUTE)
    one.push()
    one.progress(-1, message_id="7")
    assert one.task("b") == ("IN_PROGRESS", None, None)
    one.progress(3, message_id="8")
    one.progress(-1, message_id="7")
    assert one.task("b") == ("FAILED", None, "upgrade-failed")


def test_a_delta_is_neither_offered_nor_retried_to_a_device_on_another_version(one):
    stage.begin(one, package="delta", sources=("1.0.0",), retry=(10 * MINUTE, 2))
    one.progress(-1)
    one.inform("1.5.0")
    assert one.get() is None
    one.later(10 * MINUTE)
    assert one.task("b") == ("FAILED", None, "unexpected-version")


def test_a_scheduled_batch_is_filtered_again_at_its_start():
    many = Stage(names=("aaaa", "bbbb", "cccc", "dddd"))
    many.batch("b", sources=("1.0.0", "1.1.0"), start=HOUR, confirm=True)
    assert many.phase("b") == "PLANNED"
    assert {task.status for task in many.fleet.tasks} == {"CONFIRM"}
    for name, version in (("bbbb", "2.0.0"), ("cccc", "3.0.0")):
        many.fleet.devices[f"p/{name}"].versions["default"] = version
    many.fleet.devices["p/dddd"].versions["default"] = "1.5.0"
    many.later(HOUR)
    assert [many.task("b", name)[::2] for name in ("aaaa", "bbbb", "dddd")] == [
        ("CONFIRM", None),
        ("SUCCEEDED", None),
        ("FAILED", "unexpected-version"),
    ]
    assert many.phase("b") == "IN_PROGRESS"


def test_what_follows_from_the_messages_of_a_burst_follows_at_its_end(one):
    one.batch("b")
    one.batch("next", package="pkg-3", conflict="Wait")
    with one.fleet.burst():
        one.progress(-1)
        one.progress(10)
        one.inform("1.5.0")
    assert (one.task("b"), one.task("next")) == (("FAILED", None, "upgrade-failed"), ("QUEUED", None, None))
    assert one.source("next") == "1.5.0"


def test_a_version_that_changed_and_changed_back_within_a_burst_is_looked_at_once(one):
    one.group("g", module=("default", "1.0.0"))
    one.batch("b", strategy="Dynamic", target=("group", "g"))
    assert [task.match_no for task in one.all("b")] == [1]
    with one.fleet.burst():
        one.inform("1.5.0")
        one.inform("1.0.0")
    assert [task.match_no for task in one.all("b")] == [1]
