"""Moves one task by one event, after the table (platform rules §5).

Called by ingest and by operators' orders. It knows neither devices nor databases, and `now` is an argument.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from reconciler.domain import limits, targeting
from reconciler.domain.transitions import (
    BEHIND,
    ENDED,
    ENTRIES,
    STEP_REASONS,
    TABLE,
    UNFINISHED,
    Effect,
    Entry,
    Hold,
    Reason,
    Rule,
    State,
    Status,
    Trigger,
    states,
)

__all__ = [
    "AFRESH", "BEHIND", "ENDED", "ENTRIES", "STEP_REASONS", "TABLE", "UNFINISHED", "Effect", "Entry", "Event",
    "Hold", "Reason", "Retry", "Rule", "State", "Status", "Step", "Task", "Trigger", "again", "next_push",
    "progressed", "reported", "states", "step",
]  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """How failed attempts are tried again (platform rules §4)."""

    interval: timedelta
    limit: int


class Task(NamedTuple):
    """What the table needs to know of a task; also what ingest reads and writes of it.

    A tuple, because bursts of messages make and change hundreds of them.
    """

    id: int
    run_id: int
    device_id: int
    module: str
    status: Status
    target_version: str
    hold: Hold = Hold.NONE
    source_version: str | None = None
    source_versions: tuple[str, ...] = ()
    """The batch's source versions (or the delta's source); empty means any."""
    allow_downgrade: bool = False
    timeout: timedelta | None = None
    no_response: timedelta | None = None
    retry: Retry | None = None
    confirm: bool = False
    """Its batch asks for confirmation."""
    delta: bool = False
    """Its package fits devices on its source version only."""
    push_delivery: bool = True
    """False for delivery Pull: never pushed, only fetched."""
    push_interval: timedelta = limits.DEFAULT.push_repeat_interval
    """It is pushed at most once in this time (platform rules §5)."""
    started_at: datetime | None = None
    deadline_at: datetime | None = None
    """Until it has started: when it fails for no response; then: when it times out."""
    first_pushed_at: datetime | None = None
    last_pushed_at: datetime | None = None
    push_due_at: datetime | None = None
    attempt: int = 0
    """Retries so far."""
    retry_at: datetime | None = None
    """Of a hold retry: no push before this."""
    failure_mark: bytes | None = None
    """The message that was the last failure: a device that repeats it says nothing new (engine §2)."""
    ended_at: datetime | None = None
    reason: Reason | None = None
    step: int | None = None
    step_description: str = ""
    late_at: datetime | None = None
    late_success: bool = False
    withheld: bool = False
    """Its batch is suspended, has not started, has come to its end, or is being cancelled: it is offered to nobody."""

    @property
    def state(self) -> State:
        """Its row of the table."""
        return State(self.status, self.hold)

    @property
    def holds(self) -> bool:
        """True while it occupies its device."""
        return self.status in UNFINISHED and self.hold is not Hold.BEHIND


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one task, as a message or an operator said it."""

    trigger: Trigger
    version: str | None = None
    step: int | None = None
    description: str = ""
    mark: bytes | None = None
    """What tells the message from others: the same mark is the same message once more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """What one event did: the task afterwards, and what to write into the log (None: nothing worth a line)."""

    task: Task
    note: str | None = None


def reported(task: Task, version: str, mark: bytes | None = None) -> Event:
    """What a version report means to a task.

    In this order: the target; a version from which the batch leads down; its source (also one that it was tried again
    from); one that the batch excludes; the first that it says; any other.
    """
    if version == task.target_version:
        trigger = Trigger.REPORTED_TARGET
    elif not task.allow_downgrade and targeting.is_downgrade(version, task.target_version):
        trigger = Trigger.REPORTED_DOWNGRADE
    elif version == task.source_version:
        trigger = Trigger.REPORTED_SOURCE
    elif task.source_versions and version not in task.source_versions:
        trigger = Trigger.REPORTED_EXCLUDED
    elif task.source_version is None:
        trigger = Trigger.REPORTED_SOURCE
    else:
        trigger = Trigger.REPORTED_OTHER
    return Event(trigger, version=version, mark=mark)


_REPORTS = frozenset(trigger for trigger in Trigger if trigger.startswith("reported-"))


def progressed(step: int, description: str, mark: bytes | None = None) -> Event:
    """What a progress report means: 0..100 is percent, -1..-4 is a failed step (device protocol §2)."""
    trigger = Trigger.PROGRESS if step >= 0 else Trigger.STEP_FAILED
    return Event(trigger, step=step, description=description, mark=mark)


def step(task: Task, event: Event, now: datetime) -> Step:
    """Applies one event to one task. An event that the table doesn't list changes nothing and notes nothing."""
    said = _remember(task, event)
    rule = TABLE[task.state].get(event.trigger)
    if rule is None or _is_repeat(task, event, rule):
        return Step(said)
    if Effect.AFRESH in rule.effects:
        return Step(_afresh(task, rule, event.version or task.source_version), _say(event))
    if task.status in ENDED:
        return _late(task, event, rule, now)
    if Effect.RETRY in rule.effects and task.retry is not None and task.attempt < task.retry.limit:
        after = _tried_again(task, event, rule, task.retry, now)
    else:
        after = said._replace(**_changes(said, event, rule, now))  # type: ignore[arg-type]
    return Step(after, _note(task, after, event))


