"""Whom an action touches: what `preview` counts and `offline` estimates, and what `plan -o json` and the API say of it.

Values and their JSON; they decide and count nothing, and know neither database nor repository.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.domain.desired import Key


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Whom one action touches."""

    key: Key
    upgraded: int = 0
    """Devices that get a task which goes ahead, at once or when the batch starts."""
    waiting: int = 0
    """Devices whose task waits behind another one."""
    overwritten: int = 0
    """Of the upgraded: another task of theirs is cancelled for it."""
    conflicts: int = 0
    """Devices whose task fails at once."""
    offline: int = 0
    """Of all that fit: not connected now."""
    offline_upgraded: int = 0
    """Of those that are upgraded or wait: not connected now."""
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    elsewhere: int = 0
    """Devices on other versions than the source versions: the batch is not for them."""
    declared_here: int = 0
    """Devices that the same commit declares: their versions are not known yet."""
    share_of: int | None = None
    """Of a gray batch: how many fit, of which it takes some."""
    bytes_to_ship: int = 0
    minutes: int = 0
    """At least, at the batch's rate."""
    start_at: datetime | None = None
    end_at: datetime | None = None
    gate: str = ""
    """The package whose verification it waits for."""
    is_dynamic: bool = False
    """Devices that match later are upgraded, too."""
    is_trial: bool = False
    canceled: int = 0
    """Of a cancellation: tasks that end."""
    draining: int = 0
    """Of a cancellation: tasks that go on."""
    warnings: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    """Names of some of the devices that fit, the first ones."""
    follows: tuple[str, ...] = ()
    """Upgrades by dynamic batches that follow from it, one a line."""

    @property
    def touched(self) -> int:
        """All devices that get a task."""
        return self.upgraded + self.waiting + self.conflicts


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What Git alone says about whom an action touches: who it is for, not who of them needs it."""

    devices: int | None = None
    """At most so many, as far as Git lists devices; None where no device is concerned."""
    source: str = ""
    """Who was counted: `its list`, or `the inventories in Git`; empty: nobody, it is for who reports later."""
    is_complete: bool = True
    """False when there may be more devices than Git lists."""
    versions: tuple[str, ...] = ()
    """Only those that report one of these; empty: any."""
    share_of: int | None = None
    bytes_to_ship: int | None = 0
    """To all these devices; None where the size of a file is not known."""
    minutes: int = 0
    """To push all of them, at the batch's rate."""
    start_at: datetime | None = None
    end_at: datetime | None = None
    gate: str = ""
    is_dynamic: bool = False
    is_trial: bool = False
    ends_tasks: bool = False
    """Unfinished tasks of a run are cancelled; how many, only the state knows."""
    warnings: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()


def estimated(estimate: Estimate) -> dict[str, Any]:
    """An estimate as JSON data."""
    return {
        "devicesAtMost": estimate.devices,
        "countedFrom": estimate.source or None,
        "complete": estimate.is_complete,
        "onVersions": list(estimate.versions),
        "shareOf": estimate.share_of,
        "laterToo": estimate.is_dynamic,
        "isTrial": estimate.is_trial,
        "bytesAtMost": estimate.bytes_to_ship,
        "minutesForAll": estimate.minutes,
        "startsAt": moment(estimate.start_at),
        "endsAt": moment(estimate.end_at),
        "waitsForVerification": estimate.gate or None,
        "tasksEnd": estimate.ends_tasks,
        "follows": list(estimate.follows),
    }


def document(reach: Reach) -> dict[str, Any]:
    """A reach as JSON data."""
    return {
        "devices": reach.upgraded,
        "waiting": reach.waiting,
        "overwritten": reach.overwritten,
        "offline": reach.offline,
        "offlineUpgrades": reach.offline_upgraded,
        "conflicts": reach.conflicts,
        "leftOut": dict(reach.left_out),
        "onOtherVersions": reach.elsewhere,
        "shareOf": reach.share_of,
        "laterToo": reach.is_dynamic,
        "isTrial": reach.is_trial,
        "declaredByThisCommit": reach.declared_here,
        "bytes": reach.bytes_to_ship,
        "minutes": reach.minutes,
        "startsAt": moment(reach.start_at),
        "endsAt": moment(reach.end_at),
        "waitsForVerification": reach.gate or None,
        "tasksCanceled": reach.canceled,
        "tasksDraining": reach.draining,
        "examples": list(reach.examples),
        "follows": list(reach.follows),
    }


def moment(at: datetime | None) -> str | None:
    """A moment as JSON has it: in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at is not None else None
