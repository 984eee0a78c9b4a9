"""How an object is, for people and for machines: phase, sync, health and conditions (conventions "Status").

Worked out from what is stored whenever somebody looks, never stored itself. Called by `get`, `describe` and
whatever else shows objects. It decides words only: nothing happens because of them.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime

from reconciler.domain import lifecycle, waiting
from reconciler.domain.actions import HOLDS, Reason
from reconciler.domain.actual import GIT, UNENDED, Phase, Verification

UNSIGNED = "SigningKeyUnavailable"
"""The reason of conditions where a product's signing key can't be used."""
_NO_PHASE = {"Held": HOLDS, "Refused": frozenset(Reason) - HOLDS - {Reason.FETCHING}}


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
class Suspension:
    """Nothing is pushed or offered (platform rules §4): because of Git, of an operator, or of both."""

    by_git: bool
    by: str | None
    """The operator."""
    since: datetime

    def __str__(self) -> str:
        """Who, and what ends it."""
        git = "`suspend` in Git" if self.by_git else ""
        who = f"{self.by}, until `reconciler resume`" if self.by else ""
        return f"by {' and by '.join(filter(None, (git, who)))}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A batch's newest run, as far as its status depends on it."""

    phase: Phase
    counts: Mapping[lifecycle.Status, int]
    created_at: datetime
    start_at: datetime | None = None
    ended_at: datetime | None = None
    materializing: bool = False
    dynamic: bool = False
    cut_off: bool = False
    """Its schedule ended before it had chosen all of its devices."""
    canceled_by: str | None = None
    suspension: Suspension | None = None
    package: str = ""
    verification: Verification = Verification.NOT_REQUIRED
    """Its package's."""

    @property
    def unfinished(self) -> int:
        """Tasks that are still on their way."""
        return sum(self.counts.get(status, 0) for status in lifecycle.UNFINISHED)

    @property
    def failed(self) -> int:
        """Tasks that failed."""
        return self.counts.get(lifecycle.Status.FAILED, 0)

    @property
    def suspended(self) -> Suspension | None:
        """Its suspension, while there is something to suspend."""
        return self.suspension if self.phase in UNENDED or self.unfinished else None

    @property
    def idles(self) -> bool:
        """True of a dynamic batch whose devices have all ended: it never completes, and waits for others."""
        return (
            self.dynamic and self.phase is Phase.IN_PROGRESS and not (self.unfinished or self.materializing)
        )

    @property
    def stuck(self) -> bool:
        """True when it waits for a verification that failed: nothing happens before somebody acts."""
        return self.phase is Phase.PLANNED and self.verification is Verification.FAILED


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How a package's verification stands (platform rules §3)."""

    state: Verification
    done: int = 0
    """Devices that ended well, or were on the target version already."""
    total: int = 0
    since: datetime
    suspension: Suspension | None = None

    @property
    def suspended(self) -> Suspension | None:
        """Its suspension, while there is something to suspend."""
        return self.suspension if self.state is Verification.VERIFYING else None

    @property
    def stage(self) -> str:
        """Its state in words: with that it is suspended."""
        return str(self.state) + ", suspended" * (self.suspended is not None)

    @property
    def share(self) -> str:
        """Progress: the share of its devices that ended well; empty while there are none."""
        return f"{self.done} of {self.total} ({self.done * 100 // self.total} %)" if self.total else ""


@dataclasses.dataclass(frozen=True, slots=True)
class Unsigned:
    """A product whose packages must be signed and can't be: nothing is pushed or offered."""

    why: str
    """With what to do about it."""
    since: datetime


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
    """Of a batch."""
    trial: Trial | None = None
    """Of a package."""
    unsigned: Unsigned | None = None
    """Of a product, and of what is on its way to its devices."""


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
    """A batch's phase in words: with what its start waits for, how many tasks drain, that it is suspended.

    Where there is no phase yet, why.
    """
    said = phase(facts)
    if said is None:
        return next((word for word, reasons in _NO_PHASE.items() if facts.reason in reasons), facts.reason)
    work, left = facts.work, draining(facts)
    waits = _waits(work) if work is not None and work.phase is Phase.PLANNED else ""
    suspended = "suspended" if work is not None and work.suspended is not None else ""
    return ", ".join(filter(None, (said, waits, f"{left} draining" if left else "", suspended)))


