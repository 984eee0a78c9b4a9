"""Groups: static ones are lists, dynamic ones a selector whose members are kept in a table (platform rules §7).

Declared and removed by apply, after which materialization works out who is in them, chunk by chunk: no transaction
follows the size of the fleet. Until that is done, runs that ask for a group wait with their look at it, and who reports
or arrives is looked at before its turn: so nobody is matched, or passed over, by what a group was. Kept by whoever
changes what a selector looks at: `matching` (reports, new devices and changed tags) and `materialization` (devices that
left). A selector is compiled to SQL here, once for any number of devices; `targeting.selects` reads it for one. What
follows from a change of membership is `matching`'s business.
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
from reconciler.store import devices, dialects, joblist, runs, tables

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
    """Declares a group, anew or again; its id. Whose selector is new is worked out anew, chunk by chunk (`chunk`).

    Dynamic runs for it look at it again then, chunk by chunk, too.
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
    changed = before is None or any(getattr(before, name) != value for name, value in values.items())
    was_dynamic = before is not None and before.selector is not None
    if changed and (new.selector is not None or was_dynamic):
        values["cursor"] = 0
    statement = insert(_group).values(object_id=new.object_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["object_id"], set_=values))
    group = connection.execute(select(_group).where(_group.c.object_id == new.object_id)).one()
    if changed:
        concerned = select(tables.run.c.id).where(tables.run.c.group_id == group.id)
        runs.scan(connection, connection.execute(concerned).scalars().all())
    return int(group.id)


def remove(connection: Connection, object_id: int) -> None:
    """The group left Git: its running dynamic batches go on, and match nobody any more. Its members leave in chunks."""
    gone = update(_group).where(_group.c.object_id == object_id, _group.c.selector.is_not(None))
    connection.execute(gone.values(cursor=0))
    connection.execute(update(_group).where(_group.c.object_id == object_id).values(removed=True))


PENDING = _group.c.cursor.is_not(None)
"""Its membership is being worked out anew."""


def chunk(connection: Connection, *, size: int = joblist.CHUNK) -> bool:
    """Works out for the next devices whether they are in one of the groups that changed; False when none did."""
    group = connection.execute(select(_group).where(PENDING).order_by(_group.c.id).limit(1)).first()
    if group is None:
        return False
    ahead = select(_device.c.id).where(_device.c.id > group.cursor).order_by(_device.c.id).limit(size)
    ids = list(connection.execute(ahead).scalars())
    _refresh(connection, group, ids)
    cursor = ids[-1] if len(ids) == size else None
    connection.execute(update(_group).where(_group.c.id == group.id).values(cursor=cursor))
    return True


def catch_up(connection: Connection, group_ids: Iterable[int], device_ids: Iterable[int]) -> None:
    """Some devices' turn comes before that of the others: what they do now goes by the groups as they are in Git."""
    listed = _group.c.id.in_(dialects.members(group_ids))
    ids: list[int] | None = None
    for group in connection.execute(select(_group).where(listed, PENDING)).all():
        ids = list(device_ids) if ids is None else ids
        _refresh(connection, group, ids)


def pending(connection: Connection) -> list[Group]:
    """The dynamic groups in Git whose rows of `membership` are not complete yet."""
    return _dynamic(connection, PENDING)


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


def _refresh(connection: Connection, group: Group, ids: list[int]) -> None:
    """Who of some devices is in a group, and who is not any more.

    A row stays, and counts how often a device came. Devices are looked up one by one, whatever the size of the group
    and of the fleet.
    """
    some = dialects.members(ids)
    still = exists().where(_device.c.id == _member.c.device_id, selected(group))
    connection.execute(
        update(_member)
        .where(_member.c.group_id == group.id, _member.c.present, _member.c.device_id.in_(some), ~still)
        .values(present=False)
    )
    joining = select(literal(group.id), _device.c.id, literal(1), literal(1))
    joining = joining.where(selected(group), _device.c.id.in_(some))
    statement = insert(_member).from_select(["group_id", "device_id", "present", "joins"], joining)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["group_id", "device_id"],
            set_={"present": True, "joins": _member.c.joins + 1},
            where=~_member.c.present,
        )
    )


def selected(group: Group) -> ColumnElement[bool]:
    """`tables.device` belongs to a group: nobody does to a static one, whose list counts when a batch is accepted.

    Nor to one that left Git.
    """
    if group.selector is None or group.removed:
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
        own = _version.alias()  # who asks may look at the versions of another module himself
        reports = and_(own.c.device_id == _device.c.id, own.c.module == module["name"])
        conditions.append(exists().where(reports, own.c.version == module["version"]))
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
