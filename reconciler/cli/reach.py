"""A plan's reach in words and as JSON: whom an action touches, when, and what somebody should know about it.

Used by `plan`. Decides nothing; text for terminals is made safe by whoever prints it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from reconciler.services.preview import Reach


def lines(reach: Reach) -> Iterator[str]:
    """What stands below an action, but for its warnings."""
    if reach.canceled or reach.draining:
        ends, goes = _plural(reach.canceled, "task ends", "tasks end"), _plural(reach.draining, "goes", "go")
        yield f"{ends}, {goes} on"
    if reach.touched or reach.left_out or reach.elsewhere or reach.declared_here or reach.is_dynamic:
        yield from _whom(reach)
        yield from _beside(reach)
    yield from _when(reach)
    yield from reach.follows


def _whom(reach: Reach) -> Iterator[str]:
    offline = f", {reach.offline:,} of them not connected now" if reach.offline else ""
    share = f" of {_devices(reach.share_of)} that fit" if reach.share_of is not None else ""
    later = ", and those that match later" if reach.is_dynamic else ""
    what = "to try it out on" if reach.is_trial else "to upgrade"
    yield f"{_devices(reach.upgraded + reach.waiting)} {what}{share}{later}{offline}"
    if reach.waiting:
        yield f"{reach.waiting:,} of them wait behind another task"
    if reach.overwritten:
        yield f"{_plural(reach.overwritten, 'task', 'tasks')} of other batches overwritten for it"
    if reach.declared_here:
        yield f"this same commit declares {_devices(reach.declared_here)}, which reported no version yet"


def _beside(reach: Reach) -> Iterator[str]:
    if reach.conflicts:
        yield f"{_devices(reach.conflicts)} more {_fail(reach.conflicts)} at once: conflict with another batch"
    yield from (f"{count:,} left out: {reason}" for reason, count in sorted(reach.left_out.items()))
    if reach.elsewhere:
        yield f"{_devices(reach.elsewhere)} on other versions"
    if reach.upgraded + reach.waiting:
        minutes = _plural(reach.minutes, "minute", "minutes")
        yield f"{_size(reach.bytes_to_ship)} to ship, at least {minutes} at its push rate"


def _when(reach: Reach) -> Iterator[str]:
    if reach.gate:
        yield f"waits for the verification of Package/{reach.gate}"
    if reach.start_at is not None:
        yield f"starts {_moment(reach.start_at)}"
    if reach.end_at is not None:
        yield f"ends {_moment(reach.end_at)}: what is not notified then is cancelled"


def document(reach: Reach | None) -> dict[str, Any] | None:
    """A reach as JSON data."""
    if reach is None:
        return None
    return {
        "devices": reach.upgraded,
        "waiting": reach.waiting,
        "overwritten": reach.overwritten,
        "offline": reach.offline,
        "conflicts": reach.conflicts,
        "leftOut": dict(reach.left_out),
        "onOtherVersions": reach.elsewhere,
        "shareOf": reach.share_of,
        "laterToo": reach.is_dynamic,
        "declaredByThisCommit": reach.declared_here,
        "bytes": reach.bytes_to_ship,
        "minutes": reach.minutes,
        "startsAt": _moment(reach.start_at) if reach.start_at else None,
        "endsAt": _moment(reach.end_at) if reach.end_at else None,
        "waitsForVerification": reach.gate or None,
        "tasksCanceled": reach.canceled,
        "tasksDraining": reach.draining,
        "follows": list(reach.follows),
    }


def _devices(count: int) -> str:
    return _plural(count, "device", "devices")


def _fail(count: int) -> str:
    return "fails" if count == 1 else "fail"


def _plural(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable: the last unit returns")
