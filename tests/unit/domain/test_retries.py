"""How failed attempts are tried again, and what is no second failure (platform rules §4, §5)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from moves import (
    CLAIMED,
    FETCHED,
    MINUTE,
    NOW,
    OTHER,
    SECOND,
    SOURCE,
    TEN_MINUTES,
    after,
    says,
    task,
)

from reconciler.domain.lifecycle import (
    Event,
    Hold,
    Retry,
    Trigger,
    progressed,
)

# --- retries ---


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_so_many_attempts_follow_the_first_and_no_more(limit):
    current = task("NOTIFIED", retry=Retry(timedelta(0), limit))
    for attempt in range(1, limit + 1):
        current = after(current, progressed(-1, "", bytes([attempt])))
        assert (current.status, current.hold, current.attempt) == ("NOTIFIED", Hold.RETRY, attempt)
        assert current.reason is None
        current = after(current, CLAIMED)
        assert (current.status, current.hold, current.retry_at) == ("NOTIFIED", Hold.NONE, None)
    ended = after(current, progressed(-1, "", b"last"))
    assert (ended.status, ended.reason, ended.attempt) == ("FAILED", "upgrade-failed", limit)


@pytest.mark.parametrize("minutes", [0, 10, 30, 60, 1440])
@pytest.mark.parametrize("ago", [None, 0, 30, 59, 60, 61])
def test_a_retry_is_pushed_after_its_interval_and_a_minute_after_the_last_push(minutes, ago):
    pushed = None if ago is None else NOW - ago * SECOND
    interval = minutes * MINUTE
    waiting = after(
        task("NOTIFIED", retry=Retry(interval, 1), last_pushed_at=pushed, timeout=None), progressed(-1, "")
    )
    assert waiting.retry_at == NOW + interval
    assert waiting.push_due_at == max(NOW + interval, pushed + MINUTE if pushed else NOW)


def test_a_retry_with_delivery_pull_waits_for_its_device_and_is_never_due():
    waiting = after(task("NOTIFIED", retry=TEN_MINUTES, push_delivery=False), progressed(-1, ""))
    assert (waiting.hold, waiting.retry_at, waiting.push_due_at) == (Hold.RETRY, NOW + 10 * MINUTE, None)
    fetched = after(waiting, FETCHED, at=NOW + MINUTE)
    assert (fetched.status, fetched.hold, fetched.retry_at, fetched.push_due_at) == (
        "NOTIFIED", Hold.NONE, None, None,
    )  # fmt: skip


def test_a_task_that_failed_before_it_was_pushed_is_retried_where_it_is():
    waiting = after(task("QUEUED", retry=TEN_MINUTES), progressed(-3, "bad signature"))
    assert (waiting.status, waiting.hold, waiting.step) == ("QUEUED", Hold.RETRY, -3)
    assert waiting.push_due_at == NOW + 10 * MINUTE
    assert after(waiting, CLAIMED).status == "NOTIFIED"


def test_what_is_reported_while_a_retry_waits_pushes_nothing_early():
    waiting = after(task("IN_PROGRESS", retry=TEN_MINUTES), progressed(-1, ""))
    told = says(says(says(waiting, SOURCE), OTHER), "1.2.0")
    assert told == waiting._replace(source_version="1.2.0")


def test_the_step_of_the_attempt_that_failed_stays_until_the_next_attempt_says_something():
    waiting = after(task("IN_PROGRESS", retry=TEN_MINUTES), progressed(-2, "no route"))
    held = after(waiting, progressed(50, "still there"), progressed(-4, "and gone"))
    assert (held.step, held.step_description) == (-2, "no route")
    assert after(held, CLAIMED, progressed(5, "")).step == 5


def test_an_unexpected_version_that_is_retried_is_the_next_attempts_source():
    waiting = says(task("IN_PROGRESS", retry=TEN_MINUTES), OTHER)
    assert (waiting.status, waiting.hold, waiting.source_version) == ("IN_PROGRESS", Hold.RETRY, OTHER)
    pushed = after(waiting, CLAIMED, at=NOW + 10 * MINUTE)
    assert says(pushed, OTHER).status == "IN_PROGRESS"
    assert says(pushed, SOURCE).attempt == 2


def test_another_version_that_the_batch_excludes_is_another_failure():
    waiting = says(task("NOTIFIED", retry=TEN_MINUTES, source_versions=(SOURCE,)), OTHER, b"1")
    second = says(after(waiting, CLAIMED), "1.3.6", b"2")
    assert (second.hold, second.attempt) == (Hold.RETRY, 2)
    third = says(after(second, CLAIMED), "1.3.7", b"3")
    assert (third.status, third.reason) == ("FAILED", "unexpected-version")


# --- a device repeats itself ---


@pytest.mark.parametrize("status", ["QUEUED", "NOTIFIED", "IN_PROGRESS"])
def test_the_same_failure_once_more_is_no_second_one_also_after_the_retrys_push(status):
    failure = progressed(-1, "", b"a")
    waiting = after(task(status, retry=TEN_MINUTES), failure)
    assert after(waiting, failure) == waiting
    pushed = after(waiting, CLAIMED)
    assert after(pushed, failure, failure) == pushed


@pytest.mark.parametrize("mark", [b"a", b"b"])
def test_the_same_unexpected_version_once_more_is_no_second_failure(mark):
    found = task("NOTIFIED", retry=TEN_MINUTES, source_versions=(SOURCE,))
    pushed = after(says(found, OTHER, b"a"), CLAIMED)
    again = says(pushed, OTHER, mark)
    assert (again.state, again.attempt, again.source_version) == (pushed.state, 1, OTHER)


@pytest.mark.parametrize(
    "between", [progressed(5, "", b"b"), Event(Trigger.REPORTED_SOURCE, version=SOURCE, mark=b"b")]
)
def test_after_any_other_message_the_same_failure_is_a_new_one(between):
    failure = progressed(-1, "", b"a")
    pushed = after(task("NOTIFIED", retry=TEN_MINUTES), failure, CLAIMED, between)
    assert (pushed.failure_mark, after(pushed, failure).attempt) == (None, 2)


def test_a_message_between_counts_also_when_it_changes_nothing_else():
    failure = progressed(-1, "", b"a")
    waiting = after(task("NOTIFIED", retry=TEN_MINUTES), failure, progressed(5, "", b"b"))
    assert (waiting.hold, waiting.step) == (Hold.RETRY, -1)
    assert after(waiting, CLAIMED, failure).attempt == 2


def test_another_failure_is_another_attempt():
    pushed = after(task("NOTIFIED", retry=TEN_MINUTES), progressed(-1, "", b"a"), CLAIMED)
    assert after(pushed, progressed(-1, "", b"b")).attempt == 2


def test_messages_without_a_mark_are_never_taken_for_repeats():
    pushed = after(task("NOTIFIED", retry=TEN_MINUTES), progressed(-1, ""), CLAIMED)
    assert after(pushed, progressed(-1, "")).attempt == 2
