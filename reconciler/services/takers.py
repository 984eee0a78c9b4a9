"""Who takes devices when a plan is carried out: runs that begin, and dynamic ones that go on, as one value for both.

Made for `preview`, which puts them in the daemon's order. A run that begins is read from its manifests, with the words
of `beginning`; one that goes on from its rows, because its manifest may say what was refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from reconciler.domain import acceptance, actual, limits, plan, resources, targeting
from reconciler.domain.desired import Declaration, Key
from reconciler.domain.resources import Conflict, Kind
from reconciler.services import beginning, lists, observe
from reconciler.services.observe import Commit, Seen
from reconciler.store import census, products, recheck
from reconciler.store.database import Connection


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Taker:
    """A run, with what it refers to."""

    key: Key
    """Of its batch; of a trial, its package."""
    product: str
    wanted: census.Wanted
    push_rate: int
    size: int
    """Bytes of all the files of its package."""
    earlier_runs: tuple[int, ...] = ()
    """Earlier lives of its batch."""
    group: str | None = None
    """Its dynamic group."""
    is_awaiting: bool = False
    """A trial of its package comes first."""
    is_delta: bool = False

    @property
    def names(self) -> frozenset[str] | None:
        """Whom it lists; None: it lists nobody."""
        return frozenset(self.wanted.names) if self.wanted.names is not None else None

    def fits(self, version: str | None) -> bool:
        """Whether it is for devices on a version."""
        return targeting.judge(self.wanted.conditions, version) is None


def plain(selector: resources.Selector) -> dict[str, Any]:
    """A selector as its manifest writes it, with defaults left out."""
    return selector.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class Takers:
    """Reads runs.

    Args:
        connection: a reading transaction.
        commit: what is planned.
        seen: the plan.
        allowed: the operator's numbers.
    """

    def __init__(self, connection: Connection, commit: Commit, seen: Seen, allowed: limits.Limits) -> None:
        self._connection = connection
        self._commit = commit
        self._actual = seen.actual
        self._allowed = allowed
        self._actions: Mapping[Key, plan.Action] = {action.key: action for action in seen.plan.actions}

    # ------------------------------------------------------------------------------------ that begin

    def beginning(self, declaration: Declaration) -> Taker:
        """The run that a batch, or a package's verification, begins."""
        resource, package = declaration.resource, observe.package_of(self._commit, declaration)
        of_package = self._commit.desired.declarations[Key(Kind.PACKAGE, package.metadata.name)]
        stored = self._actual.objects.get(declaration.key)
        runs = () if stored is None or stored.run is None else (*stored.earlier, stored.run)
        trial = Taker(
            key=declaration.key,
            product=package.spec.product,
            wanted=census.Wanted(
                batch=declaration.name,
                product_id=products.product_id(self._connection, package.spec.product) or 0,
                conditions=beginning.trial_conditions(package),
                names=lists.named(resource),
                is_trial=True,
                conflict=Conflict.WAIT,
            ),
            push_rate=self._allowed.push_rate_highest,
            size=sum(file.size or self._size_here(file.sha256) for file in of_package.files),
            earlier_runs=tuple(run.id for run in runs),
            is_delta=package.spec.source_version is not None,
        )
        return (
            self._batch(trial, declaration, resource, package)
            if isinstance(resource, resources.Batch)
            else trial
        )

    def _batch(
        self, trial: Taker, declaration: Declaration, batch: resources.Batch, package: resources.Package
    ) -> Taker:
        """Of a batch, what differs from a trial of its package."""
        spec = batch.spec
        names, selector = self._whom(declaration, spec.target)
        is_over = acceptance.is_over(spec.schedule, self._actual.now)
        wanted = dataclasses.replace(
            trial.wanted,
            conditions=beginning.conditions(spec, beginning.fitting(package)),
            names=names,
            selector=plain(selector) if selector is not None else None,
            gray=targeting.thousandths(spec.target.gray.percent) if spec.target.gray is not None else None,
            multi_module=spec.multi_module,
            is_trial=False,
            is_dynamic=spec.strategy is resources.Strategy.DYNAMIC,
            conflict=spec.conflict,
            nobody=spec.new_reports_only or is_over,
        )
        return dataclasses.replace(
            trial,
            wanted=wanted,
            push_rate=spec.push_rate_per_minute,
            group=spec.target.group if selector is not None else None,
            is_awaiting=self._is_gated(package),
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

    def _is_gated(self, package: resources.Package) -> bool:
        """Whether the package's verification is still to pass when the plan has been carried out."""
        if package.spec.verification is None:
            return False
        key = Key(Kind.PACKAGE, package.metadata.name)
        stored, action = self._actual.objects.get(key), self._actions.get(key)
        passed = stored is not None and stored.verification is actual.Verification.VERIFIED
        return not passed or (action is not None and action.starts_run)

    # ------------------------------------------------------------------------------------- that go on

    def running(self) -> list[Taker]:
        """The dynamic runs that go on after the plan, newest first, with the groups and versions that it gives them."""
        ending = {
            stored.run.id
            for key, action in self._actions.items()
            if action.cancels_run and (stored := self._actual.objects[key]).run is not None
        }
        return [self._running(row) for row in census.running(self._connection) if row.id not in ending]

    def _running(self, row: census.Running) -> Taker:
        key = Key(Kind.BATCH, row.batch)
        stored, action = self._actual.objects.get(key), self._actions.get(key)
        conditions, push_rate = recheck.conditions(row), row.push_rate
        if action is not None and action.declaration is not None:
            spec = action.declaration.resource.spec
            assert isinstance(spec, resources.BatchSpec), "its key says so"
            package = observe.package_of(self._commit, action.declaration)
            conditions = beginning.conditions(spec, beginning.fitting(package))
            push_rate = spec.push_rate_per_minute
        selector = self._selector(row)
        since = row.started_at if row.new_reports_only else None
        return Taker(
            key=key,
            product=row.product,
            wanted=census.Wanted(
                batch=row.batch,
                product_id=row.product_id,
                conditions=conditions,
                selector=selector,
                multi_module=row.multi_module,
                nobody=row.group_id is not None and selector is None,
                again=census.Again(row.id, self._allowed.matches_per_device, row.group_id, since),
                is_dynamic=True,
                conflict=Conflict(row.conflict),
            ),
            push_rate=push_rate,
            size=row.size,
            earlier_runs=tuple(run.id for run in stored.earlier) if stored is not None else (),
            group=row.group_name,
            is_delta=row.delta,
        )

    def _selector(self, row: census.Running) -> Mapping[str, Any] | None:
        """Of a run's group, after the plan; None when it has no group, or selects nobody of its product any more."""
        if row.group_id is None:
            return None
        of_product = row.group_product_id in {None, row.product_id}
        selector: Mapping[str, Any] | None = None if row.removed or not of_product else row.selector
        action = self._actions.get(Key(Kind.DEVICE_GROUP, row.group_name))
        if action is None:
            return selector
        if action.declaration is None:
            return None
        group = action.declaration.resource
        assert isinstance(group, resources.DeviceGroup), "its key says so"
        if group.spec.selector is None or group.spec.product not in {None, row.product}:
            return None
        return plain(group.spec.selector)