def _waits(work: Work) -> str:
    """What the start of a batch waits for."""
    if not work.verification.opens:
        return "verification failed" if work.stuck else "waits for verification"
    return f"starts {waiting.moment(work.start_at)}" if work.start_at is not None else "starting"


def sync(facts: Facts) -> Sync:
    """Synced, or not; unknown while the file that declared the object can't be read."""
    if facts.synced:
        return Sync.SYNCED
    return Sync.UNKNOWN if facts.reason == Reason.UNREADABLE else Sync.OUT_OF_SYNC


def health(facts: Facts) -> Health:
    """An object that is refused keeps its last good state, and its health; one that never had any is degraded.

    What waits for its time, or for its package's trial, goes on by itself: it is progressing. What waits for somebody's
    word is suspended.
    """
    if not facts.in_force and facts.reason in HOLDS:
        return Health.SUSPENDED
    if not facts.in_force and facts.reason == Reason.FETCHING:
        return Health.PROGRESSING
    work, trial = facts.work, facts.trial
    failed = trial is not None and trial.state is Verification.FAILED
    stuck = work is not None and (work.failed or work.stuck)
    if not facts.in_force or failed or stuck or facts.unsigned is not None:
        return Health.DEGRADED
    if (work is not None and work.suspended) or (trial is not None and trial.suspended):
        return Health.SUSPENDED
    return Health.PROGRESSING if _reconciling(facts).status else Health.HEALTHY


def conditions(facts: Facts) -> tuple[Condition, ...]:
    """`Ready`, `Reconciling` and `Stalled`, always all three; of batches `Suspended`, of packages `Verified` too.

    `Suspended` is said of packages while their verification is.
    """
    said = [_ready(facts), _reconciling(facts), _stalled(facts)]
    work, trial = facts.work, facts.trial
    if work is not None:
        said.append(_suspended(work.suspended, work.ended_at or work.created_at))
    if trial is not None:
        said.append(_verified(trial))
    if trial is not None and trial.suspended is not None:
        said.append(_suspended(trial.suspended, trial.since))
    return tuple(said)


def _ready(facts: Facts) -> Condition:
    since = facts.changed_at
    if not facts.synced:
        ok, reason, message = False, facts.reason, facts.message
    elif facts.unsigned is not None:
        ok, reason, message, since = False, UNSIGNED, facts.unsigned.why, facts.unsigned.since
    elif facts.work is not None:
        ok, reason, message = _outcome(facts.work)
        since = facts.work.ended_at or facts.work.created_at
    else:
        ok, reason, message = not facts.materializing, "Applied", ""
    return Condition(type="Ready", status=ok, reason=reason, message=message, since=since)


def _outcome(work: Work) -> tuple[bool, str, str]:
    """Is the batch where it should be, and why (not)?"""
    if work.phase is Phase.PLANNED:
        return False, *_planned(work)
    if work.phase is Phase.CANCELED:
        return _canceled(work)
    total = sum(work.counts.values())
    done = f"{work.counts.get(lifecycle.Status.SUCCEEDED, 0)} of {total} succeeded"
    if work.phase is Phase.IN_PROGRESS:
        if work.idles:
            return (
                not work.failed,
                "TasksFailed" if work.failed else "Matching",
                f"{done}; it goes on matching",
            )
        return False, "Progressing", f"{total - work.unfinished} of {total} tasks have ended"
    return _completed(work, done if total else "")


def _completed(work: Work, done: str) -> tuple[bool, str, str]:
    """What came of it. `done`: empty where it had no task."""
    if work.cut_off and not work.failed:
        why = "its schedule ended before it had chosen all of its devices: write a new batch"
        return False, "ScheduleEnded", "; ".join(filter(None, (done, why)))
    if not done:
        message = (
            "no device fitted it: all are on the target, none reports a source version, or none has its names"
        )
        return True, "NoDevices", message
    return not work.failed, "TasksFailed" if work.failed else "Completed", done