def _remember(task: Task, event: Event) -> Task:
    """Any other message comes between a failure and what looks like it: then it is another failure."""
    if task.failure_mark is None or event.mark is None or event.mark == task.failure_mark:
        return task
    return task._replace(failure_mark=None)


def _is_repeat(task: Task, event: Event, rule: Rule) -> bool:
    return Effect.RETRY in rule.effects and event.mark is not None and event.mark == task.failure_mark


def _changes(task: Task, event: Event, rule: Rule, now: datetime) -> dict[str, object]:
    """What a rule writes."""
    changes: dict[str, object] = {"status": rule.to.status, "hold": rule.to.hold}
    if Effect.ASK_FIRST in rule.effects and task.confirm:
        changes["status"] = Status.CONFIRM
    if Effect.START_CLOCK in rule.effects:
        changes |= _clock(task, now)
    if Effect.NOTE_STEP in rule.effects:
        changes["step"], changes["step_description"] = event.step, event.description
    if Effect.LEARN_SOURCE in rule.effects:
        changes["source_version"] = event.version
    if Effect.PUSH_AGAIN in rule.effects and task.push_delivery:
        # one that is due already waits for its device to settle, and goes out no sooner
        due = next_push(task.last_pushed_at, now, task.push_interval)
        changes["push_due_at"] = task.push_due_at or due
    if Effect.OFFERED in rule.effects:
        changes |= _offered(task, now)
    if rule.to.hold is not Hold.RETRY:
        changes["retry_at"] = None
    if rule.to.status in ENDED:
        changes |= {
            "ended_at": now, "reason": _reason(rule, event), "deadline_at": None, "push_due_at": None,
            "failure_mark": None,
        }  # fmt: skip
    return changes


def _clock(task: Task, now: datetime) -> dict[str, object]:
    """The timeout counts from the first progress report and is never restarted; silence is over with it."""
    if task.started_at is not None:
        return {}
    return {"started_at": now, "deadline_at": now + task.timeout if task.timeout else None}


def _offered(task: Task, now: datetime) -> dict[str, object]:
    """As good as a push: also for the clock of those that never answer."""
    changes: dict[str, object] = {
        "first_pushed_at": task.first_pushed_at or now,
        "last_pushed_at": now,
        "push_due_at": None,
    }
    if task.first_pushed_at is None and task.started_at is None and task.no_response is not None:
        changes["deadline_at"] = now + task.no_response
    return changes


