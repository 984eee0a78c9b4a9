"""Looks at both sides before a plan is made: the commit, and the state. Changes nothing.

Called by the reconcile service and by `reconciler plan`, so that both see the same. What a question costs follows
what changed: device lists are only compared for batches that are new or have changed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping

from reconciler.domain import actual, limits, plan, resources
from reconciler.domain.desired import Declaration, DesiredState, Key
from reconciler.domain.diagnostics import Diagnostic
from reconciler.domain.resources import Kind
from reconciler.source import rosters, tree, validate
from reconciler.store import devices, objects, products
from reconciler.store.database import Connection

_CHUNK = 20_000


@dataclasses.dataclass(frozen=True, slots=True)
class Commit:
    """A commit, read and checked."""

    revision: objects.Revision
    files: tree.Tree
    desired: DesiredState
    diagnostics: tuple[Diagnostic, ...]
    confirmed_cancels: int | None = None
    """From the commit's trailer `Confirm-Cancel: <n>`."""
    origin: str = ""
    """Of which repository and ref it is; holds no credentials."""


def read(
    revision: objects.Revision, files: tree.Tree, cache: validate.Cache, allowed: limits.Limits
) -> Commit:
    """Reads and checks everything that a commit declares. Takes as long as its changed files are large."""
    checked = validate.check(files, allowed, cache=cache)
    return Commit(revision, files, checked.desired, tuple(checked.diagnostics))


Unknown = Mapping[str, tuple[str, ...]]
"""By batch: names in its list that no device has."""


def state(connection: Connection, commit: Commit, unknown: Unknown) -> actual.ActualState:
    """Everything that a plan for the commit compares with."""
    found = objects.load(connection, commit.revision.sha, commit.origin)
    confirmed = found.confirmed_cancels if commit.confirmed_cancels is None else commit.confirmed_cancels
    return dataclasses.replace(found, unknown_devices=unknown, confirmed_cancels=confirmed)


def unknown_devices(connection: Connection, commit: Commit, allowed: limits.Limits) -> Unknown:
    """Compares the device lists of batches that may start a run, and that mind."""
    known = objects.load(connection, commit.revision.sha).objects
    return {
        declaration.name: listed
        for declaration in _lists_of_runs(commit.desired, known)
        if (listed := tuple(_unknown(connection, commit, declaration, allowed)))
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """A plan, and what had to be looked up for it."""

    plan: plan.Plan
    unknown: Unknown


def make_plan(connection: Connection, commit: Commit, policy: plan.Policy, allowed: limits.Limits) -> Seen:
    """What the commit would do now."""
    unknown = unknown_devices(connection, commit, allowed)
    return Seen(plan.diff(commit.desired, state(connection, commit, unknown), policy), unknown)


def names(commit: Commit, declaration: Declaration, allowed: limits.Limits) -> Iterator[str]:
    """The device names that a batch or an inventory lists, in its manifest or in its file."""
    return (name for name, _ in entries(commit, declaration, allowed))


def entries(
    commit: Commit, declaration: Declaration, allowed: limits.Limits
) -> Iterator[tuple[str, Mapping[str, str] | None]]:
    """The device names that a batch or an inventory lists, with their tags where it gives any."""
    resource = declaration.resource
    if declaration.roster is not None:
        shape = rosters.Shape.NAMES if declaration.kind is Kind.BATCH else rosters.Shape.TAGGED
        for entry in rosters.iter_entries(commit.files, declaration.roster.path, shape, allowed):
            yield entry.name, entry.tags or None
    elif isinstance(resource, resources.Batch):
        yield from ((name, None) for name in resource.spec.target.devices or ())
    elif isinstance(resource, resources.DeviceInventory):
        yield from ((device.name, device.tags or None) for device in resource.spec.devices or ())


def lists_devices(declaration: Declaration) -> bool:
    """True for an inventory, and for a batch whose target is a list of names."""
    resource = declaration.resource
    if isinstance(resource, resources.Batch):
        return resource.spec.target.how in {resources.How.DEVICES, resources.How.DEVICES_FROM}
    return isinstance(resource, resources.DeviceInventory)


def _lists_of_runs(desired: DesiredState, known: Mapping[Key, actual.Stored]) -> Iterator[Declaration]:
    for declaration, batch in desired.of(resources.Batch):
        source = batch.spec.target.devices_from
        stored = known.get(declaration.key)
        if (
            _may_start(declaration, stored)
            and lists_devices(declaration)
            and not (source is not None and source.skip_unknown)
        ):
            yield declaration


def _may_start(declaration: Declaration, stored: actual.Stored | None) -> bool:
    if stored is None or not stored.in_force:
        return True
    is_running = stored.run is not None and stored.run.phase is actual.Phase.IN_PROGRESS
    return stored.digest != declaration.digest and not is_running


def _unknown(
    connection: Connection, commit: Commit, declaration: Declaration, allowed: limits.Limits
) -> Iterable[str]:
    """Names that neither a device has nor an inventory of the same commit declares."""
    assert isinstance(declaration.resource, resources.Batch)
    package = commit.desired.declarations[Key(Kind.PACKAGE, declaration.resource.spec.package)]
    assert isinstance(package.resource, resources.Package)
    product_name = package.resource.spec.product
    product_id = products.product_id(connection, product_name)
    missing = dict.fromkeys(absent(connection, product_id, names(commit, declaration, allowed)))
    if not missing:
        return ()
    for inventory, declared in commit.desired.of(resources.DeviceInventory):
        if declared.spec.product == product_name:
            for name in names(commit, inventory, allowed):
                missing.pop(name, None)
    return missing


def absent(connection: Connection, product_id: int | None, listed: Iterable[str]) -> list[str]:
    """Those of some names that no device of the product has (all, when the database doesn't know the product)."""
    if product_id is None:
        return list(listed)
    return [
        name for chunk in _chunks(iter(listed)) for name in devices.missing(connection, product_id, chunk)
    ]


def _chunks(found: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(itertools.islice(found, _CHUNK)):
        yield chunk
