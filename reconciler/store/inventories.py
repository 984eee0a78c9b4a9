"""What is here of the devices that inventories list, for a plan to compare with the lists of a commit.

Called by services.moving. Reads only, and by the words of `materialization`; what becomes of a list is decided there.
The database compares: of a list that says what is here already, no device comes out of it but for its id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import orjson
from sqlalchemy import Connection, String, Text, and_, or_, select, type_coerce

from reconciler.store import dialects, packed, tables

_device, _inventory, _object = tables.device, tables.inventory, tables.object_
_GIVEN = packed.table("given", {"name": String(), "tags": Text()})


class Listed(NamedTuple):
    """A name of a list, and its device."""

    name: str
    id: int | None
    """None: there is no such device yet."""
    moved: bool
    """It comes with other tags, from another inventory, or back."""
    back: bool
    """It was removed."""


def compared(
    connection: Connection,
    product_id: int,
    inventory: str,
    given: Iterable[tuple[str, Mapping[str, str] | None]],
) -> list[Listed]:
    """What some entries of an inventory's list are to the devices of its product.

    Args:
        connection: a reading transaction.
        product_id: the product.
        inventory: its name.
        given: names and their tags.
    """
    own = (
        select(_inventory.c.id)
        .join(_object, _object.c.id == _inventory.c.object_id)
        .where(_object.c.name == inventory)
        .scalar_subquery()
    )
    removed = _device.c.state == "removed"
    moved = or_(
        _device.c.state != "declared",
        _device.c.inventory_id.is_distinct_from(own),
        type_coerce(_device.c.tags, Text()).is_distinct_from(_GIVEN.c.tags),
    )
    named = and_(_device.c.product_id == product_id, _device.c.name == _GIVEN.c.name)
    query = select(packed.rows(_GIVEN.c.name, _device.c.id, moved, removed))
    listed = [(name, _text(tags) if tags else None) for name, tags in given]
    found = packed.read(
        connection,
        query.select_from(_GIVEN.outerjoin(_device, named)),
        {"given": packed.pack(listed)},
    )
    return [Listed(name, id_, bool(moved), bool(back)) for name, id_, moved, back in found]


def _text(tags: Mapping[str, str]) -> str:
    """As the database keeps them."""
    return orjson.dumps(tags, option=orjson.OPT_SORT_KEYS).decode()


def left(
    connection: Connection, product_id: int, inventories: Collection[str], named: Iterable[int]
) -> list[int]:
    """The devices of a product that some inventories have, and that are not among the ones named."""
    query = (
        select(packed.rows(_device.c.id))
        .join(_inventory, _inventory.c.id == _device.c.inventory_id)
        .join(_object, _object.c.id == _inventory.c.object_id)
        .where(_object.c.name.in_(dialects.members(inventories)), _device.c.product_id == product_id)
        .where(_device.c.id.not_in(dialects.members(named)))
    )
    return [device_id for (device_id,) in packed.read(connection, query, {})]
