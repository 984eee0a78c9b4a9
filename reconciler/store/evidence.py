"""What is known of one device and of every batch of its product: the facts of a trace.

Reads only, by indexes of the device and the few runs of its product, never the fleet. Called by `services.trace`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from reconciler.domain import actual, conditions, targeting, trace_facts, waiting
from reconciler.domain.limits import Limits
from reconciler.store import dialects, recheck, tables, task_views, tasks

_run, _device, _object = tables.run, tables.device, tables.object_


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """The newest life of a batch, or of a package's verification, as a trace looks at it."""

    id: int
    kind: str
    number: int
    in_git: bool
    batch: trace_facts.Batch


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """The device of a trace."""

    id: int
    product_id: int
    hash31: int
    name: str
    removed: bool
    created_at: datetime
    reports: dict[str, trace_facts.Report]

    def of(self, module: str) -> trace_facts.Device:
        """As the rules of a batch for that module see it."""
        return trace_facts.Device(self.name, self.removed, self.created_at, self.reports.get(module))


def device(connection: Connection, device_id: int) -> Device:
    """A device, with what it reports since when."""
    row = connection.execute(select(_device).where(_device.c.id == device_id)).one()
    version = tables.device_version
    found = connection.execute(select(version).where(version.c.device_id == device_id))
    reports = {each.module: trace_facts.Report(each.version, each.reported_at) for each in found}
    return Device(
        row.id, row.product_id, row.hash31, row.name, row.state == "removed", row.created_at, reports
    )


def runs(connection: Connection, of: Device, limits: Limits) -> list[Run]:
    """The newest run of each batch and verification of the device's product, newest first."""
    newest = select(func.max(_run.c.id)).where(_run.c.product_id == of.product_id).group_by(_run.c.object_id)
    rows = connection.execute(
        select(
            _run, _object.c.kind, _object.c.removed, _object.c.sync, _object.c.reason.label("note"),
            _object.c.updated_at.label("changed_at"), tables.package.c.name.label("package"),
            tables.package.c.verification, tables.product.c.signing_held, tasks.FILE_LOST.label("file_lost"),
        )
        .join(_object, _object.c.id == _run.c.object_id)
        .join(tables.package, tables.package.c.id == _run.c.package_id)
        .join(tables.product, tables.product.c.id == _run.c.product_id)
        .where(_run.c.id.in_(newest))
        .order_by(_run.c.id.desc())
    ).all()  # fmt: skip
    seen = _Seen(connection, of, rows)
    return [_run_of(row, seen, limits) for row in rows]


class _Seen:
    """What the database knows of the device and all of these runs, asked for once."""

    def __init__(self, connection: Connection, of: Device, rows: Iterable[Row[Any]]) -> None:
        self.device = of
        runs = list(rows)
        ids = [row.id for row in runs]
        entry, job, left = tables.roster_entry, tables.job, tables.left_out
        rosters = [row.roster_id for row in runs if row.roster_id is not None]
        listed = select(entry.c.roster_id).where(
            entry.c.roster_id.in_(dialects.members(rosters)), entry.c.name == of.name
        )
        self.listed = set(connection.execute(listed).scalars())
        making = select(job.c.run_id).where(job.c.run_id.in_(ids), job.c.type.in_(["create", "scan"]))
        self.making = set(connection.execute(making).scalars())
        out = select(left).where(left.c.run_id.in_(dialects.members(ids)), left.c.device_id == of.id)
        self.left_out = {row.run_id: row for row in connection.execute(out)}
        self.groups = _groups(connection, of.id, [row.group_id for row in runs if row.group_id is not None])
        self.matching = [row for row in runs if _matches(row)]

    def newer(self, row: Row[Any]) -> str | None:
        """The newest dynamic batch that the device's version matches, where that is not this one."""
        report = self.device.reports.get(row.module)
        fit = (
            other
            for other in self.matching
            if other.module == row.module
            and targeting.judge(recheck.conditions(other), report.version if report else None) is None
        )
        newest = next(fit, None)
        return newest.batch if newest is not None and newest.id > row.id else None


