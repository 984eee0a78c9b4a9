"""Whom a static run takes, chunk by chunk: devices that were there when it began, that fit, and that its share hits.

Called by `jobs` for the job `create`. What a chunk leaves out is listed with its reason; the rest are candidates.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Insert,
    Row,
    Select,
    String,
    and_,
    bindparam,
    func,
    insert,
    literal,
    select,
    tuple_,
)

from reconciler.domain import resources, targeting
from reconciler.domain.lifecycle import Entry
from reconciler.store import (
    creation,
    devices,
    dialects,
    events,
    joblist,
    packed,
    queue,
    recheck,
    runs,
    shares,
    tables,
    yielding,
)

_device, _version, _listed = tables.device, tables.device_version, tables.roster_entry

Run = Row[*tuple[Any, ...]]
"""A row of `run`."""

# The devices of a product, with what they report for a module: "" is what a device says that never said anything.
_SOURCE = _device.outerjoin(
    _version, and_(_version.c.device_id == _device.c.id, _version.c.module == bindparam("module"))
)
_EVERYBODY = and_(
    _device.c.product_id == bindparam("product"),
    _device.c.state != "removed",
    _device.c.id <= bindparam("horizon"),
)
_SAYS = func.coalesce(_version.c.version, "")
_FITS = _SAYS.in_(packed.members("fitting"))


class _Verdicts:
    """What a run's conditions say of each version that the devices of its product report, and of none."""

    def __init__(self, connection: Connection, run: Run) -> None:
        asked = recheck.conditions(run)
        known = [None, *devices.reported_versions(connection, run.product_id, run.module)]
        self._given = {version or "": targeting.judge(asked, version) for version in known}

    def fitting(self) -> str:
        """The versions that fit, packed."""
        return packed.pack([version for version, verdict in self._given.items() if verdict is None])

    def left_out(self, reasons: set[targeting.LeftOut]) -> list[tuple[str, str]]:
        """Versions that are left out for one of these reasons, with the reason."""
        return [(version, str(verdict)) for version, verdict in self._given.items() if verdict in reasons]


# --------------------------------------------------------------------------------------------- the moment


def begin(connection: Connection, run: Run) -> Mapping[str, Any]:
    """What the job keeps of the moment when it begins: the newest device, and where a gray share ends. Reads only.

    A share looks at every device once, which takes seconds for a million: outside of the writer, if possible.
    """
    horizon = connection.execute(select(func.coalesce(func.max(_device.c.id), 0))).scalar_one()
    return {
        "horizon": horizon,
        "last": None if run.gray is None else _last_of_share(connection, run, horizon),
    }


_KEY = devices.gray_key(bindparam("gray_a", type_=BigInteger()), bindparam("gray_b", type_=BigInteger()))


def _order(batch: str) -> dict[str, int]:
    a, b = targeting.gray_parameters(batch)
    return {"gray_a": a, "gray_b": b}


def _last_of_share(connection: Connection, run: Run, horizon: int) -> list[Any]:
    """Key and name of the last device that a share takes: counted and found in one transaction, hence of one moment."""
    given = {
        "product": run.product_id,
        "module": run.module,
        "horizon": horizon,
        "fitting": _Verdicts(connection, run).fitting(),
        **_order(run.batch),
    }
    base = connection.execute(_fitting(func.count()), given).scalar_one()
    taken = targeting.gray_count(base, run.gray)
    if taken == 0:
        return [-1, ""]
    return list(shares.last(connection, _fitting(_KEY), _KEY, (taken, base), given))


def _fitting(*columns: ColumnElement[Any]) -> Select[Any]:
    return select(*columns).select_from(_SOURCE).where(_EVERYBODY, _FITS)


# ---------------------------------------------------------------------------------------------- the chunk


def chunk(turn: joblist.Turn) -> str | None:
    """Decides the next devices after the job's cursor; the new cursor, or None when none was left."""
    connection, run = turn.connection, turn.run
    is_listed, is_gray = run.roster_id is not None, run.gray is not None
    given = {
        "run": run.id,
        "product": run.product_id,
        "roster": run.roster_id,
        "module": run.module,
        "horizon": turn.job.arguments["horizon"],
        "cursor": turn.job.cursor,
        "size": turn.size,
    }
    last: str | None = connection.execute(_last(is_listed=is_listed), given).scalar_one()
    if last is None:
        return None
    verdicts = _Verdicts(connection, run)
    given |= {"last": last, "fitting": verdicts.fitting()}
    if is_gray:
        given |= _order(run.batch) | dict(
            zip(("last_key", "last_name"), turn.job.arguments["last"], strict=True)
        )
    left = _leave_out(connection, run, verdicts, given)
    query = _candidates(is_listed=is_listed, is_gray=is_gray)
    made = creation.create(connection, creation.Candidates(query, given, [run.id]), turn.presence, turn.now)
    if run.started_at is None and run.conflict == resources.Conflict.OVERWRITE:
        _let_trials_in(turn)
    events.append(connection, turn.now, [_event(run, made.get(run.id, {}), left)])
    return last


