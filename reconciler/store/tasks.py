"""Tasks: claimed for a push, moved by a device's messages, expired by the clock.

Called by dispatch (`claim`, `settle_pushes`), ingest (`active`, `save`), presence (`due_again`, `not_due`) and sweep
(`expire`). Every update compares before it sets, so doing anything twice changes nothing.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    exists,
    func,
    literal,
    null,
    select,
    type_coerce,
    update,
)

from reconciler.domain import lifecycle
from reconciler.protocol.topics import Address
from reconciler.store import counts, dialects, events, rates, runs, tables

_run, _task, _device = tables.run, tables.task, tables.device

# ---------------------------------------------------------------------------------------------- pushes


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """One push that this process took upon itself, to be published after the commit."""

    task_id: int
    run_id: int
    push_no: int
    address: Address


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """A run that has pushes due, and its rate."""

    run_id: int
    push_rate: int


def runs_due(connection: Connection, now: datetime) -> list[Due]:
    """The runs with a push due now, oldest first."""
    waiting = exists().where(_task.c.run_id == _run.c.id, _task.c.push_due_at <= now)
    query = select(_run.c.id, _run.c.push_rate).where(_run.c.cancel_statuses.is_(None), waiting)
    return [Due(row.id, row.push_rate) for row in connection.execute(query.order_by(_run.c.id))]


@dataclasses.dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims: the daemon's epoch, the epoch of the presence it believes, and how long it lets a device settle."""

    epoch: int
    presence_epoch: int
    settle: timedelta


def claim(connection: Connection, run_id: int, claimant: Claimant, now: datetime, limit: int) -> list[Claim]:
    """Takes up to `limit` due pushes of one run: NOTIFIED, marked with this process's epoch, counted by the rate.

    A push that became due for a device which was lost with an earlier epoch is cleared here, once, when it is met.
    """
    picked = connection.execute(_pick(run_id, now, limit)).all()
    if any(row.online_epoch != claimant.presence_epoch for row in picked):
        _clear_stale(connection, run_id, claimant.presence_epoch, now)
        picked = connection.execute(_pick(run_id, now, limit)).all()
    _take(connection, picked, claimant.epoch, now)
    claims = [Claim(row.id, run_id, row.pushes + 1, Address(row.product_key, row.name)) for row in picked]
    rates.take(connection, int(now.timestamp()), {run_id: len(claims)})
    return claims


def _clear_stale(connection: Connection, run_id: int, presence_epoch: int, now: datetime) -> None:
    """Pushes that are due for devices which are not there: an earlier daemon's presence, in one statement."""
    here = exists().where(_device.c.id == _task.c.device_id, _device.c.online_epoch == presence_epoch)
    due = and_(_task.c.run_id == run_id, _task.c.push_due_at <= now)
    connection.execute(update(_task).where(due, ~here).values(push_due_at=None))


def _pick(run_id: int, now: datetime, limit: int) -> Select[Any]:
    product = tables.product
    return (
        select(
            _task.c.id,
            _task.c.run_id,
            _task.c.device_id,
            _task.c.revision_id,
            _task.c.status,
            _task.c.pushes,
            _device.c.name,
            _device.c.online_epoch,
            product.c.product_key,
        )
        .join(_device, _device.c.id == _task.c.device_id)
        .join(product, product.c.id == _device.c.product_id)
        .where(_task.c.run_id == run_id, _task.c.push_due_at <= now)
        .order_by(_task.c.push_due_at)
        .limit(limit)
    )


def _take(connection: Connection, rows: Sequence[Row[Any]], epoch: int, now: datetime) -> None:
    if not rows:
        return
    notified = lifecycle.TABLE[lifecycle.Status.QUEUED][lifecycle.Trigger.CLAIMED].to
    connection.execute(
        update(_task)
        .where(_task.c.id.in_(dialects.members(row.id for row in rows)))
        .values(
            status=func.iif(_task.c.status == lifecycle.Status.QUEUED, str(notified), _task.c.status),
            push_due_at=None,
            claim_epoch=epoch,
            pushes=_task.c.pushes + 1,
            first_pushed_at=func.coalesce(_task.c.first_pushed_at, literal(now, tables.Moment())),
            last_pushed_at=now,
        )
    )
    moves = counts.Moves()
    for row in rows:
        if row.status == lifecycle.Status.QUEUED:
            moves.move((row.run_id, lifecycle.Status.QUEUED, None), (row.run_id, notified, None))
    moves.write(connection)
    events.append(connection, now, [_pushed(row, notified) for row in rows])


