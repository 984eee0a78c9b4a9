"""Ends tasks by the table, any number with a few statements (platform rules §5).

Called by `endings`, `queue` and `creation`. It asks the table which states a trigger ends, in which status and why; it
decides nothing else, completes no run, and tells nobody that devices became free.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    and_,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from reconciler.domain import lifecycle
from reconciler.store import counts, dialects, events, packed, tables, tasks

_task = tables.task
_other = tables.task.alias("other")


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """What a bulk transition did."""

    count: int = 0
    run_ids: frozenset[int] = frozenset()
    freed: frozenset[int] = frozenset()
    """Devices that it freed and for which another task waits."""

    def __or__(self, other: Ended) -> Ended:
        """Both."""
        return Ended(self.count + other.count, self.run_ids | other.run_ids, self.freed | other.freed)


def end(
    connection: Connection,
    which: ColumnElement[bool],
    trigger: lifecycle.Trigger,
    now: datetime,
    *,
    message: str = "",
) -> Ended:
    """Ends those of some tasks for which the table has this trigger: the log, rows and counters.

    Args:
        connection: a writing transaction.
        which: over `tables.task`.
        trigger: one that ends whatever it meets, whether retries are left or not.
        now: this moment.
        message: for the log, beside status and reason.
    """
    ways: dict[tuple[lifecycle.Status, lifecycle.Reason | None], list[lifecycle.State]] = {}
    for state in lifecycle.states(trigger):
        rule = lifecycle.TABLE[state][trigger]
        assert rule.to.status in lifecycle.ENDED, f"{trigger} does not end a task in {state}"
        assert lifecycle.Effect.RETRY not in rule.effects, f"{trigger} may be tried again, one task at a time"
        ways.setdefault((rule.to.status, rule.reason), []).append(state)
    ended = Ended()
    for (status, reason), origins in ways.items():
        here = and_(which, tasks.in_states(origins))
        ended |= _end(connection, here, (status, reason), now, message)
    return ended


def _end(
    connection: Connection,
    which: ColumnElement[bool],
    to: tuple[lifecycle.Status, lifecycle.Reason | None],
    now: datetime,
    message: str,
) -> Ended:
    status, reason = to
    query = select(_task.c.run_id, _task.c.status, func.count()).where(which)
    counted = connection.execute(query.group_by(_task.c.run_id, _task.c.status)).all()
    if not counted:
        return Ended()
    waiting = exists().where(_other.c.device_id == _task.c.device_id, dialects.waits(_other))
    freed = select(packed.rows(_task.c.device_id)).where(which, dialects.holds(_task), waiting)
    devices = frozenset(device_id for (device_id,) in packed.read(connection, freed, {}))
    said = Line(literal(str(status)), None if reason is None else str(reason), message)
    log(connection, _task, which, said, now)
    connection.execute(
        update(_task)
        .where(which)
        .values(
            status=status,
            reason=reason,
            hold=lifecycle.Hold.NONE,
            holds=False,
            ended_at=now,
            push_due_at=None,
            deadline_at=None,
            retry_at=None,
            failure_mark=None,
            claim_epoch=None,
        )
    )
    moves = counts.Moves()
    for run_id, was, count in counted:
        moves.move((run_id, lifecycle.Status(was), None), (run_id, status, reason), count)
    return Ended(sum(row[2] for row in counted), moves.write(connection), devices)


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """What the log says of each of some tasks."""

    to: ColumnElement[str]
    reason: str | None
    message: str


def log(
    connection: Connection, source: FromClause, which: ColumnElement[bool], line: Line, now: datetime
) -> None:
    """A line for each of some tasks of `source`, from their rows as they are before."""
    values: dict[str, ColumnElement[Any]] = {
        "at": literal(now, tables.Moment()),
        "type": literal(str(events.Type.TASK)),
        "run_id": _task.c.run_id,
        "task_id": _task.c.id,
        "device_id": _task.c.device_id,
        "revision_id": _task.c.revision_id,
        "from_status": _task.c.status,
        "to_status": line.to,
        "reason": literal(line.reason),
        "message": literal(line.message),
    }
    rows = select(*values.values()).select_from(source).where(which)
    connection.execute(insert(tables.event).from_select(list(values), rows))
