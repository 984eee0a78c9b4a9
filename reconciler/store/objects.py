"""What Git declared, as rows: read as the `ActualState` that a plan compares with, written by apply."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from reconciler.domain import actual, lifecycle, plan
from reconciler.domain.desired import Key
from reconciler.domain.resources import Kind
from reconciler.store import counts, events, fetches, revisions, tables

_object, _run = tables.object_, tables.run


@dataclasses.dataclass(frozen=True, slots=True)
class Revision:
    """A commit of the ref that is followed."""

    sha: str
    ref: str
    subject: str = ""
    author: str = ""

    def __str__(self) -> str:
        """The form that status and logs use: `main@sha1:<sha>`."""
        return revisions.text(self.sha, self.ref)


def record_revision(connection: Connection, revision: Revision, now: datetime) -> int:
    """The id of a commit's row, made when the commit is new here. It is the newest now, also when it is back."""
    row = dataclasses.asdict(revision) | {"observed_at": now}
    statement = upsert(tables.revision).on_conflict_do_update(
        index_elements=["sha"], set_={"observed_at": now}
    )
    connection.execute(statement, [row])
    found = select(tables.revision.c.id).where(tables.revision.c.sha == revision.sha)
    return int(connection.execute(found).scalar_one())


def newest_revision(connection: Connection) -> Revision | None:
    """The commit that was applied last; None before the first."""
    revision = tables.revision
    row = connection.execute(
        select(revision).order_by(revision.c.observed_at.desc(), revision.c.id.desc()).limit(1)
    ).first()
    return Revision(row.sha, row.ref, row.subject, row.author) if row else None


def followed_origin(connection: Connection) -> str | None:
    """The repository and ref that were taken over whole; None before the first."""
    return connection.execute(select(tables.daemon.c.origin)).scalar_one_or_none()


def load(connection: Connection, sha: str = "", origin: str = "") -> actual.ActualState:
    """What a plan for the commit `sha` of the repository and ref `origin` compares with."""
    runs = _runs(connection)
    package = tables.package
    query = select(package.c.object_id, package.c.verification)
    trials = {row.object_id: row.verification for row in connection.execute(query)}
    rows = connection.execute(select(_object)).all()
    confirmation = tables.confirmation
    confirmed = select(confirmation.c.cancels).where(confirmation.c.sha == sha)
    followed = followed_origin(connection)
    return actual.ActualState(
        objects={
            Key(Kind(row.kind), row.name): _stored(row, runs.get(row.id, []), trials.get(row.id))
            for row in rows
        },
        first_sight=followed != origin,
        foreign=followed not in {None, origin},
        confirmed_cancels=connection.execute(confirmed).scalar_one_or_none(),
        files=fetches.stored(connection),
        fetches=fetches.load(connection),
    )


def _stored(row: Row[Any], runs: list[actual.Run], trial: str | None) -> actual.Stored:
    held = None
    if row.held:
        held = actual.Held(row.held, row.declared_digest, row.confirmed_digest == row.declared_digest)
    return actual.Stored(
        path=row.path,
        digest=row.digest,
        spec=row.spec,
        declared_digest=row.declared_digest,
        metadata=row.metadata,
        removed=row.removed,
        held=held,
        synced=row.sync == "Synced",
        reason=row.reason,
        message=row.message,
        run=runs[-1] if runs else None,
        earlier=tuple(runs[:-1]),
        verification=actual.Verification(trial) if trial is not None else None,
    )


def _runs(connection: Connection) -> dict[int, list[actual.Run]]:
    """By object: its newest run, last; before it those that still have tasks on their way."""
    newest = select(func.max(_run.c.id)).group_by(_run.c.object_id)
    query = (
        select(_run, tables.package.c.name.label("package"), tables.product.c.name.label("product"))
        .join(tables.package, tables.package.c.id == _run.c.package_id)
        .join(tables.product, tables.product.c.id == _run.c.product_id)
        .where(or_(_run.c.id.in_(newest), counts.goes_on()))
        .order_by(_run.c.id)
    )
    rows = connection.execute(query).all()
    counted = counts.read(connection, [row.id for row in rows])
    found: dict[int, list[actual.Run]] = {}
    for row in rows:
        found.setdefault(row.object_id, []).append(_of(row, counted.get(row.id, {})))
    return found


def _of(row: Row[Any], counted: Mapping[lifecycle.Status, int]) -> actual.Run:
    return actual.Run(
        id=row.id,
        number=row.number,
        phase=actual.Phase(row.phase),
        package=row.package,
        product=row.product,
        unfinished=counts.unfinished(counted),
        type=actual.RunType(row.type),
        canceled_by=row.canceled_by,
        started=row.started_at is not None,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Acceptance:
    """What of an object comes into force."""

    key: Key
    path: str
    digest: str
    spec: Mapping[str, Any]
    revision_id: int
    metadata: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)


