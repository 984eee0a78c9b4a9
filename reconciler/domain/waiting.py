"""Why a task is where it is and since when, worked out when somebody looks, never stored (platform rules §5, §8).

Called by `get`, `describe` and `trace`. The reconciler itself never asks: what is due is a column of the task.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from reconciler.domain import throttle
from reconciler.domain.lifecycle import Hold, Reason, Retry, Status
from reconciler.domain.targeting import LeftOut

SILENCE = timedelta(seconds=30)
"""A daemon beats every five seconds; after this long it is not there."""


class Wait(enum.StrEnum):
    """What an unfinished task waits for."""

    SUSPENDED = "suspended"
    SIGNING = "waits for its signing key"
    FILE = "waits for its package's file"
    VERIFICATION = "waits for verification"
    BEHIND = "waits behind another task"
    SCHEDULED = "scheduled"
    STARTING = "its batch is starting"
    CONFIRMATION = "waits for confirmation"
    DAEMON = "the daemon is not running"
    FETCH = "waits for the device to ask"
    RETRY = "next try"
    OFFLINE = "device offline"
    SETTLING = "device came just now"
    RATE = "rate limited"
    TURN = "its turn comes"


class Again(enum.StrEnum):
    """What begins the upgrade of a device again, once its task has ended badly; or why nothing does."""

    RETRY = "`reconciler retry` tries again"
    NEW_BATCH = "a new batch tries again"
    LATER_END = "a new batch, or a later `schedule.end` and then `reconciler retry`"
    TRIAL = "raise `verification.attempt` in Git, for the whole trial"
    ELSEWHERE = "a new batch, for the version that the device is on by now"
    THERE = "the device is on the target by now"
    ABOVE = "the device is on a higher version by now"
    REMOVED = "the device is declared no more"


def again(
    *, left_out: LeftOut | None, is_removed: bool, is_trial: bool, is_open: bool, is_over: bool
) -> Again:
    """What would not be refused (platform rules §5, last row but one).

    Args:
        left_out: why the batch would leave the device out, as it is now.
        is_removed: the device is declared no more.
        is_trial: it is a package's verification.
        is_open: the batch is in Git, and was not cancelled.
        is_over: its schedule has ended.
    """
    ways = (
        (left_out is LeftOut.ALREADY, Again.THERE),
        (left_out is LeftOut.DOWNGRADE, Again.ABOVE),
        (is_removed, Again.REMOVED),
        (is_trial, Again.TRIAL),
        (not is_open, Again.NEW_BATCH),
        (left_out is LeftOut.SOURCE, Again.ELSEWHERE),
        (is_over, Again.LATER_END),
        (True, Again.RETRY),
    )
    return next(way for holds, way in ways if holds)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What decides for what a task waits, and what may be done when it has ended."""

    status: Status
    hold: Hold = Hold.NONE
    created_at: datetime
    push_due_at: datetime | None = None
    retry_at: datetime | None = None
    occupied_by: str | None = None
    """The batch whose task holds the device, where this one waits behind it or failed because of it."""
    occupied_by_trial: bool = False
    """It is a package's verification."""
    again: Again = Again.RETRY
    # Of its run.
    accepted_at: datetime
    start_at: datetime | None = None
    started_at: datetime | None = None
    verified: bool = True
    """Its package needs no verification, or passed it."""
    suspended_at: datetime | None = None
    """Since when it is suspended, by Git or an operator; None: it is not."""
    unsigned_since: datetime | None = None
    """Since when its product's signing key can't be used; None: it can, or nothing is signed."""
    file_lost: bool = False
    """A file of its package went missing from the store; since when is not kept."""
    push_delivery: bool = True
    push_rate: int = 0
    """Devices a minute."""
    retry: Retry | None = None
    # Of its device.
    online: bool = False
    online_since: datetime | None = None
    last_seen_at: datetime | None = None
    # Of the daemon.
    heartbeat_at: datetime | None = None
    """When it was last known to live."""
    pushed: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """Pushes of the run by Unix second, as the push rate counts them."""

    @property
    def trial_or_batch(self) -> str | None:
        """Whose task holds the device, where this one waits behind it: a batch's name, or a trial told as such."""
        return f"the verification of {self.occupied_by}" if self.occupied_by_trial else self.occupied_by


@dataclasses.dataclass(frozen=True, slots=True)
class Waiting:
    """What a task waits for, since when, and, where that is known, until when."""

    wait: Wait
    since: datetime | None
    until: datetime | None = None
    behind: str | None = None
    """The batch whose task holds the device."""

    def __str__(self) -> str:
        """In words, with the time or the batch that it waits for."""
        if self.wait is Wait.BEHIND and self.behind:
            return f"waits behind {self.behind}"
        if self.until is None or self.wait is Wait.SETTLING:
            return str(self.wait)
        return f"{self.wait}{' at' if self.wait is Wait.RETRY else ', starts'} {moment(self.until)}"


def moment(at: datetime) -> str:
    """A moment in UTC, to the second."""
    return at.strftime("%Y-%m-%d %H:%M:%SZ")


def waits_for(facts: Facts, now: datetime) -> Waiting | None:
    """What a task waits for: the first that holds (platform rules §5); None when it is at work or over.

    A task at work waits only while its failed attempt does.
    """
    waits = facts.status in {Status.CONFIRM, Status.QUEUED} or facts.hold is Hold.RETRY
    return next(_reasons(facts, now)) if waits else None


