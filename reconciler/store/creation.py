"""Candidates become tasks: the conflict rule and the entries of the table, in one statement for any number of devices.

Called by `static` (a chunk of a static run's devices) and `matching` (devices that match dynamic runs), which decide
who is a candidate. Here it is decided how each begins: free, as a conflict, or behind another task (platform rules §4
"conflict"), and the counters are moved with it.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CTE,
    Boolean,
    ColumnElement,
    Connection,
    Insert,
    Row,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
)

from reconciler.domain import actual, lifecycle, resources
from reconciler.domain.lifecycle import ENTRIES, Entry
from reconciler.store import bulk, counts, devices, dialects, entry, packed, runs, tables, tasks, yielding

_task, _run, _device = tables.task, tables.run, tables.device
_other = tables.task.alias("other")
_before, _after = tables.run.alias("before"), tables.run.alias("after")


@dataclasses.dataclass(frozen=True, slots=True)
class Candidates:
    """Who is to get a task of which run: at most one a device and slot."""

    query: Select[Any]
    """Its columns: run_id, device_id, match_no, and what the device reports for the run's module, as version.

    One of a few that are made once: what is built of it is kept.
    """
    parameters: Mapping[str, Any]
    """The query's own."""
    run_ids: Collection[int]
    """The runs in it."""
    once: bool = False
    """A device gets no second conflict of a run for one version (dynamic matches)."""


Made = Mapping[int, Mapping[Entry, int]]
"""How many tasks began how, by run."""


def create(connection: Connection, candidates: Candidates, presence: devices.Presence, now: datetime) -> Made:
    """Makes the tasks of some candidates, their counters, and an end of what they overwrite; how many began how.

    What waits for a device behind a task that is overwritten goes on waiting, behind the new one.
    """
    ids = {"runs": packed.pack(candidates.run_ids)}
    succeeding = list(connection.execute(_SUCCEEDING, ids).scalars())
    for run in connection.execute(_INTRUDING, ids).all():
        if run.type == actual.RunType.VERIFY:
            yielding.make_way(connection, _wanted(candidates, run.id), now)
        else:
            _overwrite(connection, candidates, run, now)
    last = connection.execute(_LAST).scalar_one()
    statement = _insert(candidates.query, once=candidates.once, succeeding=bool(succeeding))
    given = {
        **candidates.parameters,
        **entry.parameters(presence, now),
        "succeeding": packed.pack(succeeding),
    }
    connection.execute(statement, given)
    return _count(connection, last)


_LAST = select(func.coalesce(func.max(_task.c.id), 0))

# ------------------------------------------------------------------------------------- the conflict rule


_EARLIER = exists().where(
    _before.c.object_id == _run.c.object_id, _before.c.id < _run.c.id, counts.goes_on(_before)
)
_SUCCEEDING = select(_run.c.id).where(_run.c.id.in_(packed.members("runs")), _EARLIER)
"""Those of some runs whose batch has an earlier run that still drains."""
_INTRUDING = (
    select(_run.c.id, _run.c.batch, _run.c.type)
    .where(_run.c.id.in_(packed.members("runs")))
    .where(or_(_run.c.conflict == resources.Conflict.OVERWRITE, _run.c.type == actual.RunType.VERIFY))
    .order_by(_run.c.id)
)
"""Those of some runs that others end for, or make way for."""
_DYNAMIC = select(_after.c.id).where(_after.c.type == actual.RunType.DYNAMIC)


def _same_slot() -> ColumnElement[bool]:
    """Another task of the device excludes one of this run."""
    return or_(_other.c.module == _run.c.module, ~_other.c.multi, ~_run.c.multi_module)


def _behind_earlier(device_id: ColumnElement[int]) -> ColumnElement[bool]:
    """An earlier run of the batch is not done with the device: the new task waits, whatever `conflict` says."""
    mine = select(_before.c.id).where(_before.c.object_id == _run.c.object_id, _before.c.id < _run.c.id)
    mine = mine.correlate(_run)  # which is that of the candidate, two queries further out
    return exists().where(
        _other.c.device_id == device_id, _other.c.ended_at.is_(None), _other.c.run_id.in_(mine), _same_slot()
    )


def _entering(candidates: Select[Any], *, succeeding: bool) -> CTE:
    """The candidates, and how each begins."""
    candidate = candidates.subquery("candidate")
    busy = exists().where(_other.c.device_id == candidate.c.device_id, dialects.holds(_other), _same_slot())
    waits = _run.c.conflict == resources.Conflict.WAIT
    meets = case((waits, literal(str(Entry.BEHIND))), else_=literal(str(Entry.CONFLICT)))
    ways: list[tuple[ColumnElement[bool], ColumnElement[str]]] = [(busy, meets)]
    if succeeding:
        late = _run.c.id.in_(packed.members("succeeding"))
        ways.insert(0, (and_(late, _behind_earlier(candidate.c.device_id)), literal(str(Entry.BEHIND))))
    how = case(*ways, else_=literal(str(Entry.FREE)))
    query = select(*candidate.c, how.label("entry")).join(_run, _run.c.id == candidate.c.run_id)
    return dialects.once(query, "entering")


