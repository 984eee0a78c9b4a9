"""What makes way for a trial: tasks of runs that have not started (platform rules §3 "Verification").

Called by `creation` when a trial's tasks are made, and by `queue` when their turn may have come, before either decides
who is free. A batch may wait for the very trial that its tasks would keep out. It ends nothing: what makes way waits
for its device like others, and `queue` lets it in again, without its past. What a device has begun goes on.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    exists,
    literal,
    select,
    update,
)

from reconciler.domain import actual, lifecycle
from reconciler.store import bulk, counts, dialects, tables, tasks

_task, _run = tables.task, tables.run
_other = tables.task.alias("other")

TRIALS = select(_run.c.id).where(_run.c.type == actual.RunType.VERIFY)
"""The runs for which others make way."""
_NOT_STARTED = select(_run.c.id).where(_run.c.started_at.is_(None), _run.c.type != actual.RunType.VERIFY)
_TO = lifecycle.BEHIND  # as the table has it, from every state that yields


def make_way(connection: Connection, device_ids: Select[Any], now: datetime) -> None:
    """Puts aside what holds some devices for runs that have not started, where nothing else holds them.

    A trial excludes any other task of its device. Where one must go on in any case, nobody is put aside for nothing.
    """
    mine = and_(_task.c.device_id.in_(device_ids), dialects.holds(_task), yields(_task))
    stubborn = exists().where(
        _other.c.device_id == _task.c.device_id, dialects.holds(_other), ~yields(_other)
    )
    which = and_(mine, ~stubborn)
    counted = connection.execute(select(_task.c.id, _task.c.run_id, _task.c.status).where(which)).all()
    if not counted:
        return
    chosen = _task.c.id.in_(dialects.members(row.id for row in counted))
    line = bulk.Line(literal(str(_TO.status)), None, "makes way for a trial")
    bulk.log(connection, _task, chosen, line, now)
    moved = {"status": _TO.status, "hold": _TO.hold, "holds": False}
    connection.execute(update(_task).where(chosen).values(**lifecycle.AFRESH, **moved))
    moves = counts.Moves()
    for row in counted:
        moves.move((row.run_id, lifecycle.Status(row.status), None), (row.run_id, _TO.status, None))
    moves.write(connection)


def yields(task: FromClause) -> ColumnElement[bool]:
    """A task makes way: its run has not started, and its device has not begun it."""
    there = tasks.in_states(lifecycle.states(lifecycle.Trigger.YIELDED), task)
    return and_(there, task.c.run_id.in_(_NOT_STARTED))
