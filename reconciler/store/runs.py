"""Runs: one life of a batch each, or of a package's trial (platform rules §4, §3 "Verification").

Made, changed and cancelled by apply and operators; started and ended by the clock (`start_due`, `end_due`: sweep);
completed by whoever moves their last task. What is to be done to their tasks is a job (`jobs`): nothing here touches a
task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from reconciler.domain import actual, lifecycle, resources, targeting
from reconciler.store import counts, dialects, events, joblist, packed, tables

_run, _job, _package, _count = tables.run, tables.job, tables.package, tables.task_count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """What a run is made of: whom it is for, what it asks of them, how its tasks go, and when."""

    object_id: int
    batch: str
    type: actual.RunType
    product_id: int
    package_id: int
    revision_id: int
    conditions: targeting.Conditions
    delta: bool = False
    roster_id: int | None = None
    """A list of names: of the batch, or of its static group."""
    group_id: int | None = None
    """A dynamic group."""
    gray: int | None = None
    """A share, in thousandths of a percent."""
    new_reports_only: bool = False
    conflict: resources.Conflict = resources.Conflict.KEEP
    multi_module: bool = False
    confirm: bool = False
    push_rate: int
    push_delivery: bool = True
    timeout: timedelta | None = None
    no_response: timedelta | None = None
    retry: lifecycle.Retry | None = None
    download: resources.Download = resources.Download.AUTO
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    start_at: datetime | None = None
    end_at: datetime | None = None
    suspended: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What may change while a run goes on (platform rules §4): the whole of it, as Git says it now."""

    push_rate: int
    timeout: timedelta | None
    retry: lifecycle.Retry | None
    tags: Mapping[str, str]
    end_at: datetime | None
    suspended: bool
    source_versions: tuple[str, ...]
    """Only a dynamic run's may differ: then it looks at the fleet again."""


_OPENS = [str(state) for state in actual.Verification if state.opens]
_UNENDED = [str(phase) for phase in actual.UNENDED]


def create(connection: Connection, new: NewRun, now: datetime) -> int:
    """Begins a batch's next life; its tasks come with its jobs. Returns the run's id.

    It starts at once, unless its schedule or its package's trial keeps it (platform rules §4). One whose end has passed
    is over before it began.
    """
    if new.end_at is not None and new.end_at <= now:
        return _insert(connection, new, now, phase=actual.Phase.COMPLETED, ended_at=now, schedule_ended=True)
    if new.type is actual.RunType.VERIFY:
        _judge_package(connection, new.package_id, actual.Verification.VERIFYING)
    starts = (new.start_at is None or new.start_at <= now) and _is_open(connection, new)
    if not starts:
        run_id = _insert(connection, new, now, phase=actual.Phase.PLANNED)
    else:
        run_id = _insert(connection, new, now, phase=actual.Phase.IN_PROGRESS, started_at=now)
    if new.type is not actual.RunType.DYNAMIC:
        joblist.add(connection, run_id, joblist.Type.CREATE)
    elif starts and not new.new_reports_only:
        joblist.add(connection, run_id, joblist.Type.SCAN)
    return run_id


def _is_open(connection: Connection, new: NewRun) -> bool:
    """No trial of its package is awaited; a trial waits for none."""
    state = select(_package.c.verification).where(_package.c.id == new.package_id)
    return new.type is actual.RunType.VERIFY or connection.execute(state).scalar_one() in _OPENS


def _insert(connection: Connection, new: NewRun, now: datetime, **changes: Any) -> int:
    number = select(func.coalesce(func.max(_run.c.number), 0) + 1).where(_run.c.object_id == new.object_id)
    values = {field.name: getattr(new, field.name) for field in dataclasses.fields(new)}
    conditions, retry = values.pop("conditions"), values.pop("retry")
    result = connection.execute(
        insert(_run).values(
            **values | {"tags": dict(new.tags), "suspended_at": now if new.suspended else None},
            **_retry(retry),
            number=number.scalar_subquery(),
            module=conditions.module,
            target_version=conditions.target_version,
            source_versions=list(conditions.source_versions),
            allow_downgrade=conditions.allow_downgrade,
            created_at=now,
            **changes,
        )
    )
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def _retry(retry: lifecycle.Retry | None) -> dict[str, Any]:
    return {"retry_interval": retry.interval if retry else None, "retry_limit": retry.limit if retry else 0}


