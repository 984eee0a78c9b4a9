"""Tasks that wait for their device: when it is free, a trial's or the oldest is looked at again, and enters (rules §5).

Called whenever devices became free, in that transaction. What a device reports now decides, not what it reported when
the task was made: it may be where the task would bring it, or where the batch has no business any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    exists,
    func,
    or_,
    select,
    type_coerce,
    update,
)

from reconciler.domain import lifecycle
from reconciler.store import bulk, counts, devices, dialects, entry, pace, recheck, runs, tables, yielding

_task, _run, _device = tables.task, tables.run, tables.device
_other = tables.task.alias("other")

_FREED = lifecycle.TABLE[lifecycle.BEHIND][lifecycle.Trigger.FREED]

same_slot: ColumnElement[bool] = or_(_other.c.module == _task.c.module, ~_other.c.multi, ~_task.c.multi)
_trial, _other_trial = _task.c.run_id.in_(yielding.TRIALS), _other.c.run_id.in_(yielding.TRIALS)
_first = or_(and_(_other_trial, ~_trial), and_(_other_trial == _trial, _other.c.id < _task.c.id))
_older = and_(dialects.waits(_other), _first)
_kept_out = or_(
    exists().where(_other.c.device_id == _task.c.device_id, dialects.holds(_other), same_slot),
    exists().where(_other.c.device_id == _task.c.device_id, _older, same_slot),
)


_PUSH = type_coerce(
    dialects.later_of(type_coerce(entry.FIRST_PUSH, tables.Number), func.coalesce(pace.AFTER_LAST, 0)),
    tables.Moment(),
)
"""As any first push; but one that is upgraded again may have been pushed a moment ago. NULL stays NULL."""


def promote(
    connection: Connection, device_ids: Iterable[int], presence: devices.Presence, now: datetime
) -> int:
    """Lets the first waiting task of each free device in, or ends it and looks at the next; the number that entered.

    Of multi-module tasks, one a module may enter; an exclusive one waits until the device has none.
    A trial's task goes first, then the oldest.
    """
    listed = list(device_ids)
    entered = 0
    if not listed:
        return entered
    tried = select(_task.c.device_id).where(
        _task.c.device_id.in_(dialects.members(listed)), dialects.waits(_task), _trial
    )
    yielding.make_way(connection, tried, now)
    turn = and_(_task.c.device_id.in_(dialects.members(listed)), dialects.waits(_task), ~_kept_out)
    while verdicts := recheck.judge(connection, turn):
        ended = recheck.end(connection, turn, verdicts, now)
        runs.finish(connection, ended.run_ids, now)
        entered += _enter(connection, and_(turn, recheck.fits(verdicts)), presence, now)
    return entered


def _enter(
    connection: Connection, which: ColumnElement[bool], presence: devices.Presence, now: datetime
) -> int:
    """They begin as a new task would (`lifecycle.TABLE`), from what their device reports now."""
    counted = connection.execute(
        select(_task.c.run_id, entry.status(_FREED), func.count())
        .join(_run, _run.c.id == _task.c.run_id)
        .where(which)
        .group_by(_task.c.run_id)
    ).all()
    if not counted:
        return 0
    line = bulk.Line(entry.status(_FREED), None, lifecycle.Trigger.FREED)
    bulk.log(connection, _task.join(_run, _run.c.id == _task.c.run_id), which, line, now)
    mine = and_(_run.c.id == _task.c.run_id, _device.c.id == _task.c.device_id)
    connection.execute(
        update(_task)
        .where(which, mine)
        .values(
            status=entry.status(_FREED),
            hold=_FREED.to.hold,
            holds=True,
            source_version=recheck.reported,
            push_due_at=_PUSH,
        ),
        entry.parameters(presence, now),
    )
    moves = counts.Moves()
    for run_id, status, count in counted:
        to = (run_id, lifecycle.Status(status), None)
        moves.move((run_id, lifecycle.BEHIND.status, None), to, count)
    moves.write(connection)
    return sum(row[2] for row in counted)
