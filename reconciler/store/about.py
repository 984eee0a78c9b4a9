"""What `describe` and the `device` command ask beyond `status`: one product, package, inventory, device. Reads only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, and_, case, func, select, union

from reconciler.domain import actual, resources
from reconciler.store import devices, tables
from reconciler.store.products import File, files_of

_product, _device, _run = tables.product, tables.device, tables.run


def heartbeat(connection: Connection) -> datetime | None:
    """When the daemon was last known to live; None before its first start."""
    return connection.execute(select(tables.daemon.c.heartbeat_at)).scalar_one_or_none()


def present_epochs(connection: Connection) -> frozenset[int]:
    """The epochs whose presence counts: the running daemon's, and the assumed one."""
    epoch = connection.execute(select(tables.daemon.c.epoch)).scalar_one_or_none() or 0
    return frozenset({epoch, devices.ASSUMED_EPOCH})


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """A product, by its name in Git and by its key on the wire."""

    id: int
    name: str
    product_key: str
    protocol: str = resources.Protocol.ALIYUN
    """How its devices are spoken to."""


def products(connection: Connection) -> list[Product]:
    """The products that are in Git."""
    columns = _product.c.id, _product.c.name, _product.c.product_key, _product.c.protocol
    query = select(*columns).where(~_product.c.removed).order_by(_product.c.name)
    return [Product(*row) for row in connection.execute(query)]


def device_count(connection: Connection, product_id: int) -> Mapping[str, int]:
    """A product's devices by state. Reads all of them."""
    query = select(_device.c.state, func.count()).where(_device.c.product_id == product_id)
    return {row[0]: row[1] for row in connection.execute(query.group_by(_device.c.state))}


def declared_devices(connection: Connection) -> Mapping[int, int]:
    """How many devices each inventory declares, by its object's id."""
    inventory = tables.inventory
    declared = select(func.count()).where(_device.c.inventory_id == inventory.c.id).scalar_subquery()
    return {row[0]: row[1] for row in connection.execute(select(inventory.c.object_id, declared))}


def files(connection: Connection, name: str | None = None) -> dict[int, tuple[File, ...]]:
    """The files of packages as they were stored, by their object's id; nothing of one that was never accepted."""
    package = tables.package
    ids = select(package.c.id) if name is None else select(package.c.id).where(package.c.name == name)
    found = files_of(connection, ids)
    objects = connection.execute(select(package.c.object_id, package.c.id).where(package.c.id.in_(ids)))
    return {object_id: found[package_id] for object_id, package_id in objects}


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """A batch that names a device but does not upgrade it."""

    batch: str
    reason: str
    version: str | None


def left_out(connection: Connection, device_id: int) -> list[LeftOut]:
    """The batches' newest runs that left a device out, newest first."""
    left = tables.left_out
    newest = select(func.max(_run.c.id)).group_by(_run.c.object_id)
    rows = connection.execute(
        select(_run.c.batch, left.c.reason, left.c.version)
        .join(_run, _run.c.id == left.c.run_id)
        .where(left.c.device_id == device_id, _run.c.id.in_(newest))
        .order_by(_run.c.id.desc())
    )
    return [LeftOut(*row) for row in rows]


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """A group that is in Git, or was: who is in it, and which dynamic batches it feeds."""

    object_id: int
    name: str
    dynamic: bool
    devices: int
    batches: tuple[str, ...]
    """Those that have not ended."""


def groups(connection: Connection, name: str | None = None) -> dict[int, Group]:
    """Groups by their object's id. Counts their members."""
    group, entry, member = tables.device_group, tables.roster_entry, tables.membership
    listed = select(func.count()).where(entry.c.roster_id == group.c.roster_id).scalar_subquery()
    present = select(func.count()).where(member.c.group_id == group.c.id, member.c.present).scalar_subquery()
    count = case((group.c.roster_id.is_not(None), listed), else_=present)
    query = select(group.c.id, group.c.object_id, group.c.name, group.c.roster_id, count.label("devices"))
    if name is not None:
        query = query.where(group.c.name == name)
    batches: dict[int, list[str]] = {}
    fed = select(_run.c.group_id, _run.c.batch).where(
        _run.c.group_id.is_not(None), _run.c.phase.in_([str(phase) for phase in actual.UNENDED])
    )
    for row in connection.execute(fed.order_by(_run.c.batch)):
        batches.setdefault(row.group_id, []).append(row.batch)
    return {
        row.object_id: Group(
            row.object_id, row.name, row.roster_id is None, row.devices, tuple(batches.get(row.id, ()))
        )
        for row in connection.execute(query)
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Strangers:
    """Names of a static group that no device of its product has: its batches go on without them."""

    count: int
    few: tuple[str, ...]


def strangers_of_group(connection: Connection, object_id: int, limit: int) -> Strangers:
    """Of a group by its object's id: how many there are, and the first of them by name. Reads its whole list."""
    group = tables.device_group
    return _strangers(connection, group, group.c.object_id == object_id, limit)


def strangers_of_run(connection: Connection, run_id: int, limit: int) -> Strangers:
    """The same of the list that a run took over from its group."""
    return _strangers(connection, _run, _run.c.id == run_id, limit)


def _strangers(connection: Connection, owner: Table, one: ColumnElement[bool], limit: int) -> Strangers:
    entry = tables.roster_entry
    known = and_(
        _device.c.product_id == owner.c.product_id,
        _device.c.name == entry.c.name,
        _device.c.state != "removed",
    )
    listed = owner.join(entry, entry.c.roster_id == owner.c.roster_id).outerjoin(_device, known)
    missing = select(entry.c.name).select_from(listed).where(one, _device.c.id.is_(None))
    names = connection.execute(missing.order_by(entry.c.name)).scalars().all()
    return Strangers(len(names), tuple(names[:limit]))


def groups_of(connection: Connection, device_id: int) -> list[str]:
    """The names of the groups that are in Git and have a device now, static and dynamic ones."""
    group, entry, member = tables.device_group, tables.roster_entry, tables.membership
    listed = (
        select(group.c.name)
        .join(_device, _device.c.product_id == group.c.product_id)
        .join(entry, and_(entry.c.roster_id == group.c.roster_id, entry.c.name == _device.c.name))
        .where(_device.c.id == device_id, _device.c.state != "removed", ~group.c.removed)
    )
    selected = (
        select(group.c.name)
        .join(member, member.c.group_id == group.c.id)
        .where(member.c.device_id == device_id, member.c.present, ~group.c.removed)
    )
    return sorted(connection.execute(union(listed, selected)).scalars())


def verifications(connection: Connection) -> dict[int, actual.Verification]:
    """How each package's verification stands, by the package's object id."""
    package = tables.package
    query = select(package.c.object_id, package.c.verification)
    return {row[0]: actual.Verification(row[1]) for row in connection.execute(query)}


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """A device's secret, encrypted, and its times."""

    secret: bytes
    created_at: datetime
    rotated_at: datetime | None


def identity(connection: Connection, device_id: int) -> Identity | None:
    """The identity of a device; None when it has none."""
    table = tables.identity
    query = select(table.c.secret, table.c.created_at, table.c.rotated_at)
    row = connection.execute(query.where(table.c.device_id == device_id)).first()
    return Identity(*row) if row else None


def device_names(connection: Connection, limit: int = 20_000) -> list[str]:
    """Names of devices, for the nearest match of one that is unknown."""
    return list(connection.execute(select(_device.c.name).distinct().limit(limit)).scalars())
