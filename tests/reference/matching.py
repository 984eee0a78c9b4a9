"""What a dynamic batch matches, and when: platform-rules.md §4 `Dynamic batches`, §7.

A trigger is what happened to a device: ("changed", module) a report that changed a version, ("heard", run) any report
while a run for new reports goes on, ("joined", group), ("registered", None) when it is declared, also again, or
("scan", run) when a run looks at the whole fleet.
"""

from __future__ import annotations

from dataclasses import dataclass

from reference import judgement, queueing
from reference.words import IN_PROGRESS, MATCHES


@dataclass
class Membership:
    """Whether a device is in a dynamic group now, and how often it came in."""

    present: bool = False
    joins: int = 0


def refresh(fleet, device):
    """Brings a device's memberships up to date; coming in is a trigger, staying is none."""
    for name in set(fleet.groups) | {group for group, key in fleet.members if key == device.key}:
        inside = name in fleet.groups and judgement.selected(fleet.groups[name], device)
        membership = fleet.members.setdefault((name, device.key), Membership())
        if inside and not membership.present:
            membership.joins += 1
            fleet.trigger(device, ("joined", name))
        membership.present = inside


def match(fleet, device, triggers):
    """Everything that the triggers make of this device, the newest run first."""
    if not device.declared:
        return
    found = [*_by_versions(fleet, device, triggers), *_by_group(fleet, device, triggers)]
    for run, match_no in sorted(found, key=lambda one: -one[0].id):
        queueing.admit(fleet, run, device, match_no)


def _live(fleet, device, *, by_group):
    """The started, running dynamic runs of the device's product, of one kind, whose conditions it meets."""
    return [
        run
        for run in fleet.runs
        if run.type == "Dynamic"
        and run.phase == IN_PROGRESS
        and run.package.product == device.product
        and (run.spec.target[0] == "group") == by_group
        and judgement.judge(run, device.versions.get(run.package.module)) is None
    ]


def _hears(run, device, triggers):
    """A run for new reports hears the device now, or heard a new version from it since it began."""
    return not run.spec.new_reports_only or device.key in run.heard or ("heard", run) in triggers


def _by_versions(fleet, device, triggers):
    """Per module only the newest run whose conditions fit matches; its limit used up lets no older one through."""
    for module in device.versions:
        fitting = [run for run in _live(fleet, device, by_group=False) if run.package.module == module]
        if not fitting:
            continue
        newest = max(fitting, key=lambda run: run.id)
        earlier = [task for task in fleet.tasks_of(device) if task.run is newest]
        used_up = any(task.unfinished for task in earlier) or len(earlier) >= MATCHES
        if used_up or not _hears(newest, device, triggers):
            continue
        first = ("heard", newest) in triggers and not earlier
        seen = any(task.source == device.versions[module] for task in earlier)
        looks = not triggers.isdisjoint({("scan", newest), ("registered", None)})
        if ("changed", module) in triggers or first or (looks and not seen):
            yield newest, len(earlier) + 1


def _by_group(fleet, device, triggers):
    """A coming-in triggers each run once, and again after leaving only when the run's earlier tasks all FAILED."""
    for run in _live(fleet, device, by_group=True):
        membership = fleet.members.get((run.spec.target[1], device.key))
        if membership is None or not membership.present or not _hears(run, device, triggers):
            continue
        mine = (
            ("scan", run),
            ("heard", run),
            ("joined", run.spec.target[1]),
            ("changed", run.package.module),
        )
        if not triggers.intersection(mine):
            continue
        earlier = [task for task in fleet.tasks_of(device) if task.run is run]
        if all(task.status == "FAILED" and task.match_no != membership.joins for task in earlier):
            yield run, membership.joins