def _reasons(facts: Facts, now: datetime) -> Iterator[Waiting]:
    """Everything it waits for: first its batch and other tasks, then somebody's word, the daemon, and the device."""
    asks = facts.status is Status.CONFIRM
    if not asks:
        yield from _closing(facts)
    if not facts.verified and facts.started_at is None:
        yield Waiting(Wait.VERIFICATION, facts.accepted_at)
    if facts.hold is Hold.BEHIND:
        yield Waiting(Wait.BEHIND, facts.created_at, behind=facts.trial_or_batch)
    if facts.started_at is None and facts.start_at is not None and facts.start_at > now:
        yield Waiting(Wait.SCHEDULED, facts.accepted_at, facts.start_at)
    began = max(facts.created_at, facts.started_at or facts.created_at)
    if asks and facts.started_at is not None:
        yield Waiting(Wait.CONFIRMATION, began)
    if facts.heartbeat_at is None or now - facts.heartbeat_at > SILENCE:
        yield Waiting(Wait.DAEMON, facts.heartbeat_at)
    if facts.started_at is None:
        yield Waiting(Wait.STARTING, max(facts.accepted_at, facts.start_at or facts.accepted_at))
    if not facts.push_delivery:
        yield Waiting(Wait.FETCH, began)
    yield from _pushing(facts, now, began)


def _closing(facts: Facts) -> Iterator[Waiting]:
    """What keeps everything of the batch from going out. Who must be asked first waits for that, whatever else."""
    if facts.suspended_at is not None:
        yield Waiting(Wait.SUSPENDED, facts.suspended_at)
    if facts.unsigned_since is not None:
        yield Waiting(Wait.SIGNING, facts.unsigned_since)
    if facts.file_lost:
        yield Waiting(Wait.FILE, None)


def _pushing(facts: Facts, now: datetime, began: datetime) -> Iterator[Waiting]:
    """What keeps a push from going out."""
    if facts.hold is Hold.RETRY and facts.retry_at is not None and facts.retry_at > now:
        failed_at = facts.retry_at - facts.retry.interval if facts.retry is not None else None
        yield Waiting(Wait.RETRY, failed_at, facts.retry_at)
    if not facts.online:
        yield Waiting(Wait.OFFLINE, facts.last_seen_at)
    if facts.push_due_at is not None and facts.push_due_at > now:
        yield Waiting(Wait.SETTLING, facts.online_since, facts.push_due_at)
    if not throttle.allowance(facts.push_rate, facts.pushed, int(now.timestamp())):
        yield Waiting(Wait.RATE, facts.push_due_at or began)
    yield Waiting(Wait.TURN, facts.push_due_at or began)


_AGAIN: Mapping[Reason, str] = {
    Reason.CONFLICT: "another task had the device, which is free now:",
    Reason.UPGRADE_FAILED: "the device could not upgrade: see its log;",
    Reason.DOWNLOAD_FAILED: "the device could not download: can it reach the download address?",
    Reason.VERIFY_FAILED: "the device found the digest wrong: does it check the right one?",
    Reason.BURN_FAILED: "the device could not write its flash:",
    Reason.NO_RESPONSE: "the device was notified and never answered: does it listen for pushes?",
    Reason.TIMEOUT: "the device did not report the version in time:",
    Reason.SCHEDULE_ENDED: "the schedule ended before it was notified:",
}
"""Reasons after which it may be tried again; how is said after them."""

_REMEDIES: Mapping[Reason, str] = {
    Reason.UNEXPECTED_VERSION: (
        "the device reported another version than it came from or should get: is it managed elsewhere too?"
    ),
    Reason.OVERWRITTEN: "another batch with `conflict: Overwrite` took the device: look at that one",
    Reason.DOWNGRADE: "the device is on a higher version by now: `allowDowngrade: true` in a new batch, if wanted",
    Reason.CANCELED: "it was cancelled: `reconciler events` says by whom and why",
}


def why(facts: Facts, reason: Reason | None, *, step: int | None, late_success: bool) -> str:
    """Why a task that has begun or ended is as it is, with what to do about it.

    Args:
        facts: where it is, who has its device, and what may be done.
        reason: why it ended.
        step: the last reported one.
        late_success: its target version came after the end.
    """
    if late_success:
        return "late success: it reported the target version after the task had ended"
    if reason is Reason.TIMEOUT and step == 100:
        return "it reached 100 %, but reported no version in time: does it report after the reboot?"
    if reason is Reason.CONFLICT and facts.occupied_by:
        return _occupied(facts)
    if reason is None:
        return _SAYS[facts.status]
    return f"{_AGAIN[reason]} {facts.again}" if reason in _AGAIN else _REMEDIES[reason]


def _occupied(facts: Facts) -> str:
    """Of a conflict, while the device is in the other task."""
    holder = facts.trial_or_batch if facts.occupied_by_trial else f"batch {facts.occupied_by}"
    if facts.again in {Again.RETRY, Again.NEW_BATCH, Again.LATER_END}:
        return f"{holder} still has the device: wait for that one or cancel it, then {facts.again}"
    return f"{holder} still has the device; {facts.again}"


_SAYS: Mapping[Status, str] = {
    Status.CONFIRM: "waits for `reconciler confirm`",
    Status.QUEUED: "not notified yet",
    Status.NOTIFIED: "notified; it has not answered yet",
    Status.IN_PROGRESS: "at work",
    Status.SUCCEEDED: "it reported the target version",
    Status.FAILED: "",
    Status.CANCELED: "",
}
