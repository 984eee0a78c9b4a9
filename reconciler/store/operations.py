"""What operators do to runs and tasks. Called by `services.orders`, which refuses; what was ordered is logged there.

Single tasks move by the table, one step each; all of a run's tasks are confirmed in chunks, one statement each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    func,
    literal,
    select,
    type_coerce,
    update,
)

from reconciler.domain import actual, lifecycle, resources, targeting
from reconciler.store import (
    bulk,
    counts,
    devices,
    dialects,
    events,
    jobs,
    pace,
    queue,
    recheck,
    runs,
    tables,
    tasks,
)

_run, _task, _device, _object = tables.run, tables.task, tables.device, tables.object_


@dataclasses.dataclass(frozen=True, slots=True)
class Author:
    """Who ordered something, and why."""

    who: str
    why: str = ""

    def says(self, done: str) -> str:
        """What was done, by whom and why, for the log."""
        return f"{done} by {self.who}" + (f": {self.why}" if self.why else "")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A life of a batch, or of a package's verification, as far as orders depend on it."""

    id: int
    object_id: int
    name: str
    number: int
    type: actual.RunType
    phase: actual.Phase
    spec: dict[str, Any]
    product_id: int
    product: str
    package: str
    verification: actual.Verification
    conditions: targeting.Conditions
    conflict: resources.Conflict
    multi_module: bool
    download: resources.Download
    start_at: datetime | None
    end_at: datetime | None
    started_at: datetime | None
    schedule_ended: bool
    suspended: bool
    suspended_by: str | None
    suspended_at: datetime | None
    path: str
    removed: bool
    """Its batch has left Git."""
    materializing: bool

    @property
    def is_trial(self) -> bool:
        """True of a package's verification."""
        return self.type is actual.RunType.VERIFY

    @property
    def life(self) -> actual.Run:
        """The same, as plans see it."""
        started = self.started_at is not None
        return actual.Run(
            self.id, self.number, self.phase, self.package, self.product, type=self.type, started=started
        )


def find(connection: Connection, kind: resources.Kind, name: str) -> Run | None:
    """The newest run of a batch, or of the verification of a package; None while there was none."""
    mine = and_(_object.c.kind == str(kind), _object.c.name == name)
    row = connection.execute(_runs().where(mine).order_by(_run.c.id.desc()).limit(1)).first()
    return _run_of(row) if row is not None else None


def life(connection: Connection, run_id: int) -> Run:
    """A run by its id: an earlier life of a batch, say."""
    return _run_of(connection.execute(_runs().where(_run.c.id == run_id)).one())


def _runs() -> Select[Any]:
    making = select(tables.job.c.id).where(tables.job.c.run_id == _run.c.id, tables.job.c.type == "create")
    return (
        select(
            _run,
            _object.c.spec,
            _object.c.path,
            _object.c.removed,
            tables.package.c.name.label("package"),
            tables.package.c.verification,
            tables.product.c.name.label("product"),
            making.exists().label("materializing"),
        )
        .join(_object, _object.c.id == _run.c.object_id)
        .join(tables.package, tables.package.c.id == _run.c.package_id)
        .join(tables.product, tables.product.c.id == _run.c.product_id)
    )


