"""Decides how a task moves: one table of (status, trigger), after platform rules §5.

Called by ingest (one task, one message: `step`) and by the store, whose bulk statements take their
`WHERE status IN (…)` from `sources`. It knows neither devices nor databases, and `now` is an argument.

To read the table: a missing pair means that the trigger is not for a task in that status and nothing happens.
Ended statuses never change; their rows only say what is worth recording.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime, timedelta


class Status(enum.StrEnum):
    """The public status of a task (platform rules §5)."""

    QUEUED = "QUEUED"
    NOTIFIED = "NOTIFIED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


UNFINISHED = (Status.QUEUED, Status.NOTIFIED, Status.IN_PROGRESS)
ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELED)


class Trigger(enum.StrEnum):
    """What can happen to a task."""

    CLAIMED = "claimed"
    FETCHED = "fetched"
    PROGRESS = "progress"
    STEP_FAILED = "step-failed"
    REPORTED_TARGET = "reported-target"
    REPORTED_SOURCE = "reported-source"
    REPORTED_OTHER = "reported-other"
    REPORTED_EXCLUDED = "reported-excluded"
    TIMEOUT = "timeout"
    CANCELED = "canceled"


class Reason(enum.StrEnum):
    """Why a task ended, other than well."""

    CONFLICT = "conflict"
    UPGRADE_FAILED = "upgrade-failed"
    DOWNLOAD_FAILED = "download-failed"
    VERIFY_FAILED = "verify-failed"
    BURN_FAILED = "burn-failed"
    UNEXPECTED_VERSION = "unexpected-version"
    TIMEOUT = "timeout"
    CANCELED = "canceled"


STEP_REASONS: Mapping[int, Reason] = {
    -1: Reason.UPGRADE_FAILED,
    -2: Reason.DOWNLOAD_FAILED,
    -3: Reason.VERIFY_FAILED,
    -4: Reason.BURN_FAILED,
}
"""Negative steps of a progress report (device protocol §2)."""


class Effect(enum.Enum):
    """What a transition does besides changing the status."""

    START_CLOCK = "start the timeout's clock, unless it runs"
    NOTE_STEP = "keep the reported step"
    PUSH_AGAIN = "push again, at most once a minute"
    LEARN_SOURCE = "the reported version becomes the source"
    OFFERED = "the device was given its package: that is as good as a push"
    NOTE_LATE = "record, once, that a message came too late"
    LATE_SUCCESS = "record that the target version came after all"


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One cell of the table. `reason` is fixed here, or None where the message decides it."""

    to: Status
    effects: frozenset[Effect] = frozenset()
    reason: Reason | None = None


def _rule(to: Status, *effects: Effect, reason: Reason | None = None) -> Rule:
    return Rule(to, frozenset(effects), reason)


_S, _T, _E = Status, Trigger, Effect

