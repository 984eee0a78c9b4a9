"""The one table of how a task moves: (state, trigger) → where to, and what happens besides, after platform rules §5.

`lifecycle` applies it to one task; the store's bulk statements take their `WHERE` from `states` and what they write
from the rules. Nothing else decides where a task goes.

To read the table: a missing pair means that the trigger is not for a task in that state and nothing happens. Ended
statuses change only when an operator has the task upgraded again; their other rows say what is worth recording.

What happens: messages of the device (`progress`, `step-failed`, and `reported-…` by what the version means to the
task), pushes (`claimed`, `fetched`), operators (`confirmed`, `canceled`, `again`), time (`no-response`, `timeout`,
`schedule-ended`), other tasks (`freed`, `overwritten`, and `yielded` to a trial), and what a second look finds, when a
batch starts or a waiting task's turn comes: `unfit` (not on a source version) and `would-downgrade`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import NamedTuple


class Status(enum.StrEnum):
    """The public status of a task (platform rules §5)."""

    CONFIRM = "CONFIRM"
    QUEUED = "QUEUED"
    NOTIFIED = "NOTIFIED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


UNFINISHED = (Status.CONFIRM, Status.QUEUED, Status.NOTIFIED, Status.IN_PROGRESS)
ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELED)


class Hold(enum.StrEnum):
    """What keeps a task beside its status: its next attempt, or another task of its device."""

    NONE = "none"
    RETRY = "retry"
    BEHIND = "behind"


class State(NamedTuple):
    """Where a task is."""

    status: Status
    hold: Hold = Hold.NONE


class Trigger(enum.StrEnum):
    """What can happen to a task."""

    CONFIRMED = "confirmed"
    FREED = "freed"
    CLAIMED = "claimed"
    FETCHED = "fetched"
    PROGRESS = "progress"
    STEP_FAILED = "step-failed"
    REPORTED_TARGET = "reported-target"
    REPORTED_SOURCE = "reported-source"
    REPORTED_OTHER = "reported-other"
    REPORTED_EXCLUDED = "reported-excluded"
    REPORTED_DOWNGRADE = "reported-downgrade"
    UNFIT = "unfit"
    WOULD_DOWNGRADE = "would-downgrade"
    NO_RESPONSE = "no-response"
    TIMEOUT = "timeout"
    SCHEDULE_ENDED = "schedule-ended"
    OVERWRITTEN = "overwritten"
    YIELDED = "yielded"
    CANCELED = "canceled"
    AGAIN = "again"


class Reason(enum.StrEnum):
    """Why a task ended, other than well."""

    CONFLICT = "conflict"
    UPGRADE_FAILED = "upgrade-failed"
    DOWNLOAD_FAILED = "download-failed"
    VERIFY_FAILED = "verify-failed"
    BURN_FAILED = "burn-failed"
    UNEXPECTED_VERSION = "unexpected-version"
    NO_RESPONSE = "no-response"
    TIMEOUT = "timeout"
    SCHEDULE_ENDED = "schedule-ended"
    OVERWRITTEN = "overwritten"
    DOWNGRADE = "downgrade"
    CANCELED = "canceled"


STEP_REASONS: Mapping[int, Reason] = {
    -1: Reason.UPGRADE_FAILED,
    -2: Reason.DOWNLOAD_FAILED,
    -3: Reason.VERIFY_FAILED,
    -4: Reason.BURN_FAILED,
}
"""Negative steps of a progress report (device protocol §2)."""


class Effect(enum.Enum):
    """What a transition does besides changing the state."""

    ASK_FIRST = "CONFIRM instead, where the batch asks for confirmation"
    START_CLOCK = "start the timeout's clock, unless it runs"
    NOTE_STEP = "keep the reported step"
    PUSH_AGAIN = "push again, at most once a minute"
    LEARN_SOURCE = "the reported version becomes the source"
    OFFERED = "the device was given its package: that is as good as a push"
    RETRY = "with retries left it stays, and is pushed again after the interval"
    AFRESH = "clocks, attempts and what it ended with are cleared"
    NOTE_LATE = "record, once, that a message came too late"
    LATE_SUCCESS = "record that the target version came after all"


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One cell of the table. `reason` is fixed here, or None where the message decides it."""

    to: State
    effects: frozenset[Effect] = frozenset()
    reason: Reason | None = None


def _rule(to: Status | State, *effects: Effect, reason: Reason | None = None) -> Rule:
    return Rule(to if isinstance(to, State) else State(to), frozenset(effects), reason)


_S, _T, _E, _R = Status, Trigger, Effect, Reason
BEHIND = State(Status.QUEUED, Hold.BEHIND)


class Entry(enum.StrEnum):
    """How a task begins, and how it begins again (the conflict rule decides: platform rules §4)."""

    FREE = "its device is free"
    CONFLICT = (
        "its device is in another task: Keep, or Overwrite of one in progress or of a newer dynamic batch"
    )
    BEHIND = "its device is in another task: Wait"


