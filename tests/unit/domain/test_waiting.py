"""What a task waits for, and why it is as it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.domain import waiting
from reconciler.domain.lifecycle import Reason, Status
from reconciler.domain.waiting import Facts, Wait

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def wait(**changes):
    values = {
        "heartbeat_at": NOW - SECOND,
        "push_delivery": True,
        "online": True,
        "push_due_at": NOW - SECOND,
        "push_rate": 60,
        "pushed": {},
    }
    return waiting.waits_for(Facts(**{**values, **changes}), NOW)


def test_a_task_that_is_due_waits_for_its_turn_only():
    assert wait() is Wait.TURN
    assert wait(push_due_at=None) is Wait.TURN


@pytest.mark.parametrize("heartbeat_at", [None, NOW - 31 * SECOND])
def test_nothing_moves_without_the_daemon(heartbeat_at):
    assert wait(heartbeat_at=heartbeat_at, online=False) is Wait.DAEMON


def test_a_batch_with_delivery_pull_waits_for_the_device_to_ask_whether_it_is_there_or_not():
    assert wait(push_delivery=False, online=False) is Wait.FETCH


def test_a_device_that_is_away_is_waited_for():
    assert wait(online=False, push_due_at=NOW + SECOND) is Wait.OFFLINE


def test_a_device_that_came_just_now_is_heard_first():
    assert wait(push_due_at=NOW + SECOND, pushed={int(NOW.timestamp()): 60}) is Wait.SETTLING


def test_the_push_rate_is_named_when_it_is_used_up():
    assert wait(pushed={int(NOW.timestamp()): 1}) is Wait.RATE
    assert wait(pushed={int(NOW.timestamp()) - 30: 60}) is Wait.RATE


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_of_an_ended_task_is_put_into_words(reason):
    assert waiting.why(Status.FAILED, reason, step=None, late_success=False)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.NOTIFIED, Status.IN_PROGRESS, Status.SUCCEEDED])
def test_every_status_without_a_reason_is_put_into_words(status):
    assert waiting.why(status, None, step=None, late_success=False)


def test_a_timeout_at_a_hundred_percent_says_that_no_version_was_reported():
    assert "no version" in waiting.why(Status.FAILED, Reason.TIMEOUT, step=100, late_success=False)


def test_a_late_success_is_said_before_the_reason_of_the_failure():
    assert "late success" in waiting.why(Status.FAILED, Reason.TIMEOUT, step=100, late_success=True)
