"""How tasks begin, as expressions: the status that they get, and when their first push is due.

Used by whoever lets tasks enter: creation, the queue of those that wait. What an entry means stands in the table.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, and_, bindparam, case, func, literal, null, type_coerce

from reconciler.domain import lifecycle
from reconciler.store import devices, dialects, tables

_run, _device = tables.run, tables.device


def status(rule: lifecycle.Rule) -> ColumnElement[str]:
    """The status that a rule gives to a task of `tables.run`."""
    given = literal(str(rule.to.status))
    if lifecycle.Effect.ASK_FIRST not in rule.effects:
        return given
    return case((_run.c.confirm, literal(str(lifecycle.Status.CONFIRM))), else_=given)


_AT = bindparam("entry_at", type_=tables.Number)
_SINCE = dialects.earlier_of(  # not in the future, where a clock that was set back may have left it
    type_coerce(_device.c.online_since, tables.Number), _AT
)
_SETTLED = dialects.later_of(_SINCE + bindparam("entry_settle", type_=tables.Number), _AT)
_HERE = _device.c.online_epoch == bindparam("entry_epoch", type_=tables.Number)

FIRST_PUSH: ColumnElement[datetime] = type_coerce(
    func.iif(and_(_run.c.push_delivery, ~_run.c.confirm, _HERE), _SETTLED, null()), tables.Moment()
)
"""When a task of `tables.run` is due for `tables.device`, once it is QUEUED and holds: NULL for who is not there.

At once, but not before the device's own report could be heard (platform rules §5: the settle time). Whether the run may
push yet is asked by the claim. Wants `parameters`.
"""


def parameters(presence: devices.Presence, now: datetime) -> dict[str, int]:
    """What `FIRST_PUSH` must know."""
    return {
        "entry_at": tables.milliseconds(now),
        "entry_settle": presence.settle // tables.MILLISECOND,
        "entry_epoch": presence.epoch,
    }
