"""Whatever happens to a task, in any order: what is always true of it (platform rules §5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from moves import HIGHER, HOUR, MINUTE, NOW, OTHER, SECOND, SOURCE, TARGET

from reconciler.domain import lifecycle, transitions
from reconciler.domain.lifecycle import (
    Event,
    Hold,
    Retry,
    Status,
    Task,
    Trigger,
    next_push,
    progressed,
    reported,
    step,
)

RANK = {status: place for place, status in enumerate(transitions.UNFINISHED)} | dict.fromkeys(
    transitions.ENDED, 4
)
MARKS = st.sampled_from([None, b"a", b"b", b"c"])
TASKS = st.builds(
    lambda **given: Task(**given),  # noqa: PLW0108 - of a class, further fields would be made up
    id=st.just(1),
    run_id=st.just(2),
    device_id=st.just(3),
    module=st.just("default"),
    status=st.just(Status.QUEUED),
    hold=st.sampled_from([Hold.NONE, Hold.BEHIND]),
    target_version=st.just(TARGET),
    source_version=st.sampled_from([None, SOURCE]),
    source_versions=st.sampled_from([(), (SOURCE,), (OTHER, SOURCE)]),
    allow_downgrade=st.booleans(),
    timeout=st.sampled_from([None, MINUTE, HOUR]),
    no_response=st.sampled_from([None, 30 * SECOND, 2 * HOUR]),
    retry=st.none()
    | st.builds(Retry, st.sampled_from([timedelta(0), 10 * MINUTE]), st.sampled_from([1, 2, 5])),
    confirm=st.booleans(),
    push_delivery=st.booleans(),
)
MESSAGES = st.builds(
    progressed, st.sampled_from([-4, -3, -2, -1, 0, 50, 100]), st.just(""), MARKS
) | st.tuples(st.sampled_from([SOURCE, OTHER, TARGET, HIGHER, "beta"]), MARKS)
"""A version report's meaning depends on the task, so it is a pair until it happens."""
OTHERS = st.sampled_from(
    [Event(trigger, version=OTHER if trigger is Trigger.FREED else None) for trigger in Trigger
     if trigger not in {Trigger.TIMEOUT, Trigger.NO_RESPONSE, Trigger.PROGRESS, Trigger.STEP_FAILED}
     and not trigger.startswith("reported-")]
)  # fmt: skip
HAPPENINGS = st.lists(
    st.tuples(st.sampled_from([0, 1, 59, 60, 600, 3600]), MESSAGES | OTHERS | st.none()), max_size=14
)
"""Each after so many seconds; None: nothing but time."""


def entered(task: Task) -> Task:
    """The task as it begins."""
    asks = task.confirm and task.hold is Hold.NONE
    return task._replace(status=Status.CONFIRM) if asks else task


def event_of(task: Task, said: Event | tuple[str, bytes | None] | None) -> Event | None:
    return reported(task, *said) if isinstance(said, tuple) else said


def happen(task: Task, event: Event, now: datetime) -> Task:
    """An event, and what the claim writes beside the table: a push is as good as a fetch."""
    if event.trigger is not Trigger.CLAIMED:
        return step(task, event, now).task
    due = task.status is Status.QUEUED or task.push_due_at is not None
    early = task.retry_at is not None and now < task.retry_at
    if not due or early or not task.push_delivery or next_push(task.last_pushed_at, now) > now:
        return task
    if Trigger.CLAIMED not in transitions.TABLE[task.state]:
        return task
    pushed = step(task, Event(Trigger.FETCHED), now).task
    assert pushed.state == step(task, event, now).task.state
    return pushed


def expire(task: Task, now: datetime) -> Task:
    """What the sweep does when a deadline has come."""
    if task.deadline_at is None or now < task.deadline_at:
        return task
    trigger = Trigger.TIMEOUT if task.started_at else Trigger.NO_RESPONSE
    assert trigger in transitions.TABLE[task.state], "a clock that runs can always end"
    return step(task, Event(trigger), now).task


