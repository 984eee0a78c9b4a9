"""What people look at: objects, batches, tasks, devices, as plain values. Reads only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from reconciler.domain import actual, lifecycle
from reconciler.store import about, counts, devices, revisions, tables, task_views
from reconciler.store.task_views import Task, TaskFilter, tasks

__all__ = ["Device", "Object", "Run", "Task", "TaskFilter", "devices_of", "objects", "tasks"]

_object, _run, _device = tables.object_, tables.run, tables.device


@dataclasses.dataclass(frozen=True, slots=True)
class Unsigned:
    """Why a product's signing key can't be used, and since when; None: nobody has looked yet."""

    why: str
    since: datetime | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The newest life of a batch, or of a package's verification. `revision` is the commit that started it."""

    id: int
    number: int
    type: actual.RunType
    phase: str
    jobs: frozenset[str]
    """Work on its devices and tasks that is under way."""
    package: str
    verification: actual.Verification
    """Its package's."""
    product: str
    unsigned: Unsigned | None
    target_version: str
    push_rate: int
    suspended: bool
    """By Git."""
    suspended_by: str | None
    suspended_since: datetime | None
    canceled_by: str | None
    created_at: datetime
    start_at: datetime | None
    end_at: datetime | None
    started_at: datetime | None
    chosen_at: datetime | None
    """When a static one had chosen all of its devices."""
    ended_at: datetime | None
    revision: str
    counts: Mapping[str, int]
    failures: Mapping[str, int]
    left_out: Mapping[str, int]

    @property
    def total(self) -> int:
        """All tasks."""
        return sum(self.counts.values())

    @property
    def materializing(self) -> bool:
        """True while its devices are being worked out."""
        return bool(self.jobs & {"create", "scan"})


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
    metadata: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    """Labels and annotations."""
    materializing: bool = False
    """An inventory whose names are not all devices yet."""
    verification: actual.Verification | None = None
    """Of a package that was accepted."""
    unsigned: Unsigned | None = None
    """Of a product."""
    run: Run | None = None


def states(connection: Connection) -> list[Object]:
    """The objects as whoever asks every few seconds needs them: who was left out is not counted."""
    return _objects(connection, None, None, leaving_out=False)


def objects(connection: Connection, kind: str | None = None, name: str | None = None) -> list[Object]:
    """The objects in Git (and batches that left it with tasks still on their way), by kind and name."""
    return _objects(connection, kind, name, leaving_out=True)


def _objects(
    connection: Connection, kind: str | None, name: str | None, *, leaving_out: bool
) -> list[Object]:
    query = select(_object, tables.revision.c.sha, tables.revision.c.ref).join(
        tables.revision, tables.revision.c.id == _object.c.revision_id
    )
    if kind is not None:
        query = query.where(_object.c.kind == kind)
    if name is not None:
        query = query.where(_object.c.name == name)
    rows = connection.execute(query.order_by(_object.c.kind, _object.c.name)).all()
    runs = _runs(connection, leaving_out=leaving_out)
    due = _materializing(connection)
    states = about.verifications(connection)
    unsigned = _unsigned(connection)
    found = [
        _of(row, runs.get(row.id), states.get(row.id), unsigned.get(row.id), materializing=row.id in due)
        for row in rows
    ]
    gone = {(row.kind, row.name) for row in rows if row.removed and not row.reason}
    return [item for item in found if (item.kind, item.name) not in gone or name is not None or _drains(item)]


def _drains(item: Object) -> bool:
    return item.run is not None and any(item.run.counts.get(s) for s in lifecycle.UNFINISHED)


def _materializing(connection: Connection) -> frozenset[int]:
    """The object ids of inventories whose names are not all devices yet."""
    inventory = tables.inventory
    due = select(inventory.c.object_id).where(inventory.c.cursor.is_not(None))
    return frozenset(connection.execute(due).scalars())