def _let_trials_in(turn: joblist.Turn) -> None:
    """A trial may wait behind what was overwritten, and what took its place may wait for that very trial."""
    trials = select(tables.task.c.device_id).where(
        tables.task.c.run_id.in_(yielding.TRIALS), dialects.waits(tables.task)
    )
    devices_of_trials = turn.connection.execute(trials).scalars().all()
    queue.promote(turn.connection, devices_of_trials, turn.presence, turn.now)


def _names(*, is_listed: bool) -> ColumnElement[str]:
    """What the cursor moves along: the list, else the product's devices."""
    return _listed.c.name if is_listed else _device.c.name


@functools.cache
def _last(*, is_listed: bool) -> Select[Any]:
    """The last name of the next chunk."""
    name = _names(is_listed=is_listed)
    owner = (
        _listed.c.roster_id == bindparam("roster")
        if is_listed
        else _device.c.product_id == bindparam("product")
    )
    ahead = select(name).where(owner, name > bindparam("cursor")).order_by(name).limit(bindparam("size"))
    return select(func.max(ahead.subquery().c.name))


def _source(*, is_listed: bool) -> tuple[FromClause, ColumnElement[bool]]:
    """The devices of the next chunk: where to look, and which."""
    name = _names(is_listed=is_listed)
    within = and_(_EVERYBODY, name > bindparam("cursor"), name <= bindparam("last"))
    if not is_listed:
        return _SOURCE, within
    return (
        _listed.join(_SOURCE, _device.c.name == _listed.c.name),
        and_(within, _listed.c.roster_id == bindparam("roster")),
    )


@functools.cache
def _candidates(*, is_listed: bool, is_gray: bool) -> Select[Any]:
    source, within = _source(is_listed=is_listed)
    query = select(
        bindparam("run", type_=BigInteger()).label("run_id"),
        _device.c.id.label("device_id"),
        literal(0).label("match_no"),
        _version.c.version,
    )
    query = query.select_from(source).where(within, _FITS)
    if not is_gray:
        return query
    last = tuple_(bindparam("last_key", type_=BigInteger()), bindparam("last_name", type_=String()))
    return query.where(tuple_(_KEY, _device.c.name) <= last)


_VERDICTS = packed.table("verdicts", {"version": String(), "reason": String()})


@functools.cache
def _listing(*, is_listed: bool) -> Insert:
    source, within = _source(is_listed=is_listed)
    source = source.join(_VERDICTS, _VERDICTS.c.version == _SAYS)
    rows = select(bindparam("run", type_=BigInteger()), _device.c.id, _VERDICTS.c.reason, _version.c.version)
    columns = ["run_id", "device_id", "reason", "version"]
    return insert(tables.left_out).from_select(columns, rows.select_from(source).where(within))


def _leave_out(connection: Connection, run: Run, verdicts: _Verdicts, given: Mapping[str, Any]) -> int:
    """Lists those who are left out. Other source versions are no exception, but for a delta, which fits one only."""
    reasons = {targeting.LeftOut.ALREADY, targeting.LeftOut.DOWNGRADE}
    listed = verdicts.left_out(reasons | {targeting.LeftOut.SOURCE} if run.delta else reasons)
    if not listed:
        return 0
    statement = _listing(is_listed=run.roster_id is not None)
    return connection.execute(statement, {**given, "verdicts": packed.pack(listed)}).rowcount


def _event(run: Run, made: Mapping[Entry, int], left: int) -> events.Event:
    created, behind = made.get(Entry.FREE, 0), made.get(Entry.BEHIND, 0)
    message = f"{created + behind} task{'s' * (created + behind != 1)} created"
    if behind:
        message += f" ({behind} wait{'s' * (behind == 1)} behind another)"
    message += f", {made.get(Entry.CONFLICT, 0)} failed at once as conflict, {left} device{'s' * (left != 1)} left out"
    return runs.line(run, events.Type.MATERIALIZED, message)
