"""Does the work of the table `job`: one chunk of one job a transaction, so that nobody waits for a large fleet.

Called by materialize until nothing is left. The cursor moves in the transaction of the rows, so a crash between any two
loses nothing and doubles nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, or_, select, update

from reconciler.domain import lifecycle
from reconciler.store import devices, endings, groups, matching, queue, recheck, runs, static, tables, tasks
from reconciler.store.joblist import CHUNK, Turn, Type, add, any_open, drop, move

__all__ = ["CHUNK", "ENDING", "Type", "add", "any_open", "begin", "drop", "unprepared", "work"]

_job, _run, _task = tables.job, tables.run, tables.task

ENDING = (Type.CANCEL, Type.END)
"""What these are about ends before anything is made."""

_FIRST = {Type.CANCEL: 0, Type.END: 1, Type.START: 2, Type.SCAN: 4}
"""In one commit, cancellations come before creations (platform rules §4); those go by the runs' acceptance."""


def work(
    connection: Connection,
    presence: devices.Presence,
    now: datetime,
    chunk: int = CHUNK,
    *,
    types: Collection[Type] = tuple(Type),
) -> bool:
    """One chunk of the most urgent job of some types; False when there is none that can be done.

    Tasks are made when the inventories of the product are complete: a device that is declared in the same commit as the
    batch belongs to it. A look at a group waits until its membership is.
    """
    job = _next(connection, types)
    if job is None:
        return False
    run = connection.execute(select(_run).where(_run.c.id == job.run_id)).one()
    if job.type == Type.CREATE and not job.arguments:
        begin(connection, job.id, static.begin(connection, run))
        job = connection.execute(select(_job).where(_job.c.id == job.id)).one()
    cursor = _WORK[Type(job.type)](Turn(connection, job, run, presence, now, chunk))
    move(connection, job.id, cursor)
    if cursor is None:
        if job.type == Type.CREATE:
            runs.has_chosen(connection, run.id, job.arguments["horizon"], now)
        runs.finish(connection, [run.id], now)
    return True


def _next(connection: Connection, types: Collection[Type]) -> Row[*tuple[Any, ...]] | None:
    return connection.execute(_most_urgent(tuple(types))).first()


@functools.cache
def _most_urgent(types: tuple[Type, ...]) -> Select[*tuple[Any, ...]]:
    """Asked for after every transaction that may leave work: to put it together takes longer than to ask it."""
    waiting = select(tables.inventory.c.product_id).where(tables.inventory.c.cursor.is_not(None))
    incomplete = select(tables.device_group.c.id).where(groups.PENDING)
    creates = _job.c.type == Type.CREATE
    urgency = case({str(type_): place for type_, place in _FIRST.items()}, value=_job.c.type, else_=3)
    scans = (
        _job.c.type == Type.SCAN
    )  # after what was accepted with a list; the newest batch matches first (rules §4)
    turn = case((scans, -_job.c.run_id), else_=_job.c.run_id)
    return (
        select(_job)
        .join(_run, _run.c.id == _job.c.run_id)
        .where(_job.c.type.in_([str(type_) for type_ in types]))
        .where(or_(~creates, _run.c.product_id.not_in(waiting)))
        .where(or_(~scans, _run.c.group_id.is_(None), _run.c.group_id.not_in(incomplete)))
        .order_by(urgency, turn, _job.c.id)
        .limit(1)
    )


# ------------------------------------------------------------------------------------------ the beginning


@dataclasses.dataclass(frozen=True, slots=True)
class Beginning:
    """A job, and what it has to know before its first chunk."""

    job_id: int
    arguments: Mapping[str, Any]


def unprepared(connection: Connection) -> Beginning | None:
    """What the next job needs and a reader may find out for it: it is the writer that others wait for."""
    job = _next(connection, tuple(Type))
    if job is None or job.type != Type.CREATE or job.arguments:
        return None
    run = connection.execute(select(_run).where(_run.c.id == job.run_id)).one()
    return Beginning(job.id, static.begin(connection, run)) if run.gray is not None else None


def begin(connection: Connection, job_id: int, arguments: Mapping[str, Any]) -> None:
    """Keeps what a job found out before its first chunk."""
    connection.execute(
        update(_job).where(_job.c.id == job_id, _job.c.cursor == "").values(arguments=dict(arguments))
    )


# --------------------------------------------------------------------------------------------- the work


def _next_tasks(turn: Turn) -> tuple[ColumnElement[bool], str | None]:
    """The tasks of the run's next devices, and the last of these; None when there are none."""
    ahead = and_(_task.c.run_id == turn.run.id, _task.c.device_id > int(turn.job.cursor or 0))
    ids = select(_task.c.device_id).where(ahead).order_by(_task.c.device_id).limit(turn.size).subquery()
    last = turn.connection.execute(select(func.max(ids.c.device_id))).scalar_one()
    return and_(ahead, _task.c.device_id <= (last or 0)), None if last is None else str(last)


def _cancel(turn: Turn) -> str | None:
    which, last = _next_tasks(turn)
    if last is not None:
        wanted = and_(which, _task.c.status.in_(turn.job.arguments["statuses"]))
        message = turn.job.arguments.get("message", "")
        endings.end(
            turn.connection, wanted, lifecycle.Trigger.CANCELED, turn.presence, turn.now, message=message
        )
    return last


def _end(turn: Turn) -> str | None:
    which, last = _next_tasks(turn)
    if last is not None:
        endings.end(turn.connection, which, lifecycle.Trigger.SCHEDULE_ENDED, turn.presence, turn.now)
    return last


_UNTOUCHED = (lifecycle.State(lifecycle.Status.CONFIRM), lifecycle.State(lifecycle.Status.QUEUED))


def _start(turn: Turn) -> str | None:
    """Devices that don't fit any more are filtered out, before anything is pushed (platform rules §4).

    A task that waits for its device is judged when its turn comes; what a device has begun goes by the table.
    """
    which, last = _next_tasks(turn)
    if last is None:
        return None
    waiting = and_(which, tasks.in_states(_UNTOUCHED))
    verdicts = recheck.judge(turn.connection, waiting)
    ended = recheck.end(turn.connection, waiting, verdicts, turn.now)
    runs.finish(turn.connection, ended.run_ids, turn.now)
    queue.promote(turn.connection, ended.freed, turn.presence, turn.now)
    return last


_WORK = {
    Type.CREATE: static.chunk,
    Type.SCAN: matching.scan,
    Type.CANCEL: _cancel,
    Type.END: _end,
    Type.START: _start,
}
