"""What people look at: objects, batches, tasks, devices, as plain values. Reads only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from reconciler.store import counts, devices, revisions, tables

_object, _run, _task, _device = tables.object_, tables.run, tables.task, tables.device


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The newest life of a batch. `revision` is the commit that started it."""

    id: int
    number: int
    phase: str
    materializing: bool
    package: str
    product: str
    target_version: str
    push_rate: int
    canceled_by: str | None
    created_at: datetime
    ended_at: datetime | None
    revision: str
    counts: Mapping[str, int]
    failures: Mapping[str, int]
    left_out: Mapping[str, int]

    @property
    def total(self) -> int:
        """All tasks."""
        return sum(self.counts.values())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """One object of Git and how it is. `revision` is the commit that its spec in force came with."""

    id: int
    kind: str
    name: str
    path: str
    spec: Mapping[str, Any] | None
    digest: str | None
    declared_digest: str
    synced: bool
    reason: str
    message: str
    revision: str
    created_at: datetime
    updated_at: datetime
    materializing: bool = False
    """An inventory whose names are not all devices yet."""
    run: Run | None = None


def objects(connection: Connection, kind: str | None = None, name: str | None = None) -> list[Object]:
    """The objects in Git (and batches that left it with tasks still on their way), by kind and name."""
    query = select(_object, tables.revision.c.sha, tables.revision.c.ref).join(
        tables.revision, tables.revision.c.id == _object.c.revision_id
    )
    if kind is not None:
        query = query.where(_object.c.kind == kind)
    if name is not None:
        query = query.where(_object.c.name == name)
    rows = connection.execute(query.order_by(_object.c.kind, _object.c.name)).all()
    runs = _runs(connection)
    due = _materializing(connection)
    found = [_of(row, runs.get(row.id), materializing=row.id in due) for row in rows]
    gone = {(row.kind, row.name) for row in rows if row.removed and not row.reason}
    return [item for item in found if (item.kind, item.name) not in gone or name is not None or _drains(item)]


def _drains(item: Object) -> bool:
    return item.run is not None and any(item.run.counts.get(s) for s in ("QUEUED", "NOTIFIED", "IN_PROGRESS"))


def _materializing(connection: Connection) -> frozenset[int]:
    """The object ids of inventories whose names are not all devices yet."""
    inventory = tables.inventory
    due = select(inventory.c.object_id).where(inventory.c.cursor.is_not(None))
    return frozenset(connection.execute(due).scalars())


def _revision(row: Row[Any]) -> str:
    return revisions.text(row.sha, row.ref)


def _of(row: Row[Any], run: Run | None, *, materializing: bool) -> Object:
    return Object(
        id=row.id,
        kind=row.kind,
        name=row.name,
        path=row.path,
        spec=row.spec,
        digest=row.digest,
        declared_digest=row.declared_digest,
        synced=row.sync == "Synced",
        reason=row.reason or ("Removed" if row.removed else ""),
        message=row.message,
        revision=_revision(row),
        created_at=row.created_at,
        updated_at=row.updated_at,
        materializing=materializing,
        run=run,
    )


def _runs(connection: Connection) -> dict[int, Run]:
    newest = select(func.max(_run.c.id)).group_by(_run.c.object_id)
    query = (
        select(
            _run,
            tables.package.c.name.label("package"),
            tables.product.c.name.label("product"),
            tables.revision.c.sha,
            tables.revision.c.ref,
        )
        .join(tables.package, tables.package.c.id == _run.c.package_id)
        .join(tables.product, tables.product.c.id == _run.c.product_id)
        .join(tables.revision, tables.revision.c.id == _run.c.revision_id)
        .where(_run.c.id.in_(newest))
    )
    rows = connection.execute(query).all()
    counted = counts.read(connection, [row.id for row in rows])
    return {row.object_id: _run_of(connection, row, counted.get(row.id, {})) for row in rows}


