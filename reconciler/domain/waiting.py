"""Why a task is where it is, worked out when somebody looks, never stored (platform rules §5, §8).

Called by `describe` and `get`. The reconciler itself never asks: what is due is a column of the task.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime, timedelta

from reconciler.domain import throttle
from reconciler.domain.lifecycle import Reason, Status

SILENCE = timedelta(seconds=30)
"""A daemon beats every five seconds; after this long it is not there."""


class Wait(enum.StrEnum):
    """What a QUEUED task waits for."""

    DAEMON = "the daemon is not running"
    FETCH = "waits for the device to ask"
    OFFLINE = "device offline"
    SETTLING = "device came just now"
    RATE = "rate limited"
    TURN = "its turn comes"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What decides for what a QUEUED task waits."""

    heartbeat_at: datetime | None
    """When the daemon was last known to live."""
    push_delivery: bool
    online: bool
    push_due_at: datetime | None
    push_rate: int
    """Devices a minute."""
    pushed: Mapping[int, int]
    """Pushes of the run by Unix second, as the push rate counts them."""


def waits_for(facts: Facts, now: datetime) -> Wait:
    """What a QUEUED task waits for: the first that holds."""
    if facts.heartbeat_at is None or now - facts.heartbeat_at > SILENCE:
        return Wait.DAEMON
    if not facts.push_delivery:
        return Wait.FETCH
    if not facts.online:
        return Wait.OFFLINE
    if facts.push_due_at is not None and facts.push_due_at > now:
        return Wait.SETTLING
    if not throttle.allowance(facts.push_rate, facts.pushed, int(now.timestamp())):
        return Wait.RATE
    return Wait.TURN


_REMEDIES: Mapping[Reason, str] = {
    Reason.CONFLICT: "another batch still works on the device: wait for it or cancel it, then write a new batch",
    Reason.UPGRADE_FAILED: "the device could not upgrade",
    Reason.DOWNLOAD_FAILED: "the device could not download: can it reach the download address?",
    Reason.VERIFY_FAILED: "the device found the digest wrong: does it check the right one?",
    Reason.BURN_FAILED: "the device could not write its flash",
    Reason.UNEXPECTED_VERSION: "the device reported another version than it came from or should get",
    Reason.TIMEOUT: "the device did not report the version in time",
    Reason.CANCELED: "the batch was cancelled",
}


def why(status: Status, reason: Reason | None, *, step: int | None, late_success: bool) -> str:
    """Why a task that has begun or ended is as it is, with what to do about it."""
    if late_success:
        return "late success: it reported the target version after the task had ended"
    if reason is Reason.TIMEOUT and step == 100:
        return "it reached 100 %, but reported no version in time"
    if reason is not None:
        return _REMEDIES[reason]
    return _SAYS[status]


_SAYS: Mapping[Status, str] = {
    Status.QUEUED: "not notified yet",
    Status.NOTIFIED: "notified; it has not answered yet",
    Status.IN_PROGRESS: "at work",
    Status.SUCCEEDED: "it reported the target version",
    Status.FAILED: "",
    Status.CANCELED: "",
}
