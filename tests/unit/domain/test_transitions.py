"""Every state with every trigger, typed from platform rules §5 and its amendments, and from nothing in the code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.domain import lifecycle, transitions
from reconciler.domain.lifecycle import Event, Hold, Reason, Retry, State, Status, Task, Trigger

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SOURCE, TARGET, REPORTED = "1.3.0", "1.4.0", "1.3.5"
RETRY = Retry(10 * MINUTE, 2)

# One block a state, one line for what triggers do there: `where to`, then what happens besides.
# `FAILED by-step` has the reason of the failed step; `or retried` means: with retries left it stays, on hold.
RULES = """
CONFIRM
  confirmed: QUEUED
  reported-target: SUCCEEDED
  reported-source reported-other: CONFIRM, learns its source
  reported-excluded unfit: FAILED unexpected-version
  reported-downgrade would-downgrade: CANCELED downgrade
  schedule-ended: CANCELED schedule-ended
  overwritten: CANCELED overwritten
  yielded: QUEUED behind, afresh
  canceled: CANCELED canceled
  freed claimed fetched progress step-failed no-response timeout again: nothing

QUEUED
  claimed: NOTIFIED
  fetched: NOTIFIED, has its package
  progress: IN_PROGRESS, starts the clock, keeps the step
  step-failed: FAILED by-step, starts the clock, keeps the step, or retried
  reported-target: SUCCEEDED
  reported-source reported-other: QUEUED, learns its source
  reported-excluded: FAILED unexpected-version, or retried
  reported-downgrade would-downgrade: CANCELED downgrade
  unfit: FAILED unexpected-version
  schedule-ended: CANCELED schedule-ended
  overwritten: CANCELED overwritten
  yielded: QUEUED behind, afresh
  canceled: CANCELED canceled
  confirmed freed no-response timeout again: nothing

QUEUED retry
  claimed: NOTIFIED
  fetched: NOTIFIED, has its package
  reported-target: SUCCEEDED
  reported-source reported-other reported-excluded: QUEUED retry, learns its source
  reported-downgrade: CANCELED downgrade
  unfit: FAILED unexpected-version
  timeout: FAILED timeout
  schedule-ended: CANCELED schedule-ended
  overwritten: CANCELED overwritten
  yielded: QUEUED behind, afresh
  canceled: CANCELED canceled
  confirmed freed progress step-failed would-downgrade no-response again: nothing

QUEUED behind
  freed: QUEUED, learns its source
  reported-target: SUCCEEDED
  unfit: FAILED unexpected-version
  would-downgrade: CANCELED downgrade
  schedule-ended: CANCELED schedule-ended
  canceled: CANCELED canceled
  confirmed claimed fetched progress step-failed no-response timeout again: nothing
  reported-source reported-other reported-excluded reported-downgrade overwritten yielded: nothing

NOTIFIED
  claimed: NOTIFIED
  fetched: NOTIFIED, has its package
  progress: IN_PROGRESS, starts the clock, keeps the step
  step-failed: FAILED by-step, starts the clock, keeps the step, or retried
  reported-target: SUCCEEDED
  reported-source reported-other: NOTIFIED, learns its source, is pushed again
  reported-excluded: FAILED unexpected-version, or retried
  reported-downgrade: CANCELED downgrade
  unfit: FAILED unexpected-version
  no-response: FAILED no-response
  timeout: FAILED timeout
  overwritten: CANCELED overwritten
  canceled: CANCELED canceled
  confirmed freed would-downgrade schedule-ended again yielded: nothing

NOTIFIED retry
  claimed: NOTIFIED
  fetched: NOTIFIED, has its package
  reported-target: SUCCEEDED
  reported-source reported-other reported-excluded: NOTIFIED retry, learns its source
  reported-downgrade: CANCELED downgrade
  unfit: FAILED unexpected-version
  no-response: FAILED no-response
  timeout: FAILED timeout
  overwritten: CANCELED overwritten
  canceled: CANCELED canceled
  confirmed freed progress step-failed would-downgrade schedule-ended again yielded: nothing

IN_PROGRESS
  claimed: IN_PROGRESS
  fetched: IN_PROGRESS, has its package
  progress: IN_PROGRESS, keeps the step
  step-failed: FAILED by-step, keeps the step, or retried
  reported-target: SUCCEEDED
  reported-source: IN_PROGRESS, learns its source, is pushed again
  reported-other reported-excluded: FAILED unexpected-version, or retried
  reported-downgrade unfit: FAILED unexpected-version
  timeout: FAILED timeout
  canceled: CANCELED canceled
  confirmed freed would-downgrade no-response schedule-ended overwritten again yielded: nothing

IN_PROGRESS retry
  claimed: IN_PROGRESS
  fetched: IN_PROGRESS, has its package
  reported-target: SUCCEEDED
  reported-source reported-other reported-excluded: IN_PROGRESS retry, learns its source
  reported-downgrade: CANCELED downgrade
  unfit: FAILED unexpected-version
  timeout: FAILED timeout
  canceled: CANCELED canceled
  confirmed freed progress step-failed would-downgrade no-response schedule-ended overwritten again yielded: nothing

