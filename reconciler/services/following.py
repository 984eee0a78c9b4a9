"""Which dynamic upgrades follow from a commit that changes tags or groups (manifests "How a change is read").

Called by `preview`: for each action on a group or an inventory, who would join which dynamic group, and be upgraded by
which of its batches. Reads only; who leaves a group loses nothing, so that is not told.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from reconciler.domain import limits, plan, resources, targeting
from reconciler.domain.desired import Declaration, Key
from reconciler.domain.resources import Kind
from reconciler.services import beginning, lists, observe
from reconciler.services.observe import Commit, Seen
from reconciler.store import census, devices, products
from reconciler.store.database import Connection


class _Batch(NamedTuple):
    """A dynamic batch for a group, that runs and goes on."""

    name: str
    group: str
    product: str
    conditions: targeting.Conditions


def plain(selector: resources.Selector) -> dict[str, Any]:
    """A selector as its manifest writes it, with defaults left out."""
    return selector.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class Following:
    """What follows from one action after the other."""

    def __init__(self, connection: Connection, commit: Commit, seen: Seen, allowed: limits.Limits) -> None:
        self._connection = connection
        self._commit = commit
        self._allowed = allowed
        self._batches = list(_running(commit, seen))
        self._groups = {
            declaration.name: group
            for declaration, group in commit.desired.of(resources.DeviceGroup)
            if group.spec.selector is not None
        }

    def of(self, action: plan.Action) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The upgrades that follow, and warnings; both in words."""
        declaration = action.declaration
        if declaration is None:
            return (), ()
        if isinstance(declaration.resource, resources.DeviceGroup) and declaration.name in self._groups:
            changed = action.verb is plan.Verb.CREATE or "selector" in action.changed
            return self._from_group(declaration.name) if changed else ((), ())
        if isinstance(declaration.resource, resources.DeviceInventory) and self._batches:
            return tuple(self._from_tags(declaration, declaration.resource.spec.product)), ()
        return (), ()

    def _from_group(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        spec = self._groups[name].spec
        assert spec.selector is not None
        selector = plain(spec.selector)
        product_id = products.product_id(self._connection, spec.product) if spec.product else None
        if spec.product is not None and product_id is None:
            return (), ()
        follows: list[str] = []
        for batch in self._batches:
            of_batch = products.product_id(self._connection, batch.product)
            if batch.group == name and of_batch is not None and product_id in {None, of_batch}:
                joining = census.joining(self._connection, name, of_batch, batch.conditions.module, selector)
                count = sum(n for v, n in joining.items() if targeting.judge(batch.conditions, v) is None)
                follows += _lines(collections.Counter({(name, batch.name): count}))
        overlapping = census.overlapping(self._connection, name, product_id, selector)
        warnings = [f"{count:,} of its devices are in the group {other} too" for other, count in overlapping]
        return tuple(follows), tuple(warnings)

    def _from_tags(self, declaration: Declaration, product: str) -> Iterator[str]:
        """Upgrades of devices whose tags an inventory changes."""
        product_id = products.product_id(self._connection, product)
        if product_id is None:
            return
        joined: collections.Counter[tuple[str, str]] = collections.Counter()
        entries = lists.entries(self._commit.files, declaration, self._allowed)
        for chunk in lists.chunks(entries):
            wanted = {name: tags or {} for name, tags in chunk}
            known = census.tagged(self._connection, product_id, wanted)
            moved = {
                name: known.get(name, census.UNKNOWN)
                for name, tags in wanted.items()
                if name not in known or known[name].tags != tags
            }
            versions = devices.versions(self._connection, [device.id for device in moved.values()])
            reported: dict[int, dict[str, str]] = collections.defaultdict(dict)
            for (device_id, module), version in versions.items():
                reported[device_id][module] = version
            for name, device in moved.items():
                joined.update(self._joins(product, device, wanted[name], reported[device.id]))
        yield from _lines(joined)

    def _joins(
        self, product: str, device: census.Tagged, tags: Mapping[str, str], versions: Mapping[str, str]
    ) -> Iterator[tuple[str, str]]:
        """The groups that one device would join, with their batches that it fits."""
        for batch in self._batches:
            group = self._groups.get(batch.group)
            if group is None or group.spec.selector is None or batch.group in device.groups:
                continue
            selects = group.spec.product in {None, product} and targeting.selects(
                plain(group.spec.selector), product, tags, versions
            )
            fits = targeting.judge(batch.conditions, versions.get(batch.conditions.module)) is None
            if selects and fits and batch.product == product:
                yield batch.group, batch.name


def _running(commit: Commit, seen: Seen) -> Iterator[_Batch]:
    """The dynamic batches for groups that run and are not cancelled by the plan."""
    touched = {action.key for action in seen.plan.actions if action.cancels_run or action.starts_run}
    for declaration, batch in commit.desired.of(resources.Batch):
        stored = seen.actual.objects.get(Key(Kind.BATCH, declaration.name))
        runs = stored is not None and stored.run is not None and stored.run.goes_on
        group = batch.spec.target.group
        if group is None or batch.spec.strategy is not resources.Strategy.DYNAMIC or not runs:
            continue
        if declaration.key not in touched:
            package = observe.package_of(commit, declaration)
            conditions = beginning.conditions(batch.spec, beginning.fitting(package))
            yield _Batch(declaration.name, group, package.spec.product, conditions)


def _lines(joined: Mapping[tuple[str, str], int]) -> Iterator[str]:
    for (group, batch), count in sorted(joined.items()):
        if count:
            yield f"{count:,} device{'s' * (count != 1)} more in the group {group}: Batch/{batch} upgrades them"
