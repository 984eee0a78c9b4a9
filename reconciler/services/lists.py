"""The device lists that a commit's objects hold, in a manifest or in a file beside it: read one name after the other.

Called by whoever compares them with the devices (`observe`, `moving`) and whoever stages them (`apply`). A list of a
million names never stands in memory as a whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TypeVar

from reconciler.domain import limits, resources
from reconciler.domain.desired import Declaration
from reconciler.domain.resources import Kind
from reconciler.source import rosters
from reconciler.source.tree import Tree

CHUNK = 20_000
"""Names that are looked at together."""


def names(files: Tree, declaration: Declaration, allowed: limits.Limits) -> Iterator[str]:
    """The device names that an object lists, in its manifest or in its file."""
    return (name for name, _ in entries(files, declaration, allowed))


def entries(
    files: Tree, declaration: Declaration, allowed: limits.Limits
) -> Iterator[tuple[str, Mapping[str, str] | None]]:
    """The device names that an object lists, with their tags where it gives any."""
    resource = declaration.resource
    if declaration.roster is not None:
        for entry in rosters.iter_entries(files, declaration.roster.path, shape(declaration), allowed):
            yield entry.name, entry.tags or None
    elif isinstance(resource, resources.DeviceInventory):
        yield from ((device.name, device.tags or None) for device in resource.spec.devices or ())
    else:
        yield from ((name, None) for name in named(resource) or ())


def shape(declaration: Declaration) -> rosters.Shape:
    """How a kind reads its file."""
    tagged = declaration.kind is Kind.DEVICE_INVENTORY
    return rosters.Shape.TAGGED if tagged else rosters.Shape.NAMES


def named(resource: resources.Resource) -> tuple[str, ...] | None:
    """The names that a manifest itself lists, of a batch, a static group, or for a trial; None when it lists none."""
    if isinstance(resource, resources.Batch):
        return resource.spec.target.devices
    if isinstance(resource, resources.DeviceGroup):
        return resource.spec.devices
    if isinstance(resource, resources.Package) and resource.spec.verification is not None:
        return resource.spec.verification.devices
    return None


def are_in(declaration: Declaration) -> bool:
    """Whether an object lists devices by name, in its manifest or in a file."""
    is_inventory = declaration.kind is Kind.DEVICE_INVENTORY
    return is_inventory or declaration.roster is not None or named(declaration.resource) is not None


def digest(declaration: Declaration) -> str:
    """What a staged list is found by: its content, in the way its kind reads it."""
    if declaration.roster is not None:
        content: dict[str, object] = {"file": declaration.roster.sha256}
    elif isinstance(declaration.resource, resources.DeviceInventory):
        content = {"devices": resources.normalised(declaration.resource).get("devices")}
    else:
        content = {"devices": named(declaration.resource)}
    return resources.digest({"shape": shape(declaration).name, **content})


_T = TypeVar("_T")


def chunks(found: Iterator[_T]) -> Iterator[list[_T]]:
    """Lists of so many at most."""
    while chunk := list(itertools.islice(found, CHUNK)):
        yield chunk
