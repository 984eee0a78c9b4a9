"""Devices that match running dynamic batches (platform rules §4 "Dynamic batches").

Called by a burst, after its own writes (`match`, `arrived`), by inventories (`arrived`), and by jobs, when a run looks
at the fleet (`scan`). Here it is decided which run a device matches; how the task begins is `creation`'s.

Of the runs that go by version, the newest one that fits a device's version matches it, and no other. Of those that go
by group, each does, once for each time that the device came into the group. The newer run comes first in either case:
the older ones meet their conflict rule.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Integer,
    Row,
    and_,
    exists,
    func,
    or_,
    select,
    true,
)

from reconciler.domain import actual, lifecycle, targeting
from reconciler.store import (
    creation,
    devices,
    dialects,
    events,
    groups,
    joblist,
    packed,
    recheck,
    runs,
    tables,
)

_run, _task, _device, _version = tables.run, tables.task, tables.device, tables.device_version
_member = tables.membership


@dataclasses.dataclass(frozen=True, slots=True)
class Reported:
    """A device said which version a module runs; `changed`: another one than before, or its first."""

    device_id: int
    product_id: int
    module: str
    version: str
    changed: bool


Run = Row[*tuple[Any, ...]]
Match = tuple[int, int, int]
"""A run, a device, and which match of the two it is."""


def match(
    connection: Connection, reported: Sequence[Reported], presence: devices.Presence, now: datetime
) -> int:
    """What follows from some reports, which are written already: memberships, then tasks; the number of these.

    A report that says nothing new matches only a run for new reports, and only a device that has no task in it.
    """
    said: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for each in reported:
        if each.changed:
            said[each.module, each.version].append(each.device_id)
    if said:
        groups.reported(connection, said)
    open_runs = _open(connection, {each.product_id for each in reported})
    if not open_runs:
        return 0
    newest = _Newest(open_runs)
    wanted = []
    for each in reported:
        run = newest.of(each.product_id, each.module, each.version)
        if run is not None and (each.changed or run.new_reports_only):
            wanted.append((run.id, each.device_id, each.changed))
    _catch_up(connection, open_runs, [each.device_id for each in reported])
    found = _by_version(connection, wanted, presence) + _by_group(connection, open_runs, reported)
    return _create(connection, open_runs, found, presence, now)


def _catch_up(connection: Connection, open_runs: Iterable[Run], device_ids: list[int]) -> None:
    asking = {run.group_id for run in open_runs if run.group_id is not None}
    if asking:
        groups.catch_up(connection, asking, device_ids)


def _by_group(connection: Connection, open_runs: Sequence[Run], reported: Sequence[Reported]) -> list[Match]:
    """Members of dynamic groups: who says something new; for a run for new reports, who says its module's version."""
    changed = {each.device_id for each in reported if each.changed}
    said = {(each.device_id, each.module) for each in reported}
    here = _member.c.device_id.in_(dialects.members({each.device_id for each in reported}))
    found = [item for item, _ in _members(connection, open_runs, here, _heard_since()) if item[1] in changed]
    fresh = [run for run in open_runs if run.new_reports_only]
    found += [item for item, run in _members(connection, fresh, here) if (item[1], run.module) in said]
    return list(dict.fromkeys(found))


def arrived(
    connection: Connection, device_ids: Iterable[int], presence: devices.Presence, now: datetime
) -> int:
    """What follows from devices that are new, or whose tags changed: memberships, then tasks; the number of these."""
    ids = list(device_ids)
    if not ids:
        return 0
    groups.arrived(connection, ids)
    here = dialects.members(ids)
    products = select(_device.c.product_id).where(_device.c.id.in_(here)).distinct()
    open_runs = _open(connection, connection.execute(products).scalars().all())
    if not open_runs:
        return 0
    _catch_up(connection, open_runs, ids)
    newest = _Newest(open_runs)
    known = select(
        packed.rows(_version.c.device_id, _version.c.product_id, _version.c.module, _version.c.version)
    ).where(_version.c.device_id.in_(here))
    wanted = []
    for device_id, product_id, module, version in packed.read(connection, known, {}):
        run = newest.of(product_id, module, version)
        if run is not None:
            wanted.append((run.id, device_id, True))
    found = _by_version(connection, wanted, presence, _unreported())
    by_group = _members(connection, open_runs, _member.c.device_id.in_(here), _heard_since())
    return _create(connection, open_runs, found + [item for item, _ in by_group], presence, now)


def scan(turn: joblist.Turn) -> str | None:
    """The next devices of a dynamic run's look at the fleet; the new cursor, or None when none was left."""
    if turn.run.phase != actual.Phase.IN_PROGRESS:
        return None
    return _scan_versions(turn) if turn.run.group_id is None else _scan_members(turn)


