"""What a plan means for devices: how many each of its runs would touch, how many not and why, when, and for how long.

Called by `planning`. Reads only, with the same conditions and expressions as the creation of tasks, and in its order:
devices that an inventory brings or changes meet the dynamic batches, the newest first; then the runs that were accepted
with whom they are for, in their order; then the dynamic batches look at the fleet, the newest first. What comes later
meets what comes before. The reaches are told in the order of the plan.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterator
from datetime import timedelta

from reconciler.domain import acceptance, limits, plan, resources, targeting
from reconciler.domain.desired import Key
from reconciler.domain.resources import Conflict, Kind
from reconciler.services.moving import Moving, New
from reconciler.services.observe import Commit, Seen
from reconciler.services.reach import Reach
from reconciler.services.takers import Taker, Takers, plain
from reconciler.store import census, products
from reconciler.store.database import Connection
from reconciler.store.fitting import Fitting

_EXAMPLES = 10
"""Names of devices that are shown."""
_Told = dict[tuple[Key, Key], census.Census]
"""By the action that it follows from and the run: whom that meets."""


def reaches(connection: Connection, commit: Commit, seen: Seen, allowed: limits.Limits) -> Iterator[Reach]:
    """The reach of each action that touches devices, in the order of the plan."""
    preview = _Preview(connection, commit, seen, allowed)
    for action in seen.plan.actions:
        reach = preview.of(action)
        if reach is not None:
            yield reach


class _Preview:
    """All that begins or follows is counted at once; then the reach of one action after the other."""

    def __init__(self, connection: Connection, commit: Commit, seen: Seen, allowed: limits.Limits) -> None:
        self._connection = connection
        self._actual = seen.actual
        self._allowed = allowed
        self._actions = {action.key: action for action in seen.plan.actions}
        self._endings = [
            census.Ending(run.id, action.statuses)
            for action in seen.plan.actions
            if action.cancels_run and (run := self._actual.objects[action.key].run) is not None
        ]
        self._fitting = Fitting(connection)
        takers = Takers(connection, commit, seen, allowed)
        new = [
            takers.beginning(action.declaration)
            for action in seen.plan.actions
            if action.starts_run and action.declaration is not None
        ]
        self._begun = {taker.key: taker for taker in new}
        dynamic = [taker for taker in reversed(new) if taker.wanted.is_dynamic] + takers.running()
        self._listed = [taker for taker in new if not taker.wanted.is_dynamic]
        self._dynamic = [taker for taker in _disjoint(dynamic) if not taker.is_awaiting]
        self._awaiting = [taker for taker in _disjoint(dynamic) if taker.is_awaiting]
        in_turn = [*self._dynamic, *self._listed, *self._awaiting]
        self._moving = Moving(connection, commit, seen, allowed, in_turn)
        self._earlier: list[census.Wanted] = []
        self._told: _Told = collections.defaultdict(census.Census)
        self._count()

    # ------------------------------------------------------------------------------- in the daemon's order

    def _count(self) -> None:
        """Whom each run meets, in the order in which they take devices."""
        for inventory in self._moving.due:
            for taker in self._dynamic:
                self._meets_changed(inventory.key, taker)
        for taker in self._listed:
            product_id = taker.wanted.product_id
            gone, back = self._moving.gone(product_id), self._moving.back(product_id)
            self._meets(taker.key, taker, dataclasses.replace(taker.wanted, without=gone, back=back))
        for taker in self._dynamic:
            cause = taker.key if taker.wanted.again is None else self._cause(taker)
            if cause is not None:
                self._meets(cause, taker, self._unchanged(taker))
        for taker in self._awaiting:  # when its trial has passed: behind all that takes devices now
            for inventory in self._moving.due:
                self._meets_changed(inventory.key, taker)
            self._meets(taker.key, taker, self._unchanged(taker))

    def _cause(self, taker: Taker) -> Key | None:
        """The action for which a run that goes on looks at the fleet again; None where it doesn't."""
        action = self._actions.get(taker.key)
        if action is not None and "target.sourceVersions" in action.changed:
            return taker.key
        if taker.group is None:
            return None
        action = self._actions.get(Key(Kind.DEVICE_GROUP, taker.group))
        return action.key if action is not None and _regroups(action) else None

    def _unchanged(self, taker: Taker) -> census.Wanted:
        """Of the fleet, who is as it was before the commit."""
        touched = self._moving.touched(taker.wanted.product_id)
        return dataclasses.replace(taker.wanted, without=touched)

    def _meets_changed(self, inventory: Key, taker: Taker) -> None:
        ids = self._moving.changed_of(inventory, taker)
        if ids:
            back = self._moving.back(taker.wanted.product_id)
            cause = taker.key if taker.wanted.again is None else inventory
            wanted = dataclasses.replace(taker.wanted, ids=ids, selector=None, back=back)
            self._meets(cause, taker, wanted)

    def _meets(self, cause: Key, taker: Taker, wanted: census.Wanted) -> None:
        around = census.Around(self._earlier, self._endings, taker.earlier_runs)
        met = census.count(self._fitting, wanted, around)
        self._told[cause, taker.key] += met
        takes_some = met.free + met.busy + met.own > 0
        if takes_some and not (taker.is_awaiting and taker.wanted.is_dynamic):
            self._earlier.append(wanted)

    # ---------------------------------------------------------------------------- in the order of the plan

    def of(self, action: plan.Action) -> Reach | None:
        """Whom an action touches; None when it touches nobody."""
        reach = self._begins(action, self._begun[action.key]) if action.key in self._begun else None
        if action.cancels_run:
            run = self._actual.objects[action.key].run
            assert run is not None, "only what runs is cancelled"
            ended = sum(count for status, count in run.unfinished.items() if status in action.statuses)
            reach = dataclasses.replace(
                reach or Reach(key=action.key), canceled=ended, draining=run.draining - ended
            )
        found = (self._again(action, taker) for taker in reversed(self._dynamic))
        again = [part for part in found if part is not None]
        warnings = tuple(self._overlaps(action))
        return _sum(action.key, reach, again, warnings) if again or warnings else reach

    def _begins(self, action: plan.Action, taker: Taker) -> Reach:
        met = self._told[taker.key, taker.key]
        reach = self._timed(action, taker, _counted(taker, met, self._moving.new(taker)))
        return dataclasses.replace(
            reach, examples=self._examples(taker), warnings=tuple(self._warnings(action, taker, reach, met))
        )

    def _examples(self, taker: Taker) -> tuple[str, ...]:
        wanted = dataclasses.replace(taker.wanted, without=self._moving.gone(taker.wanted.product_id))
        return census.examples(self._fitting, wanted, _EXAMPLES)

    def _again(self, action: plan.Action, taker: Taker) -> Reach | None:
        """Whom a batch that goes on takes for an action: it looks at changed devices, or at all of them, once more."""
        met, new = self._told.get((action.key, taker.key)), self._moving.new_of(action.key, taker)
        if taker.wanted.again is None or (met is None and not new.targeted):
            return None
        met = met or census.Census()
        reach = _counted(taker, met, new)
        reach = dataclasses.replace(reach, left_out={}, elsewhere=0, declared_here=0)
        if action.key == taker.key:
            return dataclasses.replace(
                reach, examples=self._examples(taker), warnings=tuple(_left_to_newer(met))
            )
        return dataclasses.replace(reach, follows=tuple(_lines(taker, reach))) if reach.touched else None

    def _overlaps(self, action: plan.Action) -> Iterator[str]:
        """Warnings about a group whose selector selects others' devices."""
        group = action.declaration.resource if action.declaration is not None else None
        if (
            not isinstance(group, resources.DeviceGroup)
            or group.spec.selector is None
            or not _regroups(action)
        ):
            return
        spec = group.spec
        product_id = products.product_id(self._connection, spec.product) if spec.product is not None else None
        if spec.product is None or product_id is not None:
            selector = plain(group.spec.selector)
            found = census.overlapping(self._connection, action.key.name, product_id, selector)
            yield from (f"{count:,} of its devices are in the group {other} too" for other, count in found)

    def _timed(self, action: plan.Action, taker: Taker, reach: Reach) -> Reach:
        """The reach, with when it begins and ends and what it waits for."""
        resource = action.declaration.resource if action.declaration is not None else None
        if not isinstance(resource, resources.Batch):
            return dataclasses.replace(reach, is_trial=True)
        schedule = resource.spec.schedule
        shortest = self._allowed.schedule_lead_shortest
        return dataclasses.replace(
            reach,
            start_at=acceptance.starts_at(schedule, self._actual.now, shortest),
            end_at=schedule.end if schedule is not None else None,
            gate=resource.spec.package if taker.is_awaiting else "",
        )

    def _warnings(self, action: plan.Action, taker: Taker, reach: Reach, met: census.Census) -> Iterator[str]:
        conditions, product_id = taker.wanted.conditions, taker.wanted.product_id
        if product_id and conditions.source_versions:
            reported = self._fitting.reported(product_id, conditions.module)
            strange = sorted(set(conditions.source_versions).difference(reported))
            if strange:
                yield f"no device reports {', '.join(strange)}"
        yield from _left_to_newer(met)
        if reach.is_trial and not reach.touched + reach.left_out.get(targeting.LeftOut.ALREADY, 0):
            yield "none of its test devices fits, so that it fails at once"
        resource = action.declaration.resource if action.declaration is not None else None
        schedule = resource.spec.schedule if isinstance(resource, resources.Batch) else None
        if schedule is not None and schedule.end is not None:
            window = schedule.end - max(schedule.start, self._actual.now)
            if timedelta(0) < window < timedelta(minutes=reach.minutes):
                yield "its window is shorter than its pushes take at its rate"


