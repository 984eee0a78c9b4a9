"""What the clock ends: tasks that never answered, that took too long, or cannot be tried again (platform rules §5).

Called by sweep, which decides whether the time that passed may be held against devices at all (engine §5).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    type_coerce,
    update,
)

from reconciler.domain import actual, lifecycle
from reconciler.store import counts, devices, dialects, endings, joblist, packed, tables, tasks

_run, _task, _version = tables.run, tables.task, tables.device_version

_WHOLE = _task.c.step == literal_column("100")
_STARTED = _task.c.started_at.is_not(None)
_EXPIRED = (
    (lifecycle.Trigger.TIMEOUT, and_(_STARTED, _WHOLE), "100 %, but no version was reported"),
    (
        lifecycle.Trigger.TIMEOUT,
        and_(_STARTED, _task.c.step.is_distinct_from(literal_column("100"))),
        "no version was reported in time",
    ),
    (lifecycle.Trigger.NO_RESPONSE, ~_STARTED, "no progress was reported in time"),
)
"""A deadline means a timeout once the task has started, silence before (and what the log says)."""
_LIMIT = bindparam("limit", type_=Integer())
_overdue = (
    select(_task.c.id)
    .where(_task.c.deadline_at <= bindparam("until", type_=tables.Moment()))
    .where(or_(*(and_(tasks.in_states(lifecycle.states(trigger)), which) for trigger, which, _ in _EXPIRED)))
    .order_by(_task.c.deadline_at)
    .limit(_LIMIT)
    .subquery()
)
_expired = select(packed.rows(_overdue.c.id))

STRAYED = "its next attempt is due, but the device is not on the delta's source version"


def expire(
    connection: Connection,
    presence: devices.Presence,
    now: datetime,
    heard_until: datetime | None = None,
    *,
    limit: int = joblist.CHUNK,
) -> int:
    """Fails up to `limit` tasks, those whose deadline passed longest before `heard_until` (default: now); how many."""
    asked = {"until": heard_until or now, "limit": limit}
    ids = [task_id for (task_id,) in packed.read(connection, _expired, asked)]
    here = _task.c.id.in_(dialects.members(ids))
    return sum(
        endings.end(connection, and_(here, which), trigger, presence, now, message=message)
        for trigger, which, message in (_EXPIRED if ids else ())
    )


_any_due = select(_task.c.id).where(_task.c.deadline_at <= bindparam("until")).limit(1)


def any_due(connection: Connection, until: datetime) -> bool:
    """A cheap look: whether a deadline has passed."""
    return connection.execute(_any_due, {"until": until}).first() is not None


def _starting_or_ending() -> Select[tuple[int]]:
    """Made once: it is asked each second, and its making takes longer than its answer."""
    package, now = tables.package, bindparam("now", type_=tables.Moment())
    live = or_(_run.c.phase.in_(actual.UNENDED), counts.goes_on())
    opened = package.c.verification.in_([state for state in actual.Verification if state.opens])
    starts = and_(
        _run.c.started_at.is_(None),
        or_(_run.c.start_at.is_(None), _run.c.start_at <= now),
        or_(_run.c.type == actual.RunType.VERIFY, opened),
    )
    ends = _run.c.end_at <= now
    return (
        select(_run.c.id)
        .join(package, package.c.id == _run.c.package_id)
        .where(~_run.c.schedule_ended, live, or_(starts, ends))
        .limit(1)
    )


_schedule_due = _starting_or_ending()


def schedule_due(connection: Connection, now: datetime) -> bool:
    """A cheap look: whether a batch may have to start, or its schedule to end."""
    return connection.execute(_schedule_due, {"now": now}).first() is not None


_ATTEMPTS = [
    state for state in lifecycle.states(lifecycle.Trigger.UNFIT) if state.hold is lifecycle.Hold.RETRY
]


def _strayed(*which: ColumnElement[bool]) -> Select[Any]:
    """Waiting attempts whose device is not on their batch's only source version: the delta's."""
    source = func.json_extract(_run.c.source_versions, "$[0]")
    here = and_(_version.c.device_id == _task.c.device_id, _version.c.module == _task.c.module)
    joined = _task.join(_run, _run.c.id == _task.c.run_id).outerjoin(_version, here)
    return (
        select(_task.c.id)
        .select_from(joined)
        .where(*which, _run.c.delta, tasks.in_states(_ATTEMPTS), _version.c.version.is_distinct_from(source))
    )


_since, _until = (bindparam(name, type_=tables.Moment()) for name in ("since", "until"))
_due_strayed = _strayed(_task.c.retry_at > _since, _task.c.retry_at <= _until).limit(_LIMIT).subquery()
_some_strayed = select(packed.rows(_due_strayed.c.id))
_still_strayed = _strayed(_task.c.id.in_(packed.members("tasks")))


def strayed(
    connection: Connection, since: datetime, until: datetime, *, limit: int = joblist.CHUNK
) -> list[int]:
    """Up to `limit` tasks that were to be tried again after `since` and until `until`, but cannot be.

    A delta is for its source version, and their devices left that (platform rules §4): no next attempt can succeed.
    """
    asked = {"since": since, "until": until, "limit": limit}
    return [task_id for (task_id,) in packed.read(connection, _some_strayed, asked)]


def end_strayed(
    connection: Connection, presence: devices.Presence, found: Sequence[int], now: datetime
) -> int:
    """Ends what `strayed` found, where that is still so; the number of tasks."""
    still = connection.execute(_still_strayed, {"tasks": packed.pack(found)}).scalars().all()
    which = _task.c.id.in_(dialects.members(still))
    return endings.end(connection, which, lifecycle.Trigger.UNFIT, presence, now, message=STRAYED)


def extend_deadlines(connection: Connection, by: timedelta) -> None:
    """Our own downtime is not the devices' fault: every running clock of theirs gets it back (engine §5).

    Schedules and the times of next attempts are ours: they go by the clock, and nobody loses by it that we were away.
    """
    longer = type_coerce(_task.c.deadline_at, tables.Number) + by // tables.MILLISECOND
    connection.execute(
        update(_task)
        .where(_task.c.deadline_at.is_not(None))
        .values(deadline_at=type_coerce(longer, tables.Moment()))
    )