def _tried_again(task: Task, event: Event, rule: Rule, retry: Retry, now: datetime) -> Task:
    """It stays where it is, and is pushed again when the interval is over (platform rules §5, "hold retry").

    What it reports becomes its source, so that it is not unexpected a second time.
    """
    at = next_push(task.last_pushed_at, now + retry.interval, task.push_interval)
    if task.push_due_at is not None:
        at = max(at, task.push_due_at)  # the device may settle: more of its reports may follow
    changes: dict[str, object] = {
        "hold": Hold.RETRY,
        "attempt": task.attempt + 1,
        "retry_at": now + retry.interval,
        "failure_mark": event.mark,
        "push_due_at": at if task.push_delivery else None,
        "source_version": event.version or task.source_version,
    }
    if Effect.START_CLOCK in rule.effects:
        changes |= _clock(task, now)
    if Effect.NOTE_STEP in rule.effects:
        changes["step"], changes["step_description"] = event.step, event.description
    return task._replace(**changes)  # type: ignore[arg-type]


AFRESH: Mapping[str, Any] = {
    "reason": None, "step": None, "step_description": "", "started_at": None, "deadline_at": None,
    "first_pushed_at": None, "push_due_at": None, "attempt": 0, "retry_at": None, "failure_mark": None,
    "ended_at": None, "late_at": None, "late_success": False,
}  # fmt: skip
"""What a task that begins anew has of its past: nothing. Also what the store writes where it lets many begin anew."""


def again(task: Task, entry: Entry, source_version: str | None) -> Task:
    """A task that ended badly is upgraded again: it enters as a new one would (platform rules §5, last row but one).

    It has no past, but that it may have been pushed a moment ago.

    Args:
        task: FAILED or CANCELED.
        entry: FREE or BEHIND, as the conflict rule says; a conflict is refused before.
        source_version: what its device reports now.
    """
    return _afresh(task, ENTRIES[entry], source_version)


def _afresh(task: Task, rule: Rule, source_version: str | None) -> Task:
    status = Status.CONFIRM if Effect.ASK_FIRST in rule.effects and task.confirm else rule.to.status
    return task._replace(**AFRESH, status=status, hold=rule.to.hold, source_version=source_version)


def _reason(rule: Rule, event: Event) -> Reason | None:
    """Why it ended: fixed by the table, or by the failed step that was reported."""
    if event.trigger is not Trigger.STEP_FAILED:
        return rule.reason
    assert event.step is not None, "progressed() gives every failed step its number"
    return STEP_REASONS[event.step]


def next_push(
    last_pushed_at: datetime | None,
    earliest: datetime,
    interval: timedelta = limits.DEFAULT.push_repeat_interval,
) -> datetime:
    """When a task may be pushed: not before `earliest`, and a minute after its last push (platform rules §5)."""
    return earliest if last_pushed_at is None else max(earliest, last_pushed_at + interval)


def _late(task: Task, event: Event, rule: Rule, now: datetime) -> Step:
    """Ended tasks never change; the first late message is recorded, and a late success once.

    A device that repeats the step it sent last says nothing new (engine §2).
    """
    if Effect.LATE_SUCCESS in rule.effects:
        if task.late_success:
            return Step(task)
        return Step(task._replace(late_at=task.late_at or now, late_success=True), "late success")
    if task.late_at is not None or (event.step is not None and event.step == task.step):
        return Step(task)
    return Step(task._replace(late_at=now), f"too late: {_say(event)}")


def _note(before: Task, after: Task, event: Event) -> str | None:
    """The log's line: changes of state and of source, not each percent (the newest one is on the task)."""
    if before.state != after.state or before.source_version != after.source_version:
        return _say(event)
    return None


def _say(event: Event) -> str:
    """The event in words: what the device said, else what happened."""
    if event.step is not None:
        return f"reported step {event.step}" + (f": {event.description}" if event.description else "")
    if event.trigger in _REPORTS:
        return f"reported version {event.version}"
    return str(event.trigger)
