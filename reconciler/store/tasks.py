"""Tasks: read and written for a burst of messages, and made due by who comes and goes.

Called by ingest (`active`, `latest_ended`, `save`) and presence (`due_again`, `not_due`, `due_for_present`). Pushes are
`pushes`, what the clock ends is `deadlines`. Every update compares before it sets, so doing anything twice changes
nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    LargeBinary,
    Row,
    Select,
    String,
    Update,
    and_,
    bindparam,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.types import TypeEngine

from reconciler.domain import lifecycle
from reconciler.store import counts, dialects, events, pace, packed, runs, tables

_run, _task, _device, _job = tables.run, tables.task, tables.device, tables.job
_file, _blob = tables.package_file, tables.blob

# ------------------------------------------------------------------------------------------ conditions

HOLDS = dialects.holds(_task)
"""The task occupies its device."""

_BEHIND = dialects.waits(_task)

_HALTING: list[ColumnElement[str]] = [literal_column(f"'{type_}'") for type_ in ("cancel", "start", "end")]
"""Types of jobs; in the text, so that it is not made anew for each burst."""
FILE_LOST = exists().where(
    _file.c.package_id == _run.c.package_id, _file.c.blob_id == _blob.c.id, ~_blob.c.stored
)
"""A file of the run's package was lost, and is being got again."""
CLOSED = or_(
    _run.c.started_at.is_(None),
    _run.c.suspended,
    _run.c.suspended_by.is_not(None),
    exists().where(_job.c.run_id == _run.c.id, _job.c.type.in_(_HALTING)),
    exists().where(tables.product.c.id == _run.c.product_id, tables.product.c.signing_held.is_not(None)),
    FILE_LOST,
)
"""The run pushes and offers nothing: suspended, not started, about to end tasks, unsigned, or a file of it is lost."""


def in_states(states: Iterable[lifecycle.State], task: FromClause = _task) -> ColumnElement[bool]:
    """The task is in one of some states of the table."""
    return or_(
        *(and_(task.c.status == str(state.status), task.c.hold == str(state.hold)) for state in states)
    )


# ---------------------------------------------------------------------------------------------- reading

Place = tuple[int, str]
"""A device's module."""

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


def found(connection: Connection, device_ids: Iterable[int], now: datetime | None = None) -> list[Found]:
    """The unfinished tasks of some devices: those in their slots, and those that wait behind them; oldest first.

    Args:
        connection: a transaction.
        device_ids: whose.
        now: withholds also what its batch's schedule, which is over, left QUEUED; None for who doesn't ask.
    """
    return _read(connection, _active, {"devices": packed.pack(device_ids)}, now)


def active(
    connection: Connection, device_ids: Iterable[int], now: datetime | None = None
) -> dict[int, list[lifecycle.Task]]:
    """The same by device, as the table of states knows them."""
    by_device: dict[int, list[lifecycle.Task]] = {}
    for one in found(connection, device_ids, now):
        by_device.setdefault(one.device_id, []).append(one.task())
    return by_device


_places = packed.table("places", {"device": BigInteger(), "module": String()})
_newest = (
    select(_task.c.id)
    .where(_task.c.device_id == _places.c.device, _task.c.module == _places.c.module)
    .where(_task.c.ended_at.is_not(None))
    .where(_task.c.reason.is_distinct_from(str(lifecycle.Reason.CONFLICT)))
    .order_by(_task.c.ended_at.desc(), _task.c.id.desc())
    .limit(1)
    .correlate(_places)
    .scalar_subquery()
)
_latest_ended = _views(select(*_COLUMNS).where(_task.c.id.in_(select(_newest).select_from(_places))))


def latest_ended(connection: Connection, places: Iterable[Place]) -> dict[Place, lifecycle.Task]:
    """Of the tasks of some devices' modules those that ended last: late messages are recorded there.

    That need not be the newest: an older one may have been upgraded again. A conflict doesn't count: the device never
    heard of that task, so nothing that it says can be about it.
    """
    listed = list(places)
    if not listed:
        return {}
    ended = _read(connection, _latest_ended, {"places": packed.pack(listed)}, None)
    return {one.place: one.task() for one in ended}


_one = _views(select(*_COLUMNS).where(_task.c.id == bindparam("task")))


def one(connection: Connection, task_id: int) -> lifecycle.Task:
    """A task by its id, whether it has ended or not."""
    return _read(connection, _one, {"task": task_id}, None)[0].task()


_runs = select(
    _run, type_coerce(CLOSED, Integer).label("closed"), pace.INTERVAL.label("push_interval")
).where(_run.c.id.in_(packed.members("runs")))


def _read(
    connection: Connection, query: Select[Any], parameters: Mapping[str, Any], now: datetime | None
) -> list[Found]:
    rows = packed.read(connection, query, parameters)
    if not rows:
        return []
    ids = {"runs": packed.pack({row[1] for row in rows})}
    of = {run.id: _Rules.of(run, now) for run in connection.execute(_runs, ids)}
    return sorted((Found(row[0], row[2], row[3], row, of[row[1]]) for row in rows), key=_number)


_NOTED = frozenset(
    (str(state.status), str(state.hold))
    for state, row in lifecycle.TABLE.items()
    if row.get(lifecycle.Trigger.PROGRESS) == lifecycle.Rule(state, frozenset({lifecycle.Effect.NOTE_STEP}))
)
"""Where a progress report changes nothing but what is shown, by the table: most of what devices ever say."""


