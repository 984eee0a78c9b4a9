"""Runs: one life of a batch each. Made and cancelled by apply, ended by whoever moves their last task."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, insert, literal, select, update

from reconciler.domain import actual, lifecycle, resources, targeting
from reconciler.store import counts, dialects, events, tables

_run, _task = tables.run, tables.task


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


def create(connection: Connection, new: NewRun, now: datetime) -> int:
    """Starts a batch's next life; its tasks come with materialisation. Returns the run's id."""
    number = select(func.coalesce(func.max(_run.c.number), 0) + 1).where(_run.c.object_id == new.object_id)
    result = connection.execute(
        insert(_run).values(
            object_id=new.object_id,
            batch=new.batch,
            number=number.scalar_subquery(),
            product_id=new.product_id,
            package_id=new.package_id,
            revision_id=new.revision_id,
            phase="IN_PROGRESS",
            roster_id=new.roster_id,
            module=new.conditions.module,
            target_version=new.conditions.target_version,
            source_versions=list(new.conditions.source_versions),
            allow_downgrade=new.conditions.allow_downgrade,
            push_rate=new.push_rate,
            timeout=new.timeout,
            push_delivery=new.push_delivery,
            tags=dict(new.tags),
            cursor="",
            created_at=now,
        )
    )
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def change(
    connection: Connection, run_id: int, *, push_rate: int, timeout: timedelta | None, tags: Mapping[str, str]
) -> None:
    """What may change while a run goes on (platform rules §4). The timeout counts for tasks that start later."""
    connection.execute(
        update(_run).where(_run.c.id == run_id).values(push_rate=push_rate, timeout=timeout, tags=dict(tags))
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Cancellation:
    """Who cancels a run, and which of its unfinished tasks end with it (platform rules §6)."""

    by: str
    statuses: tuple[lifecycle.Status, ...]
    message: str = ""


def cancel(connection: Connection, run_id: int, cancellation: Cancellation, now: datetime) -> int:
    """Cancels a run: no task is created or pushed any more, tasks in the given statuses end, the others go on.

    A small run's tasks end in this transaction; of a large one the first chunk does, and `continue_cancel` ends the
    others. Returns the number of tasks that are to end.
    """
    run = connection.execute(
        update(_run)
        .where(_run.c.id == run_id, _run.c.phase == "IN_PROGRESS")
        .values(
            phase="CANCELED",
            canceled_by=cancellation.by,
            cursor=None,
            ended_at=now,
            cancel_statuses=[str(status) for status in cancellation.statuses],
            cancel_cursor=0,
        )
        .returning(_run.c.batch, _run.c.revision_id)
    ).first()
    if run is None:
        return 0
    unfinished = counts.read(connection, [run_id]).get(run_id, {})
    total = sum(unfinished.get(status, 0) for status in cancellation.statuses)
    why = f": {cancellation.message}" if cancellation.message else ""
    event = events.Event(
        type=events.Type.CANCELED,
        kind="Batch",
        name=run.batch,
        run_id=run_id,
        revision_id=run.revision_id,
        message=f"by {cancellation.by}, {total} {'task ends' if total == 1 else 'tasks end'}{why}",
    )
    events.append(connection, now, [event])
    continue_cancel(connection, now)
    return total


CHUNK = 20_000
"""Tasks a transaction: more would keep ingest waiting (engine §3)."""


def continue_cancel(connection: Connection, now: datetime, *, chunk: int = CHUNK) -> bool:
    """Ends one chunk of the tasks of a cancelled run; False when no cancellation is under way."""
    run = connection.execute(
        select(_run.c.id, _run.c.cancel_statuses, _run.c.cancel_cursor)
        .where(_run.c.cancel_statuses.is_not(None))
        .order_by(_run.c.id)
        .limit(1)
    ).first()
    if run is None:
        return False
    ahead = and_(_task.c.run_id == run.id, _task.c.device_id > run.cancel_cursor)
    devices = select(_task.c.device_id).where(ahead).order_by(_task.c.device_id).limit(chunk).subquery()
    last = connection.execute(select(func.max(devices.c.device_id))).scalar()
    if last is not None:
        _cancel_tasks(connection, run, and_(ahead, _task.c.device_id <= last), now)
    done = {"cancel_statuses": None, "cancel_cursor": None} if last is None else {"cancel_cursor": last}
    connection.execute(update(_run).where(_run.c.id == run.id).values(**done))
    return True


def _cancel_tasks(
    connection: Connection, run: Row[*tuple[Any, ...]], which: ColumnElement[bool], now: datetime
) -> None:
    """Ends the tasks in their statuses, writes their events from the same rows, and moves the counts."""
    moves = counts.Moves()
    for name in run.cancel_statuses:
        status = lifecycle.Status(name)
        _log_canceled(connection, and_(which, _task.c.status == status), now)
        ended = connection.execute(
            update(_task)
            .where(which, _task.c.status == status)
            .values(
                status=lifecycle.Status.CANCELED,
                reason=lifecycle.Reason.CANCELED,
                holds=False,
                ended_at=now,
                push_due_at=None,
                deadline_at=None,
                claim_epoch=None,
            )
        ).rowcount
        canceled = (run.id, lifecycle.Status.CANCELED, lifecycle.Reason.CANCELED)
        moves.move((run.id, status, None), canceled, ended)
    moves.write(connection)


def _log_canceled(connection: Connection, which: ColumnElement[bool], now: datetime) -> None:
    lines = select(
        literal(now, tables.Moment()),
        literal(str(events.Type.TASK)),
        _task.c.run_id,
        _task.c.id,
        _task.c.device_id,
        _task.c.revision_id,
        _task.c.status,
        literal(str(lifecycle.Status.CANCELED)),
        literal(str(lifecycle.Reason.CANCELED)),
    ).where(which)
    columns = [
        "at",
        "type",
        "run_id",
        "task_id",
        "device_id",
        "revision_id",
        "from_status",
        "to_status",
        "reason",
    ]
    connection.execute(insert(tables.event).from_select(columns, lines))


def finish(connection: Connection, run_ids: Iterable[int], now: datetime) -> None:
    """Completes those runs whose last task has ended."""
    count = tables.task_count
    unfinished = exists().where(
        count.c.run_id == _run.c.id,
        count.c.status.in_([str(s) for s in lifecycle.UNFINISHED]),
        count.c.count > 0,
    )
    completed = connection.execute(
        update(_run)
        .where(_run.c.id.in_(dialects.members(run_ids)), _run.c.phase == "IN_PROGRESS")
        .where(_run.c.cursor.is_(None), ~unfinished)
        .values(phase="COMPLETED", ended_at=now)
        .returning(_run.c.id, _run.c.batch, _run.c.revision_id)
    ).all()
    lines = [
        events.Event(
            type=events.Type.COMPLETED,
            kind="Batch",
            name=row.batch,
            run_id=row.id,
            revision_id=row.revision_id,
            message="all tasks have ended",
        )
        for row in completed
    ]
    events.append(connection, now, lines)
