"""Decides whether a batch or a trial can begin now, and what somebody should know about it when it does.

Rules of `plan.diff` over actions that start runs (platform rules §4: target, schedule, download), and the warnings of
those that remain. What is refused here is accepted by a later pass by itself, when nothing keeps it any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.domain import downloads, resources
from reconciler.domain.actions import Action, Look, Reason, Verb, Verdict
from reconciler.domain.actual import Phase, Stored
from reconciler.domain.desired import Key
from reconciler.domain.resources import Batch, Kind

_LISTED = 10
_DETAILED = 1000


def batches_that_start(actions: Sequence[Action]) -> Iterator[tuple[Action, Batch]]:
    """The actions that begin a life of a batch, with the batch."""
    for action in actions:
        resource = action.declaration.resource if action.declaration is not None else None
        if action.starts_run and isinstance(resource, Batch):
            yield action, resource


def unknown_devices(actions: Sequence[Action], verdicts: Sequence[Verdict], look: Look) -> list[Verdict]:
    """Runs over a list of devices some of which do not exist, also when it is not the batch's first run."""
    del verdicts
    unknown = look.actual.unknown_devices
    return [
        Verdict(
            action.key,
            Reason.UNKNOWN_DEVICES,
            _unknown(action, unknown[action.key]),
            details=tuple(_one_by_one(unknown[action.key])),
        )
        for action in actions
        if action.starts_run and unknown.get(action.key)
    ]


def _one_by_one(names: Sequence[str]) -> Iterator[str]:
    yield from (f"no device has the name {name}" for name in names[:_DETAILED])
    if len(names) > _DETAILED:
        yield f"{len(names) - _DETAILED:,} more are unknown"


def _unknown(action: Action, names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    remedy = "declare it or correct it"
    resource = action.declaration.resource if action.declaration is not None else None
    if isinstance(resource, Batch) and resource.spec.target.devices_from is not None:
        remedy = "declare it, correct it, or set skipUnknown"
    return f"no device has the name {', '.join(names[:_LISTED])}{more}: {remedy}"


def too_far_ahead(actions: Sequence[Action], verdicts: Sequence[Verdict], look: Look) -> list[Verdict]:
    """Batches whose start is further ahead than the operator allows: they are accepted when it has come near."""
    del verdicts
    longest = look.policy.limits.schedule_lead_longest
    found = []
    for action, batch in batches_that_start(actions):
        schedule = batch.spec.schedule
        if schedule is None or schedule.start - look.actual.now <= longest:
            continue
        message = (
            f"starts {_at(schedule.start)}, more than {_span(longest)} ahead: "
            f"it will be accepted by itself from {_at(schedule.start - longest)} on"
        )
        found.append(Verdict(action.key, Reason.TOO_FAR_AHEAD, message))
    return found


def no_way_to_download(actions: Sequence[Action], verdicts: Sequence[Verdict], look: Look) -> list[Verdict]:
    """Batches whose devices could not fetch their files here in the way that is asked for."""
    del verdicts
    return [
        Verdict(action.key, Reason.DOWNLOAD, message)
        for action, batch in batches_that_start(actions)
        if (message := downloads.unconfigured(batch.spec.download, look.policy.ways))
    ]


def no_group(actions: Sequence[Action], verdicts: Sequence[Verdict], look: Look) -> list[Verdict]:
    """Batches that begin for a group that Git doesn't hold. One that was accepted before needs it no more.

    A group that is not valid, or not as Git says, is another rule's: `guards.baseless`.
    """
    del verdicts
    found = []
    for action, batch in batches_that_start(actions):
        group = batch.spec.target.group
        key = Key(Kind.DEVICE_GROUP, group or "")
        stored = look.actual.objects.get(key)
        stays = stored is not None and stored.in_force and not look.desired.is_gone(key, stored.path)
        if group is not None and not (
            stays or key in look.desired.declarations or key in look.desired.broken
        ):
            message = f"there is no {key}: declare it, or correct the name"
            found.append(Verdict(action.key, Reason.REFERENCE, message))
    return found


def starts_at(schedule: resources.Schedule | None, now: datetime, shortest: timedelta) -> datetime | None:
    """When a batch that is accepted now starts; None: at once, also when its start is past or too near.

    Args:
        schedule: the batch's.
        now: this moment.
        shortest: how far ahead a start must be, at least (`Limits.schedule_lead_shortest`).
    """
    if schedule is None or schedule.start - now < shortest:
        return None
    return schedule.start


def is_over(schedule: resources.Schedule | None, now: datetime) -> bool:
    """Whether a batch that is accepted now is over before it began: it creates no task."""
    return schedule is not None and schedule.end is not None and schedule.end <= now


def warnings(action: Action, look: Look) -> Iterator[str]:
    """What to say of an action that is carried out all the same."""
    resource = action.declaration.resource if action.declaration is not None else None
    if not isinstance(resource, Batch):
        return
    if action.starts_run:
        yield from _about_members(resource.spec.target.group, look)
    if resource.spec.schedule is None:
        return
    if action.starts_run:
        yield from _about_start(resource.spec.schedule, look)
    elif action.verb is Verb.CHANGE and "schedule.end" in action.changed:
        yield from _about_end(resource.spec.schedule, look.actual.objects[action.key], look.actual.now)


def _about_members(group: str | None, look: Look) -> Iterator[str]:
    """A static group may name devices that do not exist (yet): its batches go on without them."""
    names = look.actual.unknown_devices.get(Key(Kind.DEVICE_GROUP, group or ""), ())
    if names:
        few = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
        are = "is no device" if len(names) == 1 else "are no devices"
        yield f"{len(names):,} of its group's names {are}, and skipped: {few}"


def _about_start(schedule: resources.Schedule, look: Look) -> Iterator[str]:
    now, shortest = look.actual.now, look.policy.limits.schedule_lead_shortest
    if schedule.end is not None and is_over(schedule, now):
        yield f"its schedule ended {_at(schedule.end)}: it creates no task"
    elif schedule.start <= now:
        yield f"its start {_at(schedule.start)} is past: it starts at once"
    elif starts_at(schedule, now, shortest) is None:
        yield f"its start {_at(schedule.start)} is less than {_span(shortest)} ahead: it starts at once"


def _about_end(schedule: resources.Schedule, stored: Stored, now: datetime) -> Iterator[str]:
    was: dict[str, Any] = (stored.spec or {}).get("schedule", {})
    before = datetime.fromisoformat(was["end"]) if "end" in was else None
    if stored.run is None:
        return
    if stored.run.phase is Phase.COMPLETED and (schedule.end is None or schedule.end > now):
        yield "it has ended, and creates no task: write a new Batch"
    if not stored.run.goes_on:
        return
    if before is not None and before <= now:
        yield f"its schedule had ended {_at(before)} already: what was cancelled then stays so"
    elif schedule.end is not None and schedule.end <= now:
        yield f"its schedule ends with this, {_at(schedule.end)} is past: what was not notified is cancelled"


def _at(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _span(span: timedelta) -> str:
    days = span // timedelta(days=1)
    if span == timedelta(days=days) and days > 1:
        return f"{days} days"
    return resources.format_duration(span)
