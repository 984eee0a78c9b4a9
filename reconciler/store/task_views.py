"""What people see of tasks: each with its run, its device, and what decides for what it waits. Reads only.

Called by `get`, `describe` and `trace`.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, ScalarSelect, Select, and_, case, func, or_, select

from reconciler.domain import actual, lifecycle, resources, targeting, waiting
from reconciler.store import about, rates, recheck, revisions, tables
from reconciler.store.tasks import FILE_LOST

_run, _task, _device, _object = tables.run, tables.task, tables.device, tables.object_


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One device's part in a batch. `revision` is the commit that asked for it."""

    id: int
    run_id: int
    kind: str
    """Batch, or Package: then it is a part of that package's verification."""
    batch: str
    run: int
    product: str
    device: str
    module: str
    status: str
    hold: str
    reason: str | None
    step: int | None
    step_description: str
    source_version: str | None
    target_version: str
    pushes: int
    attempt: int
    retry_limit: int
    retry_at: datetime | None
    created_at: datetime
    first_pushed_at: datetime | None
    last_pushed_at: datetime | None
    started_at: datetime | None
    deadline_at: datetime | None
    ended_at: datetime | None
    late_at: datetime | None
    late_success: bool
    revision: str
    facts: waiting.Facts
    """What decides for what it waits, but for what is known of the daemon."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks to show."""

    batch: str | None = None
    """Of its newest run; a batch's own, or else the verification of a package of that name."""
    device: str | None = None
    status: str | None = None
    run_id: int | None = None
    """Of this run, in no order: a few of a million are found at once."""
    device_id: int | None = None


def newest_run(name: str) -> ScalarSelect[int]:
    """The newest run of a batch; where no batch has the name, of the verification of the package that has it."""
    named = _run.join(_object, _object.c.id == _run.c.object_id)
    of_batch = case((_object.c.kind == "Batch", 0), else_=1)
    query = select(_run.c.id).select_from(named).where(_run.c.batch == name)
    return query.order_by(of_batch, _run.c.id.desc()).limit(1).scalar_subquery()


def tasks(connection: Connection, wanted: TaskFilter, limit: int) -> list[Task]:
    """Tasks of the newest run of a batch, in the order of its devices; or of all batches or a device, newest first."""
    query = _tasks().limit(limit)
    if wanted.batch is not None:
        query = query.where(_task.c.run_id == newest_run(wanted.batch)).order_by(_task.c.device_id)
    if wanted.run_id is not None:
        query = query.where(_task.c.run_id == wanted.run_id)
    else:
        query = query.order_by(_task.c.id.desc())
    if wanted.device is not None:
        named = select(_device.c.id).where(_device.c.name == wanted.device)
        query = query.where(_task.c.device_id.in_(named))
    if wanted.device_id is not None:
        query = query.where(_task.c.device_id == wanted.device_id)
    if wanted.status is not None:
        query = query.where(_task.c.status == wanted.status)
    present = about.present_epochs(connection)
    return [_task_of(row, present) for row in connection.execute(query)]


def _occupying(column: str) -> ColumnElement[Any]:
    """Of the run whose task has the device, for a task that waits behind it or failed because of it."""
    other, run = _task.alias("other"), _run.alias("other_run")
    here = or_(~other.c.multi, ~_task.c.multi, other.c.module == _task.c.module)
    holder = (
        select(run.c[column])
        .join(other, other.c.run_id == run.c.id)
        .where(other.c.device_id == _task.c.device_id, other.c.holds, here)
        .limit(1)
        .correlate(_task)
        .scalar_subquery()
    )
    waits = _task.c.hold == str(lifecycle.Hold.BEHIND)
    return case((or_(waits, _task.c.reason == str(lifecycle.Reason.CONFLICT)), holder), else_=None)


_BAD = (str(lifecycle.Status.FAILED), str(lifecycle.Status.CANCELED))
_BADLY = _task.c.status.in_(_BAD)
_OPEN = and_(
    _run.c.phase != actual.Phase.CANCELED,
    ~_object.c.removed,
    func.coalesce(_object.c.spec["state"].as_string(), "") != str(resources.State.CANCELED),
)
"""A device of the run may be upgraded again, once its schedule goes on."""