ENTRIES: Mapping[Entry, Rule] = {
    Entry.FREE: _rule(_S.QUEUED, _E.ASK_FIRST),
    Entry.CONFLICT: _rule(_S.FAILED, reason=_R.CONFLICT),
    Entry.BEHIND: _rule(BEHIND),
}

_FAILED_VERSION = _rule(_S.FAILED, reason=_R.UNEXPECTED_VERSION)
_RETRIED_VERSION = _rule(_S.FAILED, _E.RETRY, reason=_R.UNEXPECTED_VERSION)
_DOWNGRADE = _rule(_S.CANCELED, reason=_R.DOWNGRADE)
_TIMED_OUT = _rule(_S.FAILED, reason=_R.TIMEOUT)
_NO_RESPONSE = _rule(_S.FAILED, reason=_R.NO_RESPONSE)
_SCHEDULE_ENDED = _rule(_S.CANCELED, reason=_R.SCHEDULE_ENDED)
_OVERWRITTEN = _rule(_S.CANCELED, reason=_R.OVERWRITTEN)
_YIELDED = _rule(BEHIND, _E.AFRESH)
_CANCELED = _rule(_S.CANCELED, reason=_R.CANCELED)


def _retrying(status: Status) -> dict[Trigger, Rule]:
    """A failed attempt waits for its next one: what devices say of the old one changes nothing."""
    pushed = Status.NOTIFIED if status is Status.QUEUED else status
    learn = _rule(State(status, Hold.RETRY), _E.LEARN_SOURCE)
    return {
        _T.CLAIMED: _rule(pushed),
        _T.FETCHED: _rule(pushed, _E.OFFERED),
        _T.REPORTED_TARGET: _rule(_S.SUCCEEDED),
        _T.REPORTED_SOURCE: learn,
        _T.REPORTED_OTHER: learn,
        _T.REPORTED_EXCLUDED: learn,
        _T.REPORTED_DOWNGRADE: _DOWNGRADE,
        _T.UNFIT: _FAILED_VERSION,
        _T.TIMEOUT: _TIMED_OUT,
        _T.CANCELED: _CANCELED,
    }