def _regroups(action: plan.Action) -> bool:
    """Whether runs for a group look at it again (as `groups.put` has it)."""
    return action.declaration is not None and (
        action.verb is plan.Verb.CREATE or not set(action.changed) <= {"title"}
    )


def _disjoint(newest_first: list[Taker]) -> Iterator[Taker]:
    """Those that go by version, each with the conditions of those that match before it."""
    newer: dict[tuple[int, str], tuple[targeting.Conditions, ...]] = collections.defaultdict(tuple)
    for taker in newest_first:
        if taker.group is not None:
            yield taker
            continue
        wanted = taker.wanted
        place = wanted.product_id, wanted.conditions.module
        yield dataclasses.replace(taker, wanted=dataclasses.replace(wanted, newer=newer[place]))
        if not taker.is_awaiting:
            newer[place] += (wanted.conditions,)


def _left_to_newer(met: census.Census) -> Iterator[str]:
    if met.newer:
        yield f"{_devices(met.newer)} on its source versions go to a newer dynamic batch: only the newest one matches"


def _counted(taker: Taker, met: census.Census, new: New) -> Reach:
    """What the conflict rule makes of the devices that a run meets."""
    fitting = new.free + new.busy + new.kept
    base, free, busy, working = (
        met.base + fitting,
        met.free + new.free,
        met.busy + new.busy,
        met.working + new.kept,
    )
    offline = collections.Counter(met.offline)
    offline += collections.Counter(free=new.free, busy=new.busy, working=new.kept)
    if taker.wanted.gray is not None:  # of a share, new devices are as likely as others
        there = met.free + met.busy + met.working + met.own
        busy, working, free = (
            met.busy,
            met.working,
            met.free + max(0, targeting.gray_count(base, taker.wanted.gray) - there),
        )
        offline = collections.Counter(met.offline) + collections.Counter(free=free - met.free)
    fails = {Conflict.KEEP: ("busy", "working"), Conflict.OVERWRITE: ("working",), Conflict.WAIT: ()}
    failing = fails[taker.wanted.conflict]
    overwritten = busy if taker.wanted.conflict is Conflict.OVERWRITE else 0
    conflicts = sum({"busy": busy, "working": working}[state] for state in failing)
    upgraded, waiting = free + overwritten, busy + working + met.own - overwritten - conflicts
    away = {state: offline[state] for state in ("free", "busy", "working", "own")}
    left_out = {str(why): count for why, count in met.left_out.items()}
    elsewhere = 0 if taker.is_delta else left_out.pop(targeting.LeftOut.SOURCE, 0)
    return Reach(
        key=taker.key,
        upgraded=upgraded,
        waiting=waiting,
        overwritten=overwritten,
        conflicts=conflicts,
        offline=sum(away.values()),
        offline_upgraded=sum(count for state, count in away.items() if state not in failing),
        left_out=left_out,
        elsewhere=elsewhere,
        declared_here=new.targeted,
        share_of=base if taker.wanted.gray is not None else None,
        bytes_to_ship=(upgraded + waiting) * taker.size,
        minutes=math.ceil((upgraded + waiting) / taker.push_rate),
        is_dynamic=taker.wanted.is_dynamic,
    )


