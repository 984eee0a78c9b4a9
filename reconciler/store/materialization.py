"""Lists become rows: an inventory's names become devices, a run's devices become tasks, chunk by chunk.

Called by services.materialize until nothing is left. A chunk is one transaction that moves a persisted cursor, so
that a million rows never keep ingest waiting and a crash loses nothing. Conflicts and left-outs are decided in the
same statements that create the tasks.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    and_,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    type_coerce,
    update,
)
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects.sqlite import insert

from reconciler.domain import lifecycle, targeting
from reconciler.store import counts, devices, dialects, events, runs, tables

_run, _task, _device, _version = tables.run, tables.task, tables.device, tables.device_version

CHUNK = 20_000
"""Names a transaction (engine §3)."""


def inventory(connection: Connection, now: datetime, *, chunk: int = CHUNK) -> bool:
    """One chunk of one inventory's names becomes devices; False when nothing was left to do."""
    inventory, entry = tables.inventory, tables.roster_entry
    due = connection.execute(
        select(inventory).where(inventory.c.cursor.is_not(None)).order_by(inventory.c.id).limit(1)
    ).first()
    if due is None:
        return False
    ahead = select(entry.c.name).where(entry.c.roster_id == due.roster_id, entry.c.name > due.cursor)
    last = _last(connection, ahead.order_by(entry.c.name).limit(chunk))
    if last is None:
        _remove_undeclared(connection, due)
    else:
        _declare(connection, due, last, now)
    connection.execute(update(inventory).where(inventory.c.id == due.id).values(cursor=last))
    return True


def _last(connection: Connection, names: Select[tuple[str]]) -> str | None:
    chunk = names.subquery()
    return connection.execute(select(func.max(chunk.c.name))).scalar()


def _declare(connection: Connection, due: Row[Any], last: str, now: datetime) -> None:
    """Inserts or updates the devices whose names are in (cursor, last]."""
    entry = tables.roster_entry
    names = select(
        literal(due.product_id),
        entry.c.name,
        literal("declared"),
        literal(due.id),
        entry.c.tags,
        literal(now, tables.Moment()),
    ).where(entry.c.roster_id == due.roster_id, entry.c.name > due.cursor, entry.c.name <= last)
    statement = insert(_device).from_select(
        ["product_id", "name", "state", "inventory_id", "tags", "created_at"], names
    )
    new = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["product_id", "name"],
            set_={"state": new.state, "inventory_id": new.inventory_id, "tags": new.tags},
            where=or_(
                _device.c.state != new.state,
                _device.c.inventory_id.is_distinct_from(new.inventory_id),
                _device.c.tags.is_distinct_from(new.tags),
            ),
        )
    )