def _pushed(row: Row[Any], notified: lifecycle.Status) -> events.Event:
    first = row.status == lifecycle.Status.QUEUED
    return events.Event(
        type=events.Type.TASK,
        run_id=row.run_id,
        task_id=row.id,
        device_id=row.device_id,
        revision_id=row.revision_id,
        from_status=lifecycle.Status(row.status),
        to_status=notified if first else lifecycle.Status(row.status),
        message=f"push {row.pushes + 1}",
    )


class Outcome(enum.Enum):
    """What became of a claim."""

    CONFIRMED = "confirmed"
    GONE = "gone"
    """The device is not there: it is pushed again as soon as it comes back."""
    LATER = "later"
    """It is there but did not acknowledge: it is pushed again after a minute."""


def settle_pushes(
    connection: Connection, epoch: int, outcomes: Sequence[tuple[Claim, Outcome]], back: datetime
) -> None:
    """Clears claims by (task, push number, epoch): one that was taken again meanwhile stays.

    Args:
        connection: a writing transaction.
        epoch: this process's.
        outcomes: what became of which claim.
        back: when a device that came back meanwhile may be pushed: a push that it may never have got
            does not keep it waiting for a minute.
    """
    changes: dict[Outcome, dict[str, Any]] = {
        Outcome.CONFIRMED: {},
        Outcome.GONE: {"last_pushed_at": None, "push_due_at": _no_later_than(back)},
        Outcome.LATER: {"push_due_at": _in_a_minute()},
    }
    for outcome, values in changes.items():
        rows = [{"task": c.task_id, "number": c.push_no} for c, given in outcomes if given is outcome]
        if rows:
            mine = and_(
                _task.c.id == bindparam("task"),
                _task.c.pushes == bindparam("number"),
                _task.c.claim_epoch == epoch,
            )
            connection.execute(update(_task).where(mine).values(claim_epoch=None, **values), rows)


def _no_later_than(moment: datetime) -> Any:
    """A push that is due stays due, but not later than this; one that is not due stays so."""
    due = type_coerce(_task.c.push_due_at, tables.Number)
    sooner = dialects.earlier_of(due, literal(tables.milliseconds(moment)))
    return type_coerce(func.iif(_task.c.push_due_at.is_(None), null(), sooner), tables.Moment())


def _in_a_minute() -> Any:
    interval = lifecycle.PUSH_INTERVAL // tables.MILLISECOND
    return type_coerce(type_coerce(_task.c.last_pushed_at, tables.Number) + interval, tables.Moment())


def recover_claims(connection: Connection, epoch: int, due: datetime | None) -> int:
    """After a restart: what an earlier process claimed may not have been published. It becomes due again.

    Args:
        connection: a writing transaction.
        epoch: this process's.
        due: when; None when devices must come back first (their coming makes the push due).
    """
    return connection.execute(
        update(_task)
        .where(_task.c.claim_epoch.is_not(None), _task.c.claim_epoch != epoch)
        .values(claim_epoch=None, last_pushed_at=None, push_due_at=due)
    ).rowcount


def forget_future(connection: Connection, now: datetime) -> None:
    """The clock was set back: what it said before keeps no push waiting for longer than a minute."""
    unfinished = update(_task).where(_task.c.holds)
    soon = now + lifecycle.PUSH_INTERVAL
    connection.execute(unfinished.where(_task.c.push_due_at > soon).values(push_due_at=soon))
    connection.execute(unfinished.where(_task.c.last_pushed_at > now).values(last_pushed_at=None))


# -------------------------------------------------------------------------------------------- presence


def due_for_present(connection: Connection, epoch: int, due: datetime) -> None:
    """Tasks that were made while no daemon knew who is there: their first push is due for who was there before."""
    here = select(_device.c.id).where(_device.c.online_epoch == epoch)
    pushing = select(_run.c.id).where(_run.c.push_delivery)
    waiting = and_(
        _task.c.holds, _task.c.status == str(lifecycle.Status.QUEUED), _task.c.push_due_at.is_(None)
    )
    connection.execute(
        update(_task)
        .where(waiting, _task.c.device_id.in_(here), _task.c.run_id.in_(pushing))
        .values(push_due_at=due)
    )