def _matches(row: Row[Any]) -> bool:
    """A dynamic run that matches by version now."""
    running = row.phase == actual.Phase.IN_PROGRESS and row.started_at is not None
    return running and row.type == actual.RunType.DYNAMIC and row.group_id is None


def _groups(connection: Connection, device_id: int, ids: list[int]) -> dict[int, trace_facts.Group]:
    group, member = tables.device_group, tables.membership
    joined = and_(member.c.group_id == group.c.id, member.c.device_id == device_id)
    rows = connection.execute(
        select(group.c.id, group.c.name, group.c.removed, member.c.present, member.c.joins)
        .select_from(group.outerjoin(member, joined))
        .where(group.c.id.in_(ids))
    )
    return {
        row.id: trace_facts.Group(
            name=row.name, removed=row.removed, member=bool(row.present), joins=row.joins or 0
        )
        for row in rows
    }


def _run_of(row: Row[Any], seen: _Seen, limits: Limits) -> Run:
    type_ = actual.RunType(row.type)
    out = seen.left_out.get(row.id)
    since = task_views.suspended_since(row, row.changed_at)
    suspension = None
    if since is not None:
        suspension = conditions.Suspension(by_git=row.suspended, by=row.suspended_by, since=since)
    batch = trace_facts.Batch(
        name=row.batch,
        type=type_,
        phase=actual.Phase(row.phase),
        stage=row.phase,
        conditions=recheck.conditions(row),
        delta=row.delta,
        accepted_at=row.created_at,
        started_at=row.started_at,
        chosen_at=row.chosen_at,
        is_late=row.horizon is not None and seen.device.id > row.horizon,
        start_at=row.start_at,
        end_at=row.end_at,
        canceled_by=row.canceled_by,
        materializing=row.id in seen.making,
        note="" if row.sync == "Synced" else row.note,
        listed=None if row.roster_id is None else row.roster_id in seen.listed,
        group=seen.groups.get(row.group_id),
        gray=_gray(row, seen.device),
        new_reports_only=row.new_reports_only,
        newer=seen.newer(row) if _matches(row) else None,
        match_limit=limits.matches_per_device,
        package=row.package,
        verification=actual.Verification(row.verification),
        suspended=f"{suspension}; since {waiting.moment(suspension.since)}" if suspension is not None else "",
        unsigned=row.signing_held or "",
        file_lost=bool(row.file_lost),
        confirm=row.confirm,
        left_out=targeting.LeftOut(out.reason) if out is not None else None,
        left_out_version=out.version if out is not None else None,
    )
    return Run(row.id, row.kind, row.number, not row.removed, batch)


def _gray(row: Row[Any], of: Device) -> trace_facts.Gray | None:
    if row.gray is None:
        return None
    return trace_facts.Gray(row.gray, targeting.gray_key(of.hash31, *targeting.gray_parameters(row.batch)))


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A batch in Git that never had a run."""

    name: str
    reason: str
    message: str


def never_began(connection: Connection, of: Device) -> list[Held]:
    """The batches in Git that never began, by name: those that came cancelled, and those that are held or refused.

    Whom the latter are for is not known: they are told of to every device.
    """
    batch = and_(_object.c.kind == "Batch", ~_object.c.removed, _object.c.id.not_in(select(_run.c.object_id)))
    found = connection.execute(select(_object).where(batch).order_by(_object.c.name)).all()
    package = tables.package
    names = select(package.c.name).where(package.c.product_id == of.product_id)
    packages = set(connection.execute(names).scalars()) if found else set()
    return [_held(row) for row in found if row.digest is None or (row.spec or {}).get("package") in packages]


def _held(row: Row[Any]) -> Held:
    if row.digest is None or row.sync != "Synced":  # a cancelled one may have been changed since, and refused
        return Held(row.name, row.reason, row.message)
    remedy = "take `state: Canceled` out of its manifest, if it is to begin"
    return Held(row.name, "it came with `state: Canceled`", remedy)