class Found(NamedTuple):
    """A task as it was read. Most are only told how far their device is, and never made into more than this."""

    id: int
    device_id: int
    module: str
    row: Sequence[Any]
    rules: _Rules

    @property
    def place(self) -> Place:
        """Its device's module."""
        return self.device_id, self.module

    @property
    def run_id(self) -> int:
        """Its batch's life."""
        return int(self.row[1])

    @property
    def is_behind(self) -> bool:
        """It waits for its device."""
        return bool(self.row[5] == lifecycle.Hold.BEHIND)

    @property
    def notes_progress(self) -> bool:
        """All that a progress report does is to become its newest step."""
        return (self.row[4], self.row[5]) in _NOTED and not self.row[14]

    @property
    def step(self) -> tuple[int | None, str]:
        """Its newest step, and what was said with it."""
        return self.row[17], self.row[18]

    def task(self) -> lifecycle.Task:
        """As the table of states knows it."""
        return self.rules.task(self.row)


_number = operator.itemgetter(0)


_STATUS = {str(status): status for status in lifecycle.Status}
_HOLD = {str(hold): hold for hold in lifecycle.Hold}
_REASON = {None: None} | {str(reason): reason for reason in lifecycle.Reason}


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
    push_interval: timedelta
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
            push_interval=run.push_interval * tables.MILLISECOND,
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
            id_, run_id, device_id, module, _STATUS[status], self.target_version, _HOLD[hold], source_version,
            self.source_versions, self.allow_downgrade, self.timeout, self.no_response, self.retry, self.confirm,
            self.delta, self.push_delivery, self.push_interval, _moment(started_at), _moment(deadline_at),
            _moment(first_pushed_at), _moment(last_pushed_at), _moment(push_due_at), attempt, _moment(retry_at),
            bytes.fromhex(mark) if mark else None, _moment(ended_at), _REASON[reason], step, step_description,
            _moment(late_at), bool(late_success), self.closed or (self.over and status == lifecycle.Status.QUEUED),
        )  # fmt: skip


# ---------------------------------------------------------------------------------------------- writing


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A task before and after a burst of messages, and the log's lines about it."""

    before: lifecycle.Task
    after: lifecycle.Task
    lines: tuple[events.Event, ...]


_SAVED = (
    "status", "hold", "holds", "reason", "source_version", "attempt", "step", "step_description", "late_success",
    "failure_mark", "started_at", "deadline_at", "first_pushed_at", "last_pushed_at", "push_due_at", "retry_at",
    "ended_at", "late_at",
)  # fmt: skip
_PROGRESSED = ("step", "step_description")
_saved = operator.attrgetter(*_SAVED)


@functools.lru_cache(maxsize=256)
def _save(names: tuple[str, ...], *, settled: bool) -> Update:
    """Writes these columns of many tasks. There are few such sets: what the rows of the table change."""
    kinds: dict[str, TypeEngine[Any]] = {"task": BigInteger(), "was": String()}
    new = packed.table("changed", kinds | {name: _task.c[name].type for name in names})
    values = {name: new.c[name] for name in names} | ({"claim_epoch": None} if settled else {})
    return update(_task).where(_task.c.id == new.c.task, _task.c.status == new.c.was).values(values)


_save_mark = (
    update(_task)
    .where(_task.c.id == bindparam("task"))
    .values(failure_mark=bindparam("mark", type_=LargeBinary()))
)


def note_steps(connection: Connection, noted: Iterable[tuple[Found, tuple[int | None, str]]]) -> None:
    """Writes the newest steps of tasks, and what was said with them, where the task is still as it was found."""
    rows = [(one.id, one.row[4], *step) for one, step in noted if step != one.step]
    if rows:
        connection.execute(_save(_PROGRESSED, settled=True), {"changed": packed.pack(rows)})


def save(connection: Connection, changes: Sequence[Change], now: datetime) -> None:
    """Writes what a burst did to tasks: rows, events, counters, and the runs that ended with them."""
    rows: dict[tuple[tuple[str, ...], bool], list[tuple[Any, ...]]] = collections.defaultdict(list)
    marks: list[dict[str, Any]] = []
    moves = counts.Moves()
    for change in changes:
        before, after = change.before, change.after
        new = {
            n: is_ for n, was, is_ in zip(_SAVED, _saved(before), _saved(after), strict=True) if was != is_
        }
        if new.get("failure_mark") is not None:
            marks.append({"task": after.id, "mark": new.pop("failure_mark")})
        rows[tuple(new), _is_settled(new, after)].append(
            (after.id, before.status, *map(_stored, new.values()))
        )
        if before.status != after.status:
            moves.move(_place(before), _place(after))
    for (names, settled), listed in rows.items():
        connection.execute(_save(names, settled=settled), {"changed": packed.pack(listed)})
    if marks:
        connection.execute(_save_mark, marks)
    events.append(connection, now, [line for change in changes for line in change.lines])
    runs.finish(connection, moves.write(connection), now)


def _is_settled(new: Mapping[str, Any], after: lifecycle.Task) -> bool:
    """Who was pushed and reports progress, or anything after which no push is due, has its push.

    So has whose attempt failed. Its acknowledgement is waited for no more.
    """
    return new.keys() <= set(_PROGRESSED) or after.push_due_at is None or after.hold is lifecycle.Hold.RETRY


def _stored(value: Any) -> Any:
    return tables.milliseconds(value) if isinstance(value, datetime) else value


def _place(task: lifecycle.Task) -> counts.Place:
    return task.run_id, task.status, task.reason


# -------------------------------------------------------------------------------------------- presence

_pushing = exists().where(_run.c.id == _task.c.run_id, _run.c.push_delivery)
_PUSHABLE = in_states(lifecycle.states(lifecycle.Trigger.CLAIMED))


def _at(earliest: ColumnElement[Any]) -> ColumnElement[Any]:
    """When a task may be pushed: an interval after its last push, and not before its next attempt's time."""
    allowed = func.coalesce(pace.AFTER_LAST, 0)
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