def _canceled(work: Work) -> tuple[bool, str, str]:
    if work.unfinished:
        return False, "Draining", f"{_tasks(work.unfinished)} still on {_way(work.unfinished)}"
    if work.canceled_by == GIT:
        return True, "Canceled", "Git asks for it no more"
    return False, "CanceledByOperator", f"by {work.canceled_by}; it stays so while its spec stays the same"


def _planned(work: Work) -> tuple[str, str]:
    """Why a batch has not started, and what to do about it."""
    if work.stuck:
        return "VerificationFailed", (
            f"the verification of package {work.package} failed: `reconciler describe package {work.package}` "
            "says why; it is tried again when its devices or `verification.attempt` change"
        )
    if not work.verification.opens:
        return "WaitsForVerification", f"package {work.package} is {work.verification}"
    if work.start_at is not None:
        return "Scheduled", f"starts {waiting.moment(work.start_at)}"
    return "Starting", "its devices are looked at once more"


def _tasks(count: int) -> str:
    return "1 task is" if count == 1 else f"{count} tasks are"


def _way(count: int) -> str:
    return "its way" if count == 1 else "their way"


def _reconciling(facts: Facts) -> Condition:
    work, trial, since = facts.work, facts.trial, facts.changed_at
    busy = True
    if facts.reason == Reason.FETCHING:
        reason, message = facts.reason, facts.message
    elif facts.materializing or (work is not None and work.materializing):
        reason, message = "Materializing", "its devices are being worked out"
    elif work is not None and work.phase is Phase.PLANNED:
        busy = not work.stuck
        reason, message = _planned(work)
    elif work is not None and (work.unfinished or (work.phase is Phase.IN_PROGRESS and not work.idles)):
        reason, message = "Progressing", f"{_tasks(work.unfinished)} on {_way(work.unfinished)}"
    elif trial is not None and trial.state is Verification.VERIFYING:
        reason, message, since = "Verifying", trial.share, trial.since
    else:
        ended_at = work.ended_at if work is not None else None
        return Condition(type="Reconciling", status=False, reason="Idle", message="", since=ended_at or since)
    begun = work.created_at if work is not None else since
    return Condition(type="Reconciling", status=busy, reason=reason, message=message, since=begun)


def _stalled(facts: Facts) -> Condition:
    work = facts.work
    if facts.synced and facts.unsigned is not None:
        why, since = facts.unsigned.why, facts.unsigned.since
        return Condition(type="Stalled", status=True, reason=UNSIGNED, message=why, since=since)
    if facts.synced and work is not None and work.stuck:
        reason, message = _planned(work)
        return Condition(type="Stalled", status=True, reason=reason, message=message, since=work.created_at)
    stalled = not facts.synced and facts.reason != Reason.FETCHING
    reason, message = (facts.reason, facts.message) if stalled else ("NotStalled", "")
    return Condition(type="Stalled", status=stalled, reason=reason, message=message, since=facts.changed_at)


def _suspended(found: Suspension | None, since: datetime) -> Condition:
    """Nothing goes out, by whom, and since when; or since when nothing keeps it."""
    if found is None:
        return Condition(type="Suspended", status=False, reason="NotSuspended", message="", since=since)
    reason = "SuspendedByOperator" if found.by else "SuspendedInGit"
    return Condition(type="Suspended", status=True, reason=reason, message=str(found), since=found.since)


_VERIFIED: Mapping[Verification, tuple[str, str]] = {
    Verification.NOT_REQUIRED: ("NotRequired", ""),
    Verification.UNVERIFIED: ("Unverified", "its verification has not begun"),
    Verification.VERIFYING: ("Verifying", ""),
    Verification.VERIFIED: ("Verified", ""),
    Verification.FAILED: (
        "VerificationFailed",
        "it is tried again when its devices or `verification.attempt` change; its batches wait",
    ),
}


def _verified(trial: Trial) -> Condition:
    """May batches of the package start?"""
    reason, message = _VERIFIED[trial.state]
    said = ": ".join(filter(None, (trial.share, message)))
    return Condition(
        type="Verified", status=trial.state.opens, reason=reason, message=said, since=trial.since
    )