SUCCEEDED
  step-failed reported-source reported-other reported-excluded reported-downgrade: SUCCEEDED, late
  confirmed freed claimed fetched progress reported-target unfit would-downgrade: nothing
  no-response timeout schedule-ended overwritten canceled again yielded: nothing

FAILED
  progress step-failed: FAILED, late
  reported-target: FAILED, late success
  again: QUEUED, afresh, learns its source
  confirmed freed claimed fetched reported-source reported-other reported-excluded reported-downgrade: nothing
  unfit would-downgrade no-response timeout schedule-ended overwritten canceled yielded: nothing

CANCELED
  progress step-failed reported-target: CANCELED, late
  again: QUEUED, afresh, learns its source
  confirmed freed claimed fetched reported-source reported-other reported-excluded reported-downgrade: nothing
  unfit would-downgrade no-response timeout schedule-ended overwritten canceled yielded: nothing
"""


def state_of(words: str) -> State:
    status, _, hold = words.partition(" ")
    return State(Status(status), Hold(hold or "none"))


def _typed() -> dict[tuple[State, Trigger], str]:
    """The rules above as (state, trigger) → what happens; a pair that is typed twice is a slip."""
    found: dict[tuple[State, Trigger], str] = {}
    for block in RULES.strip().split("\n\n"):
        state, *lines = block.splitlines()
        for line in lines:
            triggers, what = line.split(": ")
            for trigger in triggers.split():
                pair = (state_of(state), Trigger(trigger))
                assert pair not in found
                found[pair] = what
    return found


EXPECTED = _typed()
PAIRS = [
    pytest.param(state, trigger, id=f"{state.status}-{state.hold}-{trigger}") for state, trigger in EXPECTED
]


def before(state: State, **changes: object) -> Task:
    """A task in a state, with what such a task has behind it."""
    status, hold = state
    found: dict[str, object] = {"source_version": SOURCE, "timeout": HOUR, "no_response": DAY, "retry": None}
    if status is not Status.CONFIRM and hold is not Hold.BEHIND:
        found |= {"push_due_at": NOW + MINUTE}
    if status in {Status.NOTIFIED, Status.IN_PROGRESS}:
        found |= {} if hold is Hold.RETRY else {"push_due_at": None}
        found |= {"first_pushed_at": NOW - 2 * HOUR, "last_pushed_at": NOW - HOUR, "deadline_at": NOW + DAY}
    if status is Status.IN_PROGRESS:
        found |= {"started_at": NOW - MINUTE, "deadline_at": NOW + HOUR, "step": 10}
    if hold is Hold.RETRY:
        found |= {"attempt": 1, "retry_at": NOW + MINUTE, "failure_mark": b"earlier"}
    if status in transitions.ENDED:
        found |= {"ended_at": NOW - HOUR, "push_due_at": None, "attempt": 1, "started_at": NOW - DAY}
    if status in {Status.FAILED, Status.CANCELED}:
        found |= {"reason": Reason.TIMEOUT, "first_pushed_at": NOW - DAY, "late_at": NOW - MINUTE}
    return Task(
        id=1,
        run_id=2,
        device_id=3,
        module="default",
        status=status,
        hold=hold,
        target_version=TARGET,
        **(found | changes),
    )


def event(trigger: Trigger) -> Event:
    """What happens, as a message or the engine says it."""
    if trigger is Trigger.PROGRESS:
        return lifecycle.progressed(40, "writing", b"message")
    if trigger is Trigger.STEP_FAILED:
        return lifecycle.progressed(-2, "no route", b"message")
    if trigger.startswith("reported-"):
        return Event(trigger, version=REPORTED, mark=b"message")
    return Event(trigger, version=REPORTED if trigger in {Trigger.FREED, Trigger.AGAIN} else None)


def expected(task: Task, happened: Event, what: str) -> Task:
    """The task afterwards, by the words of the rules."""
    if happened.mark is not None:  # any other message than the failure that counted last
        task = task._replace(failure_mark=None)
    if what == "nothing":
        return task
    where, *besides = what.split(", ")
    if "or retried" in besides and task.retry is not None and task.attempt < task.retry.limit:
        return _retried(task, happened, besides)
    place, _, reason = where.partition(" ")
    if place not in transitions.ENDED or task.status in transitions.ENDED:
        reason, moved = "", state_of(where)
    else:
        moved = State(Status(place))
    changes: dict[str, object] = {"status": moved.status, "hold": moved.hold} | _besides(
        task, happened, besides
    )
    if moved.hold is not Hold.RETRY:
        changes["retry_at"] = None
    if moved.status in transitions.ENDED and task.status not in transitions.ENDED:
        named = Reason.DOWNLOAD_FAILED if reason == "by-step" else Reason(reason) if reason else None
        changes |= {"ended_at": NOW, "reason": named, "deadline_at": None, "push_due_at": None}
        changes["failure_mark"] = None
    return task._replace(**changes)


def _retried(task: Task, happened: Event, besides: list[str]) -> Task:
    changes = _besides(task, happened, besides) | {
        "hold": Hold.RETRY,
        "attempt": task.attempt + 1,
        "retry_at": NOW + 10 * MINUTE,
        "push_due_at": NOW + 10 * MINUTE,
        "failure_mark": happened.mark,
        "source_version": happened.version or task.source_version,
    }
    return task._replace(**changes)


def _besides(task: Task, happened: Event, besides: list[str]) -> dict[str, object]:
    first_of_all = task.first_pushed_at is None and task.started_at is None
    words: dict[str, dict[str, object]] = {
        "learns its source": {"source_version": REPORTED},
        "is pushed again": {"push_due_at": NOW},
        "starts the clock": {"started_at": NOW, "deadline_at": NOW + HOUR},
        "keeps the step": {"step": happened.step, "step_description": happened.description},
        "has its package": {
            "first_pushed_at": task.first_pushed_at or NOW,
            "last_pushed_at": NOW,
            "push_due_at": None,
            **({"deadline_at": NOW + DAY} if first_of_all else {}),
        },
        "or retried": {},
        "late": {"late_at": task.late_at or NOW},
        "late success": {"late_at": task.late_at or NOW, "late_success": True},
        "afresh": {
            "attempt": 0,
            "failure_mark": None,
            "push_due_at": None,
            "reason": None,
            "started_at": None,
            "first_pushed_at": None,
            "ended_at": None,
            "late_at": None,
        },
    }
    return {name: value for word in besides for name, value in words[word].items()}


def test_every_state_is_typed_with_every_trigger():
    states = {State(status) for status in Status} | {
        State(Status.QUEUED, Hold.BEHIND),
        *(State(status, Hold.RETRY) for status in (Status.QUEUED, Status.NOTIFIED, Status.IN_PROGRESS)),
    }
    assert set(EXPECTED) == {(state, trigger) for state in states for trigger in Trigger}
    assert set(transitions.TABLE) == states


@pytest.mark.parametrize(("state", "trigger"), PAIRS)
@pytest.mark.parametrize("retry", [None, RETRY, Retry(10 * MINUTE, 0)], ids=["none", "left", "used-up"])
def test_a_task_moves_as_the_rules_say(state, trigger, retry):
    task, happened = before(state, retry=retry), event(trigger)
    assert lifecycle.step(task, happened, NOW).task == expected(task, happened, EXPECTED[state, trigger])


@pytest.mark.parametrize(("state", "trigger"), PAIRS)
def test_a_task_whose_batch_asks_is_confirmed_before_it_is_queued_for_the_first_time(state, trigger):
    asked = lifecycle.step(before(state, confirm=True), event(trigger), NOW).task
    usual = lifecycle.step(before(state), event(trigger), NOW).task
    enters = trigger in {Trigger.FREED, Trigger.AGAIN} and EXPECTED[state, trigger] != "nothing"
    assert asked.status is (Status.CONFIRM if enters else usual.status)


@pytest.mark.parametrize(
    ("entry", "status", "hold", "reason"),
    [
        ("FREE", "QUEUED", "none", None),
        ("CONFLICT", "FAILED", "none", "conflict"),
        ("BEHIND", "QUEUED", "behind", None),
    ],
)
def test_a_task_enters_by_the_rule_of_conflicts(entry, status, hold, reason):
    rule = transitions.ENTRIES[lifecycle.Entry[entry]]
    assert (rule.to.status, rule.to.hold, rule.reason) == (status, hold, reason)
    assert (lifecycle.Effect.ASK_FIRST in rule.effects) == (entry == "FREE")


def test_statuses_are_unfinished_or_ended():
    assert [str(one) for one in transitions.UNFINISHED] == ["CONFIRM", "QUEUED", "NOTIFIED", "IN_PROGRESS"]
    assert [str(one) for one in transitions.ENDED] == ["SUCCEEDED", "FAILED", "CANCELED"]


@pytest.mark.parametrize("trigger", Trigger)
def test_bulk_statements_take_their_states_from_the_table(trigger):
    moved = {state for (state, one), what in EXPECTED.items() if one is trigger and what != "nothing"}
    assert set(transitions.states(trigger)) == {one for one in moved if one.status in transitions.UNFINISHED}


@pytest.mark.parametrize("trigger", Trigger)
def test_the_status_that_is_shown_does_not_change_while_a_retry_waits(trigger):
    rules = [
        transitions.TABLE[State(status, Hold.RETRY)].get(trigger) for status in transitions.UNFINISHED[1:]
    ]
    held = [rule.to for rule in rules if rule is not None and rule.to.hold is Hold.RETRY]
    assert [to.status for to in held] in ([], list(transitions.UNFINISHED[1:]))


def test_each_failed_step_has_its_reason():
    named = {-1: "upgrade-failed", -2: "download-failed", -3: "verify-failed", -4: "burn-failed"}
    assert dict(transitions.STEP_REASONS) == named
