"""What is here of the devices that inventories list, for a plan to compare with the lists of a commit.

Called by services.moving. Reads only; what becomes of a list is `materialization`'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import Connection, select

from reconciler.store import dialects, tables

_device, _inventory, _object = tables.device, tables.inventory, tables.object_


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """A device, as an inventory lists it, or was listing it."""

    id: int
    tags: Mapping[str, str]
    inventory: str | None
    """None: it is in no inventory, or was removed."""
    removed: bool


def listed(connection: Connection, product_id: int, names: Iterable[str]) -> dict[str, Listed]:
    """The devices that have some names, also those that were removed."""
    query = (
        select(_device.c.id, _device.c.name, _device.c.tags, _device.c.state, _object.c.name.label("list"))
        .outerjoin(_inventory, _inventory.c.id == _device.c.inventory_id)
        .outerjoin(_object, _object.c.id == _inventory.c.object_id)
        .where(_device.c.product_id == product_id, _device.c.name.in_(dialects.members(names)))
    )
    return {
        row.name: Listed(
            row.id, row.tags or {}, row.list if row.state == "declared" else None, row.state == "removed"
        )
        for row in connection.execute(query)
    }


def of_inventories(connection: Connection, names: Iterable[str]) -> Iterator[tuple[int, int, str]]:
    """The devices of some inventories: product, id and name."""
    query = (
        select(_device.c.product_id, _device.c.id, _device.c.name)
        .join(_inventory, _inventory.c.id == _device.c.inventory_id)
        .join(_object, _object.c.id == _inventory.c.object_id)
        .where(_object.c.name.in_(dialects.members(names)))
    )
    return ((row.product_id, row.id, row.name) for row in connection.execute(query))