def due_again(connection: Connection, device_ids: Iterable[int], earliest: datetime) -> None:
    """Devices came online: their unfinished tasks are to be pushed, not before `earliest`, once a minute at most."""
    interval = lifecycle.PUSH_INTERVAL // tables.MILLISECOND
    allowed = func.coalesce(type_coerce(_task.c.last_pushed_at, tables.Number) + interval, 0)
    due = dialects.later_of(allowed, literal(tables.milliseconds(earliest)))
    pushing = select(_run.c.id).where(_run.c.push_delivery)
    connection.execute(
        update(_task)
        .where(
            _task.c.device_id.in_(dialects.members(device_ids)), _task.c.holds, _task.c.run_id.in_(pushing)
        )
        .values(push_due_at=type_coerce(due, tables.Moment()))
    )


def not_due(connection: Connection, device_ids: Iterable[int]) -> None:
    """Devices went offline: nothing is due for them."""
    ids = list(device_ids)
    if ids:
        connection.execute(
            update(_task)
            .where(
                _task.c.device_id.in_(dialects.members(ids)), _task.c.holds, _task.c.push_due_at.is_not(None)
            )
            .values(push_due_at=None)
        )


# ---------------------------------------------------------------------------------------------- ingest


def active(connection: Connection, device_ids: Iterable[int]) -> dict[int, lifecycle.Task]:
    """The unfinished task of each device that has one, by device id."""
    query = _views().where(_task.c.device_id.in_(dialects.members(device_ids)), _task.c.holds)
    return {row.device_id: _task_of(row) for row in connection.execute(query)}


def latest_ended(connection: Connection, device_ids: Iterable[int]) -> dict[tuple[int, str], lifecycle.Task]:
    """Each device's newest task of each module, where that has ended: late messages are recorded there.

    A conflict doesn't count: the device never heard of that task, so nothing that it says can be about it.
    """
    newest = (
        select(func.max(_task.c.id))
        .where(_task.c.device_id.in_(dialects.members(device_ids)))
        .where(_task.c.reason.is_distinct_from(str(lifecycle.Reason.CONFLICT)))
        .group_by(_task.c.device_id, _task.c.module)
    )
    query = _views().where(_task.c.id.in_(newest), _task.c.ended_at.is_not(None))
    return {(row.device_id, row.module): _task_of(row) for row in connection.execute(query)}


def _views() -> Select[Any]:
    return select(
        _task,
        _run.c.target_version,
        _run.c.source_versions,
        _run.c.timeout,
        _run.c.push_delivery,
        _run.c.cancel_statuses,
    ).join(_run, _run.c.id == _task.c.run_id)


