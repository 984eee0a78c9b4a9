"""What is, as far as a plan must know: the objects in force, and what their runs still hold.

Read by `store.objects`, compared by `plan`. It holds no devices and no tasks, only counts.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from reconciler.domain import lifecycle
from reconciler.domain.desired import Key

GIT = "git"
"""Who cancels a run that Git no longer asks for."""
NEVER = datetime.min.replace(tzinfo=UTC)


class Phase(enum.StrEnum):
    """The status of a batch (platform rules §4). PLANNED: it has not started."""

    PLANNED = "PLANNED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


UNENDED = (Phase.PLANNED, Phase.IN_PROGRESS)
"""Phases of a run that goes on by itself."""


class RunType(enum.StrEnum):
    """What a run is a life of: a batch, by its strategy, or a package's verification (platform rules §3)."""

    STATIC = "Static"
    DYNAMIC = "Dynamic"
    VERIFY = "Verify"


class Verification(enum.StrEnum):
    """How the trial of a package stands (platform rules §3)."""

    NOT_REQUIRED = "not-required"
    UNVERIFIED = "unverified"
    VERIFYING = "verifying"
    VERIFIED = "verified"
    FAILED = "failed"

    @property
    def opens(self) -> bool:
        """True when batches of the package may start."""
        return self in {Verification.NOT_REQUIRED, Verification.VERIFIED}


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """The newest life of a batch, or of a package's verification."""

    id: int
    number: int
    phase: Phase
    package: str
    product: str
    unfinished: Mapping[lifecycle.Status, int] = dataclasses.field(default_factory=dict)
    """How many of its tasks have not ended, by status."""
    type: RunType = RunType.STATIC
    canceled_by: str | None = None
    started: bool = True
    """False while its start has not come, also when it was cancelled before."""

    @property
    def goes_on(self) -> bool:
        """True until it has ended or was cancelled."""
        return self.phase in UNENDED

    @property
    def draining(self) -> int:
        """Tasks that are still on their way."""
        return sum(self.unfinished.values())

    @property
    def was_stopped(self) -> bool:
        """True when somebody cancelled it, and not Git."""
        return self.phase is Phase.CANCELED and self.canceled_by != GIT


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """An object that waits for somebody's word."""

    reason: str
    digest: str
    """What was held; another digest is another matter. Empty: it could not be read, so it may be anything."""
    confirmed: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """One object as the database has it."""

    path: str
    digest: str | None
    """What is in force; None when nothing was ever accepted."""
    spec: Mapping[str, Any] | None
    declared_digest: str = ""
    removed: bool = False
    held: Held | None = None
    metadata: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    """Labels and annotations; they decide nothing."""
    synced: bool = True
    reason: str = ""
    message: str = ""
    run: Run | None = None
    earlier: tuple[Run, ...] = ()
    """Lives before that one which still have tasks on their way."""
    verification: Verification | None = None
    """Of a package: how its trial stands."""

    @property
    def in_force(self) -> bool:
        """True when it was accepted and is not removed."""
        return self.digest is not None and not self.removed


@dataclasses.dataclass(frozen=True, slots=True)
class Fetch:
    """How far a file from outside is."""

    received: int = 0
    total: int | None = None
    """Bytes; None while nobody knows."""
    message: str = ""
    """What went wrong with the last attempt."""
    failed: bool = False
    """It is not tried again."""


class Content(NamedTuple):
    """A file that is in the store."""

    size: int
    """Bytes."""
    md5: str


@dataclasses.dataclass(frozen=True, slots=True)
class ActualState:
    """Everything a plan compares with."""

    objects: Mapping[Key, Stored] = dataclasses.field(default_factory=dict)
    first_sight: bool = False
    """True until a commit was taken over whole: one in which nothing was left that nobody can name."""
    foreign: bool = False
    """True while what is in force came from another repository or ref than the commit that is planned."""
    confirmed_cancels: int | None = None
    """How many cancellations somebody confirmed for the commit that is planned."""
    unknown_devices: Mapping[Key, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """By batch or package: names in its list that no device has, as far as it may start a run, and minds."""
    files: Mapping[str, Content] = dataclasses.field(default_factory=dict)
    """The files that are in the store, by SHA-256."""
    fetches: Mapping[tuple[str, str], Fetch] = dataclasses.field(default_factory=dict)
    """How far files from outside are, by SHA-256 and source."""
    now: datetime = NEVER
    """When this was looked at."""
