"""Tasks: read and written for a burst of messages, and made due by who comes and goes.

Called by ingest (`active`, `latest_ended`, `save`) and presence (`due_again`, `not_due`, `due_for_present`). Pushes are
`pushes`, what the clock ends is `deadlines`. Every update compares before it sets, so doing anything twice changes
nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    Row,
    Select,
    String,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.types import TypeEngine

from reconciler.domain import lifecycle
from reconciler.store import counts, dialects, events, packed, runs, tables

_run, _task, _device, _job = tables.run, tables.task, tables.device, tables.job

# ------------------------------------------------------------------------------------------ conditions

HOLDS = dialects.holds(_task)
"""The task occupies its device."""

_BEHIND = dialects.waits(_task)

_HALTING = ("cancel", "start", "end")
CLOSED = or_(
    _run.c.started_at.is_(None),
    _run.c.suspended,
    _run.c.suspended_by.is_not(None),
    exists().where(_job.c.run_id == _run.c.id, _job.c.type.in_(_HALTING)),
)
"""The run pushes and offers nothing: suspended, not started, or about to end tasks that could be pushed."""


def in_states(states: Iterable[lifecycle.State]) -> ColumnElement[bool]:
    """The task is in one of some states of the table."""
    return or_(
        *(and_(_task.c.status == str(state.status), _task.c.hold == str(state.hold)) for state in states)
    )


# ---------------------------------------------------------------------------------------------- reading

_COLUMNS = (
    _task.c.id, _task.c.run_id, _task.c.device_id, _task.c.module, _task.c.status, _task.c.hold,
    _task.c.source_version, _task.c.started_at, _task.c.deadline_at, _task.c.first_pushed_at, _task.c.last_pushed_at,
    _task.c.push_due_at, _task.c.attempt, _task.c.retry_at, func.hex(_task.c.failure_mark).label("mark"),
    _task.c.ended_at, _task.c.reason, _task.c.step, _task.c.step_description, _task.c.late_at, _task.c.late_success,
)  # fmt: skip


def _views(query: Any) -> Select[Any]:
    found = query.subquery()
    return select(packed.rows(*found.c))


_here = _task.c.device_id.in_(packed.members("devices"))
_active = _views(union_all(select(*_COLUMNS).where(_here, HOLDS), select(*_COLUMNS).where(_here, _BEHIND)))


def active(
    connection: Connection, device_ids: Iterable[int], now: datetime | None = None
) -> dict[int, list[lifecycle.Task]]:
    """The unfinished tasks of each device that has any: the one in its slot (or its modules'), and who waits behind.

    Args:
        connection: a transaction.
        device_ids: whose.
        now: withholds also what its batch's schedule, which is over, left QUEUED; None for who doesn't ask.
    """
    found: dict[int, list[lifecycle.Task]] = {}
    for task in _read(connection, _active, {"devices": packed.pack(device_ids)}, now):
        found.setdefault(task.device_id, []).append(task)
    for several in found.values():
        several.sort(key=lambda task: task.id)
    return found


_places = packed.table("places", {"device": BigInteger(), "module": String()})
_newest = (
    select(_task.c.id)
    .where(_task.c.device_id == _places.c.device, _task.c.module == _places.c.module)
    .where(_task.c.ended_at.is_not(None))
    .where(_task.c.reason.is_distinct_from(str(lifecycle.Reason.CONFLICT)))
    .order_by(_task.c.id.desc())
    .limit(1)
    .correlate(_places)
    .scalar_subquery()
)
_latest_ended = _views(select(*_COLUMNS).where(_task.c.id.in_(select(_newest).select_from(_places))))


def latest_ended(
    connection: Connection, places: Iterable[tuple[int, str]]
) -> dict[tuple[int, str], lifecycle.Task]:
    """The newest ended task of some devices' modules: late messages are recorded there.

    A conflict doesn't count: the device never heard of that task, so nothing that it says can be about it.
    """
    listed = list(places)
    if not listed:
        return {}
    found = _read(connection, _latest_ended, {"places": packed.pack(listed)}, None)
    return {(task.device_id, task.module): task for task in found}


_runs = select(_run, type_coerce(CLOSED, Integer).label("closed")).where(
    _run.c.id.in_(packed.members("runs"))
)


def _read(
    connection: Connection, query: Select[Any], parameters: Mapping[str, Any], now: datetime | None
) -> list[lifecycle.Task]:
    rows = packed.read(connection, query, parameters)
    if not rows:
        return []
    ids = {"runs": packed.pack({row[1] for row in rows})}
    of = {run.id: _Rules.of(run, now) for run in connection.execute(_runs, ids)}
    return [of[row[1]].task(row) for row in rows]


_STATUS = {str(status): status for status in lifecycle.Status}
_HOLD = {str(hold): hold for hold in lifecycle.Hold}


def _moment(stored: int | None) -> datetime | None:
    return None if stored is None else tables.moment(stored)


@dataclasses.dataclass(frozen=True, slots=True)
class _Rules:
    """What the tasks of one run have in common."""

    target_version: str
    source_versions: tuple[str, ...]
    allow_downgrade: bool
    timeout: timedelta | None
    no_response: timedelta | None
    retry: lifecycle.Retry | None
    confirm: bool
    delta: bool
    push_delivery: bool
    closed: bool
    over: bool
    """Its schedule has ended."""

    @classmethod
    def of(cls, run: Row[Any], now: datetime | None) -> _Rules:
        """From a run's row."""
        retry = lifecycle.Retry(run.retry_interval, run.retry_limit) if run.retry_limit else None
        return cls(
            target_version=run.target_version,
            source_versions=tuple(run.source_versions),
            allow_downgrade=run.allow_downgrade,
            timeout=run.timeout,
            no_response=run.no_response,
            retry=retry,
            confirm=run.confirm,
            delta=run.delta,
            push_delivery=run.push_delivery,
            closed=bool(run.closed),
            over=now is not None and run.end_at is not None and run.end_at <= now,
        )

    def task(self, row: Sequence[Any]) -> lifecycle.Task:
        """From a task's row: `_COLUMNS`."""
        (
            id_, run_id, device_id, module, status, hold, source_version, started_at, deadline_at, first_pushed_at,
            last_pushed_at, push_due_at, attempt, retry_at, mark, ended_at, reason, step, step_description, late_at,
            late_success,
        ) = row  # fmt: skip
        return lifecycle.Task(
            id=id_,
            run_id=run_id,
            device_id=device_id,
            module=module,
            status=_STATUS[status],
            target_version=self.target_version,
            hold=_HOLD[hold],
            source_version=source_version,
            source_versions=self.source_versions,
            allow_downgrade=self.allow_downgrade,
            timeout=self.timeout,
            no_response=self.no_response,
            retry=self.retry,
            confirm=self.confirm,
            delta=self.delta,
            push_delivery=self.push_delivery,
            started_at=_moment(started_at),
            deadline_at=_moment(deadline_at),
            first_pushed_at=_moment(first_pushed_at),
            last_pushed_at=_moment(last_pushed_at),
            push_due_at=_moment(push_due_at),
            attempt=attempt,
            retry_at=_moment(retry_at),
            failure_mark=bytes.fromhex(mark) if mark else None,
            ended_at=_moment(ended_at),
            reason=lifecycle.Reason(reason) if reason else None,
            step=step,
            step_description=step_description,
            late_at=_moment(late_at),
            late_success=bool(late_success),
            withheld=self.closed or (self.over and status == lifecycle.Status.QUEUED),
        )


# ---------------------------------------------------------------------------------------------- writing


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A task before and after a burst of messages, and the log's lines about it."""

    before: lifecycle.Task
    after: lifecycle.Task
    lines: tuple[events.Event, ...]


_MOMENTS = (
    "started_at", "deadline_at", "first_pushed_at", "last_pushed_at", "push_due_at", "retry_at", "ended_at", "late_at",
)  # fmt: skip
_PLAIN = (
    "status", "hold", "reason", "source_version", "attempt", "step", "step_description", "late_success", "holds",
)  # fmt: skip
_PROGRESSED = ("step", "step_description")
_MOVED = tuple(name for name in (*_MOMENTS, *_PLAIN, "failure_mark") if name not in {*_PROGRESSED, "holds"})

_NAMED: dict[str, TypeEngine[Any]] = {"task": BigInteger(), "was": String()}
_progressed = packed.table("progressed", {**_NAMED, "step": Integer(), "step_description": String()})
_save_progress = (
    update(_task)
    .where(_task.c.id == _progressed.c.task, _task.c.status == _progressed.c.was)
    .values({name: _progressed.c[name] for name in _PROGRESSED} | {"claim_epoch": None})
)
_new = packed.table(
    "moved",
    {**_NAMED, "settled": Boolean()} | {name: _task.c[name].type for name in (*_MOMENTS, *_PLAIN)},
)
_save_moves = (
    update(_task)
    .where(_task.c.id == _new.c.task, _task.c.status == _new.c.was)
    .values({name: _new.c[name] for name in (*_MOMENTS, *_PLAIN)})
    .values(
        failure_mark=None,
        # Who was pushed and says something after which no push is due, or that its attempt failed, has its push: its
        # acknowledgement is waited for no more.
        claim_epoch=case((type_coerce(_new.c.settled, Integer) == 1, null()), else_=_task.c.claim_epoch),
    )
)
_save_mark = (
    update(_task)
    .where(_task.c.id == bindparam("task"))
    .values(failure_mark=bindparam("mark", type_=LargeBinary()))
)


def save(connection: Connection, changes: Sequence[Change], now: datetime) -> None:
    """Writes what a burst did to tasks: rows, events, counters, and the runs that ended with them."""
    progressed: list[tuple[Any, ...]] = []
    moved: list[tuple[Any, ...]] = []
    marks: list[dict[str, Any]] = []
    moves = counts.Moves()
    for change in changes:
        before, after = change.before, change.after
        if all(getattr(before, name) == getattr(after, name) for name in _MOVED):
            progressed.append((after.id, before.status, after.step, after.step_description))
            continue
        moved.append(_row(before, after))
        if after.failure_mark is not None:
            marks.append({"task": after.id, "mark": after.failure_mark})
        if before.status != after.status:
            moves.move(_place(before), _place(after))
    if progressed:
        connection.execute(_save_progress, {"progressed": packed.pack(progressed)})
    if moved:
        connection.execute(_save_moves, {"moved": packed.pack(moved)})
    if marks:
        connection.execute(_save_mark, marks)
    events.append(connection, now, [line for change in changes for line in change.lines])
    runs.finish(connection, moves.write(connection), now)


def _row(before: lifecycle.Task, after: lifecycle.Task) -> tuple[Any, ...]:
    moments = [getattr(after, name) for name in _MOMENTS]
    return (
        after.id,
        before.status,
        after.push_due_at is None or after.hold is lifecycle.Hold.RETRY,
        *(None if moment is None else tables.milliseconds(moment) for moment in moments),
        *(getattr(after, name) for name in _PLAIN),
    )


def _place(task: lifecycle.Task) -> counts.Place:
    return task.run_id, task.status, task.reason


# -------------------------------------------------------------------------------------------- presence

_pushing = exists().where(_run.c.id == _task.c.run_id, _run.c.push_delivery)
_PUSHABLE = in_states(lifecycle.states(lifecycle.Trigger.CLAIMED))


def _at(earliest: ColumnElement[Any]) -> ColumnElement[Any]:
    """When a task may be pushed: a minute after its last push, and not before its next attempt's time."""
    interval = lifecycle.PUSH_INTERVAL // tables.MILLISECOND
    allowed = func.coalesce(type_coerce(_task.c.last_pushed_at, tables.Number) + interval, 0)
    attempt = func.coalesce(type_coerce(_task.c.retry_at, tables.Number), 0)
    latest = dialects.later_of(dialects.later_of(allowed, attempt), earliest)
    return type_coerce(latest, tables.Moment())


_due_again = (
    update(_task)
    .where(_here, HOLDS, _PUSHABLE, _pushing)
    .values(push_due_at=_at(bindparam("earliest", type_=tables.Number)))
)
_not_due = update(_task).where(_here, HOLDS, _task.c.push_due_at.is_not(None)).values(push_due_at=None)


def due_again(connection: Connection, device_ids: Iterable[int], earliest: datetime) -> None:
    """Devices came online: their tasks are to be pushed, not before `earliest`, and once a minute at most.

    A failed attempt is not tried again before its time; what waits for a confirmation, or behind, is not pushed.
    """
    connection.execute(
        _due_again, {"devices": packed.pack(device_ids), "earliest": tables.milliseconds(earliest)}
    )


def not_due(connection: Connection, device_ids: Iterable[int]) -> None:
    """Devices went offline: nothing is due for them."""
    connection.execute(_not_due, {"devices": packed.pack(device_ids)})


def due_for_present(connection: Connection, epoch: int, due: datetime) -> None:
    """Tasks that were made while no daemon knew who is there: their push is due for who was there before."""
    here = select(_device.c.id).where(_device.c.online_epoch == epoch)
    first = or_(_task.c.status == str(lifecycle.Status.QUEUED), _task.c.hold == str(lifecycle.Hold.RETRY))
    connection.execute(
        update(_task)
        .where(HOLDS, _PUSHABLE, first, _task.c.push_due_at.is_(None))
        .where(_task.c.device_id.in_(here), _pushing)
        .values(push_due_at=_at(literal(tables.milliseconds(due))))
    )
