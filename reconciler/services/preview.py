"""What a plan means for devices: how many a new batch would touch, how many not and why, and for how long.

Called by `reconciler plan`. Reads only, with the same conditions and the same statements as materialisation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

from reconciler.domain import limits, plan, resources, targeting
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
    conflicts: int = 0
    """Fail at once: their devices are in another unfinished task, or in a batch of this commit that comes first."""
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
    """The reach of each action that starts or cancels a run, in the order in which they are carried out."""
    known = objects.load(connection, commit.revision.sha).objects
    earlier: list[materialization.Wanted] = []
    for action in planned.actions:
        if action.cancels_run:
            run = known[action.key].run
            assert run is not None
            ended = sum(count for status, count in run.unfinished.items() if status in action.statuses)
            yield Reach(action.key, canceled=ended, draining=run.draining - ended)
        elif action.starts_run:
            asked = _asked(connection, commit, action, allowed)
            yield _reach(connection, commit, asked, earlier, allowed)
            if asked.wanted is not None:
                earlier.append(asked.wanted)


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """A new batch, with what it refers to."""

    key: Key
    product: str
    conditions: targeting.Conditions
    names: tuple[str, ...] | None
    file_size: int
    push_rate: int
    wanted: materialization.Wanted | None
    """None while the database doesn't know the product."""


def _asked(connection: Connection, commit: Commit, action: plan.Action, allowed: limits.Limits) -> _Asked:
    assert action.declaration is not None
    batch = action.declaration.resource
    assert isinstance(batch, resources.Batch)
    declared = commit.desired.declarations[Key(Kind.PACKAGE, batch.spec.package)]
    assert isinstance(declared.resource, resources.Package)
    assert declared.file is not None
    package = declared.resource.spec
    listed = observe.lists_devices(action.declaration)
    names = tuple(observe.names(commit, action.declaration, allowed)) if listed else None
    conditions = apply.conditions(batch.spec, package.module, package.version)
    product_id = products.product_id(connection, package.product)
    return _Asked(
        key=action.key,
        product=package.product,
        conditions=conditions,
        names=names,
        file_size=declared.file.size,
        push_rate=batch.spec.push_rate_per_minute,
        wanted=materialization.Wanted(product_id, conditions, names) if product_id is not None else None,
    )


def _reach(
    connection: Connection,
    commit: Commit,
    asked: _Asked,
    earlier: list[materialization.Wanted],
    allowed: limits.Limits,
) -> Reach:
    counted = materialization.Preview()
    if asked.wanted is not None:
        counted = materialization.preview(connection, asked.wanted, earlier)
    here = _declared_here(connection, commit, asked, allowed)
    fitting = here if targeting.judge(asked.conditions, None) is None else 0
    upgraded = counted.fits + fitting
    return Reach(
        asked.key,
        upgraded=upgraded,
        offline=counted.offline + fitting,
        conflicts=counted.conflicts,
        left_out=counted.left_out,
        declared_here=here,
        bytes_to_ship=upgraded * asked.file_size,
        minutes=math.ceil(upgraded / asked.push_rate),
    )


def _declared_here(connection: Connection, commit: Commit, asked: _Asked, allowed: limits.Limits) -> int:
    """How many of the targeted devices exist in this commit's inventories only."""
    product_id = asked.wanted.product_id if asked.wanted is not None else None
    chosen = None if asked.names is None else set(asked.names)
    count = 0
    for declaration, inventory in commit.desired.of(resources.DeviceInventory):
        if inventory.spec.product == asked.product:
            listed = (n for n in observe.names(commit, declaration, allowed) if chosen is None or n in chosen)
            count += len(observe.absent(connection, product_id, listed))
    return count