def change(connection: Connection, run_id: int, changes: Changes, now: datetime) -> None:
    """What may change while a run goes on (platform rules §4).

    Timeout and retry count for what happens from now on. With other source versions a dynamic run looks at the fleet
    again. An end that is put off opens the schedule again; tasks that it has ended stay so.
    """
    run = connection.execute(select(_run).where(_run.c.id == run_id)).one()
    is_over = run.schedule_ended and changes.end_at is not None and changes.end_at <= now
    was_suspended = run.suspended or run.suspended_by is not None
    is_suspended = changes.suspended or run.suspended_by is not None
    connection.execute(
        update(_run)
        .where(_run.c.id == run_id)
        .values(
            push_rate=changes.push_rate,
            timeout=changes.timeout,
            tags=dict(changes.tags),
            end_at=changes.end_at,
            schedule_ended=is_over,
            suspended=changes.suspended,
            suspended_at=(run.suspended_at if was_suspended else now) if is_suspended else None,
            source_versions=list(changes.source_versions),
            **_retry(changes.retry),
        )
    )
    earlier = and_(_run.c.object_id == run.object_id, _run.c.id < run_id, counts.goes_on())
    others = _run.c.suspended_by.is_not(None)
    since = case((others, _run.c.suspended_at), else_=literal(now, tables.Moment()))
    connection.execute(
        update(_run)
        .where(earlier, _run.c.suspended != changes.suspended)
        .values(
            suspended=changes.suspended,
            suspended_at=since if changes.suspended else case((others, _run.c.suspended_at), else_=null()),
        )
    )
    if run.type == actual.RunType.DYNAMIC and set(changes.source_versions) != set(run.source_versions):
        scan(connection, [run_id])


def scan(connection: Connection, run_ids: Iterable[int]) -> None:
    """Those of some dynamic runs that have started look at the fleet; for new reports, at whom they heard."""
    looking = select(_run.c.id).where(
        _run.c.id.in_(dialects.members(run_ids)),
        _run.c.phase == actual.Phase.IN_PROGRESS,
        _run.c.type == actual.RunType.DYNAMIC,
    )
    for run_id in connection.execute(looking).scalars().all():
        joblist.add(connection, run_id, joblist.Type.SCAN)


@dataclasses.dataclass(frozen=True, slots=True)
class Cancellation:
    """Who cancels a run, and which of its unfinished tasks end with it (platform rules §6)."""

    by: str
    statuses: tuple[lifecycle.Status, ...]
    message: str = ""


def cancel(connection: Connection, run_id: int, cancellation: Cancellation, now: datetime) -> int:
    """Cancels a run: it makes no more tasks, those in the given statuses end, the others go on.

    A job ends them, and until it has, the run pushes nothing. Of one that was cancelled before, more tasks end; by whom
    it was stays. Returns the number of tasks that are to end.
    """
    run = connection.execute(
        select(
            _run.c.id, _run.c.batch, _run.c.revision_id, _run.c.type, _run.c.package_id, _run.c.phase
        ).where(_run.c.id == run_id, _run.c.phase != actual.Phase.COMPLETED)
    ).first()
    if run is None:
        return 0
    if run.phase != actual.Phase.CANCELED:
        values = {"phase": actual.Phase.CANCELED, "canceled_by": cancellation.by, "ended_at": now}
        connection.execute(update(_run).where(_run.c.id == run_id).values(**values))
    joblist.drop(connection, run_id, (joblist.Type.CREATE, joblist.Type.SCAN))
    unfinished = counts.read(connection, [run_id]).get(run_id, {})
    total = sum(unfinished.get(status, 0) for status in cancellation.statuses)
    why = f": {cancellation.message}" if cancellation.message else ""
    if total:
        statuses = [str(status) for status in cancellation.statuses]
        arguments = {"statuses": statuses, "message": f"canceled with its batch by {cancellation.by}{why}"}
        joblist.add(connection, run_id, joblist.Type.CANCEL, arguments)
    if run.type == actual.RunType.VERIFY:
        _judge_package(connection, run.package_id, actual.Verification.FAILED)
    message = f"by {cancellation.by}, {total} {'task ends' if total == 1 else 'tasks end'}{why}"
    message += "; verification failed" * (run.type == actual.RunType.VERIFY)
    events.append(connection, now, [line(run, events.Type.CANCELED, message)])
    return total


