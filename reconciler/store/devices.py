"""Devices: who exists, who is there, and which versions they report.

Called by ingest and presence (bursts of devices), by materialisation (an inventory's names become devices) and by
the `device` command.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    String,
    and_,
    bindparam,
    func,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.types import TypeEngine

from reconciler.domain import resources, targeting
from reconciler.domain.limits import DEFAULT, Limits
from reconciler.protocol.topics import Address
from reconciler.store import dialects, packed, tables

LAST_SEEN_GRAIN = timedelta(minutes=5)
"""`last_seen` is written at most this often (engine §2)."""

ASSUMED_EPOCH = 0
"""Presence that was only assumed outlives the daemon that assumed it: no daemon has this epoch."""

NO_EPOCH = -1
"""The presence of a process that has no connections: nobody is online."""

_device, _product, _version = tables.device, tables.product, tables.device_version


class Device(NamedTuple):
    """What ingest needs to know of a device. A tuple, because it is made for each one that says something."""

    id: int
    product_id: int
    online: bool
    last_seen: int | None
    """Milliseconds, as `tables.milliseconds` has them."""
    numeric_versions: bool
    modules: frozenset[str]
    sagoo: bool = False
    """It speaks as SagooIOT's devices do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """What ingest needs to know of a product that has an unknown device."""

    id: int
    auto_registration: bool


_served = select(
    _product.c.id,
    _product.c.product_key,
    _product.c.numeric_versions,
    _product.c.modules,
    _product.c.auto_registration,
    _product.c.protocol,
).where(_product.c.product_key.in_(packed.members("keys")), ~_product.c.removed)
_find = (
    select(packed.rows(_device.c.id, _device.c.name, _device.c.online_epoch, _device.c.last_seen_at))
    .where(_device.c.product_id == bindparam("product"))
    .where(_device.c.name.in_(packed.members("names")))
)


def find(connection: Connection, addresses: Iterable[Address], epoch: int) -> dict[Address, Device]:
    """The known devices among some addresses; `online` as of the daemon's `epoch`."""
    named: dict[str, dict[str, Address]] = {}
    for address in addresses:
        product_key, device_name = address
        if product_key not in named:
            named[product_key] = {}
        named[product_key][device_name] = address
    found = {}
    for product in connection.execute(_served, {"keys": packed.pack(named)}).all() if named else ():
        modules, by_name = frozenset(product.modules), named[product.product_key]
        sagoo = product.protocol == resources.Protocol.SAGOO
        product_id, numeric = product.id, product.numeric_versions
        asked = {"product": product_id, "names": packed.pack(by_name)}
        for device_id, name, online_epoch, seen in packed.read(connection, _find, asked):
            is_online = online_epoch == epoch
            found[by_name[name]] = Device(device_id, product_id, is_online, seen, numeric, modules, sagoo)
    return found


def sagoo(connection: Connection, name: str, product_key: str | None) -> list[Address]:
    """The devices of this name among those of SagooIOT products; of one product only, where its key is given."""
    query = (
        select(_product.c.product_key)
        .join(_device, _device.c.product_id == _product.c.id)
        .where(_product.c.protocol == str(resources.Protocol.SAGOO), ~_product.c.removed)
        .where(_device.c.name == name, _device.c.state != "removed")
    )
    if product_key is not None:
        query = query.where(_product.c.product_key == product_key)
    return [Address(key, name) for key in connection.execute(query).scalars()]


def products(connection: Connection, product_keys: Iterable[str]) -> dict[str, Product]:
    """The served products among some product keys."""
    rows = connection.execute(_served, {"keys": packed.pack(product_keys)})
    return {row.product_key: Product(row.id, row.auto_registration) for row in rows}


def served_product_keys(connection: Connection) -> frozenset[str]:
    """The product keys of every product that is in Git."""
    return frozenset(connection.execute(select(_product.c.product_key).where(~_product.c.removed)).scalars())


def register(connection: Connection, product_id: int, names: Sequence[str], now: datetime) -> None:
    """Makes devices that no inventory declares: an operator's, or those that registered themselves."""
    key = connection.execute(select(_product.c.product_key).where(_product.c.id == product_id)).scalar_one()
    statement = insert(_device).on_conflict_do_update(
        index_elements=["product_id", "name"],
        set_={"state": "registered"},
        where=_device.c.state == "removed",
    )
    rows = [
        {
            "product_id": product_id,
            "name": name,
            "hash31": targeting.hash31(key, name),
            "state": "registered",
            "created_at": now,
        }
        for name in names
    ]
    connection.execute(statement, rows)


def ids(connection: Connection, product_id: int, names: Iterable[str]) -> dict[str, int]:
    """The ids of a product's devices, by name; removed ones are absent."""
    query = select(_device.c.name, _device.c.id).where(
        _device.c.product_id == product_id,
        _device.c.state != "removed",
        _device.c.name.in_(dialects.members(names)),
    )
    return {row.name: row.id for row in connection.execute(query)}


def enrol(connection: Connection, product_id: int, names: Sequence[str], now: datetime) -> dict[str, int]:
    """The ids of some devices by name. Those that nobody declared become registered."""
    known = ids(connection, product_id, names)
    new = [name for name in names if name not in known]
    if new:
        register(connection, product_id, new, now)
        known = ids(connection, product_id, names)
    return known


_coming = packed.table("came", {"device": BigInteger(), "number": BigInteger()})
_came = (
    update(_device)
    .where(_device.c.id == _coming.c.device)
    .values(
        online_epoch=bindparam("epoch"),
        session=_coming.c.number,
        online_since=bindparam("now", type_=tables.Moment()),
        last_seen_at=bindparam("now", type_=tables.Moment()),
    )
)


