"""What a trace looks at, and what comes out of it: the facts of one device in one batch, and a check for each rule.

Read by `store.evidence` and `services.trace`; `trace` works the checks out. Nothing is decided here.
"""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime

from reconciler.domain import targeting, waiting
from reconciler.domain.actual import Phase, RunType, Verification
from reconciler.domain.lifecycle import Reason, Status


class Rule(enum.StrEnum):
    """What is looked at, in this order."""

    BATCH = "batch"
    TARGET = "target"
    MATCHING = "matching"
    SOURCE = "source version"
    ALREADY = "on target"
    DOWNGRADE = "downgrade"
    ACCEPTANCE = "acceptance"
    CONFLICT = "conflict"
    VERIFICATION = "verification"
    SCHEDULE = "schedule"
    SUSPENSION = "suspension"
    SIGNING = "signing"
    FILES = "files"
    CONFIRMATION = "confirmation"
    QUEUE = "queue"
    DELIVERY = "delivery"


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One rule that was looked at."""

    rule: Rule
    ok: bool
    compared: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A version that a module reported, and when it began to."""

    version: str
    at: datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """What the rules compare of a device, for one batch."""

    name: str
    removed: bool
    created_at: datetime
    report: Report | None
    """Of the batch's module."""

    @property
    def version(self) -> str | None:
        """What it reports; None: it never did."""
        return self.report.version if self.report is not None else None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A dynamic group, and the device in it."""

    name: str
    removed: bool
    member: bool
    joins: int
    """How often the device came into it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Gray:
    """A share of the devices, and the device's place among them."""

    thousandths: int
    """Of a percent."""
    key: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What became of the device in this batch."""

    facts: waiting.Facts
    reason: Reason | None
    why: str
    source_version: str | None
    ended_at: datetime | None
    pushes: int
    last_pushed_at: datetime | None
    matches: int = 1
    """Tasks of the device in this run."""

    @property
    def status(self) -> Status:
        """Where it is."""
        return self.facts.status


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The newest run of a batch, or of a package's verification."""

    name: str
    type: RunType
    phase: Phase
    stage: str
    """The phase in words."""
    conditions: targeting.Conditions
    delta: bool = False
    accepted_at: datetime
    started_at: datetime | None
    chosen_at: datetime | None = None
    """When a static one had chosen all of its devices; None: it has not, or was over before."""
    is_late: bool = False
    """The device came when a static one had begun to choose."""
    start_at: datetime | None = None
    end_at: datetime | None = None
    canceled_by: str | None = None
    materializing: bool = False
    note: str = ""
    """Why Git says something else, where it does."""
    listed: bool | None = None
    """Of a list: is the device in it? None: there is no list."""
    group: Group | None = None
    gray: Gray | None = None
    new_reports_only: bool = False
    newer: str | None = None
    """The newest dynamic batch that matches this version, where that is another one."""
    match_limit: int = 10
    package: str = ""
    verification: Verification = Verification.NOT_REQUIRED
    suspended: str = ""
    """By whom; empty: it is not."""
    unsigned: str = ""
    """Why its product's packages can't be signed, where they must be; empty: they can."""
    file_lost: bool = False
    """A file of its package went missing from the store."""
    confirm: bool = False
    left_out: targeting.LeftOut | None = None
    """What was recorded at acceptance, or at the start…"""
    left_out_version: str | None = None
    """…and the version that it was on."""

    @property
    def dynamic(self) -> bool:
        """True of one that matches devices as they come."""
        return self.type is RunType.DYNAMIC

    @property
    def is_cut_off(self) -> bool:
        """True of a static one that was over before it had chosen all of its devices."""
        return not self.dynamic and self.chosen_at is None and not self.materializing


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    """The answer: the rules as far as the one that decides, what else is in the way, and how it ends."""

    checks: tuple[Check, ...]
    end: str
    remedy: str = ""

    @property
    def decided_by(self) -> Rule | None:
        """The first rule that was not well; None: nothing was in the way."""
        return next((check.rule for check in self.checks if not check.ok), None)