def _judge_package(connection: Connection, package_id: int, result: actual.Verification) -> None:
    connection.execute(update(_package).where(_package.c.id == package_id).values(verification=result))


def line(run: Row[*tuple[Any, ...]], type_: events.Type, message: str) -> events.Event:
    """What the log says of a run, from its row: of a batch, or of the package that a trial is about."""
    kind = "Package" if run.type == actual.RunType.VERIFY else "Batch"
    return events.Event(
        type=type_, kind=kind, name=run.batch, run_id=run.id, revision_id=run.revision_id, message=message
    )


# ------------------------------------------------------------------------------------------------ time

_NOW = bindparam("now", type_=tables.Moment())
_PLANNED = _run.c.phase == actual.Phase.PLANNED
_LEFT_OVER = and_(_run.c.phase == actual.Phase.CANCELED, counts.goes_on())
"""Cancelled before it started, with tasks that go on."""
_CREATING = exists().where(_job.c.run_id == _run.c.id, _job.c.type == joblist.Type.CREATE)
_VERIFIED = exists().where(_package.c.id == _run.c.package_id, _package.c.verification.in_(_OPENS))
_STARTS = (
    select(_run.c.id, _run.c.batch, _run.c.revision_id, _run.c.type, _run.c.phase, _run.c.new_reports_only)
    .where(_run.c.started_at.is_(None), or_(_PLANNED, _LEFT_OVER))
    .where(or_(_run.c.start_at.is_(None), _run.c.start_at <= _NOW))
    .where(or_(_run.c.end_at.is_(None), _run.c.end_at > _NOW), ~_run.c.schedule_ended)
    .where(or_(_VERIFIED, _run.c.type == actual.RunType.VERIFY), ~_CREATING)
    .order_by(_run.c.id)
)
_ENDS = (
    update(_run)
    .where(_run.c.end_at <= _NOW, ~_run.c.schedule_ended)
    .where(or_(_run.c.phase.in_(_UNENDED), _LEFT_OVER))
    .values(schedule_ended=True)
    .returning(_run.c.id)
)


def start_due(connection: Connection, now: datetime) -> bool:
    """Starts the runs whose time has come and whose package may be sent; False when there was none.

    A static run's tasks are looked at again before anything is pushed; a dynamic run looks at the fleet. What a
    cancelled run that never started has left starts at its time, too.
    """
    due = connection.execute(_STARTS, {"now": now}).all()
    if not due:
        return False
    ids = [run.id for run in due]
    planned = case((_run.c.phase == actual.Phase.PLANNED, str(actual.Phase.IN_PROGRESS)), else_=_run.c.phase)
    connection.execute(
        update(_run).where(_run.c.id.in_(dialects.members(ids))).values(started_at=now, phase=planned)
    )
    for run in due:
        if run.type != actual.RunType.DYNAMIC:
            joblist.add(connection, run.id, joblist.Type.START)
    scan(connection, [run.id for run in due if not run.new_reports_only])
    events.append(connection, now, [line(run, events.Type.STARTED, "its batch starts") for run in due])
    return True


def end_due(connection: Connection, now: datetime) -> bool:
    """Ends the schedules whose time has come; False when there was none. Jobs end their tasks."""
    due = connection.execute(_ENDS, {"now": now}).scalars().all()
    for run_id in due:
        joblist.drop(connection, run_id, (joblist.Type.CREATE,))
        joblist.add(connection, run_id, joblist.Type.END)
    return bool(due)


# ------------------------------------------------------------------------------------------------- ends


