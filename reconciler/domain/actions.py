"""The words of a plan: what it does and why, what it refuses or holds and why, and how careful it is.

Made by `plan` and its rules; printed by the CLI and carried out by `services.apply`. Nothing is decided here.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence

from reconciler.domain import lifecycle, limits
from reconciler.domain.actual import ActualState
from reconciler.domain.desired import Declaration, DesiredState, Key
from reconciler.domain.downloads import Ways


class Verb(enum.StrEnum):
    """What an action does."""

    CREATE = "create"
    CHANGE = "change"
    CANCEL = "cancel"
    REMOVE = "remove"


class Reason(enum.StrEnum):
    """Why an object is not what Git says."""

    INVALID = "Invalid"
    UNREADABLE = "Unreadable"
    IMMUTABLE = "Immutable"
    IN_USE = "InUse"
    TAKEN = "Taken"
    REFERENCE = "Reference"
    UNKNOWN_DEVICES = "UnknownDevices"
    TOO_FAR_AHEAD = "TooFarAhead"
    DYNAMIC_OVERLAP = "DynamicOverlap"
    DOWNLOAD = "Download"
    FETCHING = "Fetching"
    FETCH_FAILED = "FetchFailed"
    FIRST_SIGHT = "FirstSight"
    MASS_CANCEL = "MassCancel"


HOLDS = frozenset({Reason.FIRST_SIGHT, Reason.MASS_CANCEL})
"""Reasons that wait for somebody's word, where others wait for a change in Git."""


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """One thing to do to one object."""

    verb: Verb
    key: Key
    why: str
    declaration: Declaration | None = None
    starts_run: bool = False
    cancels_run: bool = False
    statuses: tuple[lifecycle.Status, ...] = ()
    """Of a cancellation: unfinished tasks in these statuses end, the others go on."""
    changed: tuple[str, ...] = ()
    """Of a change: the fields of the spec."""
    warnings: tuple[str, ...] = ()
    """What is done all the same, and somebody should know."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """An object that is not what Git says, and why."""

    key: Key
    reason: Reason
    message: str
    holds: bool = False
    """What it says, as soon as it can be read, waits for somebody's word."""
    details: tuple[str, ...] = ()
    """More lines for who asks for the plan, one for each thing that is wrong."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a pass does. Empty when there are no actions, whatever is refused or held."""

    actions: tuple[Action, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def refused(self) -> tuple[Verdict, ...]:
        """What somebody must change in Git."""
        return tuple(verdict for verdict in self.verdicts if verdict.reason not in HOLDS)

    @property
    def held(self) -> tuple[Verdict, ...]:
        """What waits for somebody's word."""
        return tuple(verdict for verdict in self.verdicts if verdict.reason in HOLDS)

    def count(self, *verbs: Verb) -> int:
        """How many actions have one of the verbs."""
        return sum(action.verb in verbs for action in self.actions)


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """How careful to be.

    Attributes:
        hold_first_sight: batches that an empty database finds in Git touch nobody until confirmed.
        mass_cancel_least: fewer cancellations in one commit than this are never held…
        mass_cancel_share: …and neither are those of at most this share of the running batches.
        limits: the operator's numbers.
        ways: how devices can reach the files here.
        awaits_files: a package is not accepted before its files from outside are here; who only wants to know what
            a commit means takes them for granted.
    """

    hold_first_sight: bool = True
    mass_cancel_least: int = 3
    mass_cancel_share: float = 0.5
    limits: limits.Limits = limits.DEFAULT
    ways: Ways = dataclasses.field(default_factory=Ways)
    awaits_files: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What a plan compares."""

    desired: DesiredState
    actual: ActualState
    policy: Policy


Rule = Callable[[Sequence[Action], Sequence[Verdict], Look], list[Verdict]]
"""What of the actions may not be, given what is refused or held already."""