def _lines(taker: Taker, reach: Reach) -> Iterator[str]:
    """What follows, in words."""
    inside = f" in the group {taker.group}" if taker.group is not None else ""
    upgraded, failing = reach.upgraded + reach.waiting, reach.conflicts
    if upgraded:
        yield f"{_devices(upgraded)} more{inside}: Batch/{taker.key.name} upgrades them"
    if failing:
        why = "fails on them at once: conflict with another batch"
        yield f"{_devices(failing)} more{inside}: Batch/{taker.key.name} {why}"


def _devices(count: int) -> str:
    return f"{count:,} device{'s' * (count != 1)}"


def _sum(key: Key, own: Reach | None, again: list[Reach], warnings: tuple[str, ...]) -> Reach:
    """What an action does itself, and what follows from it, as one reach."""
    first, parts = own or Reach(key=key), [*([own] if own is not None else []), *again]
    counted = (
        "upgraded",
        "waiting",
        "overwritten",
        "conflicts",
        "offline",
        "offline_upgraded",
        "bytes_to_ship",
    )
    return dataclasses.replace(
        first,
        **{name: sum(getattr(part, name) for part in parts) for name in counted},
        minutes=max((part.minutes for part in parts), default=0),
        is_dynamic=any(part.is_dynamic and part.key == key for part in parts),
        examples=tuple(name for part in parts for name in part.examples),
        follows=tuple(line for part in parts for line in part.follows),
        warnings=(*(warning for part in parts for warning in part.warnings), *warnings),
    )