def _run_of(row: Row[Any]) -> Run:
    return Run(
        id=row.id,
        object_id=row.object_id,
        name=row.batch,
        number=row.number,
        type=actual.RunType(row.type),
        phase=actual.Phase(row.phase),
        spec=dict(row.spec or {}),
        product_id=row.product_id,
        product=row.product,
        package=row.package,
        verification=actual.Verification(row.verification),
        conditions=recheck.conditions(row),
        conflict=resources.Conflict(row.conflict),
        multi_module=row.multi_module,
        download=resources.Download(row.download),
        start_at=row.start_at,
        end_at=row.end_at,
        started_at=row.started_at,
        schedule_ended=row.schedule_ended,
        suspended=row.suspended,
        suspended_by=row.suspended_by,
        suspended_at=row.suspended_at,
        path=row.path,
        removed=row.removed,
        materializing=row.materializing,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """A device of the run's product, and its version of the run's module."""

    id: int
    removed: bool
    version: str | None


def device(connection: Connection, run: Run, name: str) -> Device | None:
    """A device by name; None when the product has none of that name."""
    query = select(_device.c.id, _device.c.state).where(
        _device.c.product_id == run.product_id, _device.c.name == name
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    versions = devices.versions(connection, [row.id])
    return Device(row.id, row.state == "removed", versions.get((row.id, run.conditions.module)))


def newest_task(connection: Connection, run: Run, device_id: int) -> lifecycle.Task | None:
    """The newest task of a device in a run, ended or not; None when it has none."""
    mine = and_(_task.c.run_id == run.id, _task.c.device_id == device_id)
    newest = connection.execute(select(func.max(_task.c.id)).where(mine)).scalar()
    return tasks.one(connection, newest) if newest is not None else None


@dataclasses.dataclass(frozen=True, slots=True)
class Occupant:
    """A task that keeps another one of its device from beginning."""

    task: lifecycle.Task
    batch: str
    object_id: int


def occupants(connection: Connection, run: Run, device_id: int) -> list[Occupant]:
    """The tasks that have what a task of the run would need: the device, or its module (platform rules §4)."""
    free = (
        and_(_task.c.multi, _task.c.module != run.conditions.module) if run.multi_module else literal(0) == 1
    )
    rows = connection.execute(
        select(_task.c.id, _run.c.batch, _run.c.object_id)
        .join(_run, _run.c.id == _task.c.run_id)
        .where(_task.c.device_id == device_id, tasks.HOLDS, ~free)
    ).all()
    active = {task.id: task for task in tasks.active(connection, [device_id]).get(device_id, ())}
    return [Occupant(active[row.id], row.batch, row.object_id) for row in rows]


def unfinished(connection: Connection, run: Run, device_id: int) -> list[lifecycle.Task]:
    """A device's unfinished tasks of every life of the run's batch."""
    lives = select(_run.c.id).where(_run.c.object_id == run.object_id)
    mine = set(connection.execute(lives).scalars())
    return [task for task in tasks.active(connection, [device_id]).get(device_id, ()) if task.run_id in mine]


# ------------------------------------------------------------------------------------------ single tasks


def confirm(
    connection: Connection,
    waiting: Sequence[lifecycle.Task],
    author: Author,
    presence: devices.Presence,
    now: datetime,
) -> None:
    """Tasks in CONFIRM become QUEUED, and are pushed at once where their device is there."""
    _move(connection, waiting, lifecycle.Trigger.CONFIRMED, author.says("confirmed"), now)
    _make_due(connection, _task.c.id.in_(dialects.members(task.id for task in waiting)), presence, now)


def cancel(
    connection: Connection,
    unwanted: Sequence[lifecycle.Task],
    author: Author,
    presence: devices.Presence,
    now: datetime,
) -> None:
    """Unfinished tasks end as cancelled; what waits behind them has its turn."""
    _move(connection, unwanted, lifecycle.Trigger.CANCELED, author.says("cancelled"), now)
    queue.promote(connection, {task.device_id for task in unwanted}, presence, now)


@dataclasses.dataclass(frozen=True, slots=True)
class Again:
    """A task that is upgraded again: how it enters, on which version, and whom it pushes aside."""

    task: lifecycle.Task
    entry: lifecycle.Entry
    source_version: str | None
    overwritten: tuple[lifecycle.Task, ...] = ()


def upgrade_again(
    connection: Connection, again: Again, author: Author, presence: devices.Presence, now: datetime
) -> lifecycle.Task:
    """A task that ended badly begins anew, as returned; a run that had completed goes on with it.

    Of what waited behind a task that it overwrites, a trial may go first: its run may wait for that very trial.
    """
    run = connection.execute(select(_run.c.batch).where(_run.c.id == again.task.run_id)).one()
    _move(connection, again.overwritten, lifecycle.Trigger.OVERWRITTEN, f"overwritten by {run.batch}", now)
    after = lifecycle.again(again.task, again.entry, again.source_version)
    line = _line(again.task, after, author.says("upgraded again"))
    runs.reopen(connection, after.run_id)
    tasks.save(connection, [tasks.Change(again.task, after, (line,))], now)
    _make_due(connection, _task.c.id == after.id, presence, now)
    queue.promote(connection, {after.device_id}, presence, now)
    return tasks.one(connection, after.id)


def _move(
    connection: Connection,
    moved: Sequence[lifecycle.Task],
    trigger: lifecycle.Trigger,
    message: str,
    now: datetime,
) -> None:
    """One event happens to some tasks."""
    changes = []
    for task in moved:
        after = lifecycle.step(task, lifecycle.Event(trigger), now).task
        changes.append(tasks.Change(task, after, (_line(task, after, message),)))
    tasks.save(connection, changes, now)


def _line(before: lifecycle.Task, after: lifecycle.Task, message: str) -> events.Event:
    return events.Event(
        type=events.Type.TASK,
        run_id=before.run_id,
        task_id=before.id,
        device_id=before.device_id,
        from_status=before.status,
        to_status=after.status,
        reason=after.reason,
        message=message,
    )


def _make_due(
    connection: Connection, which: ColumnElement[bool], presence: devices.Presence, now: datetime
) -> None:
    """QUEUED tasks whose device is there are pushed: when its own report could be heard, and once a minute at most."""
    moment = tables.milliseconds(now)
    since = dialects.earlier_of(
        func.coalesce(type_coerce(_device.c.online_since, tables.Number), 0), literal(moment)
    )
    settled = since + presence.settle // tables.MILLISECOND
    allowed = func.coalesce(pace.AFTER_LAST, 0)
    due = (
        select(dialects.later_of(dialects.later_of(settled, allowed), literal(moment)))
        .where(_device.c.id == _task.c.device_id, _device.c.online_epoch == presence.epoch)
        .correlate(_task)
        .scalar_subquery()
    )
    pushing = select(_run.c.id).where(_run.c.push_delivery)
    connection.execute(
        update(_task)
        .where(
            which, tasks.in_states([lifecycle.State(lifecycle.Status.QUEUED)]), _task.c.push_due_at.is_(None)
        )
        .where(_task.c.run_id.in_(pushing))
        .values(push_due_at=type_coerce(due, tables.Moment()))
    )


# ------------------------------------------------------------------------------------------- whole runs


def confirm_chunk(
    connection: Connection,
    run_id: int,
    after: int,
    author: Author,
    presence: devices.Presence,
    *,
    now: datetime,
    chunk: int = jobs.CHUNK,
) -> tuple[int, int | None]:
    """Confirms a run's tasks of the next devices; how many, and the last of those devices (None: nothing was left).

    Args:
        connection: a writing transaction.
        run_id: whose tasks in CONFIRM become QUEUED.
        after: the id of the last device that was done; 0 at first.
        author: who confirms them, and why.
        presence: who is there.
        now: this moment.
        chunk: how many at most.
    """
    asking = and_(_task.c.run_id == run_id, dialects.asks(_task), _task.c.device_id > after)
    ahead = select(_task.c.device_id).where(asking)
    found = ahead.order_by(_task.c.device_id).limit(chunk).subquery()
    last = connection.execute(select(func.max(found.c.device_id))).scalar()
    if last is None:
        return 0, None
    ids = connection.execute(select(_task.c.id).where(asking, _task.c.device_id <= last)).scalars().all()
    which = _task.c.id.in_(dialects.members(ids))
    to = lifecycle.TABLE[lifecycle.State(lifecycle.Status.CONFIRM)][lifecycle.Trigger.CONFIRMED].to
    line = bulk.Line(literal(str(to.status)), None, author.says("confirmed"))
    bulk.log(connection, _task, which, line, now)
    count = connection.execute(
        update(_task).where(which).values(status=str(to.status), hold=str(to.hold))
    ).rowcount
    _make_due(connection, which, presence, now)
    moves = counts.Moves()
    moves.move((run_id, lifecycle.Status.CONFIRM, None), (run_id, to.status, None), count)
    moves.write(connection)
    return count, last


def asking(connection: Connection, run_id: int) -> int:
    """How many tasks of a run wait for a confirmation."""
    return counts.read(connection, [run_id]).get(run_id, {}).get(lifecycle.Status.CONFIRM, 0)


def draining(connection: Connection, run_id: int) -> int:
    """How many tasks of a run have not ended."""
    return sum(counts.unfinished(counts.read(connection, [run_id]).get(run_id, {})).values())


def lives(connection: Connection, run: Run) -> list[int]:
    """The runs of a batch that an order about the whole of it is for: the newest, and earlier ones that still drain."""
    mine = connection.execute(select(_run.c.id).where(_run.c.object_id == run.object_id)).scalars().all()
    counted = counts.read(connection, mine)
    return [id_ for id_ in mine if id_ == run.id or counts.unfinished(counted.get(id_, {}))]


def suspend(connection: Connection, run: Run, author: Author, now: datetime) -> None:
    """An operator suspends a batch: nothing of its lives is pushed or offered. Their deadlines go on."""
    values = {"suspended_by": author.who, "suspended_at": now}
    connection.execute(
        update(_run).where(_run.c.id.in_(dialects.members(lives(connection, run)))).values(**values)
    )


def suspender(connection: Connection, run: Run) -> str | None:
    """Who suspended a batch: the newest of its lives that an operator suspended; None: none is."""
    held = select(_run.c.suspended_by).where(
        _run.c.object_id == run.object_id, _run.c.suspended_by.is_not(None)
    )
    return connection.execute(held.order_by(_run.c.id.desc()).limit(1)).scalar()


def resume(connection: Connection, run: Run) -> None:
    """The operator's suspension is over, of every life of the batch."""
    held = and_(_run.c.object_id == run.object_id, _run.c.suspended_by.is_not(None))
    connection.execute(update(_run).where(held).values(suspended_by=None, suspended_at=None))
