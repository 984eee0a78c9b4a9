"""How tasks begin, as expressions: the status that they get, and when their first push is due.

Used by whoever lets tasks enter: creation, the queue of those that wait. What an entry means stands in the table.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, and_, case, func, literal, null, type_coerce

from reconciler.domain import lifecycle
from reconciler.store import devices, dialects, tables

_run, _device = tables.run, tables.device


def status(rule: lifecycle.Rule) -> ColumnElement[str]:
    """The status that a rule gives to a task of `tables.run`."""
    given = literal(str(rule.to.status))
    if lifecycle.Effect.ASK_FIRST not in rule.effects:
        return given
    return case((_run.c.confirm, literal(str(lifecycle.Status.CONFIRM))), else_=given)


def first_push(presence: devices.Presence, now: datetime) -> ColumnElement[datetime]:
    """When a task of `tables.run` is due for `tables.device`, once it is QUEUED and holds: NULL for who is not there.

    At once, but not before the device's own report could be heard (platform rules §5: the settle time). Whether the run
    may push yet is asked by the claim.
    """
    at = literal(tables.milliseconds(now))
    since = dialects.earlier_of(  # not in the future, where a clock that was set back may have left it
        type_coerce(_device.c.online_since, tables.Number), at
    )
    settled = dialects.later_of(since + presence.settle // tables.MILLISECOND, at)
    pushed = and_(_run.c.push_delivery, ~_run.c.confirm, _device.c.online_epoch == presence.epoch)
    return type_coerce(func.iif(pushed, settled, null()), tables.Moment())