def _scan_members(turn: joblist.Turn) -> str | None:
    ahead = and_(_member.c.group_id == turn.run.group_id, _member.c.device_id > int(turn.job.cursor or 0))
    ids = select(_member.c.device_id).where(ahead).order_by(_member.c.device_id).limit(turn.size).subquery()
    last = turn.connection.execute(select(func.max(ids.c.device_id))).scalar_one()
    if last is None:
        return None
    found = _members(turn.connection, [turn.run], and_(ahead, _member.c.device_id <= last), _heard_since())
    _create(turn.connection, [turn.run], [item for item, _ in found], turn.presence, turn.now)
    return str(last)


def _scan_versions(turn: joblist.Turn) -> str | None:
    """Version by version, along their index; the cursor is the version's place in the run's list, and a device."""
    place, _, after = (turn.job.cursor or "0:0").partition(":")
    sources = turn.run.source_versions
    if int(place) >= len(sources):
        return None
    version = sources[int(place)]
    query = (
        select(_version.c.device_id)
        .where(_version.c.product_id == turn.run.product_id, _version.c.module == turn.run.module)
        .where(_version.c.version == version, _version.c.device_id > int(after))
        .order_by(_version.c.device_id)
        .limit(turn.size)
    ).subquery()
    listed = packed.read(turn.connection, select(packed.rows(query.c.device_id)), {})
    newest = _Newest(_open(turn.connection, [turn.run.product_id]))
    chosen = newest.of(turn.run.product_id, turn.run.module, version)
    if not listed or chosen is None or chosen.id != turn.run.id:
        return f"{int(place) + 1}:0"
    wanted = [(turn.run.id, device_id, True) for (device_id,) in listed]
    found = _by_version(turn.connection, wanted, turn.presence, _unreported())
    _create(turn.connection, [turn.run], found, turn.presence, turn.now)
    return f"{place}:{max(device_id for (device_id,) in listed)}"


# ------------------------------------------------------------------------------------------------- runs


def _open(connection: Connection, product_ids: Iterable[int]) -> list[Run]:
    """The dynamic runs of some products that go on, newest first."""
    query = select(_run).where(
        _run.c.product_id.in_(dialects.members(product_ids)),
        _run.c.type == actual.RunType.DYNAMIC,
        _run.c.phase == actual.Phase.IN_PROGRESS,
    )
    return list(connection.execute(query.order_by(_run.c.id.desc())))


class _Newest:
    """Which of some runs, newest first, matches a version; each version is judged once."""

    def __init__(self, open_runs: Iterable[Run]) -> None:
        self._runs: dict[tuple[int, str], list[tuple[Run, targeting.Conditions]]] = collections.defaultdict(
            list
        )
        for run in open_runs:
            if run.group_id is None:
                self._runs[run.product_id, run.module].append((run, recheck.conditions(run)))
        self._known: dict[tuple[int, str, str], Run | None] = {}

    def of(self, product_id: int, module: str, version: str) -> Run | None:
        """The newest run whose conditions a version of the product's module fits."""
        asked = (product_id, module, version)
        if asked not in self._known:
            fitting = (
                run
                for run, conditions in self._runs[product_id, module]
                if targeting.judge(conditions, version) is None
            )
            self._known[asked] = next(fitting, None)
        return self._known[asked]


# ---------------------------------------------------------------------------------------------- matches

_mine = and_(_task.c.run_id == _run.c.id, _task.c.device_id == _device.c.id)
_WANTED = packed.table("wanted", {"run": BigInteger(), "device": BigInteger(), "changed": Boolean()})
_matches = select(func.count()).select_from(_task).where(_mine).correlate(_run, _device).scalar_subquery()
_reported = and_(_version.c.device_id == _device.c.id, _version.c.module == _run.c.module)


def _unreported() -> ColumnElement[bool]:
    """The run has not had the device on its present version; one for new reports has heard it since it began."""
    return and_(~has_had(_run.c.id, _version.c.version), _heard_since())


def is_open(run_id: ColumnElement[int]) -> ColumnElement[bool]:
    """`tables.device` has a task of the run that goes on."""
    return exists().where(_of(run_id), _task.c.ended_at.is_(None))


def has_had(run_id: ColumnElement[int], version: ColumnElement[str | None]) -> ColumnElement[bool]:
    """The run has had `tables.device` on this version."""
    return exists().where(_of(run_id), _task.c.source_version == version)


def matches(run_id: ColumnElement[int]) -> ColumnElement[int]:
    """How often the run has matched `tables.device`."""
    return select(func.count()).select_from(_task).where(_of(run_id)).correlate(_device).scalar_subquery()


