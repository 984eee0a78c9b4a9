"""What the clock ends: tasks that never answered, that took too long, or cannot be tried again (platform rules §5).

Called by sweep, which decides whether the time that passed may be held against devices at all (engine §5).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import (
    BindParameter,
    Connection,
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
from reconciler.store import counts, devices, endings, tables, tasks

_run, _task, _version = tables.run, tables.task, tables.device_version

_WHOLE = _task.c.step == literal_column("100")
_EXPIRED = (
    (
        lifecycle.Trigger.TIMEOUT,
        (_task.c.started_at.is_not(None), _WHOLE),
        "100 %, but no version was reported",
    ),
    (
        lifecycle.Trigger.TIMEOUT,
        (_task.c.started_at.is_not(None), _task.c.step.is_distinct_from(literal_column("100"))),
        "no version was reported in time",
    ),
    (lifecycle.Trigger.NO_RESPONSE, (_task.c.started_at.is_(None),), "no progress was reported in time"),
)
"""A deadline means a timeout once the task has started, silence before (and what the log says)."""


STRAYED = "its next attempt is due, but the device is not on the delta's source version"


def expire(
    connection: Connection,
    presence: devices.Presence,
    now: datetime,
    heard_until: datetime | None = None,
    *,
    limit: int = 5000,
) -> int:
    """Fails up to about `limit` tasks whose deadline passed before `heard_until` (default: now); the number of them."""
    expired = 0
    for trigger, which, message in _EXPIRED:
        due = (
            select(_task.c.id)
            .where(_task.c.deadline_at <= (heard_until or now), *which)
            .where(tasks.in_states(lifecycle.states(trigger)))
            .order_by(_task.c.deadline_at)
            .limit(limit)
        )
        expired += endings.end(connection, _task.c.id.in_(due), trigger, presence, now, message=message)
    return expired


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


def end_strayed(
    connection: Connection, presence: devices.Presence, since: datetime, until: datetime, now: datetime
) -> int:
    """Ends what was to be tried again after `since` and until `until`, but cannot be; the number of tasks.

    A delta is for its source version, and their devices left that (platform rules §4): no next attempt can succeed.
    """
    return endings.end(
        connection,
        _task.c.id.in_(_strayed(since, until)),
        lifecycle.Trigger.UNFIT,
        presence,
        now,
        message=STRAYED,
    )


def _strayed(
    since: datetime | BindParameter[datetime], until: datetime | BindParameter[datetime]
) -> Select[tuple[int]]:
    """Waiting attempts whose time came; their batch's only source version is the delta's."""
    source = func.json_extract(_run.c.source_versions, "$[0]")
    return (
        select(_task.c.id)
        .join(_run, _run.c.id == _task.c.run_id)
        .outerjoin(
            _version, and_(_version.c.device_id == _task.c.device_id, _version.c.module == _task.c.module)
        )
        .where(_task.c.retry_at > since, _task.c.retry_at <= until, _run.c.delta)
        .where(_task.c.hold == str(lifecycle.Hold.RETRY), _version.c.version.is_distinct_from(source))
    )


_any_strayed = _strayed(
    bindparam("since", type_=tables.Moment()), bindparam("until", type_=tables.Moment())
).limit(1)


def any_strayed(connection: Connection, since: datetime, until: datetime) -> bool:
    """A cheap look: whether `end_strayed` would end anything."""
    return connection.execute(_any_strayed, {"since": since, "until": until}).first() is not None


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