def _unsigned(connection: Connection) -> dict[int, Unsigned]:
    """The products that are held, by their object's id."""
    product = tables.product
    held = select(product.c.object_id, product.c.signing_held, product.c.signing_held_at)
    rows = connection.execute(held.where(product.c.signing_held.is_not(None)))
    return {row.object_id: Unsigned(row.signing_held, row.signing_held_at) for row in rows}


def _of(
    row: Row[Any],
    run: Run | None,
    verification: actual.Verification | None,
    unsigned: Unsigned | None,
    *,
    materializing: bool,
) -> Object:
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
        revision=revisions.text(row.sha, row.ref),
        created_at=row.created_at,
        updated_at=row.updated_at,
        metadata=row.metadata,
        materializing=materializing,
        verification=verification,
        unsigned=unsigned,
        run=run,
    )


def _runs(connection: Connection, *, leaving_out: bool) -> dict[int, Run]:
    newest = select(func.max(_run.c.id)).group_by(_run.c.object_id)
    query = (
        select(
            _run,
            _object.c.updated_at.label("changed_at"),
            tables.package.c.name.label("package"),
            tables.package.c.verification,
            tables.product.c.name.label("product"),
            tables.product.c.signing_held,
            tables.product.c.signing_held_at,
            tables.revision.c.sha,
            tables.revision.c.ref,
        )
        .join(_object, _object.c.id == _run.c.object_id)
        .join(tables.package, tables.package.c.id == _run.c.package_id)
        .join(tables.product, tables.product.c.id == _run.c.product_id)
        .join(tables.revision, tables.revision.c.id == _run.c.revision_id)
        .where(_run.c.id.in_(newest))
    )
    rows = connection.execute(query).all()
    counted = counts.read(connection, [row.id for row in rows])
    jobs: dict[int, set[str]] = {}
    for run_id, type_ in connection.execute(select(tables.job.c.run_id, tables.job.c.type)):
        jobs.setdefault(run_id, set()).add(type_)
    return {
        row.object_id: _run_of(
            connection,
            row,
            counted.get(row.id, {}),
            frozenset(jobs.get(row.id, ())),
            left_out=_left_out(connection, row.id) if leaving_out else {},
        )
        for row in rows
    }


def _left_out(connection: Connection, run_id: int) -> dict[str, int]:
    left = tables.left_out
    counted = select(left.c.reason, func.count()).where(left.c.run_id == run_id).group_by(left.c.reason)
    return {row.reason: row[1] for row in connection.execute(counted)}


def _run_of(
    connection: Connection,
    row: Row[Any],
    counted: Mapping[Any, int],
    jobs: frozenset[str],
    *,
    left_out: Mapping[str, int],
) -> Run:
    return Run(
        id=row.id,
        number=row.number,
        type=actual.RunType(row.type),
        phase=row.phase,
        jobs=jobs,
        package=row.package,
        verification=actual.Verification(row.verification),
        product=row.product,
        unsigned=Unsigned(row.signing_held, row.signing_held_at) if row.signing_held is not None else None,
        target_version=row.target_version,
        push_rate=row.push_rate,
        suspended=row.suspended,
        suspended_by=row.suspended_by,
        suspended_since=task_views.suspended_since(row, row.changed_at),
        canceled_by=row.canceled_by,
        created_at=row.created_at,
        start_at=row.start_at,
        end_at=row.end_at,
        started_at=row.started_at,
        chosen_at=row.chosen_at,
        ended_at=row.ended_at,
        revision=revisions.text(row.sha, row.ref),
        counts={str(status): count for status, count in sorted(counted.items())},
        failures=dict(counts.failures(connection, row.id)),
        left_out=left_out,
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
    present = about.present_epochs(connection)
    return [
        Device(
            id=row.id,
            product=row.product,
            product_key=row.product_key,
            name=row.name,
            state=row.state,
            tags=row.tags or {},
            versions=versions.get(row.id, {}),
            online=row.online_epoch in present,
            online_since=row.online_since,
            last_seen_at=row.last_seen_at,
            has_secret=row.identity is not None,
        )
        for row in rows
    ]
