"""Whom a static run takes, chunk by chunk: devices that were there when it began, that fit, and that its share hits.

Called by `jobs` for the job `create`. What a chunk leaves out is listed with its reason; the rest are candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    and_,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
)

from reconciler.domain import targeting
from reconciler.domain.lifecycle import Entry
from reconciler.store import creation, devices, dialects, events, joblist, recheck, tables

_run, _device, _version, _listed = tables.run, tables.device, tables.device_version, tables.roster_entry

Run = Row[*tuple[Any, ...]]
"""A row of `run`."""


class Fleet:
    """The devices of a run's product with what they report for its module, and what its conditions say of that."""

    def __init__(self, connection: Connection, run: Run) -> None:
        asked = recheck.conditions(run)
        known = devices.reported_versions(connection, run.product_id, run.module)
        self._verdicts = {version: targeting.judge(asked, version) for version in known}
        self._unknown = targeting.judge(asked, None)
        here = and_(_version.c.device_id == _device.c.id, _version.c.module == run.module)
        self.source: FromClause = _device.outerjoin(_version, here)
        self.everybody = and_(_device.c.product_id == run.product_id, _device.c.state != "removed")

    def given(self, verdict: targeting.LeftOut | None) -> ColumnElement[bool]:
        """The device reports a version (or none) on which the conditions give this verdict."""
        listed = [version for version, given in self._verdicts.items() if given is verdict]
        reports: ColumnElement[bool] = _version.c.version.in_(dialects.members(listed))
        return or_(reports, _version.c.version.is_(None)) if self._unknown is verdict else reports


# --------------------------------------------------------------------------------------------- the moment


def begin(connection: Connection, run: Run) -> Mapping[str, Any]:
    """What the job keeps of the moment when it begins: the newest device, and where a gray share ends. Reads only.

    A share looks at every device once, which takes seconds for a million: outside of the writer, if possible.
    """
    horizon = connection.execute(select(func.coalesce(func.max(_device.c.id), 0))).scalar_one()
    share = _last_of_share(connection, run, horizon) if run.gray is not None else None
    return {"horizon": horizon, "gray": share}


def gray_key(batch: str) -> ColumnElement[int]:
    """`targeting.gray_key` of `tables.device`."""
    a, b = targeting.gray_parameters(batch)
    key = _device.c.hash31 * literal(a, BigInteger()) + literal(b, BigInteger())
    return key % literal(targeting.MODULUS, BigInteger())


def _last_of_share(connection: Connection, run: Run, horizon: int) -> list[Any]:
    """Key and name of the last device that a share takes: one statement, hence one moment."""
    fleet = Fleet(connection, run)
    query = select(gray_key(run.batch).label("key"), _device.c.name.label("name")).select_from(fleet.source)
    query = query.where(fleet.everybody, _device.c.id <= horizon, fleet.given(None))
    fitting = dialects.once(query, "fitting")
    base = select(func.count()).select_from(fitting).scalar_subquery()
    taken = dialects.later_of(base * run.gray // targeting.WHOLE, literal(1))  # targeting.gray_count
    ordered = select(fitting.c.key, fitting.c.name).order_by(fitting.c.key, fitting.c.name)
    last = connection.execute(ordered.limit(1).offset(taken - 1)).first()
    return [-1, ""] if last is None else list(last)


# ---------------------------------------------------------------------------------------------- the chunk


def chunk(turn: joblist.Turn) -> str | None:
    """Decides the next devices after the job's cursor; the new cursor, or None when none was left."""
    connection, job, run = turn.connection, turn.job, turn.run
    last: str | None = connection.execute(
        select(func.max(_names(job, run, turn.size).subquery().c.name))
    ).scalar_one()
    if last is None:
        return None
    fleet = Fleet(connection, run)
    source, within = fleet.source, and_(fleet.everybody, _device.c.id <= job.arguments["horizon"])
    name = _device.c.name
    if run.roster_id is not None:
        source = _listed.join(source, _device.c.name == _listed.c.name)
        within, name = and_(within, _listed.c.roster_id == run.roster_id), _listed.c.name
    within = and_(within, name > job.cursor, name <= last)
    left = _leave_out(connection, run, fleet, select().select_from(source).where(within))
    fitting = select(
        literal(run.id).label("run_id"),
        _device.c.id.label("device_id"),
        literal(0).label("match_no"),
        _version.c.version,
    )
    fitting = fitting.select_from(source).where(within, fleet.given(None), _hit(job, run))
    made = creation.create(connection, creation.Candidates(fitting, [run.id]), turn.presence, turn.now)
    events.append(connection, turn.now, [_event(run, made.get(run.id, {}), left)])
    return last


def _names(job: Run, run: Run, size: int) -> Select[Any]:
    """The next names: of the list, else of the product's devices."""
    if run.roster_id is not None:
        query = select(_listed.c.name).where(
            _listed.c.roster_id == run.roster_id, _listed.c.name > job.cursor
        )
        return query.order_by(_listed.c.name).limit(size)
    query = select(_device.c.name).where(_device.c.product_id == run.product_id, _device.c.name > job.cursor)
    return query.order_by(_device.c.name).limit(size)


def _hit(job: Run, run: Run) -> ColumnElement[bool]:
    """The device belongs to the run's share of the fleet."""
    if run.gray is None:
        return literal(True)  # noqa: FBT003 - a SQL literal
    key, name = job.arguments["gray"]
    return tuple_(gray_key(run.batch), _device.c.name) <= tuple_(literal(key, BigInteger()), literal(name))


def _leave_out(connection: Connection, run: Run, fleet: Fleet, within: Select[Any]) -> int:
    """Lists those who are left out. Other source versions are no exception, but for a delta, which fits one only."""
    reasons = [targeting.LeftOut.ALREADY, targeting.LeftOut.DOWNGRADE]
    if run.delta:
        reasons.append(targeting.LeftOut.SOURCE)
    left = 0
    for reason in reasons:
        rows = within.where(fleet.given(reason)).add_columns(
            literal(run.id), _device.c.id, literal(str(reason)), _version.c.version
        )
        columns = ["run_id", "device_id", "reason", "version"]
        left += connection.execute(insert(tables.left_out).from_select(columns, rows)).rowcount
    return left


def _event(run: Run, made: Mapping[Entry, int], left: int) -> events.Event:
    created, behind = made.get(Entry.FREE, 0), made.get(Entry.BEHIND, 0)
    message = f"{created + behind} task{'s' * (created + behind != 1)} created"
    if behind:
        message += f" ({behind} wait{'s' * (behind == 1)} behind another)"
    message += f", {made.get(Entry.CONFLICT, 0)} failed at once as conflict, {left} device{'s' * (left != 1)} left out"
    return events.Event(
        type=events.Type.MATERIALIZED,
        kind="Batch",
        name=run.batch,
        run_id=run.id,
        revision_id=run.revision_id,
        message=message,
    )