def _wanted(candidates: Candidates, run_id: int) -> Select[Any]:
    """The devices of a run's candidates, but those that an earlier run of its batch is not done with."""
    candidate = candidates.query.params(candidates.parameters).subquery("candidate")
    wanted = select(candidate.c.device_id).join(_run, _run.c.id == candidate.c.run_id)
    return wanted.where(_run.c.id == run_id, ~_behind_earlier(candidate.c.device_id))


def _overwrite(
    connection: Connection, candidates: Candidates, run: Row[int, str, str], now: datetime
) -> None:
    """Ends the tasks in the way of a run that overwrites, on devices where all of them can be ended.

    Of dynamic batches the newest comes first (platform rules §4): an older one ends no task of a newer one.
    """
    candidate = candidates.query.params(candidates.parameters).subquery("candidate")
    ends = tasks.in_states(lifecycle.states(lifecycle.Trigger.OVERWRITTEN), _other)
    if run.type == actual.RunType.DYNAMIC:
        ends = and_(ends, _other.c.run_id.not_in(_DYNAMIC.where(_after.c.id > run.id)))
    stubborn = exists().where(_other.c.device_id == candidate.c.device_id, dialects.holds(_other), ~ends)
    wanted = select(candidate.c.device_id).join(_run, _run.c.id == candidate.c.run_id)
    wanted = wanted.where(_run.c.id == run.id, ~stubborn, ~_behind_earlier(candidate.c.device_id))
    ended = bulk.end(
        connection,
        and_(_task.c.device_id.in_(wanted), dialects.holds(_task)),
        lifecycle.Trigger.OVERWRITTEN,
        now,
        message=f"by batch {run.batch}",
    )
    runs.finish(connection, ended.run_ids, now)


# ------------------------------------------------------------------------------------------------- rows


_NOW = bindparam("entry_at", type_=tables.Number)


def _values(entering: CTE) -> dict[str, ColumnElement[Any]]:
    """What is written, by how a task begins."""

    def by_entry(of: Callable[[lifecycle.Rule], ColumnElement[Any]]) -> ColumnElement[Any]:
        return case({str(way): of(rule) for way, rule in ENTRIES.items()}, value=entering.c.entry)

    def holds(rule: lifecycle.Rule) -> bool:
        return rule.to.status in lifecycle.UNFINISHED and rule.to.hold is not lifecycle.Hold.BEHIND

    return {
        "run_id": entering.c.run_id,
        "device_id": entering.c.device_id,
        "match_no": entering.c.match_no,
        "source_version": entering.c.version,
        "module": _run.c.module,
        "revision_id": _run.c.revision_id,
        "multi": _run.c.multi_module,
        "status": by_entry(entry.status),
        "hold": by_entry(lambda rule: literal(str(rule.to.hold))),
        "reason": by_entry(lambda rule: literal(str(rule.reason)) if rule.reason else null()),
        "holds": by_entry(lambda rule: literal(holds(rule), Boolean())),
        "push_due_at": by_entry(lambda rule: entry.FIRST_PUSH if holds(rule) else null()),
        "created_at": _NOW,
        "ended_at": by_entry(lambda rule: _NOW if rule.to.status in lifecycle.ENDED else null()),
    }


@functools.cache
def _insert(candidates: Select[Any], *, once: bool, succeeding: bool) -> Insert:
    """The statement that makes tasks of some candidates; to build it takes longer than to run it for a few."""
    entering = _entering(candidates, succeeding=succeeding)
    source = entering.join(_run, _run.c.id == entering.c.run_id).join(
        _device, _device.c.id == entering.c.device_id
    )
    again = exists().where(
        _other.c.run_id == entering.c.run_id,
        _other.c.device_id == entering.c.device_id,
        _other.c.reason == lifecycle.Reason.CONFLICT,
        _other.c.source_version.is_not_distinct_from(entering.c.version),
    )
    values = _values(entering)
    rows = select(*values.values()).select_from(source)
    if once:
        rows = rows.where(~and_(entering.c.entry == Entry.CONFLICT, again))
    return insert(_task).from_select(list(values), rows)


_BEGUN_BY = (_task.c.run_id, _task.c.status, _task.c.hold, _task.c.reason)
_BEGUN = select(*_BEGUN_BY, func.count()).where(_task.c.id > bindparam("last")).group_by(*_BEGUN_BY)


def _count(connection: Connection, last: int) -> Made:
    """Of the tasks after `last`: the counters, and how they began."""
    moves = counts.Moves()
    made: dict[int, collections.Counter[Entry]] = collections.defaultdict(collections.Counter)
    for run_id, status, hold, reason, count in connection.execute(_BEGUN, {"last": last}):
        moves.add((run_id, lifecycle.Status(status), lifecycle.Reason(reason) if reason else None), count)
        made[run_id][_BEGAN[status in lifecycle.ENDED, lifecycle.Hold(hold)]] += count
    moves.write(connection)
    return made


_BEGAN = {(rule.to.status in lifecycle.ENDED, rule.to.hold): way for way, rule in ENTRIES.items()}
