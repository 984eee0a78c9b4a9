"""What a task waits for and since when, and why it is as it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.domain import waiting
from reconciler.domain.lifecycle import ENDED, Hold, Reason, Retry, Status
from reconciler.domain.targeting import LeftOut
from reconciler.domain.waiting import Again, Facts, Wait, Waiting

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
ACCEPTED, CREATED, STARTED = NOW - 5 * HOUR, NOW - 4 * HOUR, NOW - 3 * HOUR
SUSPENDED, SEEN, ONLINE, BEAT = NOW - 2 * HOUR, NOW - HOUR, NOW - MINUTE, NOW - SECOND
UNSIGNED = NOW - 2 * MINUTE
USED_UP = {int(NOW.timestamp()): 1}


def facts(**changes):
    values = {
        "status": Status.QUEUED, "created_at": CREATED, "push_due_at": NOW - SECOND, "accepted_at": ACCEPTED,
        "started_at": STARTED, "push_rate": 60, "online": True, "online_since": ONLINE, "last_seen_at": SEEN,
        "heartbeat_at": BEAT,
    }  # fmt: skip
    return Facts(**{**values, **changes})


def wait(**changes):
    found = waiting.waits_for(facts(**changes), NOW)
    return found and (found.wait, found.since)


PLANNED = {"started_at": None, "start_at": NOW + HOUR}
AWAY = {"online": False, "push_due_at": None}
RETRYING = {"hold": Hold.RETRY, "retry_at": NOW + MINUTE, "retry": Retry(10 * MINUTE, 2)}


def test_a_task_that_is_due_waits_for_its_turn_only():
    assert wait() == (Wait.TURN, NOW - SECOND)
    assert wait(push_due_at=None) == (Wait.TURN, STARTED)


EVERYTHING = [
    (Wait.SUSPENDED, SUSPENDED, {"suspended_at": SUSPENDED}),
    (Wait.SIGNING, UNSIGNED, {"unsigned_since": UNSIGNED}),
    (Wait.FILE, None, {"file_lost": True}),
    (Wait.VERIFICATION, ACCEPTED, {"verified": False, "started_at": None}),
    (Wait.BEHIND, CREATED, {"hold": Hold.BEHIND, "occupied_by": "other"}),
    (Wait.SCHEDULED, ACCEPTED, PLANNED),
    (Wait.DAEMON, None, {"heartbeat_at": None}),
    (Wait.FETCH, STARTED, {"push_delivery": False}),
    (Wait.OFFLINE, SEEN, AWAY),
    (Wait.RATE, NOW - SECOND, {"pushed": USED_UP}),
]


@pytest.mark.parametrize("first", range(len(EVERYTHING)))
def test_the_first_that_holds_is_shown(first):
    together = {}
    for _, _, changes in reversed(EVERYTHING[first:]):
        together |= changes
    wanted, since, _ = EVERYTHING[first]
    found = waiting.waits_for(facts(**together), NOW)
    assert (found.wait, found.since) == (wanted, since)


@pytest.mark.parametrize(("heartbeat_at", "since"), [(None, None), (NOW - 31 * SECOND, NOW - 31 * SECOND)])
def test_nothing_moves_without_the_daemon(heartbeat_at, since):
    assert wait(heartbeat_at=heartbeat_at, online=False) == (Wait.DAEMON, since)


def test_the_daemon_is_there_for_thirty_seconds_after_its_last_beat():
    assert wait(heartbeat_at=NOW - 30 * SECOND) == (Wait.TURN, NOW - SECOND)


def test_a_batch_that_waits_for_its_time_says_when_that_comes():
    found = waiting.waits_for(facts(**PLANNED), NOW)
    assert found == Waiting(Wait.SCHEDULED, ACCEPTED, NOW + HOUR)
    assert str(found) == "scheduled, starts 2026-11-01 13:00:00Z"


def test_a_batch_whose_time_has_come_is_starting():
    assert wait(started_at=None, start_at=NOW - MINUTE) == (Wait.STARTING, NOW - MINUTE)
    assert wait(started_at=None, start_at=NOW) == (Wait.STARTING, NOW)
    assert wait(started_at=None) == (Wait.STARTING, ACCEPTED)


def test_a_batch_that_started_waits_for_no_verification():
    assert wait(verified=False) == (Wait.TURN, NOW - SECOND)


def test_who_waits_behind_is_told_for_whom():
    assert str(waiting.waits_for(facts(hold=Hold.BEHIND, occupied_by="other"), NOW)) == "waits behind other"
    assert str(waiting.waits_for(facts(hold=Hold.BEHIND), NOW)) == "waits behind another task"
    trial = facts(hold=Hold.BEHIND, occupied_by="fw", occupied_by_trial=True)
    assert str(waiting.waits_for(trial, NOW)) == "waits behind the verification of fw"


def test_a_task_that_nobody_confirmed_waits_for_that():
    asks = {"status": Status.CONFIRM, "push_due_at": None}
    assert wait(
        **asks | AWAY | {"suspended_at": SUSPENDED, "unsigned_since": UNSIGNED, "file_lost": True}
    ) == (
        Wait.CONFIRMATION,
        STARTED,
    )
    assert wait(**asks | {"heartbeat_at": None}) == (Wait.CONFIRMATION, STARTED)


def test_what_can_not_be_confirmed_yet_waits_for_its_start():
    assert wait(status=Status.CONFIRM, **PLANNED) == (Wait.SCHEDULED, ACCEPTED)
    assert wait(status=Status.CONFIRM, started_at=None, verified=False) == (Wait.VERIFICATION, ACCEPTED)
    assert wait(status=Status.CONFIRM, started_at=None) == (Wait.STARTING, ACCEPTED)


def test_a_task_that_was_made_after_the_start_waits_since_it_was_made():
    assert wait(status=Status.CONFIRM, created_at=SEEN) == (Wait.CONFIRMATION, SEEN)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.NOTIFIED, Status.IN_PROGRESS])
def test_a_failed_attempt_waits_for_the_next_one(status):
    found = waiting.waits_for(facts(status=status, **RETRYING), NOW)
    assert found == Waiting(Wait.RETRY, NOW - 9 * MINUTE, NOW + MINUTE)
    assert str(found) == "next try at 2026-11-01 12:01:00Z"


def test_a_next_try_whose_time_has_come_waits_as_a_first_one_does():
    due = RETRYING | {"retry_at": NOW}
    assert wait(**due) == (Wait.TURN, NOW - SECOND)
    assert wait(**due | AWAY) == (Wait.OFFLINE, SEEN)


def test_a_next_try_of_a_retry_that_git_took_away_has_no_since():
    assert wait(**RETRYING | {"retry": None}) == (Wait.RETRY, None)
    assert wait(**RETRYING | {"retry_at": None}) == (Wait.TURN, NOW - SECOND)


def test_a_device_that_pulls_may_ask_before_its_next_try():
    assert wait(**RETRYING, push_delivery=False) == (Wait.FETCH, STARTED)


def test_a_device_that_came_just_now_is_heard_first():
    found = waiting.waits_for(facts(push_due_at=NOW + SECOND, pushed=USED_UP), NOW)
    assert found == Waiting(Wait.SETTLING, ONLINE, NOW + SECOND)
    assert str(found) == "device came just now"


def test_the_push_rate_is_named_when_it_is_used_up():
    assert wait(pushed=USED_UP) == (Wait.RATE, NOW - SECOND)
    assert wait(pushed={int(NOW.timestamp()) - 30: 60}, push_due_at=None) == (Wait.RATE, STARTED)


@pytest.mark.parametrize("status", [Status.NOTIFIED, Status.IN_PROGRESS, *ENDED])
def test_a_task_that_is_at_work_or_over_waits_for_nothing(status):
    assert wait(status=status, suspended_at=SUSPENDED) is None


def why(reason=None, *, status=Status.FAILED, step=None, late_success=False, **changes):
    return waiting.why(facts(status=status, **changes), reason, step=step, late_success=late_success)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_of_an_ended_task_is_put_into_words(reason):
    assert len(why(reason)) > 20


@pytest.mark.parametrize("status", [status for status in Status if status not in ENDED])
def test_every_status_without_a_reason_is_put_into_words(status):
    assert why(status=status)


def test_a_conflict_names_the_batch_that_has_the_device_while_it_does():
    other = {"occupied_by": "other"}
    assert why(Reason.CONFLICT, **other) == (
        "batch other still has the device: wait for that one or cancel it, then `reconciler retry` tries again"
    )
    trial = why(Reason.CONFLICT, **other, occupied_by_trial=True)
    assert trial.startswith("the verification of other still has the device")
    there = why(Reason.CONFLICT, **other, again=Again.THERE)
    assert there == "batch other still has the device; the device is on the target by now"
    assert "free now: `reconciler retry`" in why(Reason.CONFLICT)
    assert "other" not in why(Reason.TIMEOUT, **other).replace("another", "")


@pytest.mark.parametrize("again", Again)
def test_a_remedy_is_one_that_would_not_be_refused(again):
    assert why(Reason.TIMEOUT, again=again) == f"the device did not report the version in time: {again}"
    assert why(Reason.NO_RESPONSE, again=again).endswith(f"pushes? {again}")
    assert why(Reason.OVERWRITTEN, again=again) == why(Reason.OVERWRITTEN)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, Again.RETRY),
        ({"left_out": LeftOut.SOURCE}, Again.ELSEWHERE),
        ({"is_open": False, "is_over": True, "left_out": LeftOut.SOURCE}, Again.NEW_BATCH),
        ({"is_over": True, "left_out": LeftOut.SOURCE}, Again.ELSEWHERE),
        ({"is_over": True}, Again.LATER_END),
        ({"is_trial": True, "is_open": False}, Again.TRIAL),
        ({"is_trial": True, "is_removed": True}, Again.REMOVED),
        ({"is_removed": True, "left_out": LeftOut.DOWNGRADE}, Again.ABOVE),
        ({"left_out": LeftOut.ALREADY, "is_open": False, "is_trial": True}, Again.THERE),
    ],
)
def test_what_begins_an_upgrade_again(changes, found):
    given = {"left_out": None, "is_removed": False, "is_trial": False, "is_open": True, "is_over": False}
    assert waiting.again(**given | changes) is found


def test_a_later_end_alone_brings_no_task_back():
    said = why(Reason.SCHEDULE_ENDED, status=Status.CANCELED, again=Again.LATER_END)
    assert said.endswith(": a new batch, or a later `schedule.end` and then `reconciler retry`")
    assert why(Reason.SCHEDULE_ENDED, again=Again.THERE).endswith(
        "notified: the device is on the target by now"
    )


def test_a_timeout_at_a_hundred_percent_says_that_no_version_was_reported():
    assert "no version" in why(Reason.TIMEOUT, step=100)


def test_a_late_success_is_said_before_the_reason_of_the_failure():
    assert "late success" in why(Reason.TIMEOUT, step=100, late_success=True)
