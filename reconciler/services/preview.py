"""What a plan means for devices: how many a new batch would touch, how many not and why, and for how long.

Called by `reconciler plan`. Reads only, with the same conditions and the same statements as materialisation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

from reconciler.domain import limits, plan, resources
from reconciler.domain.desired import Key
from reconciler.domain.resources import Kind
from reconciler.services import apply, observe
from reconciler.services.observe import Commit
from reconciler.store import materialization, objects, products
from reconciler.store.database import Connection


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """Whom one action touches."""

    key: Key
    upgraded: int = 0
    offline: int = 0
    """Of the upgraded: not connected now."""
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    declared_here: int = 0
    """Devices that the same commit declares: their versions are not known yet."""
    bytes_to_ship: int = 0
    minutes: int = 0
    """At least, at the batch's rate."""
    canceled: int = 0
    """Of a cancellation: tasks that end."""
    draining: int = 0
    """Of a cancellation: tasks that go on."""


def reaches(
    connection: Connection, commit: Commit, planned: plan.Plan, allowed: limits.Limits
) -> Iterator[Reach]:
    """The reach of each action that starts or cancels a run."""
    known = objects.load(connection, commit.revision.sha).objects
    for action in planned.actions:
        if action.cancels_run:
            run = known[action.key].run
            assert run is not None
            ended = sum(count for status, count in run.unfinished.items() if status in action.statuses)
            yield Reach(action.key, canceled=ended, draining=run.draining - ended)
        elif action.starts_run:
            yield _reach(connection, commit, action, allowed)


def _reach(connection: Connection, commit: Commit, action: plan.Action, allowed: limits.Limits) -> Reach:
    assert action.declaration is not None
    batch = action.declaration.resource
    assert isinstance(batch, resources.Batch)
    declared = commit.desired.declarations[Key(Kind.PACKAGE, batch.spec.package)]
    assert isinstance(declared.resource, resources.Package)
    assert declared.file is not None
    package = declared.resource.spec
    listed = observe.lists_devices(action.declaration)
    names = list(observe.names(commit, action.declaration, allowed)) if listed else None
    conditions = apply.conditions(batch.spec, package.module, package.version)
    product_id = products.product_id(connection, package.product)
    counted = (
        materialization.preview(connection, product_id, conditions, names)
        if product_id
        else materialization.Preview()
    )
    here = _declared_here(connection, commit, package.product, names, allowed)
    fitting = here if not conditions.source_versions else 0
    upgraded = counted.fits + fitting
    return Reach(
        action.key,
        upgraded=upgraded,
        offline=counted.offline + fitting,
        left_out=counted.left_out,
        declared_here=here,
        bytes_to_ship=upgraded * declared.file.size,
        minutes=math.ceil(upgraded / batch.spec.push_rate_per_minute),
    )


def _declared_here(
    connection: Connection, commit: Commit, product: str, names: list[str] | None, allowed: limits.Limits
) -> int:
    """How many of the targeted devices exist in this commit's inventories only."""
    product_id = products.product_id(connection, product)
    wanted = None if names is None else set(names)
    count = 0
    for declaration, inventory in commit.desired.of(resources.DeviceInventory):
        if inventory.spec.product == product:
            listed = [n for n in observe.names(commit, declaration, allowed) if wanted is None or n in wanted]
            count += len(observe.absent(connection, product_id, listed))
    return count