def has_made(run_id: ColumnElement[int], joins: ColumnElement[int]) -> ColumnElement[bool]:
    """The `joins`th coming of `tables.device` to the run's group made a task, or an earlier one has not failed."""
    done = or_(_task.c.status != lifecycle.Status.FAILED, _task.c.match_no == joins)
    return exists().where(_of(run_id), done)


def _of(run_id: ColumnElement[int]) -> ColumnElement[bool]:
    return and_(_task.c.run_id == run_id, _task.c.device_id == _device.c.id)


def _heard_since() -> ColumnElement[bool]:
    return or_(~_run.c.new_reports_only, _version.c.reported_at >= _run.c.started_at)


def _by_version(
    connection: Connection,
    wanted: Sequence[tuple[int, int, bool]],
    presence: devices.Presence,
    which: ColumnElement[bool] | None = None,
) -> list[Match]:
    """Of devices that a run's versions fit, those that it may match once more, and that it has no open task on."""
    if not wanted:
        return []
    query = (
        select(packed.rows(_run.c.id, _device.c.id, _matches + 1))
        .select_from(_WANTED)
        .join(_run, _run.c.id == _WANTED.c.run)
        .join(_device, _device.c.id == _WANTED.c.device)
        .outerjoin(_version, _reported)
        .where(_device.c.state != "removed", _matches < presence.limits.matches_per_device)
        .where(~is_open(_run.c.id))
        .where(or_(_WANTED.c.changed, _matches == 0), true() if which is None else which)
    )
    found = packed.read(connection, query, {"wanted": packed.pack(list(wanted))})
    return [(run, device, number) for run, device, number in found]


def _members(
    connection: Connection,
    open_runs: Iterable[Run],
    who: ColumnElement[bool],
    which: ColumnElement[bool] | None = None,
) -> list[tuple[Match, Run]]:
    """Of some members, those whose coming has not yet made a task: they have none in the run, or only failed ones."""
    by_group = {run.id: run for run in open_runs if run.group_id is not None}
    if not by_group:
        return []
    done = has_made(_run.c.id, _member.c.joins)
    query = (
        select(packed.rows(_run.c.id, _device.c.id, _member.c.joins, _version.c.version))
        .select_from(_member)
        .join(_run, _run.c.group_id == _member.c.group_id)
        .join(_device, _device.c.id == _member.c.device_id)
        .outerjoin(_version, _reported)
        .where(_run.c.id.in_(dialects.members(by_group)), _run.c.product_id == _device.c.product_id)
        .where(who, _member.c.present, _device.c.state != "removed", ~done)
        .where(true() if which is None else which)
    )
    return [
        ((run_id, device_id, joins), by_group[run_id])
        for run_id, device_id, joins, version in packed.read(connection, query, {})
        if targeting.judge(recheck.conditions(by_group[run_id]), version) is None
    ]


# ------------------------------------------------------------------------------------------------ tasks

_MATCHED = packed.table("matched", {"run": BigInteger(), "device": BigInteger(), "number": Integer()})
_CANDIDATES = (
    select(
        _MATCHED.c.run.label("run_id"),
        _MATCHED.c.device.label("device_id"),
        _MATCHED.c.number.label("match_no"),
        _version.c.version,
    )
    .select_from(_MATCHED)
    .join(_run, _run.c.id == _MATCHED.c.run)
    .outerjoin(_version, and_(_version.c.device_id == _MATCHED.c.device, _version.c.module == _run.c.module))
)


def _create(
    connection: Connection,
    open_runs: Iterable[Run],
    found: Iterable[Match],
    presence: devices.Presence,
    now: datetime,
) -> int:
    """Tasks of some matches, the newest run's first; the number of them."""
    known = {run.id: run for run in open_runs}
    made: collections.Counter[int] = collections.Counter()
    for wave in _waves(found):
        given = {"matched": packed.pack(wave)}
        candidates = creation.Candidates(_CANDIDATES, given, {run for run, _, _ in wave}, once=True)
        for run_id, began in creation.create(connection, candidates, presence, now).items():
            made[run_id] += sum(began.values())
    events.append(connection, now, [_event(known[run_id], count) for run_id, count in sorted(made.items())])
    return made.total()


def _waves(found: Iterable[Match]) -> Iterator[list[Match]]:
    """Each device at most once in each: where several runs match one, the newest comes first."""
    turns: Mapping[int, list[Match]] = collections.defaultdict(list)
    waves: list[list[Match]] = []
    for item in sorted(found, key=lambda item: (-item[0], item[1])):
        turn = turns[item[1]]
        turn.append(item)
        if len(turn) > len(waves):
            waves.append([])
        waves[len(turn) - 1].append(item)
    yield from waves


def _event(run: Run, count: int) -> events.Event:
    message = f"{count} device{'s' * (count != 1)} matched"
    return runs.line(run, events.Type.MATERIALIZED, message)
