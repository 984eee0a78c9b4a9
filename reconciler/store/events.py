"""The append-only log: what happened to which object, run, task and device, when, and by which commit.

Called by every service that changes state, in the transaction of that change: an event is missing only when its
change is. Nothing here updates or deletes.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Row,
    Select,
    and_,
    bindparam,
    func,
    insert,
    literal,
    or_,
    select,
)

from reconciler.domain import lifecycle
from reconciler.store import packed, revisions, tables


class Type(enum.StrEnum):
    """What kind of thing happened."""

    CREATED = "created"
    CHANGED = "changed"
    REMOVED = "removed"
    REFUSED = "refused"
    HELD = "held"
    CONFIRMED = "confirmed"
    CANCELED = "canceled"
    MATERIALIZED = "materialized"
    COMPLETED = "completed"
    TASK = "task"
    LATE = "late"
    VERSION = "version"
    REGISTERED = "registered"
    COMMAND = "command"
    STARTED = "started"
    CLOCK_JUMP = "clock-jump"
    SIGNING = "signing"


class Event(NamedTuple):
    """One line of the log. A tuple, because bursts of messages write thousands of them."""

    type: Type
    kind: str | None = None
    name: str | None = None
    run_id: int | None = None
    task_id: int | None = None
    device_id: int | None = None
    revision_id: int | None = None
    from_status: lifecycle.Status | None = None
    to_status: lifecycle.Status | None = None
    reason: str | None = None
    message: str = ""


_event = tables.event


@functools.lru_cache(maxsize=64)
def _append(names: tuple[str, ...]) -> Insert:
    """Writes these columns of many lines. There are few such sets: what each kind of line says."""
    lines = packed.in_order("lines", {name: _event.c[name].type for name in names})
    at = bindparam("now", type_=tables.Moment()).label("at")
    return insert(_event).from_select([*names, "at"], lines.add_columns(at))


def append(connection: Connection, now: datetime, events: Sequence[Event]) -> None:
    """Writes lines into the log, all with the same time, in this order."""
    if events:
        columns = dict(zip(Event._fields, zip(*events, strict=True), strict=True))
        said = {
            name: column for name, column in columns.items() if any(value is not None for value in column)
        }
        lines = packed.pack(zip(*said.values(), strict=True))
        connection.execute(_append(tuple(said)), {"now": now, "lines": lines})


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line of the log, with the names that a reader knows things by."""

    id: int
    at: datetime
    type: str
    kind: str | None
    name: str | None
    batch: str | None
    device: str | None
    from_status: str | None
    to_status: str | None
    reason: str | None
    message: str
    revision: str | None
    trial: bool = False
    """It is about a package's verification, whose run has the package's name."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which lines to read."""

    batch: str | None = None
    device: str | None = None
    kind: str | None = None
    name: str | None = None
    after: int = 0


def _named() -> Select[Any]:
    """Lines with names, newest first. A task's own commit is theirs, where no other is named."""
    event, run, device, revision = tables.event, tables.run, tables.device, tables.revision
    commit = func.coalesce(event.c.revision_id, tables.task.c.revision_id)
    return (
        select(
            event.c.id,
            event.c.at,
            event.c.type,
            event.c.kind,
            event.c.name,
            run.c.batch,
            (run.c.type == "Verify").label("trial"),
            device.c.name.label("device"),
            event.c.from_status,
            event.c.to_status,
            event.c.reason,
            event.c.message,
            revision.c.sha,
            revision.c.ref,
        )
        .select_from(
            event.outerjoin(run, run.c.id == event.c.run_id)
            .outerjoin(device, device.c.id == event.c.device_id)
            .outerjoin(tables.task, tables.task.c.id == event.c.task_id)
            .outerjoin(revision, revision.c.id == commit)
        )
        .order_by(event.c.id.desc())
    )


def read(connection: Connection, wanted: Filter, limit: int) -> list[Line]:
    """The newest `limit` lines that fit, oldest first."""
    event = tables.event
    query = _named().where(event.c.id > wanted.after).limit(limit)
    if wanted.batch is not None:
        query = query.where(_about(wanted.batch))
    if wanted.device is not None:
        devices = select(tables.device.c.id).where(tables.device.c.name == wanted.device)
        query = query.where(event.c.device_id.in_(devices))
    if wanted.kind is not None and wanted.name is not None:
        query = query.where(_about(wanted.name, literal(wanted.kind)))
    elif wanted.kind is not None:
        query = query.where(event.c.kind == wanted.kind)
    elif wanted.name is not None:
        query = query.where(event.c.name == wanted.name)
    return [_line(row) for row in reversed(connection.execute(query).all())]


def _about(name: str, kind: ColumnElement[str] | None = None) -> ColumnElement[bool]:
    """Lines about an object, its runs and their tasks: a batch (or, where none has the name, a package) by default."""
    event, object_ = tables.event, tables.object_
    if kind is None:
        named = select(func.min(object_.c.kind)).where(
            object_.c.name == name, object_.c.kind.in_(["Batch", "Package"])
        )
        kind = func.coalesce(named.scalar_subquery(), "Batch")
    runs = (
        select(tables.run.c.id)
        .join(object_, object_.c.id == tables.run.c.object_id)
        .where(object_.c.name == name, object_.c.kind == kind)
    )
    return or_(event.c.run_id.in_(runs), and_(event.c.kind == kind, event.c.name == name))


def of_task(connection: Connection, device_id: int, task_id: int, limit: int) -> list[Line]:
    """The newest lines about one task, oldest first."""
    event = tables.event
    query = _named().where(event.c.device_id == device_id, event.c.task_id == task_id).limit(limit)
    return [_line(row) for row in reversed(connection.execute(query).all())]


def _line(row: Row[*tuple[Any, ...]]) -> Line:
    values = row._asdict()
    sha, ref = values.pop("sha"), values.pop("ref")
    trial = bool(values.pop("trial"))
    return Line(**values, trial=trial, revision=revisions.text(sha, ref) if sha else None)