def check(task: Task) -> None:
    """What is true of every task at every moment."""
    ended = task.status in transitions.ENDED
    assert (task.ended_at is not None) == ended
    assert task.holds == (not ended and task.hold is not Hold.BEHIND)
    assert task.state in transitions.TABLE
    assert (task.hold is Hold.RETRY) == (task.retry_at is not None)
    assert task.attempt <= (task.retry.limit if task.retry else 0)
    assert (task.reason is None) == (task.status not in {Status.FAILED, Status.CANCELED})
    if ended:
        assert (task.deadline_at, task.push_due_at, task.failure_mark) == (None, None, None)
    else:
        assert (task.late_at, task.late_success) == (None, False)
    if not task.push_delivery:
        assert task.push_due_at is None
    if task.push_due_at is not None:
        assert task.push_due_at >= max(task.retry_at or NOW, next_push(task.last_pushed_at, NOW))
    if task.started_at is not None and not ended:
        assert task.deadline_at == (task.started_at + task.timeout if task.timeout else None)
        assert Trigger.TIMEOUT in transitions.TABLE[task.state]
    if task.started_at is None and task.deadline_at is not None:
        assert task.no_response is not None
        assert task.first_pushed_at is not None
        assert task.deadline_at == task.first_pushed_at + task.no_response
    if task.status is Status.IN_PROGRESS:
        assert task.started_at is not None


def lived(
    task: Task, happenings: list[tuple[int, object]]
) -> Iterator[tuple[Task, Event | None, Task, datetime]]:
    """Each step of a task's life: before, what happened (None: time), after, when."""
    now, task = NOW, entered(task)
    yield task, None, task, now
    for seconds, said in happenings:
        now += seconds * SECOND
        before, task = task, expire(task, now)
        yield before, None, task, now
        event = event_of(task, said)
        if event is not None:
            before, task = task, happen(task, event, now)
            yield before, event, task, now


@given(TASKS, HAPPENINGS)
def test_whatever_happens_a_task_is_consistent(task, happenings):
    for _, _, after, _ in lived(task, happenings):
        check(after)


@given(TASKS, HAPPENINGS)
def test_a_task_goes_forward_only_until_it_begins_again(task, happenings):
    for before, event, after, _ in lived(task, happenings):
        if event is None or event.trigger not in {Trigger.AGAIN, Trigger.FREED, Trigger.YIELDED}:
            assert RANK[after.status] >= RANK[before.status]
            assert before.started_at in {None, after.started_at}
            assert after.attempt >= before.attempt


@given(TASKS, HAPPENINGS)
def test_nothing_changes_what_has_ended(task, happenings):
    for before, event, after, _ in lived(task, happenings):
        if before.status in transitions.ENDED and not (event and event.trigger is Trigger.AGAIN):
            late = {"late_at": after.late_at, "late_success": after.late_success}
            assert after == before._replace(**late)
            assert before.late_at in {None, after.late_at}


@given(TASKS, HAPPENINGS, MESSAGES)
def test_the_same_message_twice_is_the_same_as_once(task, happenings, said):
    *_, (_, _, current, now) = lived(task, happenings)
    if isinstance(said, tuple):
        once = happen(current, reported(current, said[0], b"m"), now)
        again = step(once, reported(once, said[0], b"m"), now)
    else:
        event = dataclasses.replace(said, mark=b"m")
        once = happen(current, event, now)
        again = step(once, event, now)
    assert again == lifecycle.Step(once, None)


@given(TASKS, HAPPENINGS)
def test_only_the_target_version_is_success(task, happenings):
    for before, event, after, _ in lived(task, happenings):
        if after.status is Status.SUCCEEDED is not before.status:
            assert event is not None
            assert event.trigger is Trigger.REPORTED_TARGET
