"""Groups: static ones are lists, dynamic ones a selector whose members are kept in a table (platform rules §7).

Declared and removed by apply; kept by whoever changes what a selector looks at: `matching` (reports, new devices and
changed tags) and `materialization` (devices that left). A selector is compiled to SQL here, once for any number of
devices; `targeting.selects` reads it for one. What follows from a change of membership is `matching`'s business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    exists,
    literal,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from reconciler.domain.resources import Operator
from reconciler.store import devices, dialects, runs, tables

_group, _member, _device = tables.device_group, tables.membership, tables.device
_version = tables.device_version

Group = Row[*tuple[Any, ...]]
"""A row of `device_group`."""


@dataclasses.dataclass(frozen=True, slots=True)
class NewGroup:
    """What a group's row is made of: a list of names, or a selector."""

    object_id: int
    name: str
    product_id: int | None
    """None: of all products."""
    roster_id: int | None
    selector: Mapping[str, Any] | None
    """As its manifest writes it."""


def put(connection: Connection, new: NewGroup, presence: devices.Presence | None, now: datetime) -> int:
    """Declares a group, anew or again; its id. Its membership is complete when this returns.

    Dynamic runs for a group whose membership was worked out anew look at it again, chunk by chunk.
    """
    del presence, now  # the scan asks for them
    before = connection.execute(select(_group).where(_group.c.object_id == new.object_id)).first()
    module = (new.selector or {}).get("module") or {}
    values = {
        "name": new.name,
        "product_id": new.product_id,
        "roster_id": new.roster_id,
        "selector": None if new.selector is None else dict(new.selector),
        "module": module.get("name"),
        "version": module.get("version"),
        "removed": False,
    }
    statement = insert(_group).values(object_id=new.object_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["object_id"], set_=values))
    group = connection.execute(select(_group).where(_group.c.object_id == new.object_id)).one()
    if before is None or any(getattr(before, name) != value for name, value in values.items()):
        _refresh(connection, group)
        concerned = select(tables.run.c.id).where(tables.run.c.group_id == group.id)
        runs.scan(connection, connection.execute(concerned).scalars().all())
    return int(group.id)


def remove(connection: Connection, object_id: int) -> None:
    """The group left Git: its running dynamic batches go on, and match nobody any more."""
    group = connection.execute(
        update(_group).where(_group.c.object_id == object_id).values(removed=True).returning(_group.c.id)
    ).scalar_one_or_none()
    if group is not None:
        here = and_(_member.c.group_id == group, _member.c.present)
        connection.execute(update(_member).where(here).values(present=False))


def leave(connection: Connection, gone: Iterable[int]) -> None:
    """Devices that are targeted no more leave their groups; when they come back, they come anew."""
    here = and_(_member.c.present, _member.c.device_id.in_(dialects.members(gone)))
    connection.execute(update(_member).where(here).values(present=False))


def arrived(connection: Connection, device_ids: Iterable[int]) -> None:
    """Devices are new, or their tags changed: which groups they are in."""
    ids = list(device_ids)
    products = select(_device.c.product_id).where(_device.c.id.in_(dialects.members(ids)))
    concerned = or_(_group.c.product_id.is_(None), _group.c.product_id.in_(products))
    for group in _dynamic(connection, concerned):
        _refresh(connection, group, ids)


def reported(connection: Connection, said: Mapping[tuple[str, str], list[int]]) -> None:
    """Devices report other versions: `said` lists their ids by module and version.

    Only selectors that ask for one of these versions can win members, and only those that ask for another version of
    these modules can lose some: the cost does not grow with the fleet, nor with groups that nobody spoke of.
    """
    ids = dialects.members({device_id for listed in said.values() for device_id in listed})
    elsewhere = exists().where(
        _group.c.id == _member.c.group_id,
        _version.c.device_id == _member.c.device_id,
        _version.c.module == _group.c.module,
        _version.c.version != _group.c.version,
    )
    left = and_(_member.c.device_id.in_(ids), _member.c.present, elsewhere)
    connection.execute(update(_member).where(left).values(present=False))
    for group in _dynamic(connection, tuple_(_group.c.module, _group.c.version).in_(list(said))):
        _refresh(connection, group, said[group.module, group.version])


def _dynamic(connection: Connection, concerned: ColumnElement[bool]) -> list[Group]:
    query = select(_group).where(~_group.c.removed, _group.c.selector.is_not(None), concerned)
    return list(connection.execute(query.order_by(_group.c.id)))


def _refresh(connection: Connection, group: Group, ids: list[int] | None = None) -> None:
    """Who of some devices (None: of all) is in a group, and who is not any more.

    A row stays, and counts how often a device came. Devices that are listed are looked up one by one, whatever the
    size of the group and of the fleet.
    """
    some = None if ids is None else dialects.members(ids)
    still = exists().where(_device.c.id == _member.c.device_id, selected(group))
    concerned = true() if some is None else _member.c.device_id.in_(some)
    connection.execute(
        update(_member)
        .where(_member.c.group_id == group.id, _member.c.present, concerned, ~still)
        .values(present=False)
    )
    joining = select(literal(group.id), _device.c.id, literal(1), literal(1)).where(selected(group))
    if some is not None:
        joining = joining.where(_device.c.id.in_(some))
    statement = insert(_member).from_select(["group_id", "device_id", "present", "joins"], joining)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["group_id", "device_id"],
            set_={"present": True, "joins": _member.c.joins + 1},
            where=~_member.c.present,
        )
    )


def selected(group: Group) -> ColumnElement[bool]:
    """`tables.device` belongs to a group: nobody does to a static one, whose list counts when a batch is accepted."""
    if group.selector is None:
        return literal(False)  # noqa: FBT003 - a SQL literal
    belongs = [_device.c.state != "removed", compiled(group.selector)]
    if group.product_id is not None:
        # no index of the product's: devices are found by id, or all are looked at
        belongs.append(_device.c.product_id + 0 == group.product_id)
    return and_(*belongs)


def compiled(selector: Mapping[str, Any]) -> ColumnElement[bool]:
    """A selector over `tables.device`: every condition holds (`targeting.selects` in SQL)."""
    conditions = [_tag(key) == value for key, value in (selector.get("matchTags") or {}).items()]
    conditions += [_expression(said) for said in selector.get("matchExpressions") or ()]
    module = selector.get("module")
    if module is not None:
        conditions.append(
            exists().where(
                _version.c.device_id == _device.c.id,
                _version.c.module == module["name"],
                _version.c.version == module["version"],
            )
        )
    return and_(true(), *conditions)


def _tag(key: str) -> ColumnElement[str | None]:
    tag: ColumnElement[str | None] = _device.c.tags[key].as_string()
    return tag


def _expression(said: Mapping[str, Any]) -> ColumnElement[bool]:
    tag = _tag(said["key"])
    match Operator(said["operator"]):
        case Operator.IN:
            return tag.in_(dialects.members(said["values"]))
        case Operator.NOT_IN:
            return or_(tag.is_(None), tag.not_in(dialects.members(said["values"])))
        case Operator.EXISTS:
            return tag.is_not(None)
        case Operator.DOES_NOT_EXIST:
            return tag.is_(None)