def _run_of(connection: Connection, row: Row[Any], counted: Mapping[Any, int]) -> Run:
    left = tables.left_out
    left_out = select(left.c.reason, func.count()).where(left.c.run_id == row.id).group_by(left.c.reason)
    return Run(
        id=row.id,
        number=row.number,
        phase=row.phase,
        materializing=row.cursor is not None,
        package=row.package,
        product=row.product,
        target_version=row.target_version,
        push_rate=row.push_rate,
        canceled_by=row.canceled_by,
        created_at=row.created_at,
        ended_at=row.ended_at,
        revision=_revision(row),
        counts={str(status): count for status, count in sorted(counted.items())},
        failures=dict(counts.failures(connection, row.id)),
        left_out={row.reason: row[1] for row in connection.execute(left_out)},
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One device's part in a batch. `revision` is the commit that asked for it."""

    id: int
    run_id: int
    batch: str
    run: int
    product: str
    device: str
    module: str
    status: str
    reason: str | None
    step: int | None
    step_description: str
    source_version: str | None
    target_version: str
    pushes: int
    push_rate: int
    push_delivery: bool
    push_due_at: datetime | None
    created_at: datetime
    first_pushed_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    late_success: bool
    online: bool
    revision: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks to show."""

    batch: str | None = None
    device: str | None = None
    status: str | None = None


def tasks(connection: Connection, wanted: TaskFilter, limit: int) -> list[Task]:
    """Tasks of the newest run of a batch, or of a device, newest first."""
    query = _tasks().limit(limit)
    if wanted.batch is not None:
        newest = select(func.max(_run.c.id)).where(_run.c.batch == wanted.batch).scalar_subquery()
        query = query.where(_task.c.run_id == newest).order_by(_device.c.name)
    else:
        query = query.order_by(_task.c.id.desc())
    if wanted.device is not None:
        named = select(_device.c.id).where(_device.c.name == wanted.device)
        query = query.where(_task.c.device_id.in_(named))
    if wanted.status is not None:
        query = query.where(_task.c.status == wanted.status)
    presence = _presence(connection)
    return [_task_of(row, presence) for row in connection.execute(query)]


def _tasks() -> Select[Any]:
    return (
        select(
            _task,
            _run.c.batch,
            _run.c.number,
            _run.c.target_version,
            _run.c.push_rate,
            _run.c.push_delivery,
            _device.c.name.label("device"),
            _device.c.online_epoch,
            tables.product.c.name.label("product"),
            tables.revision.c.sha,
            tables.revision.c.ref,
        )
        .join(_run, _run.c.id == _task.c.run_id)
        .join(_device, _device.c.id == _task.c.device_id)
        .join(tables.product, tables.product.c.id == _device.c.product_id)
        .join(tables.revision, tables.revision.c.id == _task.c.revision_id)
    )


def _presence(connection: Connection) -> frozenset[int]:
    """The epochs whose presence counts: the running daemon's, and the assumed one."""
    epoch = connection.execute(select(tables.daemon.c.epoch)).scalar_one_or_none() or 0
    return frozenset({epoch, devices.ASSUMED_EPOCH})


def _task_of(row: Row[Any], presence: frozenset[int]) -> Task:
    return Task(
        id=row.id,
        run_id=row.run_id,
        batch=row.batch,
        run=row.number,
        product=row.product,
        device=row.device,
        module=row.module,
        status=row.status,
        reason=row.reason,
        step=row.step,
        step_description=row.step_description,
        source_version=row.source_version,
        target_version=row.target_version,
        pushes=row.pushes,
        push_rate=row.push_rate,
        push_delivery=row.push_delivery,
        push_due_at=row.push_due_at,
        created_at=row.created_at,
        first_pushed_at=row.first_pushed_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        late_success=row.late_success,
        online=row.online_epoch in presence,
        revision=_revision(row),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device."""

    id: int
    product: str
    product_key: str
    name: str
    state: str
    tags: Mapping[str, str]
    versions: Mapping[str, str]
    online: bool
    online_since: datetime | None
    last_seen_at: datetime | None
    has_secret: bool


def devices_of(
    connection: Connection, *, product: str | None = None, name: str | None = None, limit: int = 1000
) -> list[Device]:
    """Devices by product and name; at most `limit`."""
    products, identity = tables.product, tables.identity
    query = (
        select(
            _device,
            products.c.name.label("product"),
            products.c.product_key,
            identity.c.device_id.label("identity"),
        )
        .join(products, products.c.id == _device.c.product_id)
        .outerjoin(identity, identity.c.device_id == _device.c.id)
        .order_by(products.c.name, _device.c.name)
        .limit(limit)
    )
    if product is not None:
        query = query.where(products.c.name == product)
    if name is not None:
        query = query.where(_device.c.name == name)
    rows = connection.execute(query).all()
    versions: dict[int, dict[str, str]] = {}
    for (owner, module), version in devices.versions(connection, [row.id for row in rows]).items():
        versions.setdefault(owner, {})[module] = version
    presence = _presence(connection)
    return [
        Device(
            id=row.id,
            product=row.product,
            product_key=row.product_key,
            name=row.name,
            state=row.state,
            tags=row.tags or {},
            versions=versions.get(row.id, {}),
            online=row.online_epoch in presence,
            online_since=row.online_since,
            last_seen_at=row.last_seen_at,
            has_secret=row.identity is not None,
        )
        for row in rows
    ]
