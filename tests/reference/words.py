"""The things that platform-rules.md speaks of, as plain values; the rules themselves are in the files beside this one.

Every moment and duration is a number of seconds on one line of time, so that a recorded run is plain data.
Nothing in this folder may import or imitate the engine: it is written from the document, and the engine is held to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SECOND, MINUTE, HOUR, DAY = 1, 60, 3600, 86_400

# §4 and §5, the limits marked with a gear, at their defaults.
SETTLE = 10 * SECOND
REPEAT = MINUTE
MATCHES = 10
PACKAGES_PER_GROUP = 5
HIGHEST_RATE = 10_000

CONFIRM, QUEUED, NOTIFIED, IN_PROGRESS = "CONFIRM", "QUEUED", "NOTIFIED", "IN_PROGRESS"
SUCCEEDED, FAILED, CANCELED = "SUCCEEDED", "FAILED", "CANCELED"
UNFINISHED = (CONFIRM, QUEUED, NOTIFIED, IN_PROGRESS)
PLANNED, COMPLETED = "PLANNED", "COMPLETED"


@dataclass(frozen=True)
class Verification:
    """§3: a package's trial on a few named devices."""

    devices: tuple[str, ...]
    sources: tuple[str, ...] = ()
    timeout: int = 24 * HOUR
    attempt: int = 1


@dataclass(frozen=True)
class Package:
    """§1: one version of one module of one product; a delta names its one source version."""

    name: str
    version: str
    product: str = "p"
    module: str = "default"
    source: str | None = None
    verification: Verification | None = None


@dataclass(frozen=True)
class Spec:
    """§4: a batch's manifest. `target` is ("all",), ("devices", …names), ("gray", percent) or ("group", name)."""

    package: str
    strategy: str = "Static"
    target: tuple = ("all",)
    sources: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None
    rate: int = 1000
    retry: tuple[int, int] | None = None
    timeout: int | None = None
    no_response: int | None = None
    conflict: str = "Keep"
    delivery: str = "Push"
    confirm: bool = False
    allow_downgrade: bool = False
    new_reports_only: bool = False
    multi_module: bool = False
    tags: tuple = ()
    suspend: bool = False
    state: str = "Active"
    on_cancel: tuple[str, ...] = ("Scheduled", "Unconfirmed", "Queued")


@dataclass(frozen=True)
class Group:
    """§7: static when it lists devices; else a selector over tags and one module's version. No product: of all."""

    product: str | None = "p"
    devices: tuple[str, ...] | None = None
    match_tags: tuple[tuple[str, str], ...] = ()
    expressions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    module: tuple[str, str] | None = None


@dataclass
class Device:
    """One device: what it reported, and since when it is there."""

    product: str
    name: str
    tags: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    online_since: float | None = None
    in_git: bool | None = None
    """None: it never was."""
    declared: bool = False
    """In Git, or it registered itself."""

    @property
    def known(self):
        """Git or the device itself told of it once."""
        return self.declared or self.in_git is not None

    @property
    def key(self):
        return f"{self.product}/{self.name}"


@dataclass(eq=False)
class Run:
    """§1: one life of a batch, or of a package's verification (type Verify). `number` counts its owner's lives."""

    id: int
    owner: str
    number: int
    type: str
    spec: Spec
    package: Package
    created_at: float
    start_at: float | None = None
    started_at: float | None = None
    phase: str = PLANNED
    schedule_ended: bool = False
    suspended_by_operator: bool = False
    stopped_by_operator: bool = False
    already_there: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)
    pushes: list[float] = field(default_factory=list)

    @property
    def suspended(self):
        """§4: in Git or by an operator, either is enough."""
        return self.spec.suspend or self.suspended_by_operator

    @property
    def running(self):
        return self.phase in (PLANNED, IN_PROGRESS)

    @property
    def sources(self):
        """§4 source versions: those that its devices must report; a delta's one, the declared ones, or any (empty)."""
        return (self.package.source,) if self.package.source else self.spec.sources


@dataclass(eq=False)
class Task:
    """§5: one batch's work on one device's module. `retries` counts the failures that were forgiven."""

    id: int
    run: Run
    device: Device
    module: str
    match_no: int
    source: str | None
    status: str = QUEUED
    hold: str | None = None
    reason: str | None = None
    step: int | None = None
    retries: int = 0
    retry_at: float | None = None
    clock_started: bool = False
    timeout_at: float | None = None
    no_response_at: float | None = None
    first_push: float | None = None
    last_push: float | None = None
    push_again: bool = False
    push_tolerated: bool = False
    may_push_since: float | None = None
    failure_mark: tuple | None = None
    late_success: bool = False
    ended_at: float | None = None

    @property
    def unfinished(self):
        return self.status in UNFINISHED

    @property
    def holds(self):
        """Whether it occupies its device (a task in CONFIRM does too; one that waits behind another does not)."""
        return self.unfinished and self.hold != "behind"
