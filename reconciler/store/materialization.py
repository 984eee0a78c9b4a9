"""What was applied becomes rows, chunk by chunk: an inventory's names, who is in a group, then the work of runs.

Called by services.materialize until nothing is left. A chunk is one transaction that moves a persisted
cursor, so that a million rows never keep ingest waiting and a crash loses nothing.
"""

from __future__ import annotations

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

_device, _listed = tables.device, tables.roster_entry

CHUNK = jobs.CHUNK
"""Names a transaction."""


def work(connection: Connection, presence: devices.Presence, now: datetime, *, chunk: int = CHUNK) -> bool:
    """One chunk of what is most urgent; False when there is nothing that can be done.

    What is cancelled or over ends before anything is made: a device that is new would be given to it.
    """
    return (
        jobs.work(connection, presence, now, chunk, types=jobs.ENDING)
        or inventory(connection, presence, now, chunk=chunk)
        or groups.chunk(connection, size=chunk)
        or jobs.work(connection, presence, now, chunk)
    )


def inventory(
    connection: Connection, presence: devices.Presence, now: datetime, *, chunk: int = CHUNK
) -> bool:
    """One chunk of one inventory; False when nothing was left to do.

    All names first, those of every inventory: a device that went from one to another has not left. Then the devices
    that are named no more.
    """
    inventory = tables.inventory
    query = select(inventory).where(inventory.c.cursor.is_not(None))
    due = connection.execute(
        query.order_by(inventory.c.checked.is_not(None), inventory.c.id).limit(1)
    ).first()
    if due is None:
        return False
    ahead = select(_listed.c.name).where(_listed.c.roster_id == due.roster_id, _listed.c.name > due.cursor)
    last = None if due.checked is not None else _last(connection, ahead.order_by(_listed.c.name).limit(chunk))
    if last is not None:
        matching.arrived(connection, _declare(connection, due, last, now), presence, now)
        moved: dict[str, Any] = {"cursor": last}
    elif due.checked is None:
        moved = {"checked": 0}
    else:
        checked = _remove_undeclared(connection, due, chunk)
        moved = {"checked": checked} | ({"cursor": None} if checked is None else {})
    connection.execute(update(inventory).where(inventory.c.id == due.id).values(**moved))
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
    # Outer, though each place is in the list: SQLite then goes from places to the list by its key. Left to itself it
    # reads the list and looks through all places for each of its names: 200 s for 9,500 of them.
    rows = select(*values.values()).select_from(_PLACES.outerjoin(_listed, here)).where(true())
    statement = insert(_device).from_select(list(values), rows)
    return statement.on_conflict_do_update(
        index_elements=["product_id", "name"],
        set_={name: statement.excluded[name] for name in ("state", "inventory_id", "tags")},
    )


def _remove_undeclared(connection: Connection, due: Row[Any], chunk: int) -> int | None:
    """Devices that the inventory names no more stay in their running batches, but are targeted no more.

    Looks at some of its devices; returns the last of these, or None when none is left. One that left Git names nobody.
    """
    here = and_(_device.c.inventory_id == due.id, _device.c.id > due.checked)
    looked = select(_device.c.id).where(here).order_by(_device.c.id).limit(chunk).subquery()
    ids = [device_id for (device_id,) in packed.read(connection, select(packed.rows(looked.c.id)), {})]
    named = exists().where(_listed.c.roster_id == due.roster_id, _listed.c.name == _device.c.name)
    gone = [_device.c.id.in_(dialects.members(ids)), *([] if due.removed else [~named])]
    left = connection.execute(select(_device.c.id).where(*gone)).scalars().all()
    if left:
        groups.leave(connection, left)
        here = _device.c.id.in_(dialects.members(left))
        connection.execute(update(_device).where(here).values(state="removed", inventory_id=None))
    return ids[-1] if len(ids) == chunk else None


def anything_due(connection: Connection) -> bool:
    """True when an inventory or a group is incomplete, or a job is open: a cheap look, idling writes nothing."""
    incomplete = or_(exists().where(tables.inventory.c.cursor.is_not(None)), exists().where(groups.PENDING))
    return jobs.any_open(connection) or bool(connection.execute(select(incomplete)).scalar())
