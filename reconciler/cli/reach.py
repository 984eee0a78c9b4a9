"""Whom an action touches, in words: the same for a terminal and for a pull request.

Reads the JSON of a plan, wherever it was made. Decides nothing; text for terminals and for Markdown is made safe by
whoever prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def lines(action: Mapping[str, Any]) -> Iterator[str]:
    """What stands below an action, but for its warnings."""
    reach, estimate = action.get("reach"), action.get("estimate")
    if reach is not None:
        yield from _counted(reach)
    elif estimate is not None:
        yield from _estimated(estimate)


def _counted(reach: Mapping[str, Any]) -> Iterator[str]:
    canceled, draining = reach["tasksCanceled"], reach["tasksDraining"]
    if canceled or draining:
        yield f"{plural(canceled, 'task ends', 'tasks end')}, {plural(draining, 'goes', 'go')} on"
    touched = reach["devices"] + reach["waiting"] + reach["conflicts"]
    if reach["follows"]:  # it is told batch by batch
        yield from reach["follows"]
        yield from _shipped(reach)
    elif touched or reach["leftOut"] or any(reach[name] for name in _PEOPLED):
        yield from _whom(reach)
        yield from _beside(reach)
    yield from _when(reach)


_PEOPLED = ("onOtherVersions", "declaredByThisCommit", "laterToo")
"""Fields that say that an action is for devices, though it touches none now."""


def _whom(reach: Mapping[str, Any]) -> Iterator[str]:
    away = offline(reach)
    absent = f", {away:,} of them not connected now" if away else ""
    share = f" of {devices(reach['shareOf'])} that fit" if reach["shareOf"] is not None else ""
    later = ", and those that match later" if reach["laterToo"] else ""
    what = "to try it out on" if reach["isTrial"] else "to upgrade"
    yield f"{devices(reach['devices'] + reach['waiting'])} {what}{share}{later}{absent}"
    if reach.get("examples"):
        all_of_them = len(reach["examples"]) >= reach["devices"] + reach["waiting"] + reach["conflicts"]
        yield f"that fit: {', '.join(reach['examples'])}{'' if all_of_them else ', …'}"
    if reach["waiting"]:
        yield f"{reach['waiting']:,} of them wait behind another task"
    if reach["declaredByThisCommit"]:
        count = devices(reach["declaredByThisCommit"])
        yield f"this same commit declares {count}, which reported no version yet"


def _beside(reach: Mapping[str, Any]) -> Iterator[str]:
    if reach["conflicts"]:
        fail = "fails" if reach["conflicts"] == 1 else "fail"
        yield f"{devices(reach['conflicts'])} more {fail} at once: conflict with another batch"
    yield from (f"{count:,} left out: {reason}" for reason, count in sorted(reach["leftOut"].items()))
    if reach["onOtherVersions"]:
        yield f"{devices(reach['onOtherVersions'])} on other versions"
    yield from _shipped(reach)


def _shipped(reach: Mapping[str, Any]) -> Iterator[str]:
    if reach["overwritten"]:
        yield f"{plural(reach['overwritten'], 'task', 'tasks')} of other batches overwritten for it"
    if reach["devices"] + reach["waiting"]:
        yield f"{size(reach['bytes'])} to ship, at least {minutes(reach['minutes'])} at its push rate"


def _estimated(estimate: Mapping[str, Any]) -> Iterator[str]:
    if estimate["tasksEnd"]:
        yield "unfinished tasks end, as its onCancel says"
    if estimate["devicesAtMost"] is not None:
        yield from _at_most(estimate)
    yield from _when(estimate)
    yield from estimate["follows"]


def _at_most(estimate: Mapping[str, Any]) -> Iterator[str]:
    if not estimate["countedFrom"]:
        yield "no device" if estimate["complete"] else "no device now, only those that report later"
        return
    what = "to try it out on" if estimate["isTrial"] else "to upgrade"
    share = f" of {devices(estimate['shareOf'])}" if estimate["shareOf"] is not None else ""
    more = "" if estimate["complete"] else ", and those that Git doesn't list"
    later = ", and those that match later" if estimate["laterToo"] else ""
    count = devices(estimate["devicesAtMost"])
    yield f"at most {count} {what}{share}, by {estimate['countedFrom']}{more}{later}"
    if estimate["onVersions"]:
        yield f"only those that report {' or '.join(estimate['onVersions'])}"
    if estimate["devicesAtMost"]:
        shipped = estimate["bytesAtMost"]
        ship = f"at most {size(shipped)} to ship; " if shipped is not None else ""
        yield f"{ship}{minutes(estimate['minutesForAll'])} for all of them at its push rate"


def _when(reach: Mapping[str, Any]) -> Iterator[str]:
    if reach["waitsForVerification"]:
        yield f"waits for the verification of Package/{reach['waitsForVerification']}"
    if reach["startsAt"]:
        yield f"starts {reach['startsAt']}"
    if reach["endsAt"]:
        yield f"ends {reach['endsAt']}: what is not notified then is cancelled"


def leaves(verdict: Mapping[str, Any]) -> str:
    """What an object is that is refused or held: OutOfSync, and as it was before."""
    left = verdict["leaves"]
    if not left["inForce"]:
        return "nothing of it is in force"
    run = ""
    if left["run"] is not None:
        tasks = plural(left["unfinishedTasks"], "unfinished task", "unfinished tasks")
        run = f", and its run {left['run']} goes on with {tasks}"
    return f"it stays as it was, OutOfSync{run}"


def offline(counted: Mapping[str, Any]) -> int:
    """How many of the upgrades are not connected now; a daemon of before format 1.3 counts conflicts with them."""
    found: int = counted.get("offlineUpgrades", counted["offline"])
    return found


def devices(count: int) -> str:
    """`1 device`, `2,000 devices`."""
    return plural(count, "device", "devices")


def minutes(count: int) -> str:
    """`1 minute`, `90 minutes`."""
    return plural(count, "minute", "minutes")


def plural(count: int, one: str, more: str) -> str:
    """A number with its noun."""
    return f"{count:,} {one if count == 1 else more}"


def size(count: float) -> str:
    """Bytes in the largest unit that fits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable: the last unit returns")