def accept(connection: Connection, accepted: Acceptance, now: datetime) -> int:
    """Puts a spec into force; the object's id. Accepting the same again changes nothing but the time."""
    values = {
        "path": accepted.path,
        "digest": accepted.digest,
        "spec": dict(accepted.spec),
        "metadata": dict(accepted.metadata),
        "revision_id": accepted.revision_id,
        "declared_digest": accepted.digest,
        "removed": False,
        "held": None,
        "sync": "Synced",
        "reason": "",
        "message": "",
        "updated_at": now,
    }
    statement = upsert(_object).values(
        source="default", kind=accepted.key.kind, name=accepted.key.name, created_at=now, **values
    )
    statement = statement.on_conflict_do_update(index_elements=["source", "kind", "name"], set_=values)
    connection.execute(statement)
    return object_id(connection, accepted.key)


def object_id(connection: Connection, key: Key) -> int:
    """The id of an object's row."""
    found = select(_object.c.id).where(_object.c.kind == key.kind, _object.c.name == key.name)
    return int(connection.execute(found).scalar_one())


def remove(connection: Connection, key: Key, revision_id: int, now: datetime) -> None:
    """The object left Git. Its row stays, for its history and for when it comes back: held, if it was held."""
    values = {"removed": True, "sync": "Synced", "reason": "", "message": "", "updated_at": now}
    connection.execute(
        update(_object)
        .where(_object.c.kind == key.kind, _object.c.name == key.name)
        .values(revision_id=revision_id, **values)
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Note:
    """What an object's status says now, and where it is declared."""

    key: Key
    path: str
    declared_digest: str
    verdict: plan.Verdict | None
    metadata: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    is_news: bool = True
    """Whether the log is told of the verdict."""


_UNREAD = frozenset({plan.Reason.INVALID, plan.Reason.UNREADABLE})


def note(
    connection: Connection, notes: Iterable[Note], revision_id: int, now: datetime
) -> list[events.Event]:
    """Writes the statuses of objects that were refused, held, or are well again; the log's lines about them."""
    lines = []
    for noted in notes:
        verdict = noted.verdict
        values: dict[str, Any] = {
            "path": noted.path,
            "metadata": dict(noted.metadata),
            "declared_digest": noted.declared_digest,
            "sync": "OutOfSync" if verdict else "Synced",
            "reason": verdict.reason if verdict else "",
            "message": verdict.message if verdict else "",
            "updated_at": now,
        }
        if verdict is not None and verdict.holds:
            values["held"] = plan.Reason.FIRST_SIGHT
        elif verdict is None or verdict.reason not in _UNREAD:  # it was released, and needs no second word
            values["confirmed_digest"] = noted.declared_digest
        statement = upsert(_object).values(
            source="default",
            kind=noted.key.kind,
            name=noted.key.name,
            revision_id=revision_id,
            created_at=now,
            removed=False,
            **values,
        )
        connection.execute(
            statement.on_conflict_do_update(index_elements=["source", "kind", "name"], set_=values)
        )
        if verdict is not None and noted.is_news:
            lines.append(_line(verdict, revision_id))
    return lines


def _line(verdict: plan.Verdict, revision_id: int) -> events.Event:
    return events.Event(
        type=events.Type.HELD if verdict.reason in plan.HOLDS else events.Type.REFUSED,
        kind=verdict.key.kind,
        name=verdict.key.name,
        revision_id=revision_id,
        reason=verdict.reason,
        message=verdict.message,
    )


def confirm(connection: Connection, names: Collection[str] | None) -> list[str]:
    """Releases held batches and packages: those named, or all (None). Returns the names of those that were held."""
    held = _object.c.reason == plan.Reason.FIRST_SIGHT
    if names is not None:
        held = and_(held, _object.c.name.in_(list(names)))
    query = select(_object.c.name).where(held).distinct().order_by(_object.c.name)
    found = list(connection.execute(query).scalars())
    connection.execute(update(_object).where(held).values(confirmed_digest=_object.c.declared_digest))
    return found


def confirm_cancels(connection: Connection, sha: str, cancels: int, who: str, now: datetime) -> None:
    """Somebody confirmed that a commit may cancel so many batches."""
    values = {"cancels": cancels, "who": who, "created_at": now}
    statement = upsert(tables.confirmation).values(sha=sha, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["sha"], set_=values))


def take_over(connection: Connection, origin: str = "") -> None:
    """A commit of this repository and ref was applied, and nothing in it was unknown: what comes later is new."""
    ensure_daemon(connection)
    connection.execute(update(tables.daemon).values(origin=origin))


def ensure_daemon(connection: Connection) -> None:
    """Makes the row of the daemon, in a new database."""
    row = upsert(tables.daemon).values(id=1, epoch=0)
    connection.execute(row.on_conflict_do_nothing(index_elements=["id"]))


def start_daemon(
    connection: Connection, now: datetime, push_interval: timedelta | None = None
) -> tuple[int, datetime | None]:
    """A new daemon takes over, with its operator's push interval: its epoch, and when the last one lived."""
    daemon = tables.daemon
    ensure_daemon(connection)
    before = connection.execute(select(daemon.c.heartbeat_at)).scalar_one()
    connection.execute(
        update(daemon).values(epoch=daemon.c.epoch + 1, heartbeat_at=now, push_interval=push_interval)
    )
    return connection.execute(select(daemon.c.epoch)).scalar_one(), before


def beat(connection: Connection, now: datetime) -> None:
    """The daemon lives."""
    connection.execute(update(tables.daemon).values(heartbeat_at=now))