TABLE: Mapping[State, Mapping[Trigger, Rule]] = {
    State(_S.CONFIRM): {
        _T.CONFIRMED: _rule(_S.QUEUED),
        _T.REPORTED_TARGET: _rule(_S.SUCCEEDED),
        _T.REPORTED_SOURCE: _rule(_S.CONFIRM, _E.LEARN_SOURCE),
        _T.REPORTED_OTHER: _rule(_S.CONFIRM, _E.LEARN_SOURCE),
        _T.REPORTED_EXCLUDED: _FAILED_VERSION,
        _T.REPORTED_DOWNGRADE: _DOWNGRADE,
        _T.UNFIT: _FAILED_VERSION,
        _T.WOULD_DOWNGRADE: _DOWNGRADE,
        _T.SCHEDULE_ENDED: _SCHEDULE_ENDED,
        _T.OVERWRITTEN: _OVERWRITTEN,
        _T.YIELDED: _YIELDED,
        _T.CANCELED: _CANCELED,
    },
    BEHIND: {
        _T.FREED: _rule(_S.QUEUED, _E.ASK_FIRST, _E.LEARN_SOURCE),
        _T.REPORTED_TARGET: _rule(_S.SUCCEEDED),
        _T.UNFIT: _FAILED_VERSION,
        _T.WOULD_DOWNGRADE: _DOWNGRADE,
        _T.SCHEDULE_ENDED: _SCHEDULE_ENDED,
        _T.CANCELED: _CANCELED,
    },
    State(_S.QUEUED): {
        _T.CLAIMED: _rule(_S.NOTIFIED),
        _T.FETCHED: _rule(_S.NOTIFIED, _E.OFFERED),
        _T.PROGRESS: _rule(_S.IN_PROGRESS, _E.START_CLOCK, _E.NOTE_STEP),
        _T.STEP_FAILED: _rule(_S.FAILED, _E.START_CLOCK, _E.NOTE_STEP, _E.RETRY),
        _T.REPORTED_TARGET: _rule(_S.SUCCEEDED),
        _T.REPORTED_SOURCE: _rule(_S.QUEUED, _E.LEARN_SOURCE),
        _T.REPORTED_OTHER: _rule(_S.QUEUED, _E.LEARN_SOURCE),
        _T.REPORTED_EXCLUDED: _RETRIED_VERSION,
        _T.REPORTED_DOWNGRADE: _DOWNGRADE,
        _T.UNFIT: _FAILED_VERSION,
        _T.WOULD_DOWNGRADE: _DOWNGRADE,
        _T.SCHEDULE_ENDED: _SCHEDULE_ENDED,
        _T.OVERWRITTEN: _OVERWRITTEN,
        _T.YIELDED: _YIELDED,
        _T.CANCELED: _CANCELED,
    },
    State(_S.QUEUED, Hold.RETRY): {
        **_retrying(_S.QUEUED),
        _T.SCHEDULE_ENDED: _SCHEDULE_ENDED,
        _T.OVERWRITTEN: _OVERWRITTEN,
        _T.YIELDED: _YIELDED,
    },
    State(_S.NOTIFIED): {
        _T.CLAIMED: _rule(_S.NOTIFIED),
        _T.FETCHED: _rule(_S.NOTIFIED, _E.OFFERED),
        _T.PROGRESS: _rule(_S.IN_PROGRESS, _E.START_CLOCK, _E.NOTE_STEP),
        _T.STEP_FAILED: _rule(_S.FAILED, _E.START_CLOCK, _E.NOTE_STEP, _E.RETRY),
        _T.REPORTED_TARGET: _rule(_S.SUCCEEDED),
        _T.REPORTED_SOURCE: _rule(_S.NOTIFIED, _E.LEARN_SOURCE, _E.PUSH_AGAIN),
        _T.REPORTED_OTHER: _rule(_S.NOTIFIED, _E.LEARN_SOURCE, _E.PUSH_AGAIN),
        _T.REPORTED_EXCLUDED: _RETRIED_VERSION,
        _T.REPORTED_DOWNGRADE: _DOWNGRADE,
        _T.UNFIT: _FAILED_VERSION,
        _T.NO_RESPONSE: _NO_RESPONSE,
        _T.TIMEOUT: _TIMED_OUT,
        _T.OVERWRITTEN: _OVERWRITTEN,
        _T.CANCELED: _CANCELED,
    },
    State(_S.NOTIFIED, Hold.RETRY): {
        **_retrying(_S.NOTIFIED),
        _T.NO_RESPONSE: _NO_RESPONSE,
        _T.OVERWRITTEN: _OVERWRITTEN,
    },
    State(_S.IN_PROGRESS): {
        _T.CLAIMED: _rule(_S.IN_PROGRESS),
        _T.FETCHED: _rule(_S.IN_PROGRESS, _E.OFFERED),
        _T.PROGRESS: _rule(_S.IN_PROGRESS, _E.NOTE_STEP),
        _T.STEP_FAILED: _rule(_S.FAILED, _E.NOTE_STEP, _E.RETRY),
        _T.REPORTED_TARGET: _rule(_S.SUCCEEDED),
        _T.REPORTED_SOURCE: _rule(_S.IN_PROGRESS, _E.LEARN_SOURCE, _E.PUSH_AGAIN),
        _T.REPORTED_OTHER: _RETRIED_VERSION,
        _T.REPORTED_EXCLUDED: _RETRIED_VERSION,
        _T.REPORTED_DOWNGRADE: _FAILED_VERSION,
        _T.UNFIT: _FAILED_VERSION,
        _T.TIMEOUT: _TIMED_OUT,
        _T.CANCELED: _CANCELED,
    },
    State(_S.IN_PROGRESS, Hold.RETRY): _retrying(_S.IN_PROGRESS),
    State(_S.SUCCEEDED): {
        _T.STEP_FAILED: _rule(_S.SUCCEEDED, _E.NOTE_LATE),
        _T.REPORTED_SOURCE: _rule(_S.SUCCEEDED, _E.NOTE_LATE),
        _T.REPORTED_OTHER: _rule(_S.SUCCEEDED, _E.NOTE_LATE),
        _T.REPORTED_EXCLUDED: _rule(_S.SUCCEEDED, _E.NOTE_LATE),
        _T.REPORTED_DOWNGRADE: _rule(_S.SUCCEEDED, _E.NOTE_LATE),
    },
    State(_S.FAILED): {
        _T.PROGRESS: _rule(_S.FAILED, _E.NOTE_LATE),
        _T.STEP_FAILED: _rule(_S.FAILED, _E.NOTE_LATE),
        _T.REPORTED_TARGET: _rule(_S.FAILED, _E.LATE_SUCCESS),
        _T.AGAIN: _rule(_S.QUEUED, _E.ASK_FIRST, _E.AFRESH),
    },
    State(_S.CANCELED): {
        _T.PROGRESS: _rule(_S.CANCELED, _E.NOTE_LATE),
        _T.STEP_FAILED: _rule(_S.CANCELED, _E.NOTE_LATE),
        _T.REPORTED_TARGET: _rule(_S.CANCELED, _E.NOTE_LATE),
        _T.AGAIN: _rule(_S.QUEUED, _E.ASK_FIRST, _E.AFRESH),
    },
}


def states(trigger: Trigger) -> tuple[State, ...]:
    """The unfinished states in which a trigger moves a task: the `WHERE` of every bulk statement."""
    return tuple(state for state, row in TABLE.items() if trigger in row and state.status in UNFINISHED)
