"""Ends tasks in bulk, completes the runs that ended with them, and lets those in that waited for their devices.

Called by jobs (cancellations, schedules, second looks), by sweep (deadlines) and by dispatch.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection

from reconciler.domain import lifecycle
from reconciler.store import bulk, devices, queue, runs


def end(
    connection: Connection,
    which: ColumnElement[bool],
    trigger: lifecycle.Trigger,
    presence: devices.Presence,
    now: datetime,
    *,
    message: str = "",
) -> int:
    """Ends those of some tasks for which the table has this trigger; the number of them.

    Args:
        connection: a writing transaction.
        which: over `tables.task`.
        trigger: one that ends whatever it meets, whether retries are left or not.
        presence: what makes the pushes of tasks due whose turn comes now.
        now: this moment.
        message: for the log, beside status and reason.
    """
    ended = bulk.end(connection, which, trigger, now, message=message)
    runs.finish(connection, ended.run_ids, now)
    queue.promote(connection, ended.freed, presence, now)
    return ended.count
