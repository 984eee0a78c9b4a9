"""How an object is, for people and for machines: phase, sync, health and conditions (conventions "Status").

Worked out from what is stored whenever somebody looks, never stored itself. Called by `get`, `describe` and
whatever else shows objects. It decides words only: nothing happens because of them.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime

from reconciler.domain import lifecycle
from reconciler.domain.actual import Phase
from reconciler.domain.plan import HOLDS, Reason

_NO_PHASE = {"Held": HOLDS, "Refused": frozenset(Reason) - HOLDS}


class Sync(enum.StrEnum):
    """Is what is in force what Git says?"""

    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class Health(enum.StrEnum):
    """Does it go well?"""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A batch's newest run, as far as its status depends on it."""

    phase: Phase
    counts: Mapping[lifecycle.Status, int]
    created_at: datetime
    ended_at: datetime | None = None
    materializing: bool = False
    canceled_by: str | None = None

    @property
    def unfinished(self) -> int:
        """Tasks that are still on their way."""
        return sum(self.counts.get(status, 0) for status in lifecycle.UNFINISHED)

    @property
    def failed(self) -> int:
        """Tasks that failed."""
        return self.counts.get(lifecycle.Status.FAILED, 0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is stored about an object."""

    in_force: bool
    """False while nothing of it was ever accepted."""
    synced: bool
    reason: str
    message: str
    changed_at: datetime
    materializing: bool = False
    """An inventory whose names are not all devices yet."""
    work: Work | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One statement about an object, true or not, with its reason in CamelCase."""

    type: str
    status: bool
    reason: str
    message: str
    since: datetime


def phase(facts: Facts) -> str | None:
    """A batch's phase (platform rules §4); None while it has none: it is held, or was never accepted."""
    work = facts.work
    if work is None:
        return str(Phase.CANCELED) if facts.in_force else None
    return str(work.phase)


def draining(facts: Facts) -> int:
    """Tasks of a cancelled batch that go on to their end."""
    work = facts.work
    return work.unfinished if work is not None and work.phase is Phase.CANCELED else 0


def stage(facts: Facts) -> str:
    """A batch's phase in words: also how many tasks drain, and why there is no phase yet."""
    said = phase(facts)
    if said is None:
        return next((word for word, reasons in _NO_PHASE.items() if facts.reason in reasons), facts.reason)
    left = draining(facts)
    return f"{said}, {left} draining" if left else said


def sync(facts: Facts) -> Sync:
    """Synced, or not; unknown while the file that declared the object can't be read."""
    if facts.synced:
        return Sync.SYNCED
    return Sync.UNKNOWN if facts.reason == Reason.UNREADABLE else Sync.OUT_OF_SYNC


def health(facts: Facts) -> Health:
    """An object that is refused keeps its last good state, and its health; one that never had any is degraded."""
    if not facts.in_force and facts.reason in HOLDS:
        return Health.SUSPENDED
    if not facts.in_force or (facts.work is not None and facts.work.failed):
        return Health.DEGRADED
    return Health.PROGRESSING if _reconciling(facts).status else Health.HEALTHY


def conditions(facts: Facts) -> tuple[Condition, ...]:
    """`Ready`, `Reconciling` and `Stalled`, always all three."""
    return _ready(facts), _reconciling(facts), _stalled(facts)


def _ready(facts: Facts) -> Condition:
    since = facts.changed_at
    if not facts.synced:
        ok, reason, message = False, facts.reason, facts.message
    elif facts.work is not None:
        ok, reason, message = _outcome(facts.work)
        since = facts.work.ended_at or facts.work.created_at
    else:
        ok, reason, message = not facts.materializing, "Applied", ""
    return Condition(type="Ready", status=ok, reason=reason, message=message, since=since)


def _outcome(work: Work) -> tuple[bool, str, str]:
    """Is the batch where it should be, and why (not)?"""
    total = sum(work.counts.values())
    if work.phase is Phase.IN_PROGRESS:
        return False, "Progressing", f"{total - work.unfinished} of {total} tasks have ended"
    if work.phase is Phase.COMPLETED and not total:
        return (
            True,
            "NoDevices",
            "no device fitted it: all are on the target, or none reports a source version",
        )
    if work.phase is Phase.COMPLETED:
        done = f"{work.counts.get(lifecycle.Status.SUCCEEDED, 0)} of {total} succeeded"
        return not work.failed, "TasksFailed" if work.failed else "Completed", done
    if work.unfinished:
        return False, "Draining", f"{_tasks(work.unfinished)} still on {_way(work.unfinished)}"
    if work.canceled_by == "git":
        return True, "Canceled", "Git asks for it no more"
    return False, "CanceledByOperator", f"by {work.canceled_by}; it stays so while its spec stays the same"


def _tasks(count: int) -> str:
    return "1 task is" if count == 1 else f"{count} tasks are"


def _way(count: int) -> str:
    return "its way" if count == 1 else "their way"


def _reconciling(facts: Facts) -> Condition:
    work, since = facts.work, facts.changed_at
    if facts.materializing or (work is not None and work.materializing):
        reason, message = "Materializing", "its devices are being worked out"
    elif work is not None and (work.unfinished or work.phase is Phase.IN_PROGRESS):
        reason, message = "Progressing", f"{_tasks(work.unfinished)} on {_way(work.unfinished)}"
    else:
        ended_at = work.ended_at if work is not None else None
        return Condition(type="Reconciling", status=False, reason="Idle", message="", since=ended_at or since)
    begun = work.created_at if work is not None else since
    return Condition(type="Reconciling", status=True, reason=reason, message=message, since=begun)


def _stalled(facts: Facts) -> Condition:
    reason = "NotStalled" if facts.synced else facts.reason
    message = "" if facts.synced else facts.message
    return Condition(
        type="Stalled", status=not facts.synced, reason=reason, message=message, since=facts.changed_at
    )