def _task_of(row: Row[Any]) -> lifecycle.Task:
    return lifecycle.Task(
        id=row.id,
        run_id=row.run_id,
        device_id=row.device_id,
        module=row.module,
        status=lifecycle.Status(row.status),
        target_version=row.target_version,
        source_version=row.source_version,
        source_versions=tuple(row.source_versions),
        timeout=row.timeout,
        push_delivery=row.push_delivery,
        started_at=row.started_at,
        deadline_at=row.deadline_at,
        first_pushed_at=row.first_pushed_at,
        last_pushed_at=row.last_pushed_at,
        push_due_at=row.push_due_at,
        ended_at=row.ended_at,
        reason=lifecycle.Reason(row.reason) if row.reason else None,
        step=row.step,
        step_description=row.step_description,
        late_at=row.late_at,
        late_success=row.late_success,
        withdrawn=row.status in (row.cancel_statuses or ()),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A task before and after a burst of messages, and the log's lines about it."""

    before: lifecycle.Task
    after: lifecycle.Task
    lines: tuple[events.Event, ...]


_MOVED = (
    "status", "reason", "source_version", "push_due_at", "first_pushed_at", "last_pushed_at", "started_at",
    "deadline_at", "ended_at", "late_at", "late_success", "step", "step_description",
)  # fmt: skip
_PROGRESSED = ("step", "step_description")

_same = and_(_task.c.id == bindparam("task"), _task.c.status == bindparam("was"))
_save_progress = (
    update(_task)
    .where(_same)
    .values({name: bindparam(f"new_{name}") for name in _PROGRESSED} | {"claim_epoch": None})
)
_save_move = (
    update(_task).where(_same).values({name: bindparam(f"new_{name}") for name in (*_MOVED, "holds")})
)
# Who was pushed and says something after which no push is due has its push: its acknowledgement is waited for no more.
_save_settled = _save_move.values(claim_epoch=None)


def save(connection: Connection, changes: Sequence[Change], now: datetime) -> None:
    """Writes what a burst did to tasks: rows, events, counters, and the runs that ended with them."""
    kinds: dict[Any, list[dict[str, Any]]] = {_save_progress: [], _save_move: [], _save_settled: []}
    moves = counts.Moves()
    for change in changes:
        statement, names = _statement(change)
        kinds[statement].append(_parameters(change, names))
        if change.before.status != change.after.status:
            moves.move(_place(change.before), _place(change.after))
    for statement, rows in kinds.items():
        if rows:
            connection.execute(statement, rows)
    events.append(connection, now, [line for change in changes for line in change.lines])
    runs.finish(connection, moves.write(connection), now)


def _statement(change: Change) -> tuple[Any, tuple[str, ...]]:
    before, after = change.before, change.after
    if all(getattr(before, name) == getattr(after, name) for name in _MOVED if name not in _PROGRESSED):
        return _save_progress, _PROGRESSED
    return (_save_settled if after.push_due_at is None else _save_move), (*_MOVED, "holds")


def _parameters(change: Change, names: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {"task": change.before.id, "was": change.before.status}
    for name in names:
        values[f"new_{name}"] = (
            change.after.status in lifecycle.UNFINISHED if name == "holds" else getattr(change.after, name)
        )
    return values


def _place(task: lifecycle.Task) -> counts.Place:
    return task.run_id, task.status, task.reason


# ----------------------------------------------------------------------------------------------- sweep


def expire(
    connection: Connection, now: datetime, heard_until: datetime | None = None, *, limit: int = 5000
) -> int:
    """Fails up to `limit` tasks whose timeout passed before `heard_until` (default: now); the number of them."""
    status, reason = lifecycle.Status.FAILED, lifecycle.Reason.TIMEOUT
    due = connection.execute(
        select(
            _task.c.id, _task.c.run_id, _task.c.device_id, _task.c.revision_id, _task.c.status, _task.c.step
        )
        .where(_task.c.deadline_at <= (heard_until or now))
        .where(_task.c.status.in_([str(s) for s in lifecycle.sources(lifecycle.Trigger.TIMEOUT)]))
        .limit(limit)
    ).all()
    if not due:
        return 0
    connection.execute(
        update(_task)
        .where(_task.c.id.in_(dialects.members(row.id for row in due)))
        .values(
            status=status,
            reason=reason,
            holds=False,
            ended_at=now,
            push_due_at=None,
            deadline_at=None,
            claim_epoch=None,
        )
    )
    moves = counts.Moves()
    for row in due:
        moves.move((row.run_id, lifecycle.Status(row.status), None), (row.run_id, status, reason))
    events.append(connection, now, [_expired(row) for row in due])
    runs.finish(connection, moves.write(connection), now)
    return len(due)


def _expired(row: Row[*tuple[Any, ...]]) -> events.Event:
    return events.Event(
        type=events.Type.TASK,
        run_id=row.run_id,
        task_id=row.id,
        device_id=row.device_id,
        revision_id=row.revision_id,
        from_status=lifecycle.Status(row.status),
        to_status=lifecycle.Status.FAILED,
        reason=lifecycle.Reason.TIMEOUT,
        message="100 %, but no version was reported"
        if row.step == 100
        else "no version was reported in time",
    )


def extend_deadlines(connection: Connection, by: timedelta) -> None:
    """Our own downtime is not the devices' fault: every running clock gets it back (engine §5)."""
    longer = type_coerce(_task.c.deadline_at, tables.Number) + by // tables.MILLISECOND
    connection.execute(
        update(_task)
        .where(_task.c.deadline_at.is_not(None))
        .values(deadline_at=type_coerce(longer, tables.Moment()))
    )
