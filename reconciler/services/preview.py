"""What a plan means for devices: how many a new batch would touch, how many not and why, when, and for how long.

Called by `planning`. Reads only, with the same conditions and expressions as the creation of tasks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from datetime import timedelta

from reconciler.domain import acceptance, actual, limits, plan, resources, targeting
from reconciler.domain.desired import Declaration, Key
from reconciler.domain.resources import Conflict, Kind
from reconciler.services import beginning, following, lists, observe
from reconciler.services.observe import Commit, Seen
from reconciler.services.reach import Reach
from reconciler.store import census, products
from reconciler.store.database import Connection

_EXAMPLES = 10
"""Names of devices that are shown."""


def reaches(connection: Connection, commit: Commit, seen: Seen, allowed: limits.Limits) -> Iterator[Reach]:
    """The reach of each action that touches devices, in the order in which they are carried out."""
    preview = _Preview(connection, commit, seen, allowed)
    follow = following.Following(connection, commit, seen, allowed)
    for action in seen.plan.actions:
        reach = preview.of(action)
        follows, warnings = follow.of(action)
        if follows or warnings:
            reach = reach or Reach(key=action.key)
            reach = dataclasses.replace(reach, follows=follows, warnings=(*reach.warnings, *warnings))
        if reach is not None:
            yield reach


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A run that begins, with what it refers to."""

    declaration: Declaration
    package: resources.Package
    conditions: targeting.Conditions
    conflict: Conflict
    push_rate: int
    size: int
    """Bytes of all the files of its package."""
    names: tuple[str, ...] | None = None
    selector: resources.Selector | None = None
    gray: int | None = None
    multi_module: bool = False
    nobody: bool = False

    @property
    def product(self) -> str:
        """The name of its devices' product."""
        return self.package.spec.product


class _Preview:
    """The reach of one action after the other."""

    def __init__(self, connection: Connection, commit: Commit, seen: Seen, allowed: limits.Limits) -> None:
        self._connection = connection
        self._commit = commit
        self._actual = seen.actual
        self._allowed = allowed
        self._complete = census.complete_inventories(connection)
        self._earlier: list[census.Wanted] = []
        self._endings = [
            census.Ending(run.id, action.statuses)
            for action in seen.plan.actions
            if action.cancels_run and (run := self._actual.objects[action.key].run) is not None
        ]
        self._tried = {
            action.key.name
            for action in seen.plan.actions
            if action.starts_run and action.key.kind is Kind.PACKAGE
        }

    def of(self, action: plan.Action) -> Reach | None:
        """Whom an action touches; None when it touches nobody."""
        reach = None
        if action.cancels_run:
            run = self._actual.objects[action.key].run
            assert run is not None, "only what runs is cancelled"
            ended = sum(count for status, count in run.unfinished.items() if status in action.statuses)
            reach = Reach(key=action.key, canceled=ended, draining=run.draining - ended)
        if not action.starts_run:
            return reach
        assert action.declaration is not None
        asked = self._asked(action.declaration)
        begun = self._begin(action.key, asked)
        return (
            dataclasses.replace(begun, canceled=reach.canceled, draining=reach.draining) if reach else begun
        )

    def _asked(self, declaration: Declaration) -> _Asked:
        resource, package = declaration.resource, observe.package_of(self._commit, declaration)
        of_package = self._commit.desired.declarations[Key(Kind.PACKAGE, package.metadata.name)]
        size = sum(file.size or self._size_here(file.sha256) for file in of_package.files)
        if not isinstance(resource, resources.Batch):
            return _Asked(
                declaration=declaration,
                package=package,
                conditions=beginning.trial_conditions(package),
                conflict=Conflict.WAIT,
                push_rate=self._allowed.push_rate_highest,
                size=size,
                names=lists.named(resource),
            )
        spec = resource.spec
        names, selector = self._whom(declaration, spec.target)
        return _Asked(
            declaration=declaration,
            package=package,
            conditions=beginning.conditions(spec, beginning.fitting(package)),
            conflict=spec.conflict,
            push_rate=spec.push_rate_per_minute,
            size=size,
            names=names,
            selector=selector,
            gray=targeting.thousandths(spec.target.gray.percent) if spec.target.gray is not None else None,
            multi_module=spec.multi_module,
            nobody=spec.new_reports_only,
        )

    def _size_here(self, sha256: str) -> int:
        """Bytes of a file whose manifest doesn't say; 0 before it is here."""
        found = self._actual.files.get(sha256)
        return found.size if found is not None else 0

    def _whom(
        self, declaration: Declaration, target: resources.Target
    ) -> tuple[tuple[str, ...] | None, resources.Selector | None]:
        """The names that a batch, or its static group, lists; or the selector of its dynamic group."""
        if target.group is not None:
            declaration = self._commit.desired.declarations[Key(Kind.DEVICE_GROUP, target.group)]
            assert isinstance(declaration.resource, resources.DeviceGroup)
            if declaration.resource.spec.selector is not None:
                return None, declaration.resource.spec.selector
        if not lists.are_in(declaration):
            return None, None
        return tuple(lists.names(self._commit.files, declaration, self._allowed)), None

    def _begin(self, key: Key, asked: _Asked) -> Reach:
        """Whom a new run meets, after those that begin before it."""
        product_id = products.product_id(self._connection, asked.product)
        met = census.Census()
        names: tuple[str, ...] = ()
        if product_id is not None:
            wanted = _wanted(key, asked, product_id)
            around = census.Around(self._earlier, self._endings, self._own_runs(key))
            met = census.count(self._connection, wanted, around)
            names = census.examples(self._connection, wanted, _EXAMPLES)
            self._earlier.append(wanted)
        here = 0 if asked.nobody else self._declared_here(asked, product_id)
        reach = _counted(key, asked, met, here)
        reach = self._timed(asked, reach)
        warnings = self._warnings(asked, reach, product_id)
        return dataclasses.replace(reach, examples=names, warnings=warnings)

    def _own_runs(self, key: Key) -> list[int]:
        stored = self._actual.objects.get(key)
        runs = () if stored is None or stored.run is None else (*stored.earlier, stored.run)
        return [run.id for run in runs]

    def _declared_here(self, asked: _Asked, product_id: int | None) -> int:
        """How many of the targeted devices exist in this commit's inventories only."""
        chosen = None if asked.names is None else set(asked.names)
        selector = following.plain(asked.selector) if asked.selector is not None else None
        count = 0
        for declaration, inventory in self._commit.desired.of(resources.DeviceInventory):
            if inventory.spec.product != asked.product or self._is_here(declaration):
                continue
            listed = (
                name
                for name, tags in lists.entries(self._commit.files, declaration, self._allowed)
                if (chosen is None or name in chosen)
                and (selector is None or targeting.selects(selector, asked.product, tags or {}, {}))
            )
            count += len(observe.absent(self._connection, product_id, listed))
        return count

    def _is_here(self, inventory: Declaration) -> bool:
        """Whether all devices of an inventory exist already; a long list is not compared name by name for nothing."""
        stored = self._actual.objects.get(inventory.key)
        unchanged = stored is not None and stored.in_force and stored.digest == inventory.digest
        return unchanged and inventory.name in self._complete

    def _timed(self, asked: _Asked, reach: Reach) -> Reach:
        """The reach, with when it begins and ends and what it waits for."""
        resource = asked.declaration.resource
        if not isinstance(resource, resources.Batch):
            return dataclasses.replace(reach, is_trial=True)
        schedule = resource.spec.schedule
        shortest = self._allowed.schedule_lead_shortest
        return dataclasses.replace(
            reach,
            start_at=acceptance.starts_at(schedule, self._actual.now, shortest),
            end_at=schedule.end if schedule is not None else None,
            gate=resource.spec.package if self._is_gated(asked.package) else "",
            is_dynamic=resource.spec.strategy is resources.Strategy.DYNAMIC,
        )

    def _is_gated(self, package: resources.Package) -> bool:
        """Whether the package's verification is still to pass when the plan has been carried out."""
        if package.spec.verification is None:
            return False
        stored = self._actual.objects.get(Key(Kind.PACKAGE, package.metadata.name))
        passed = stored is not None and stored.verification is actual.Verification.VERIFIED
        return package.metadata.name in self._tried or not passed

    def _warnings(self, asked: _Asked, reach: Reach, product_id: int | None) -> tuple[str, ...]:
        found = []
        if product_id is not None and asked.conditions.source_versions:
            module = asked.conditions.module
            strange = census.unreported(
                self._connection, product_id, module, asked.conditions.source_versions
            )
            if strange:
                found.append(f"no device reports {', '.join(strange)}")
        done = reach.touched + reach.left_out.get(targeting.LeftOut.ALREADY, 0)
        if reach.is_trial and not done:
            found.append("none of its test devices fits, so that it fails at once")
        resource = asked.declaration.resource
        schedule = resource.spec.schedule if isinstance(resource, resources.Batch) else None
        if schedule is not None and schedule.end is not None:
            window = schedule.end - max(schedule.start, self._actual.now)
            if timedelta(0) < window < timedelta(minutes=reach.minutes):
                found.append("its window is shorter than its pushes take at its rate")
        return tuple(found)


