"""Counts what batches that are only planned would meet: how many devices fit, are busy, are there, or are left out.

Called by `preview` and `takers` for `reconciler plan`. Reads only, in a few statements over the whole fleet, with
the same expressions as the creation of tasks: it decides nothing, and what it counts may have moved on a moment later.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    union,
)

from reconciler.domain import actual, lifecycle, resources, targeting
from reconciler.store import devices, dialects, groups, matching, shares, tables, yielding
from reconciler.store.fitting import Fitting

_task, _device, _version = tables.task, tables.device, tables.device_version
_member, _run = tables.membership, tables.run


@dataclasses.dataclass(frozen=True, slots=True)
class Again:
    """A dynamic run that goes on and looks at devices once more: whom it has had is not its business."""

    run_id: int
    matches: int
    """How often it may match a device, by version."""
    group_id: int | None = None
    since: datetime | None = None
    """Of one for new reports only: who was heard since."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Whom a planned batch is for, of the devices of its product: those it names (None: all) or selects, or a share."""

    batch: str
    product_id: int
    """0: of a product that is not here yet, with no devices."""
    conditions: targeting.Conditions
    names: tuple[str, ...] | None = None
    selector: Mapping[str, Any] | None = None
    """Of its dynamic group."""
    gray: int | None = None
    """A share, in thousandths of a percent."""
    multi_module: bool = False
    is_trial: bool = False
    """Runs that have not started make way for it."""
    is_dynamic: bool = False
    """It ends no task of a newer dynamic batch."""
    conflict: resources.Conflict = resources.Conflict.KEEP
    nobody: bool = False
    """It takes no device now: it is for new reports only, or over."""
    newer: tuple[targeting.Conditions, ...] = ()
    """Of newer dynamic batches by version: whom they fit, they match, and no other does."""
    again: Again | None = None
    """It runs already."""
    ids: Sequence[int] | None = None
    """Only some of these devices; None: of all."""
    without: Sequence[int] = ()
    """None of these devices."""
    back: Sequence[int] = ()
    """Devices that were removed, and are back."""

    def excludes(self, other: Wanted) -> bool:
        """Whether a device is in a task of one of the two only; they are for the same product."""
        apart = self.multi_module and other.multi_module
        return not apart or self.conditions.module == other.conditions.module


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """Tasks that the same plan ends before anything begins."""

    run_id: int
    statuses: tuple[lifecycle.Status, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Around:
    """What else the plan does."""

    earlier: Sequence[Wanted] = ()
    """Batches that begin before this one."""
    endings: Sequence[Ending] = ()
    own_runs: Sequence[int] = ()
    """Earlier lives of the batch: whatever its conflict rule, it waits for them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Census:
    """How many devices a run would meet, if it were made now."""

    free: int = 0
    """Fit, and are in no other task."""
    busy: int = 0
    """Fit, and are in another task that has not begun to work, or in a batch that begins before."""
    working: int = 0
    """Fit, and are at work for another task (IN_PROGRESS)."""
    own: int = 0
    """Fit, and are in a task of an earlier life of the batch."""
    offline: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Not connected now, by these four."""
    newer: int = 0
    """Would fit, and are left to a newer batch."""
    left_out: Mapping[targeting.LeftOut, int] = dataclasses.field(default_factory=dict)
    base: int = 0
    """Of a share: all that fit, of which it takes some."""

    def __add__(self, other: Census) -> Census:
        """Both, of different devices."""
        counted = collections.Counter
        return Census(
            free=self.free + other.free,
            busy=self.busy + other.busy,
            working=self.working + other.working,
            own=self.own + other.own,
            offline=counted(self.offline) + counted(other.offline),
            newer=self.newer + other.newer,
            left_out=counted(self.left_out) + counted(other.left_out),
            base=self.base + other.base,
        )


_NEWER, _TOLD = "newer", "told"
_SILENT = {resources.Conflict.KEEP: ("busy", "working"), resources.Conflict.OVERWRITE: ("working",)}
"""A device gets no second conflict of a run for one version."""

_LOOKED_AT = 10_000
"""Devices that are looked at for examples: some milliseconds."""


def count(fitting: Fitting, wanted: Wanted, around: Around) -> Census:
    """Counts the devices by what they report, what occupies them, and whether they are there.

    Everybody is counted along the index of versions, without a look at tasks, and only those that something may
    occupy one by one: in a fleet of a million, grouping by all three takes several times as long.
    """
    connection, versions = fitting.connection, _versions(fitting, wanted)
    base, targeted = 0, _targeted(wanted)
    everybody = _everybody(connection, wanted, targeted)
    if wanted.gray is not None:
        matching_it = [row for row in everybody if row[0] in versions]
        base = sum(number for _, number, _ in matching_it)
        targeted = and_(targeted, _fits(fitting, wanted), _share(fitting, wanted, base))
        everybody = [row for row in everybody if row not in matching_it]
        everybody += _everybody(connection, wanted, targeted)
    met: collections.Counter[tuple[str | None, str, bool]] = collections.Counter()
    for version, number, here in everybody:
        met[version, "free", True] += here
        met[version, "free", False] += number - here
    met_before = [before for before in around.earlier if _may_have(fitting, before, wanted, versions)]
    around = dataclasses.replace(around, earlier=met_before)
    for version, state, online, number in connection.execute(_occupied(fitting, wanted, around, targeted)):
        met[version, "free", online] -= number
        met[version, state, online] += number
    found: collections.Counter[str] = collections.Counter()
    offline: collections.Counter[str] = collections.Counter()
    left_out: collections.Counter[targeting.LeftOut] = collections.Counter()
    for (version, state, online), number in met.items():
        verdict = None if version in versions else targeting.judge(wanted.conditions, version) or _NEWER
        if isinstance(verdict, targeting.LeftOut):
            left_out[verdict] += number
        else:
            found[verdict or state] += number
            offline[verdict or state] += 0 if online else number
    del found[_TOLD]
    return Census(**found, offline=+offline, left_out=+left_out, base=base)


def _versions(fitting: Fitting, wanted: Wanted) -> frozenset[str | None]:
    return fitting.versions(wanted.product_id, wanted.conditions, wanted.newer)


def _may_have(fitting: Fitting, before: Wanted, wanted: Wanted, versions: frozenset[str | None]) -> bool:
    """Whether a batch that begins before may have a device that another one wants; `versions`: what fits that one."""
    if before.product_id != wanted.product_id or not wanted.excludes(before):
        return False
    same_module = before.conditions.module == wanted.conditions.module
    return not (same_module and versions.isdisjoint(_versions(fitting, before)))


def _online() -> ColumnElement[bool]:
    present = [select(tables.daemon.c.epoch).scalar_subquery(), literal(devices.ASSUMED_EPOCH)]
    return func.coalesce(_device.c.online_epoch.in_(present), false())


def _everybody(
    connection: Connection, wanted: Wanted, targeted: ColumnElement[bool]
) -> list[tuple[str | None, int, int]]:
    """By version, how many devices are targeted, and how many of these are online."""
    sums = func.count(), func.coalesce(func.sum(case((_online(), 1), else_=0)), 0)
    everyone = select(_version.c.version, *sums).where(targeted).group_by(_version.c.version)
    if wanted.names is not None or wanted.ids is not None:  # a few, found by their names
        queries = [everyone.select_from(_source(wanted))]
    else:
        here = and_(_version.c.product_id == wanted.product_id, _version.c.module == wanted.conditions.module)
        queries = [everyone.select_from(_version.join(_device, _reports())).where(here)]
        if _some_are_silent(connection, here, wanted.product_id):
            queries.append(everyone.select_from(_source(wanted)).where(_version.c.version.is_(None)))
    return [(*row,) for query in queries for row in connection.execute(query)]


def _some_are_silent(connection: Connection, here: ColumnElement[bool], product_id: int) -> bool:
    """Whether some device of the product has no version: two counts of an index, instead of a look at each device."""
    known = select(func.count()).select_from(_device).where(_device.c.product_id == product_id)
    reports = select(func.count()).select_from(_version).where(here)
    return connection.execute(known).scalar_one() > connection.execute(reports).scalar_one()


def _reports() -> ColumnElement[bool]:
    return _version.c.device_id == _device.c.id


def _occupied(fitting: Fitting, wanted: Wanted, around: Around, targeted: ColumnElement[bool]) -> Select[Any]:
    """By version, what occupies them and whether they are online: the targeted devices that something may occupy."""
    state, online = _state(fitting, wanted, around).label("occupation"), _online().label("online")
    query = select(_version.c.version, state, online, func.count())
    if around.earlier:  # they may have devices without any task
        query = query.select_from(_source(wanted))
    else:
        busy = [select(_task.c.device_id).where(dialects.holds(_task))]
        if around.own_runs:
            mine = _task.c.run_id.in_(dialects.members(around.own_runs))
            busy.append(select(_task.c.device_id).where(mine, _task.c.ended_at.is_(None)))
        ids = union(*busy).subquery() if len(busy) > 1 else busy[0].distinct().subquery()
        of_module = and_(_reports(), _version.c.module == wanted.conditions.module)
        source = ids.join(_device, _device.c.id == ids.c.device_id).outerjoin(_version, of_module)
        query = query.select_from(source)
    return query.where(targeted).group_by(_version.c.version, "occupation", "online")


def examples(fitting: Fitting, wanted: Wanted, most: int) -> tuple[str, ...]:
    """The first names of devices that fit, for people to see whom a batch means; of a share none.

    Only the first devices of the product, or of the list, are looked at: where few fit, it may be none.
    """
    if wanted.gray is not None or wanted.nobody:
        return ()
    connection, name = fitting.connection, _device.c.name
    listed = select(name).where(_device.c.product_id == wanted.product_id)
    if wanted.names is not None:
        listed = listed.where(name.in_(dialects.members(wanted.names)))
    last = connection.execute(listed.order_by(name).limit(1).offset(_LOOKED_AT - 1)).scalar()
    query = select(name).select_from(_source(wanted)).where(_targeted(wanted), _fits(fitting, wanted))
    if last is not None:
        query = query.where(name <= last)
    return tuple(connection.execute(query.order_by(name).limit(most)).scalars())


def _source(wanted: Wanted) -> Any:
    return _device.outerjoin(_version, and_(_reports(), _version.c.module == wanted.conditions.module))


def _targeted(wanted: Wanted) -> ColumnElement[bool]:
    """`tables.device` is of the product, and named or selected; whatever it reports."""
    there: ColumnElement[bool] = _device.c.state != "removed"
    if wanted.back:
        there = or_(there, _device.c.id.in_(dialects.members(wanted.back)))
    conditions = [_device.c.product_id == wanted.product_id, there]
    if wanted.ids is not None:
        conditions.append(_device.c.id.in_(dialects.members(wanted.ids)))
    if wanted.without:
        conditions.append(_device.c.id.not_in(dialects.members(wanted.without)))
    if wanted.again is not None:
        conditions.append(_is_new_to(wanted, wanted.again))
    if wanted.names is not None:
        conditions.append(_device.c.name.in_(dialects.members(wanted.names)))
    if wanted.selector is not None:
        conditions.append(groups.compiled(wanted.selector))
    if wanted.nobody:
        conditions.append(false())
    return and_(*conditions)


def _is_new_to(wanted: Wanted, again: Again) -> ColumnElement[bool]:
    """A dynamic run that goes on may match `tables.device` now, as `matching` has it."""
    own = _version.alias()
    reports = and_(own.c.device_id == _device.c.id, own.c.module == wanted.conditions.module)
    run_id = literal(again.run_id)
    if again.group_id is None:
        version = select(own.c.version).where(reports).correlate(_device).scalar_subquery()
        may = and_(~matching.is_open(run_id), ~matching.has_had(run_id, version))
        may = and_(may, matching.matches(run_id) < again.matches)
    else:
        here = and_(_member.c.group_id == again.group_id, _member.c.device_id == _device.c.id)
        came = select(_member.c.joins + case((_member.c.present, 0), else_=1)).where(here).correlate(_device)
        may = ~matching.has_made(run_id, func.coalesce(came.scalar_subquery(), 1))
    if again.since is None:
        return may
    return and_(may, exists().where(reports, own.c.reported_at >= again.since))


# --------------------------------------------------------------------------------------- who occupies them


def _state(fitting: Fitting, wanted: Wanted, around: Around) -> ColumnElement[str]:
    """The field of `Census` that a device counts for, when it fits."""
    other = and_(_task.c.device_id == _device.c.id, *map(_goes_on, around.endings))
    slot: ColumnElement[bool] = or_(
        _task.c.module == wanted.conditions.module,
        ~_task.c.multi,
        literal(not wanted.multi_module),
    )
    holding = and_(other, dialects.holds(_task), slot)
    if wanted.is_trial:
        holding = and_(holding, ~yielding.yields(_task))
    stays = _task.c.status == str(lifecycle.Status.IN_PROGRESS)
    if wanted.again is not None:
        newer = and_(_run.c.type == actual.RunType.DYNAMIC, _run.c.id > wanted.again.run_id)
        stays = or_(stays, _task.c.run_id.in_(select(_run.c.id).where(newer)))
    at_work = select(func.max(case((stays, 1), else_=0))).where(holding).scalar_subquery()
    state: ColumnElement[str] = case({1: "working", 0: "busy"}, value=at_work, else_="free")
    if around.earlier:
        state = _state_after(fitting, wanted, around.earlier, at_work)
    if around.own_runs:
        mine = _task.c.run_id.in_(dialects.members(around.own_runs))
        state = case((exists().where(other, _task.c.ended_at.is_(None), mine, slot), "own"), else_=state)
    if wanted.again is not None:
        told = exists().where(
            _task.c.run_id == wanted.again.run_id,
            _task.c.device_id == _device.c.id,
            _task.c.reason == lifecycle.Reason.CONFLICT,
            _task.c.source_version.is_not_distinct_from(_version.c.version),
        )
        silent = _SILENT.get(wanted.conflict, ())
        state = case((and_(state.in_(silent), told), _TOLD), else_=state)
    return state


def _state_after(
    fitting: Fitting, wanted: Wanted, earlier: Sequence[Wanted], at_work: ColumnElement[int]
) -> ColumnElement[str]:
    """The same after batches that begin before: one that overwrites takes what is busy, the others what is free."""
    ways: list[tuple[ColumnElement[bool], str]] = []
    for before in earlier:
        keeps = wanted.is_dynamic and before.is_dynamic
        ways.append((_taken(fitting, wanted, before), "working" if keeps else "busy"))
    overwrites = (before.conflict is resources.Conflict.OVERWRITE for before in earlier)
    last = [way for way, ends in zip(ways, overwrites, strict=True) if ends][::-1]
    return case((at_work == 1, "working"), *last, (at_work == 0, "busy"), *ways, else_="free")


def _goes_on(ending: Ending) -> ColumnElement[bool]:
    statuses = [str(status) for status in ending.statuses]
    return or_(_task.c.run_id != ending.run_id, _task.c.status.not_in(statuses))


def _taken(fitting: Fitting, wanted: Wanted, before: Wanted) -> ColumnElement[bool]:
    """A batch of the plan that begins before has the device."""
    taken = [_targeted(before), _fits(fitting, before, wanted.conditions.module)]
    if before.gray is not None:
        taken.append(_share(fitting, before, _number(fitting, before)))
    return and_(*taken)


def _fits(fitting: Fitting, wanted: Wanted, module: str | None = None) -> ColumnElement[bool]:
    """`tables.device` reports a version (or none) that the conditions ask for.

    Args:
        fitting: what is known of versions.
        wanted: the batch.
        module: of which `tables.device_version` is joined; None: of the batch's own.
    """
    asked, versions = wanted.conditions, _versions(fitting, wanted)
    listed = dialects.members(version for version in versions if version is not None)
    also_none = None in versions
    if module in {None, asked.module}:
        fits: ColumnElement[bool] = _version.c.version.in_(listed)
        unknown = _version.c.version.is_(None)
        return or_(unknown, fits) if also_none else and_(~unknown, fits)  # never NULL, as it is negated
    mine = _version.alias()
    reports = and_(mine.c.device_id == _device.c.id, mine.c.module == asked.module)
    fits = exists().where(reports, mine.c.version.in_(listed))
    return or_(fits, ~exists().where(reports)) if also_none else fits


def complete_inventories(connection: Connection) -> frozenset[str]:
    """The inventories whose names have all become devices."""
    inventory, declared = tables.inventory, tables.object_
    query = select(declared.c.name).join_from(inventory, declared, inventory.c.object_id == declared.c.id)
    return frozenset(connection.execute(query.where(inventory.c.cursor.is_(None))).scalars())


# ----------------------------------------------------------------------------------------------- a share


def _number(fitting: Fitting, wanted: Wanted) -> int:
    """How many devices a share is of."""
    query = select(func.count()).select_from(_source(wanted))
    return int(
        fitting.connection.execute(query.where(_targeted(wanted), _fits(fitting, wanted))).scalar_one()
    )


def _share(fitting: Fitting, wanted: Wanted, base: int) -> ColumnElement[bool]:
    """`tables.device` is one of those that a share of `base` takes, if it fits: the first in the batch's order."""
    assert wanted.gray is not None, "it is a share"
    taken = targeting.gray_count(base, wanted.gray)
    if not taken:
        return false()
    a, b = targeting.gray_parameters(wanted.batch)
    order = devices.gray_key(literal(a, BigInteger()), literal(b, BigInteger()))
    mine = select(order).select_from(_source(wanted)).where(_targeted(wanted), _fits(fitting, wanted))
    key, name = shares.last(fitting.connection, mine, order, (taken, base))
    return tuple_(order, _device.c.name) <= tuple_(literal(key, BigInteger()), literal(name))


# ------------------------------------------------------------------------------------------------ groups


Running = Row[Any]
"""A dynamic run, with what `running` adds."""


def running(connection: Connection) -> Sequence[Running]:
    """The dynamic runs that go on, newest first, with their groups, products, and the bytes that each device gets."""
    run, group, product = tables.run, tables.device_group, tables.product
    file, blob = tables.package_file, tables.blob
    size = select(func.coalesce(func.sum(blob.c.size), 0)).join_from(file, blob, blob.c.id == file.c.blob_id)
    size = size.where(file.c.package_id == run.c.package_id).correlate(run)
    query = (
        select(
            run,
            size.scalar_subquery().label("size"),
            product.c.name.label("product"),
            group.c.name.label("group_name"),
            group.c.product_id.label("group_product_id"),
            group.c.selector,
            group.c.removed,
        )
        .join(product, product.c.id == run.c.product_id)
        .outerjoin(group, group.c.id == run.c.group_id)
        .where(run.c.type == actual.RunType.DYNAMIC, run.c.phase == actual.Phase.IN_PROGRESS)
    )
    return connection.execute(query.order_by(run.c.id.desc())).all()


def _inside(group: groups.Group) -> ColumnElement[bool]:
    """`tables.device` is in a dynamic group, also while its membership is being worked out."""
    if group.cursor is not None:
        return groups.selected(group)
    return exists().where(
        _member.c.device_id == _device.c.id, _member.c.present, _member.c.group_id == group.id
    )


def overlapping(
    connection: Connection, group: str, product_id: int | None, selector: Mapping[str, Any]
) -> list[tuple[str, int]]:
    """The other dynamic groups that have devices which this selector selects, and how many, most first."""
    named = tables.device_group
    wanted = and_(
        groups.compiled(selector), true() if product_id is None else _device.c.product_id == product_id
    )
    query = (
        select(named.c.name, func.count().label("devices"))
        .select_from(named)
        .join(_member, and_(_member.c.group_id == named.c.id, _member.c.present))
        .join(_device, _device.c.id == _member.c.device_id)
        .where(~named.c.removed, named.c.name != group, ~groups.PENDING, wanted)
        .group_by(named.c.name)
    )
    found = {row.name: row.devices for row in connection.execute(query)}
    for other in groups.pending(connection):
        if other.name != group:
            count = select(func.count()).select_from(_device).where(_inside(other), wanted)
            found[other.name] = connection.execute(count).scalar_one()
    return sorted(((name, count) for name, count in found.items() if count), key=lambda at: (-at[1], at[0]))