TABLE: Mapping[Status, Mapping[Trigger, Rule]] = {
    _S.QUEUED: {
        _T.CLAIMED: _rule(_S.NOTIFIED),
        _T.FETCHED: _rule(_S.NOTIFIED, _E.OFFERED),
        _T.PROGRESS: _rule(_S.IN_PROGRESS, _E.START_CLOCK, _E.NOTE_STEP),
        _T.STEP_FAILED: _rule(_S.FAILED, _E.START_CLOCK, _E.NOTE_STEP),
        _T.REPORTED_TARGET: _rule(_S.SUCCEEDED),
        _T.REPORTED_SOURCE: _rule(_S.QUEUED, _E.LEARN_SOURCE),
        _T.REPORTED_OTHER: _rule(_S.QUEUED, _E.LEARN_SOURCE),
        _T.REPORTED_EXCLUDED: _rule(_S.FAILED, reason=Reason.UNEXPECTED_VERSION),
        _T.CANCELED: _rule(_S.CANCELED, reason=Reason.CANCELED),
    },
    _S.NOTIFIED: {
        _T.CLAIMED: _rule(_S.NOTIFIED),
        _T.FETCHED: _rule(_S.NOTIFIED, _E.OFFERED),
        _T.PROGRESS: _rule(_S.IN_PROGRESS, _E.START_CLOCK, _E.NOTE_STEP),
        _T.STEP_FAILED: _rule(_S.FAILED, _E.START_CLOCK, _E.NOTE_STEP),
        _T.REPORTED_TARGET: _rule(_S.SUCCEEDED),
        _T.REPORTED_SOURCE: _rule(_S.NOTIFIED, _E.LEARN_SOURCE, _E.PUSH_AGAIN),
        _T.REPORTED_OTHER: _rule(_S.NOTIFIED, _E.LEARN_SOURCE, _E.PUSH_AGAIN),
        _T.REPORTED_EXCLUDED: _rule(_S.FAILED, reason=Reason.UNEXPECTED_VERSION),
        _T.CANCELED: _rule(_S.CANCELED, reason=Reason.CANCELED),
    },
    _S.IN_PROGRESS: {
        _T.CLAIMED: _rule(_S.IN_PROGRESS),
        _T.FETCHED: _rule(_S.IN_PROGRESS, _E.OFFERED),
        _T.PROGRESS: _rule(_S.IN_PROGRESS, _E.NOTE_STEP),
        _T.STEP_FAILED: _rule(_S.FAILED, _E.NOTE_STEP),
        _T.REPORTED_TARGET: _rule(_S.SUCCEEDED),
        _T.REPORTED_SOURCE: _rule(_S.IN_PROGRESS, _E.LEARN_SOURCE, _E.PUSH_AGAIN),
        _T.REPORTED_OTHER: _rule(_S.FAILED, reason=Reason.UNEXPECTED_VERSION),
        _T.REPORTED_EXCLUDED: _rule(_S.FAILED, reason=Reason.UNEXPECTED_VERSION),
        _T.TIMEOUT: _rule(_S.FAILED, reason=Reason.TIMEOUT),
        _T.CANCELED: _rule(_S.CANCELED, reason=Reason.CANCELED),
    },
    _S.SUCCEEDED: {
        _T.STEP_FAILED: _rule(_S.SUCCEEDED, _E.NOTE_LATE),
        _T.REPORTED_SOURCE: _rule(_S.SUCCEEDED, _E.NOTE_LATE),
        _T.REPORTED_OTHER: _rule(_S.SUCCEEDED, _E.NOTE_LATE),
        _T.REPORTED_EXCLUDED: _rule(_S.SUCCEEDED, _E.NOTE_LATE),
    },
    _S.FAILED: {
        _T.PROGRESS: _rule(_S.FAILED, _E.NOTE_LATE),
        _T.STEP_FAILED: _rule(_S.FAILED, _E.NOTE_LATE),
        _T.REPORTED_TARGET: _rule(_S.FAILED, _E.LATE_SUCCESS),
    },
    _S.CANCELED: {
        _T.PROGRESS: _rule(_S.CANCELED, _E.NOTE_LATE),
        _T.STEP_FAILED: _rule(_S.CANCELED, _E.NOTE_LATE),
        _T.REPORTED_TARGET: _rule(_S.CANCELED, _E.NOTE_LATE),
    },
}


def sources(trigger: Trigger) -> tuple[Status, ...]:
    """The unfinished statuses in which a trigger moves a task: the `WHERE` of every bulk statement."""
    return tuple(status for status in UNFINISHED if trigger in TABLE[status])


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """What the table needs to know of a task; also what ingest reads and writes of it."""

    id: int
    run_id: int
    device_id: int
    module: str
    status: Status
    target_version: str
    source_version: str | None = None
    source_versions: tuple[str, ...] = ()
    """The batch's source versions (or the delta's source); empty means any."""
    timeout: timedelta | None = None
    push_delivery: bool = True
    """False for delivery Pull: never pushed, only fetched."""
    started_at: datetime | None = None
    deadline_at: datetime | None = None
    first_pushed_at: datetime | None = None
    last_pushed_at: datetime | None = None
    push_due_at: datetime | None = None
    ended_at: datetime | None = None
    reason: Reason | None = None
    step: int | None = None
    step_description: str = ""
    late_at: datetime | None = None
    late_success: bool = False
    withdrawn: bool = False
    """Its batch is cancelled, and its turn to end with it comes in a moment: it is offered to nobody any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one task, as a message or an operator said it."""

    trigger: Trigger
    version: str | None = None
    step: int | None = None
    description: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """What one event did: the task afterwards, and what to write into the log (None: nothing worth a line)."""

    task: Task
    note: str | None = None


