"""Looks at both sides before a plan is made: the commit, and the state. Changes nothing.

Called by the reconcile service and by `reconciler plan`, so that both see the same. What a question costs follows
what changed: device lists are only compared for batches that are new or have changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime

from reconciler.domain import actual, limits, plan, resources
from reconciler.domain.desired import Declaration, DesiredState, Key
from reconciler.domain.diagnostics import Diagnostic
from reconciler.domain.resources import Kind
from reconciler.services import lists
from reconciler.source import rosters, tree, validate
from reconciler.store import census, devices, objects, products
from reconciler.store.database import Connection


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


Unknown = Mapping[Key, tuple[str, ...]]
"""By batch or package, and by static group that a batch starts for: names in its list that no device has."""


def state(connection: Connection, commit: Commit, unknown: Unknown, now: datetime) -> actual.ActualState:
    """Everything that a plan for the commit compares with."""
    return dataclasses.replace(_load(connection, commit, now), unknown_devices=unknown)


def _load(connection: Connection, commit: Commit, now: datetime) -> actual.ActualState:
    found = objects.load(connection, commit.revision.sha, commit.origin)
    confirmed = found.confirmed_cancels if commit.confirmed_cancels is None else commit.confirmed_cancels
    return dataclasses.replace(found, confirmed_cancels=confirmed, now=now)


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """A plan, and what it compared with."""

    plan: plan.Plan
    actual: actual.ActualState

    @property
    def unknown(self) -> Unknown:
        """What was looked up for it in long lists."""
        return self.actual.unknown_devices


def make_plan(connection: Connection, commit: Commit, policy: plan.Policy, now: datetime) -> Seen:
    """What the commit would do now."""
    found = _load(connection, commit, now)
    unknown = dict(_unknown_devices(connection, commit, found.objects, policy.limits))
    found = dataclasses.replace(found, unknown_devices=unknown)
    return Seen(plan.diff(commit.desired, found, policy), found)


def _unknown_devices(
    connection: Connection, commit: Commit, known: Mapping[Key, actual.Stored], allowed: limits.Limits
) -> Iterator[tuple[Key, tuple[str, ...]]]:
    """Compares the device lists of batches and trials that may start a run, where that matters to anybody."""
    leaving = frozenset(_leaving(connection, commit, known))
    for key, declaration in commit.desired.declarations.items():
        if not _may_start(declaration, known.get(key)):
            continue
        listing = declaration if _minds(declaration) else _group_of(commit, declaration)
        if listing is not None:
            product = product_of(commit, declaration)
            missing = _unknown(connection, commit, listing, product, allowed, leaving=leaving)
            if missing:
                yield listing.key, tuple(_placed(commit, listing, missing, allowed))


def _minds(declaration: Declaration) -> bool:
    """Whether names that no device has keep it from starting."""
    resource = declaration.resource
    if isinstance(resource, resources.Batch):
        source = resource.spec.target.devices_from
        return lists.are_in(declaration) and not (source is not None and source.skip_unknown)
    return isinstance(resource, resources.Package) and lists.are_in(declaration)


def _group_of(commit: Commit, declaration: Declaration) -> Declaration | None:
    """The static group that a batch is for; it doesn't mind, and says so."""
    resource = declaration.resource
    if not isinstance(resource, resources.Batch) or resource.spec.target.group is None:
        return None
    group = commit.desired.declarations.get(Key(Kind.DEVICE_GROUP, resource.spec.target.group))
    return group if group is not None and lists.are_in(group) else None


def _may_start(declaration: Declaration, stored: actual.Stored | None) -> bool:
    if stored is None or not stored.in_force:
        return True
    goes_on = stored.run is not None and stored.run.goes_on
    is_package = declaration.kind is Kind.PACKAGE  # whose trial may start again while one goes on
    return stored.digest != declaration.digest and (is_package or not goes_on)


def _unknown(
    connection: Connection,
    commit: Commit,
    declaration: Declaration,
    product_name: str,
    allowed: limits.Limits,
    *,
    leaving: Collection[str],
) -> Mapping[str, None]:
    """Names that neither a device that stays has nor an inventory of the same commit declares."""
    product_id = products.product_id(connection, product_name)
    listed = lists.names(commit.files, declaration, allowed)
    missing = dict.fromkeys(absent(connection, product_id, listed, leaving))
    if not missing:
        return missing
    for inventory, declared in commit.desired.of(resources.DeviceInventory):
        if declared.spec.product == product_name:
            for name in lists.names(commit.files, inventory, allowed):
                missing.pop(name, None)
    return missing


def _leaving(connection: Connection, commit: Commit, known: Mapping[Key, actual.Stored]) -> Iterator[str]:
    """Inventories that are not for certain as they were: this commit changes them, or they are being read still.

    Of the devices that they declared, only those stay that an inventory of this commit declares.
    """
    complete = census.complete_inventories(connection)
    for key, stored in known.items():
        if key.kind is not Kind.DEVICE_INVENTORY:
            continue
        declaration = commit.desired.declarations.get(key)
        if declaration is not None:
            stays = declaration.digest == stored.digest
        else:
            stays = not commit.desired.is_gone(key, stored.path)
        if not (stays and stored.in_force and key.name in complete):
            yield key.name


def absent(
    connection: Connection, product_id: int | None, listed: Iterable[str], leaving: Collection[str] = ()
) -> list[str]:
    """Those of some names that no device of the product has (all, when the database doesn't know the product).

    Devices of the inventories in `leaving` count as if they were not there.
    """
    if product_id is None:
        return list(listed)
    return [
        name
        for chunk in lists.chunks(iter(listed))
        for name in devices.missing(connection, product_id, chunk, leaving)
    ]


def _placed(
    commit: Commit, declaration: Declaration, missing: Mapping[str, None], allowed: limits.Limits
) -> Iterator[str]:
    """The names with their lines, where they stand in a file."""
    if declaration.roster is None:
        yield from missing
        return
    path = declaration.roster.path
    for entry in rosters.iter_entries(commit.files, path, lists.shape(declaration), allowed):
        if entry.name in missing:
            yield f"{entry.name} ({path}:{entry.line})"


def package_of(commit: Commit, declaration: Declaration) -> resources.Package:
    """The package of a batch, or the one that is declared."""
    resource = declaration.resource
    if isinstance(resource, resources.Batch):
        resource = commit.desired.declarations[Key(Kind.PACKAGE, resource.spec.package)].resource
    assert isinstance(resource, resources.Package)
    return resource


def product_of(commit: Commit, declaration: Declaration) -> str:
    """The name of the product of a batch's or package's devices."""
    return package_of(commit, declaration).spec.product