def _wanted(key: Key, asked: _Asked, product_id: int) -> census.Wanted:
    return census.Wanted(
        batch=key.name,
        product_id=product_id,
        conditions=asked.conditions,
        names=asked.names,
        selector=following.plain(asked.selector) if asked.selector is not None else None,
        gray=asked.gray,
        multi_module=asked.multi_module,
        nobody=asked.nobody,
    )


def _counted(key: Key, asked: _Asked, met: census.Census, here: int) -> Reach:
    """What the conflict rule makes of the devices that a run meets."""
    fitting = here if targeting.judge(asked.conditions, None) is None else 0
    base, free = met.base + fitting, met.free + fitting
    if asked.gray is not None:  # of a share, new devices are as likely as others
        met_ = met.free + met.busy + met.working + met.own
        free = met.free + max(0, targeting.gray_count(base, asked.gray) - met_)
    keeps, waits = asked.conflict is Conflict.KEEP, asked.conflict is Conflict.WAIT
    overwritten = met.busy if asked.conflict is Conflict.OVERWRITE else 0
    conflicts = met.working + met.busy * keeps if not waits else 0
    upgraded, waiting = free + overwritten, met.own + (met.busy + met.working) * waits
    is_delta = asked.package.spec.source_version is not None
    left_out = {str(why): count for why, count in met.left_out.items()}
    elsewhere = 0 if is_delta else left_out.pop(targeting.LeftOut.SOURCE, 0)
    return Reach(
        key=key,
        upgraded=upgraded,
        waiting=waiting,
        overwritten=overwritten,
        conflicts=conflicts,
        offline=met.offline + free - met.free,
        left_out=left_out,
        elsewhere=elsewhere,
        declared_here=here,
        share_of=base if asked.gray is not None else None,
        bytes_to_ship=(upgraded + waiting) * asked.size,
        minutes=math.ceil((upgraded + waiting) / asked.push_rate),
    )