PUSH_INTERVAL = timedelta(minutes=1)
"""A task is pushed at most once in this time (platform rules §5)."""


def reported(task: Task, version: str) -> Event:
    """What a version report means to a task: the target, its source, another one, or one the batch excludes."""
    if version == task.target_version:
        trigger = Trigger.REPORTED_TARGET
    elif task.source_versions and version not in task.source_versions:
        trigger = Trigger.REPORTED_EXCLUDED
    elif task.source_version in (None, version):
        trigger = Trigger.REPORTED_SOURCE
    else:
        trigger = Trigger.REPORTED_OTHER
    return Event(trigger, version=version)


def progressed(step: int, description: str) -> Event:
    """What a progress report means: 0..100 is percent, -1..-4 is a failed step (device protocol §2)."""
    trigger = Trigger.PROGRESS if step >= 0 else Trigger.STEP_FAILED
    return Event(trigger, step=step, description=description)


def step(task: Task, event: Event, now: datetime) -> Step:
    """Applies one event to one task. An event that the table doesn't list changes nothing and notes nothing."""
    rule = TABLE[task.status].get(event.trigger)
    if rule is None:
        return Step(task)
    if task.status in ENDED:
        return _late(task, event, rule, now)
    changes: dict[str, object] = {"status": rule.to}
    if Effect.START_CLOCK in rule.effects and task.started_at is None:
        changes["started_at"] = now
        changes["deadline_at"] = now + task.timeout if task.timeout else None
    if Effect.NOTE_STEP in rule.effects:
        changes["step"], changes["step_description"] = event.step, event.description
    if Effect.LEARN_SOURCE in rule.effects:
        changes["source_version"] = event.version
    if Effect.PUSH_AGAIN in rule.effects and task.push_delivery:
        changes["push_due_at"] = next_push(task.last_pushed_at, now)
    if Effect.OFFERED in rule.effects:
        changes |= {
            "first_pushed_at": task.first_pushed_at or now,
            "last_pushed_at": now,
            "push_due_at": None,
        }
    if rule.to in ENDED:
        changes |= {"ended_at": now, "reason": _reason(rule, event), "deadline_at": None, "push_due_at": None}
    after = dataclasses.replace(task, **changes)  # type: ignore[arg-type]
    return Step(after, _note(task, after, event))


def _reason(rule: Rule, event: Event) -> Reason | None:
    """Why it ended: fixed by the table, or by the failed step that was reported."""
    if event.trigger is not Trigger.STEP_FAILED:
        return rule.reason
    assert event.step is not None, "progressed() gives every failed step its number"
    return STEP_REASONS[event.step]


def next_push(last_pushed_at: datetime | None, earliest: datetime) -> datetime:
    """When a task may be pushed: not before `earliest`, and a minute after its last push (platform rules §5)."""
    return earliest if last_pushed_at is None else max(earliest, last_pushed_at + PUSH_INTERVAL)


def _late(task: Task, event: Event, rule: Rule, now: datetime) -> Step:
    """Ended tasks never change; the first late message is recorded, and a late success once.

    A device that repeats the step it sent last says nothing new (engine §2).
    """
    if Effect.LATE_SUCCESS in rule.effects:
        if task.late_success:
            return Step(task)
        return Step(dataclasses.replace(task, late_at=task.late_at or now, late_success=True), "late success")
    if task.late_at is not None or (event.step is not None and event.step == task.step):
        return Step(task)
    return Step(dataclasses.replace(task, late_at=now), f"too late: {_say(event)}")


def _note(before: Task, after: Task, event: Event) -> str | None:
    """The log's line: changes of status and of source, not each percent (the newest one is on the task)."""
    if before.status != after.status or before.source_version != after.source_version:
        return _say(event)
    return None


def _say(event: Event) -> str:
    """The event in words."""
    if event.version is not None:
        return f"reported version {event.version}"
    if event.step is not None:
        return f"reported step {event.step}" + (f": {event.description}" if event.description else "")
    return str(event.trigger)