def _remove_undeclared(connection: Connection, due: Row[Any]) -> None:
    """Devices that the inventory no longer names stay in their running batches, but are targeted no more."""
    entry = tables.roster_entry
    still = exists().where(entry.c.roster_id == due.roster_id, entry.c.name == _device.c.name)
    connection.execute(
        update(_device)
        .where(_device.c.inventory_id == due.id, ~still)
        .values(state="removed", inventory_id=None)
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Presence:
    """What must be known to make a push due at once: the daemon's epoch, and the settle time after a connect."""

    epoch: int
    settle: timedelta


def run(connection: Connection, now: datetime, presence: Presence, *, chunk: int = CHUNK) -> bool:
    """Decides one chunk of devices of the oldest incomplete run; False when there is nothing to do.

    A run waits until the inventories of its product are complete: a device that is declared in the same commit
    as the batch belongs to it.
    """
    waiting = select(tables.inventory.c.product_id).where(tables.inventory.c.cursor.is_not(None))
    due = connection.execute(
        select(_run)
        .where(_run.c.phase == "IN_PROGRESS", _run.c.cursor.is_not(None), _run.c.product_id.not_in(waiting))
        .order_by(_run.c.id)
        .limit(1)
    ).first()
    if due is None:
        return False
    last = _last(connection, _named(due).order_by(_device.c.name).limit(chunk))
    if last is not None:
        _decide(connection, due, last, now, presence)
    connection.execute(update(_run).where(_run.c.id == due.id).values(cursor=last))
    if last is None:
        runs.finish(connection, [due.id], now)
    return True


def _named(due: Row[Any]) -> Select[tuple[str]]:
    """The names of the run's devices after its cursor."""
    query = select(_device.c.name).where(
        _device.c.product_id == due.product_id, _device.c.name > due.cursor, _device.c.state != "removed"
    )
    if due.roster_id is None:
        return query
    entry = tables.roster_entry
    return query.where(exists().where(entry.c.roster_id == due.roster_id, entry.c.name == _device.c.name))


def conditions(due: Row[Any]) -> targeting.Conditions:
    """What a row of `run` asks of a device's version."""
    return targeting.Conditions(
        due.module, due.target_version, tuple(due.source_versions), allow_downgrade=due.allow_downgrade
    )


class _Chunk:
    """The devices of one chunk, joined to their versions, and who of them fits."""

    def __init__(self, connection: Connection, due: Row[Any], last: str) -> None:
        asked = conditions(due)
        known = devices.reported_versions(connection, due.product_id, asked.module)
        self.verdicts = {version: targeting.judge(asked, version) for version in known}
        self.source: FromClause = _device.outerjoin(
            _version, and_(_version.c.device_id == _device.c.id, _version.c.module == asked.module)
        )
        named = _named(due).where(_device.c.name <= last).whereclause
        assert named is not None
        self.within: ColumnElement[bool] = named
        fits: ColumnElement[bool] = self.reports(None)
        self.fits = or_(fits, _version.c.version.is_(None)) if targeting.judge(asked, None) is None else fits

    def reports(self, verdict: targeting.LeftOut | None) -> ColumnElement[bool]:
        """The device reports a version on which the batch's conditions give this verdict."""
        listed = [version for version, given in self.verdicts.items() if given is verdict]
        return _version.c.version.in_(dialects.members(listed))


def _decide(connection: Connection, due: Row[Any], last: str, now: datetime, presence: Presence) -> None:
    """Left-outs, conflicts and new tasks of one chunk: one statement each, whatever its size."""
    chunk = _Chunk(connection, due, last)
    left = sum(
        _leave_out(connection, due, chunk, reason)
        for reason in (targeting.LeftOut.ALREADY, targeting.LeftOut.DOWNGRADE)
    )
    busy = exists().where(_task.c.device_id == _device.c.id, _task.c.holds)
    conflicts = _insert(connection, chunk, and_(chunk.fits, busy), _failed(due, now))
    created = _insert(connection, chunk, and_(chunk.fits, ~busy), _queued(due, now, presence))
    moves = counts.Moves()
    moves.add((due.id, lifecycle.Status.FAILED, lifecycle.Reason.CONFLICT), conflicts)
    moves.add((due.id, lifecycle.Status.QUEUED, None), created)
    moves.write(connection)
    message = (
        f"{created} task{'s' * (created != 1)} created, {conflicts} failed at once as conflict, "
        f"{left} device{'s' * (left != 1)} left out"
    )
    event = events.Event(
        type=events.Type.MATERIALIZED,
        kind="Batch",
        name=due.batch,
        run_id=due.id,
        revision_id=due.revision_id,
        message=message,
    )
    events.append(connection, now, [event])


_Values = dict[str, ColumnElement[Any]]


def _base(due: Row[Any], now: datetime) -> _Values:
    return {
        "run_id": literal(due.id),
        "device_id": _device.c.id,
        "module": literal(due.module),
        "revision_id": literal(due.revision_id),
        "source_version": _version.c.version,
        "created_at": literal(now, tables.Moment()),
    }


def _failed(due: Row[Any], now: datetime) -> _Values:
    return _base(due, now) | {
        "status": literal(str(lifecycle.Status.FAILED)),
        "reason": literal(str(lifecycle.Reason.CONFLICT)),
        "holds": literal(False, Boolean()),  # noqa: FBT003 - a SQL literal
        "ended_at": literal(now, tables.Moment()),
    }


def _queued(due: Row[Any], now: datetime, presence: Presence) -> _Values:
    """A push is due at once for a device that is there, but not before its own report could be heard."""
    values = _base(due, now) | {
        "status": literal(str(lifecycle.Status.QUEUED)),
        "holds": literal(True, Boolean()),  # noqa: FBT003 - a SQL literal
    }
    if not due.push_delivery:
        return values
    since = dialects.earlier_of(  # not in the future, where a clock that was set back may have left it
        type_coerce(_device.c.online_since, tables.Number), literal(tables.milliseconds(now))
    )
    settled = since + presence.settle // tables.MILLISECOND
    first = dialects.later_of(settled, literal(tables.milliseconds(now)))
    here = _device.c.online_epoch == presence.epoch
    values["push_due_at"] = type_coerce(func.iif(here, first, null()), tables.Moment())
    return values


def _insert(connection: Connection, chunk: _Chunk, which: ColumnElement[bool], values: _Values) -> int:
    rows = select(*values.values()).select_from(chunk.source).where(chunk.within, which)
    return connection.execute(plain_insert(_task).from_select(list(values), rows)).rowcount


def _leave_out(connection: Connection, due: Row[Any], chunk: _Chunk, reason: targeting.LeftOut) -> int:
    rows = (
        select(literal(due.id), _device.c.id, literal(str(reason)), _version.c.version)
        .select_from(chunk.source)
        .where(chunk.within, chunk.reports(reason))
    )
    columns = ["run_id", "device_id", "reason", "version"]
    return connection.execute(plain_insert(tables.left_out).from_select(columns, rows)).rowcount


def anything_due(connection: Connection) -> bool:
    """True when an inventory, a run or a cancellation is incomplete: a cheap look, so that idling writes nothing."""
    inventories = exists().where(tables.inventory.c.cursor.is_not(None))
    runs_due = exists().where(_run.c.phase == "IN_PROGRESS", _run.c.cursor.is_not(None))
    canceled = exists().where(_run.c.cancel_statuses.is_not(None))
    return bool(connection.execute(select(or_(inventories, runs_due, canceled))).scalar())


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