_WORKING = exists().where(_job.c.run_id == _run.c.id, _job.c.type.in_(joblist.COMPLETING))
_OVER = and_(_PLANNED, _run.c.schedule_ended)
_COMPLETES = (
    update(_run)
    .where(_run.c.id.in_(packed.members("runs")), _run.c.type != actual.RunType.DYNAMIC)
    .where(or_(_run.c.phase == actual.Phase.IN_PROGRESS, _OVER), ~_WORKING, ~counts.goes_on())
    .values(phase=actual.Phase.COMPLETED, ended_at=_NOW)
    .returning(_run.c.id, _run.c.batch, _run.c.revision_id, _run.c.type, _run.c.package_id)
)


def finish(connection: Connection, run_ids: Iterable[int], now: datetime) -> None:
    """Completes those runs whose last task has ended. Dynamic ones go on, and those that still have work to do.

    A trial that completes has its result, and what waited for it starts (platform rules §3).
    """
    listed = list(run_ids)
    if not listed:
        return
    completed = connection.execute(_COMPLETES, {"runs": packed.pack(listed), "now": now}).all()
    trials = [run for run in completed if run.type == actual.RunType.VERIFY]
    said = {run.id: _result(connection, run) for run in trials}
    lines = [line(run, events.Type.COMPLETED, said.get(run.id, "all tasks have ended")) for run in completed]
    events.append(connection, now, lines)
    if trials:
        start_due(connection, now)


def _result(connection: Connection, run: Row[*tuple[Any, ...]]) -> str:
    """Judges a trial: verified when every test device got there, or was there already, and there was one at all.

    Who is above the target did not get there; who is on another source version is not asked. Returns it in words.
    """
    left = select(tables.left_out.c.reason, func.count()).where(tables.left_out.c.run_id == run.id)
    reasons = connection.execute(left.group_by(tables.left_out.c.reason))
    out: dict[str, int] = {reason: count for reason, count in reasons}  # noqa: C416 - rows are no pairs to mypy
    there, above = out.get(targeting.LeftOut.ALREADY, 0), out.get(targeting.LeftOut.DOWNGRADE, 0)
    places = select(_count.c.status, _count.c.reason, _count.c.count).where(_count.c.run_id == run.id)
    counted = {(status, reason): count for status, reason, count in connection.execute(places) if count}
    done = there + counted.pop((lifecycle.Status.SUCCEEDED, ""), 0)
    bad = [
        f"{_devices(count)} {reason}"
        for (_, reason), count in sorted(counted.items(), key=lambda at: at[0][1])
    ]
    bad += [f"{_devices(above)} left out (downgrade)"] * bool(above)
    if done and not bad:
        _judge_package(connection, run.package_id, actual.Verification.VERIFIED)
        return f"verified: {done} of {_devices(done)}"
    _judge_package(connection, run.package_id, actual.Verification.FAILED)
    return f"verification failed: {', '.join(bad) or 'none of its devices fits'}"


def _devices(count: int) -> str:
    return f"{count} device{'s' * (count != 1)}"


def has_chosen(connection: Connection, run_id: int, horizon: int, now: datetime) -> None:
    """A static run has chosen its devices: it looks at none again, nor at any that is newer than `horizon`, an id."""
    connection.execute(update(_run).where(_run.c.id == run_id).values(chosen_at=now, horizon=horizon))


def reopen(connection: Connection, run_id: int) -> None:
    """A task of a run that had completed is upgraded again: the run goes on (platform rules §5, last row but one).

    One that was over before it could start is to start yet.
    """
    started = _run.c.started_at.is_not(None)
    phase = case((started, str(actual.Phase.IN_PROGRESS)), else_=str(actual.Phase.PLANNED))
    connection.execute(
        update(_run)
        .where(_run.c.id == run_id, _run.c.phase == actual.Phase.COMPLETED)
        .values(phase=phase, ended_at=null())
    )


def module_of(connection: Connection, run_id: int) -> str | None:
    """The module that a run upgrades; None when there is no such run."""
    return connection.execute(select(_run.c.module).where(_run.c.id == run_id)).scalar_one_or_none()