def _tasks() -> Select[Any]:
    return (
        select(
            _task, _run.c.batch, _run.c.number, _run.c.type, _run.c.target_version, _run.c.push_rate,
            _run.c.source_versions, _run.c.allow_downgrade, _device.c.state.label("device_state"),
            case((_BADLY, _OPEN), else_=False).label("is_open"), _run.c.schedule_ended,
            case((_BADLY, recheck.reported), else_=None).label("reports"),
            _run.c.push_delivery, _run.c.retry_interval, _run.c.retry_limit, _run.c.start_at,
            _run.c.created_at.label("accepted_at"), _run.c.started_at.label("run_started_at"), _run.c.suspended,
            _run.c.suspended_by, _run.c.suspended_at, _object.c.kind, _object.c.updated_at.label("changed_at"),
            tables.package.c.verification, _device.c.name.label("device"), _device.c.online_epoch,
            _device.c.online_since, _device.c.last_seen_at, tables.product.c.name.label("product"),
            tables.product.c.signing_held, tables.product.c.signing_held_at,
            tables.revision.c.sha, tables.revision.c.ref, _occupying("batch").label("occupied_by"),
            _occupying("type").label("occupied_by_type"),
            FILE_LOST.label("file_lost"),
        )
        .join(_run, _run.c.id == _task.c.run_id)
        .join(_object, _object.c.id == _run.c.object_id)
        .join(tables.package, tables.package.c.id == _run.c.package_id)
        .join(_device, _device.c.id == _task.c.device_id)
        .join(tables.product, tables.product.c.id == _device.c.product_id)
        .join(tables.revision, tables.revision.c.id == _task.c.revision_id)
    )  # fmt: skip


def suspended_since(row: Row[Any], changed_at: datetime) -> datetime | None:
    """Since when a row of `run` is suspended: in Git since its spec came into force, by an operator since then."""
    since = [changed_at] if row.suspended else []
    if row.suspended_by is not None:
        since.append(row.suspended_at or changed_at)
    return min(since, default=None)


def _again(row: Row[Any], *, is_trial: bool) -> waiting.Again:
    return waiting.again(
        left_out=targeting.judge(recheck.conditions(row), row.reports),
        is_removed=row.device_state == "removed",
        is_trial=is_trial,
        is_open=row.is_open,
        is_over=row.schedule_ended,
    )


def _facts(row: Row[Any], present: frozenset[int]) -> waiting.Facts:
    retry = lifecycle.Retry(row.retry_interval, row.retry_limit) if row.retry_interval is not None else None
    trial = row.type == actual.RunType.VERIFY
    return waiting.Facts(
        status=lifecycle.Status(row.status),
        hold=lifecycle.Hold(row.hold),
        created_at=row.created_at,
        push_due_at=row.push_due_at,
        retry_at=row.retry_at,
        occupied_by=row.occupied_by,
        occupied_by_trial=row.occupied_by_type == actual.RunType.VERIFY,
        again=_again(row, is_trial=trial) if row.status in _BAD else waiting.Again.RETRY,
        accepted_at=row.accepted_at,
        start_at=row.start_at,
        started_at=row.run_started_at,
        verified=trial or actual.Verification(row.verification).opens,
        suspended_at=suspended_since(row, row.changed_at),
        unsigned_since=(row.signing_held_at or row.accepted_at) if row.signing_held is not None else None,
        file_lost=bool(row.file_lost),
        push_delivery=row.push_delivery,
        push_rate=row.push_rate,
        retry=retry,
        online=row.online_epoch in present,
        online_since=row.online_since,
        last_seen_at=row.last_seen_at,
    )


def _task_of(row: Row[Any], present: frozenset[int]) -> Task:
    return Task(
        id=row.id,
        run_id=row.run_id,
        kind=row.kind,
        batch=row.batch,
        run=row.number,
        product=row.product,
        device=row.device,
        module=row.module,
        status=row.status,
        hold=row.hold,
        reason=row.reason,
        step=row.step,
        step_description=row.step_description,
        source_version=row.source_version,
        target_version=row.target_version,
        pushes=row.pushes,
        attempt=row.attempt,
        retry_limit=row.retry_limit,
        retry_at=row.retry_at,
        created_at=row.created_at,
        first_pushed_at=row.first_pushed_at,
        last_pushed_at=row.last_pushed_at,
        started_at=row.started_at,
        deadline_at=row.deadline_at,
        ended_at=row.ended_at,
        late_at=row.late_at,
        late_success=row.late_success,
        revision=revisions.text(row.sha, row.ref),
        facts=_facts(row, present),
    )


class Waits:
    """Works out what tasks wait for; asks the database once for each run."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self._connection = connection
        self._heartbeat_at = about.heartbeat(connection)
        self._now = now
        self._pushed: dict[int, dict[int, int]] = {}

    def facts(self, task: Task) -> waiting.Facts:
        """What decides for what a task waits, with what is known of the daemon."""
        if task.run_id not in self._pushed:
            second = int(self._now.timestamp())
            self._pushed[task.run_id] = rates.recent(self._connection, task.run_id, second)
        pushed = self._pushed[task.run_id]
        return dataclasses.replace(task.facts, heartbeat_at=self._heartbeat_at, pushed=pushed)

    def of(self, task: Task) -> waiting.Waiting | None:
        """What a task waits for; None when it is at work or over."""
        return waiting.waits_for(self.facts(task), self._now)