def came(connection: Connection, sessions: Mapping[int, int], epoch: int, now: datetime) -> None:
    """Devices connected; `sessions` is their connection's number by device id."""
    if sessions:
        listed = packed.pack(sorted(sessions.items()))
        connection.execute(_came, {"came": listed, "epoch": epoch, "now": now})


_here = _device.c.id.in_(packed.members("devices"))
_sessions = select(packed.rows(_device.c.id, _device.c.session)).where(
    _here, _device.c.online_epoch == bindparam("epoch")
)
_went = (
    update(_device)
    .where(_here)
    .values(
        online_epoch=None,
        session=None,
        online_since=None,
        last_seen_at=bindparam("now", type_=tables.Moment()),
    )
)
_touch = update(_device).where(_here).values(last_seen_at=bindparam("now", type_=tables.Moment()))


def went(connection: Connection, sessions: Mapping[int, int], epoch: int, now: datetime) -> list[int]:
    """Connections ended; the ids of the devices that are gone with them (not those that are back already)."""
    if not sessions:
        return []
    known = packed.read(connection, _sessions, {"devices": packed.pack(sessions), "epoch": epoch})
    gone = [
        device_id for device_id, session in known if session <= sessions[device_id]
    ]  # they grow in an epoch
    if gone:
        connection.execute(_went, {"devices": packed.pack(gone), "now": now})
    return gone


def touch(connection: Connection, device_ids: Iterable[int], now: datetime) -> None:
    """Devices were heard."""
    ids = list(device_ids)
    if ids:
        connection.execute(_touch, {"devices": packed.pack(ids), "now": now})


def gray_key(a: ColumnElement[int], b: ColumnElement[int]) -> ColumnElement[int]:
    """`targeting.gray_key` of `tables.device`: its place in a gray batch."""
    return (_device.c.hash31 * a + b) % literal(targeting.MODULUS, BigInteger())


@dataclasses.dataclass(frozen=True, slots=True)
class Presence:
    """What must be known to make a push due at once: the epoch of who is there, and the settle time after a connect.

    With the operator's numbers, which say how often a device is matched.
    """

    epoch: int
    settle: timedelta
    limits: Limits = DEFAULT


_versions = select(packed.rows(_version.c.device_id, _version.c.module, _version.c.version)).where(
    _version.c.device_id.in_(packed.members("devices"))
)


def versions(connection: Connection, device_ids: Iterable[int]) -> dict[tuple[int, str], str]:
    """What devices reported last, by device id and module."""
    rows = packed.read(connection, _versions, {"devices": packed.pack(device_ids)})
    return {(device_id, module): version for device_id, module, version in rows}


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A version that differs from what the device reported before."""

    device_id: int
    product_id: int
    module: str
    version: str


_REPORT: dict[str, TypeEngine[Any]] = {
    "device_id": BigInteger(),
    "module": String(),
    "product_id": BigInteger(),
    "version": String(),
}
_reported = packed.table("reports", _REPORT)
_report = insert(_version).from_select(
    [*_REPORT, "reported_at"],
    select(*_reported.c, bindparam("now", type_=tables.Moment())).where(
        true()
    ),  # ON CONFLICT wants a WHERE before it
)
_report = _report.on_conflict_do_update(
    index_elements=["device_id", "module"],
    set_={"version": _report.excluded.version, "reported_at": _report.excluded.reported_at},
)


def report(connection: Connection, reports: Sequence[Report], now: datetime) -> None:
    """Keeps changed versions."""
    if reports:
        listed = [(each.device_id, each.module, each.product_id, each.version) for each in reports]
        connection.execute(_report, {"reports": packed.pack(listed), "now": now})


def reported_versions(connection: Connection, product_id: int, module: str) -> list[str]:
    """The distinct versions that a product's devices report.

    Skips along the index, so that the cost follows the number of versions, not of devices.
    """
    here = and_(_version.c.product_id == product_id, _version.c.module == module)
    walk = select(func.min(_version.c.version).label("version")).where(here).cte("walk", recursive=True)
    following = (
        select(func.min(_version.c.version))
        .where(here, _version.c.version > walk.c.version)
        .scalar_subquery()
    )
    walk = walk.union_all(select(following).where(walk.c.version.is_not(None)))
    return [v for v in connection.execute(select(walk.c.version)).scalars() if v is not None]


def distribution(connection: Connection, product_id: int) -> list[tuple[str, str, int]]:
    """Module, version and number of devices, most devices first. Reads the whole index of the product."""
    query = (
        select(_version.c.module, _version.c.version, func.count().label("devices"))
        .where(_version.c.product_id == product_id)
        .group_by(_version.c.module, _version.c.version)
        .order_by(_version.c.module, func.count().desc(), _version.c.version)
    )
    return [(row.module, row.version, row.devices) for row in connection.execute(query)]


def missing(
    connection: Connection, product_id: int, names: Sequence[str], leaving: Collection[str] = ()
) -> list[str]:
    """Those of some names that no targetable device of the product has; the inventories in `leaving` give none."""
    query = select(_device.c.name).where(
        _device.c.product_id == product_id,
        _device.c.state != "removed",
        _device.c.name.in_(dialects.members(names)),
    )
    if leaving:
        inventory, declared = tables.inventory, tables.object_
        left = select(inventory.c.id).join(declared, declared.c.id == inventory.c.object_id)
        left = left.where(declared.c.name.in_(dialects.members(leaving)))
        query = query.where(or_(_device.c.inventory_id.is_(None), _device.c.inventory_id.not_in(left)))
    known = set(connection.execute(query).scalars())
    return [name for name in names if name not in known]
