"""How often a task may be pushed, for every statement: the running daemon's interval (platform rules §5).

The daemon writes its operator's interval into its row when it starts; what is prepared once reads it from there.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, select, type_coerce

from reconciler.domain import limits
from reconciler.store import tables

_DEFAULT = limits.DEFAULT.push_repeat_interval // tables.MILLISECOND

INTERVAL: ColumnElement[int] = func.coalesce(
    select(type_coerce(tables.daemon.c.push_interval, tables.Number)).scalar_subquery(), _DEFAULT
)
"""Milliseconds between two pushes of one task, at least."""

AFTER_LAST: ColumnElement[int] = type_coerce(tables.task.c.last_pushed_at, tables.Number) + INTERVAL
"""The earliest moment of a task's next push, in milliseconds; NULL for one that was never pushed."""
