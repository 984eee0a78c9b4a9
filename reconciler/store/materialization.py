"""An inventory's names become devices, chunk by chunk; and a look at what a batch would do, if it were made now.

Called by services.materialize until nothing is left, and by previews. A chunk is one transaction that moves a persisted
cursor, so that a million rows never keep ingest waiting and a crash loses nothing.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Row,
    Select,
    String,
    and_,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.sqlite import Insert, insert

from reconciler.domain import targeting
from reconciler.store import devices, dialects, groups, jobs, matching, packed, tables

_task, _device, _version = tables.task, tables.device, tables.device_version
_listed = tables.roster_entry

CHUNK = jobs.CHUNK
"""Names a transaction."""


def inventory(
    connection: Connection, presence: devices.Presence, now: datetime, *, chunk: int = CHUNK
) -> bool:
    """One chunk of one inventory's names becomes devices; False when nothing was left to do."""
    inventory = tables.inventory
    due = connection.execute(
        select(inventory).where(inventory.c.cursor.is_not(None)).order_by(inventory.c.id).limit(1)
    ).first()
    if due is None:
        return False
    ahead = select(_listed.c.name).where(_listed.c.roster_id == due.roster_id, _listed.c.name > due.cursor)
    last = _last(connection, ahead.order_by(_listed.c.name).limit(chunk))
    if last is None:
        _remove_undeclared(connection, due)
    else:
        matching.arrived(connection, _declare(connection, due, last, now), presence, now)
    connection.execute(update(inventory).where(inventory.c.id == due.id).values(cursor=last))
    return True


def _last(connection: Connection, names: Select[tuple[str]]) -> str | None:
    chunk = names.subquery()
    return connection.execute(select(func.max(chunk.c.name))).scalar()


def _declare(connection: Connection, due: Row[Any], last: str, now: datetime) -> list[int]:
    """Devices of the names in (cursor, last], as their list has them; the ids of those that are new or changed.

    Their places on the ring are worked out here: no database has the digest everywhere, and a function of ours that it
    calls back row by row would wait for the interpreter's lock each time.
    """
    key = connection.execute(
        select(tables.product.c.product_key).where(tables.product.c.id == due.product_id)
    ).scalar_one()
    names = [name for (name,) in packed.read(connection, _changed(due, last), {})]
    if not names:
        return []
    places = packed.pack([(name, targeting.hash31(key, name)) for name in names])
    connection.execute(_upsert(due, now), {"places": places})
    found = select(packed.rows(_device.c.id)).where(
        _device.c.product_id == due.product_id, _device.c.name.in_(dialects.members(names))
    )
    return [device_id for (device_id,) in packed.read(connection, found, {})]


def _changed(due: Row[Any], last: str) -> Select[Any]:
    """The names of the next chunk whose devices are not yet as the list has them."""
    same = and_(_device.c.product_id == due.product_id, _device.c.name == _listed.c.name)
    differs = or_(
        _device.c.id.is_(None),
        _device.c.state != "declared",
        _device.c.inventory_id.is_distinct_from(due.id),
        _device.c.tags.is_distinct_from(_listed.c.tags),
    )
    return (
        select(packed.rows(_listed.c.name))
        .select_from(_listed.outerjoin(_device, same))
        .where(_listed.c.roster_id == due.roster_id, _listed.c.name > due.cursor, _listed.c.name <= last)
        .where(differs)
    )


_PLACES = packed.table("places", {"name": String(), "hash31": BigInteger()})


def _upsert(due: Row[Any], now: datetime) -> Insert:
    values = {
        "product_id": literal(due.product_id),
        "name": _PLACES.c.name,
        "hash31": _PLACES.c.hash31,
        "state": literal("declared"),
        "inventory_id": literal(due.id),
        "tags": _listed.c.tags,
        "created_at": literal(now, tables.Moment()),
    }
    here = and_(_listed.c.roster_id == due.roster_id, _listed.c.name == _PLACES.c.name)
    rows = select(*values.values()).select_from(_PLACES.join(_listed, here)).where(true())
    statement = insert(_device).from_select(list(values), rows)
    return statement.on_conflict_do_update(
        index_elements=["product_id", "name"],
        set_={name: statement.excluded[name] for name in ("state", "inventory_id", "tags")},
    )


def _remove_undeclared(connection: Connection, due: Row[Any]) -> None:
    """Devices that the inventory no longer names stay in their running batches, but are targeted no more."""
    still = exists().where(_listed.c.roster_id == due.roster_id, _listed.c.name == _device.c.name)
    gone = and_(_device.c.inventory_id == due.id, ~still)
    groups.leave(connection, select(_device.c.id).where(gone))
    connection.execute(update(_device).where(gone).values(state="removed", inventory_id=None))


def anything_due(connection: Connection) -> bool:
    """True when an inventory is incomplete or a job is open: a cheap look, so that idling writes nothing."""
    inventories = exists().where(tables.inventory.c.cursor.is_not(None))
    return jobs.any_open(connection) or bool(connection.execute(select(inventories)).scalar())


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Whom a batch is for: the devices of a product that it names (None: all), on versions that it asks for."""

    product_id: int
    conditions: targeting.Conditions
    names: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Preview:
    """How many devices a run would take, if it were made now."""

    fits: int = 0
    offline: int = 0
    """Of those that fit."""
    conflicts: int = 0
    """Fail at once: they are in another unfinished task, or in a batch that comes first."""
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)


def preview(connection: Connection, wanted: Wanted, earlier: Sequence[Wanted] = ()) -> Preview:
    """Counts by reported version, presence and occupation: one statement for the whole fleet.

    Args:
        connection: a reading transaction.
        wanted: the batch.
        earlier: batches that are not applied yet either, and come before it.
    """
    rivals = [other for other in earlier if other.product_id == wanted.product_id]
    fits = offline = conflicts = 0
    left_out: collections.Counter[str] = collections.Counter()
    for row in connection.execute(_census(wanted, rivals)):
        version, is_busy, is_online, count, *named = row
        verdict = targeting.judge(wanted.conditions, version)
        if verdict is not None:
            left_out[verdict] += count
        elif is_busy or any(
            listed and targeting.judge(rival.conditions, version) is None
            for rival, listed in zip(rivals, named, strict=True)
        ):
            conflicts += count
        else:
            fits += count
            offline += 0 if is_online else count
    return Preview(fits, offline, conflicts, left_out)


def _census(wanted: Wanted, rivals: Sequence[Wanted]) -> Select[Any]:
    """How many devices there are of each version, occupation, presence, and naming by each rival."""
    busy = exists().where(_task.c.device_id == _device.c.id, _task.c.holds)
    present = [select(tables.daemon.c.epoch).scalar_subquery(), literal(devices.ASSUMED_EPOCH)]
    online = func.coalesce(_device.c.online_epoch.in_(present), false())
    groups = [_version.c.version, busy.label("busy"), online.label("online")]
    named = [
        (true() if rival.names is None else _device.c.name.in_(dialects.members(rival.names))).label(
            f"named_{i}"
        )
        for i, rival in enumerate(rivals)
    ]
    module = wanted.conditions.module
    query = (
        select(*groups, func.count(), *named)
        .select_from(
            _device.outerjoin(
                _version, and_(_version.c.device_id == _device.c.id, _version.c.module == module)
            )
        )
        .where(_device.c.product_id == wanted.product_id, _device.c.state != "removed")
        .group_by(_version.c.version, "busy", "online", *(label.name for label in named))
    )
    if wanted.names is None:
        return query
    return query.where(_device.c.name.in_(dialects.members(wanted.names)))
