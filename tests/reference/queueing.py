"""Who occupies a device, how a task comes to it, and who is next: platform-rules.md §4 conflict, §5 `hold behind`."""

from __future__ import annotations

from reference import judgement, moves
from reference.words import CANCELED, CONFIRM, FAILED, IN_PROGRESS, QUEUED, Task


def in_the_way(fleet, run, device, besides=None):
    """The tasks that occupy the device for this run: any of it, or of the same module when both are multi-module."""
    return [
        task
        for task in fleet.tasks_of(device)
        if task.holds
        and task is not besides
        and not (run.spec.multi_module and task.run.spec.multi_module and task.module != run.package.module)
    ]


def drains_behind(fleet, run, device):
    """Whether an earlier life of the same batch still has work on this device (manifests.md: its tasks wait)."""
    return any(
        task.unfinished
        and task.run is not run
        and task.run.owner == run.owner
        and (task.run.type == "Verify") == (run.type == "Verify")
        for task in fleet.tasks_of(device)
    )


def conflict(fleet, run, device, besides=None):
    """What the conflict rule says of this run on this device: `free`, `behind`, `overwrite` or `conflict`."""
    if drains_behind(fleet, run, device):
        return "behind"
    way = in_the_way(fleet, run, device, besides)
    if not way:
        return "free"
    if run.spec.conflict == "Wait":
        return "behind"
    if run.spec.conflict == "Overwrite" and all(task.status != IN_PROGRESS for task in way):
        return "overwrite"
    return "conflict"


def make_way(fleet, run, device):
    """§3: what a batch that has not started would keep a trial from waits behind it, when that lets the trial in."""
    way = in_the_way(fleet, run, device)
    if run.type == "Verify" and all(_yields(task) for task in way):
        for task in way:
            moves.cleared(task)
            task.status, task.hold = QUEUED, "behind"


def _yields(task):
    not_started = task.run.started_at is None and task.run.type != "Verify"
    return not_started and task.status in (CONFIRM, QUEUED)


def place(fleet, task, verdict):
    """Gives a task that may come to its device its place there."""
    if verdict == "behind":
        moves.enter(task)
        task.status, task.hold = "QUEUED", "behind"
        return
    if verdict == "overwrite":
        for older in in_the_way(fleet, task.run, task.device, besides=task):
            moves.end(older, CANCELED, "overwritten")
    moves.enter(task)


def admit(fleet, run, device, match_no=1):
    """A new task, by the rows `(new)` of §5; a conflict failure is made once per reported version."""
    version = device.versions.get(run.package.module)
    if not drains_behind(fleet, run, device):
        make_way(fleet, run, device)
    verdict = conflict(fleet, run, device)
    if verdict == "overwrite" and any(_comes_first(task.run, run) for task in in_the_way(fleet, run, device)):
        verdict = "conflict"
    earlier = [task for task in fleet.tasks_of(device) if task.run is run]
    if verdict == "conflict" and any((task.reason, task.source) == ("conflict", version) for task in earlier):
        return
    task = Task(len(fleet.tasks) + 1, run, device, run.package.module, match_no, version)
    if verdict == "conflict":
        moves.end(task, FAILED, "conflict")
    else:
        place(fleet, task, verdict)
    fleet.tasks.append(task)


def _comes_first(other, run):
    """§4 `newest first`: what a newer dynamic batch has taken, an older one takes from it by no match."""
    return other.type == run.type == "Dynamic" and other.id > run.id


def promote(fleet, device):
    """Row `hold behind | the device is free`: trials first, then the oldest, by their present version (A4)."""
    for task in sorted(fleet.tasks_of(device), key=lambda task: task.run.type != "Verify"):
        if task.hold != "behind":
            continue
        make_way(fleet, task.run, device)
        if in_the_way(fleet, task.run, device):
            continue
        present = device.versions.get(task.module)
        if moves.refiltered(task, judgement.judge(task.run, present)):
            task.source = present
            moves.enter(task)
