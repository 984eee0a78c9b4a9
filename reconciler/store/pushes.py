"""Pushes: due, claimed, settled; and due again when nobody knows whether they went out (engine §4).

Called by dispatch (`runs_due`, `claim`, `settle_pushes`) and by a daemon's start (`recover_claims`, `forget_future`). A
claim is one transaction: who may be pushed is looked up, moved after the table, counted by the rate and logged in it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Row,
    String,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    type_coerce,
    update,
)

from reconciler.domain import lifecycle
from reconciler.protocol.topics import Address
from reconciler.store import (
    counts,
    deadlines,
    devices,
    dialects,
    endings,
    events,
    joblist,
    pace,
    packed,
    rates,
    tables,
    tasks,
)

_run, _task, _device, _product = tables.run, tables.task, tables.device, tables.product
_version = tables.device_version

LONGEST_RETRY = timedelta(hours=24)
"""The longest interval between two attempts (platform rules §4)."""

_CLAIMED: dict[lifecycle.State, lifecycle.Status] = {
    state: lifecycle.TABLE[state][lifecycle.Trigger.CLAIMED].to.status
    for state in lifecycle.states(lifecycle.Trigger.CLAIMED)
}


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """One push that this process took upon itself, to be published after the commit."""

    task_id: int
    run_id: int
    push_no: int
    address: Address


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """A run that has pushes due, and its rate."""

    run_id: int
    push_rate: int


def _due_runs() -> Any:
    """Skips along the index from run to run, so that the cost follows the runs that have pushes, not all there were."""
    pushing = _task.c.push_due_at.is_not(None)
    walk = select(func.min(_task.c.run_id).label("run_id")).where(pushing).cte("walk", recursive=True)
    following = select(func.min(_task.c.run_id)).where(pushing, _task.c.run_id > walk.c.run_id)
    walk = walk.union_all(select(following.scalar_subquery()).where(walk.c.run_id.is_not(None)))
    waiting = exists().where(_task.c.run_id == _run.c.id, _task.c.push_due_at <= bindparam("now"))
    return (
        select(_run.c.id, _run.c.push_rate)
        .where(_run.c.id.in_(select(walk.c.run_id)), ~tasks.CLOSED, waiting)
        .order_by(_run.c.id)
    )


_runs_due = _due_runs()


def runs_due(connection: Connection, now: datetime) -> list[Due]:
    """The runs that may push and have one due now, oldest first."""
    return [Due(*row) for row in connection.execute(_runs_due, {"now": now})]


# ---------------------------------------------------------------------------------------------- claims


@dataclasses.dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims: the daemon's epoch, and the presence that it believes."""

    epoch: int
    presence: devices.Presence
    """It also makes other tasks' pushes due at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Picked:
    """One task that is due."""

    id: int
    status: str
    pushes: int
    name: str
    online_epoch: int | None
    product_key: str
    version: str | None


_due = and_(
    _task.c.run_id == bindparam("run"),
    _task.c.push_due_at <= bindparam("now"),
    tasks.in_states(_CLAIMED),
    or_(~bindparam("ended", type_=Integer), _task.c.status != str(lifecycle.Status.QUEUED)),
)
"""What may be pushed of a run that may push: after its end, nothing that has not been notified."""

_first_due = (
    select(_task.c.id, _task.c.device_id, _task.c.module, _task.c.status, _task.c.pushes)
    .where(_due)
    .order_by(_task.c.push_due_at)
    .limit(bindparam("limit"))
    .subquery()
)
_pick = select(
    packed.rows(
        _first_due.c.id, _first_due.c.status, _first_due.c.pushes,
        _device.c.name, _device.c.online_epoch, _product.c.product_key, _version.c.version,
    )
).select_from(
    _first_due.join(_device, _device.c.id == _first_due.c.device_id)
    .join(_product, _product.c.id == _device.c.product_id)
    .outerjoin(
        _version,
        and_(_version.c.device_id == _first_due.c.device_id, _version.c.module == _first_due.c.module),
    )
)  # fmt: skip
_clear = update(_task).where(_task.c.id.in_(packed.members("stale"))).values(push_due_at=None)


@dataclasses.dataclass(frozen=True, slots=True)
class Claims:
    """What one call of `claim` took."""

    taken: tuple[Claim, ...] = ()
    is_more: bool = False
    """Some of what is due can be pushed to nobody, and there was too much of it for one transaction: ask again."""


def claim(connection: Connection, run_id: int, claimant: Claimant, now: datetime, limit: int) -> Claims:
    """Takes up to `limit` due pushes of one run: moved, marked with this process's epoch, counted by the rate.

    A push that became due for a device which was lost with an earlier epoch is cleared here, once, when it is met. A
    delta is pushed to nobody who left its source version meanwhile: such a task ends (platform rules §4, A7). Of
    either, as many as are among the first `joblist.CHUNK` that are due: others wait for the writer.
    """
    run = connection.execute(select(_run).where(_run.c.id == run_id, ~tasks.CLOSED)).first()
    if run is None:
        return Claims()
    asked = {"run": run_id, "now": now, "limit": limit, "ended": run.end_at is not None and run.end_at <= now}
    picked = _picked(connection, asked)
    if not all(_is_able(each, run, claimant) for each in picked):
        first = _picked(connection, {**asked, "limit": joblist.CHUNK})
        _weed(connection, [each for each in first if not _is_able(each, run, claimant)], claimant, now)
        picked = _picked(connection, asked)
    able = [each for each in picked if _is_able(each, run, claimant)]
    _take(connection, run, able, claimant.epoch, now)
    rates.take(connection, int(now.timestamp()), {run_id: len(able)})
    taken = [Claim(each.id, run_id, each.pushes + 1, Address(each.product_key, each.name)) for each in able]
    return Claims(tuple(taken), is_more=len(able) < len(picked))


def _is_able(each: _Picked, run: Row[Any], claimant: Claimant) -> bool:
    """Its device is there, and where a delta starts."""
    return _is_there(each, claimant) and (not run.delta or each.version in run.source_versions)


def _is_there(each: _Picked, claimant: Claimant) -> bool:
    return each.online_epoch == claimant.presence.epoch


def _weed(connection: Connection, unable: Sequence[_Picked], claimant: Claimant, now: datetime) -> None:
    """Nobody is there: the push is due when they come. The others left the delta's source: their tasks end."""
    stale = [each.id for each in unable if not _is_there(each, claimant)]
    connection.execute(_clear, {"stale": packed.pack(stale)})
    strayed = [each.id for each in unable if _is_there(each, claimant)]
    if strayed:
        which = _task.c.id.in_(dialects.members(strayed))
        unfit, message = lifecycle.Trigger.UNFIT, deadlines.STRAYED
        endings.end(connection, which, unfit, claimant.presence, now, message=message)


def _picked(connection: Connection, asked: dict[str, Any]) -> list[_Picked]:
    return [_Picked(*row) for row in packed.read(connection, _pick, asked)]


_mine = _task.c.id.in_(packed.members("claimed"))
_moved = case(
    *[(and_(_task.c.status == str(state.status), _task.c.hold == str(state.hold)), str(to))
      for state, to in _CLAIMED.items() if to is not state.status],
    else_=_task.c.status,
)  # fmt: skip
_silent = and_(
    _task.c.first_pushed_at.is_(None), _task.c.started_at.is_(None), bindparam("silence").is_not(None)
)
_mark = (
    update(_task)
    .where(_mine)
    .values(
        status=_moved,
        hold=str(lifecycle.Hold.NONE),
        push_due_at=None,
        retry_at=None,
        claim_epoch=bindparam("epoch"),
        pushes=_task.c.pushes + 1,
        first_pushed_at=func.coalesce(_task.c.first_pushed_at, bindparam("now", type_=tables.Moment())),
        last_pushed_at=bindparam("now", type_=tables.Moment()),
        # the first push starts the clock of those that never answer
        deadline_at=case((_silent, bindparam("silence", type_=tables.Moment())), else_=_task.c.deadline_at),
    )
)
_LINE = ("at", "type", "run_id", "task_id", "device_id", "revision_id", "from_status", "to_status", "message")
_log = insert(tables.event).from_select(
    _LINE,
    select(
        bindparam("now", type_=tables.Moment()),
        literal(str(events.Type.TASK)),
        _task.c.run_id,
        _task.c.id,
        _task.c.device_id,
        _task.c.revision_id,
        _task.c.status,
        _moved,
        literal("push ").concat(cast(_task.c.pushes + 1, String())),
    ).where(_mine),
)


def _take(connection: Connection, run: Any, picked: Sequence[_Picked], epoch: int, now: datetime) -> None:
    if not picked:
        return
    claimed = packed.pack(each.id for each in picked)
    silence = now + run.no_response if run.no_response is not None else None
    connection.execute(_log, {"claimed": claimed, "now": now})
    connection.execute(_mark, {"claimed": claimed, "now": now, "epoch": epoch, "silence": silence})
    moves = counts.Moves()
    first = [each for each in picked if each.status == lifecycle.Status.QUEUED]
    queued, notified = lifecycle.Status.QUEUED, _CLAIMED[lifecycle.State(lifecycle.Status.QUEUED)]
    moves.move((run.id, queued, None), (run.id, notified, None), len(first))
    moves.write(connection)


# --------------------------------------------------------------------------------------------- outcomes


class Outcome(enum.Enum):
    """What became of a claim."""

    CONFIRMED = "confirmed"
    GONE = "gone"
    """The device is not there: it is pushed again as soon as it comes back."""
    LATER = "later"
    """It is there but did not acknowledge: it is pushed again after a minute."""


_settled = packed.table("settled", {"task": BigInteger(), "number": Integer()})
_settle = (
    update(_task)
    .where(_task.c.id == _settled.c.task, _task.c.pushes == _settled.c.number)
    .where(_task.c.claim_epoch == bindparam("epoch"))
    .values(claim_epoch=None)
)


def _unsent() -> dict[str, Any]:
    """What a push that nobody got takes back: the minute to the next one, and the clock of those that never answer."""
    first = and_(_task.c.first_pushed_at == _task.c.last_pushed_at, _task.c.started_at.is_(None))
    return {
        "last_pushed_at": None,
        "first_pushed_at": case((first, null()), else_=_task.c.first_pushed_at),
        "deadline_at": case((first, null()), else_=_task.c.deadline_at),
    }


def _no_later_than(moment: ColumnElement[Any]) -> ColumnElement[Any]:
    """A push that is due stays due, but not later than this; one that is not due stays so."""
    due = type_coerce(_task.c.push_due_at, tables.Number)
    sooner = dialects.earlier_of(due, moment)
    return case((_task.c.push_due_at.is_(None), null()), else_=type_coerce(sooner, tables.Moment()))


_in_a_minute = type_coerce(pace.AFTER_LAST, tables.Moment())
_SETTLE = {
    Outcome.CONFIRMED: _settle,
    Outcome.GONE: _settle.values(
        push_due_at=_no_later_than(bindparam("back", type_=tables.Number)), **_unsent()
    ),
    Outcome.LATER: _settle.values(push_due_at=_in_a_minute),
}


def settle_pushes(
    connection: Connection, epoch: int, outcomes: Iterable[tuple[Claim, Outcome]], back: datetime
) -> None:
    """Clears claims by (task, push number, epoch): one that was taken again meanwhile stays.

    Args:
        connection: a writing transaction.
        epoch: this process's.
        outcomes: what became of which claim.
        back: when a device that came back meanwhile may be pushed: a push that it may never have got
            does not keep it waiting for a minute.
    """
    listed: dict[Outcome, list[tuple[int, int]]] = {outcome: [] for outcome in Outcome}
    for claimed, outcome in outcomes:
        listed[outcome].append((claimed.task_id, claimed.push_no))
    for outcome, pairs in listed.items():
        if pairs:
            at = {"back": tables.milliseconds(back)} if outcome is Outcome.GONE else {}
            connection.execute(_SETTLE[outcome], {"settled": packed.pack(pairs), "epoch": epoch, **at})


def recover_claims(connection: Connection, epoch: int, due: datetime | None) -> int:
    """After a restart: what an earlier process claimed may not have been published. It becomes due again.

    Args:
        connection: a writing transaction.
        epoch: this process's.
        due: when; None when devices must come back first (their coming makes the push due).
    """
    return connection.execute(
        update(_task)
        .where(_task.c.claim_epoch.is_not(None), _task.c.claim_epoch != epoch)
        .values(claim_epoch=None, push_due_at=due, **_unsent())
    ).rowcount


def forget_future(connection: Connection, now: datetime) -> None:
    """The clock was set back: what it said before keeps no push waiting for longer than its own rule does.

    That is a minute, or the batch's interval for the next attempt of a failed one.
    """
    unfinished = update(_task).where(tasks.HOLDS)
    interval = (
        select(func.coalesce(type_coerce(_run.c.retry_interval, tables.Number), _ms(LONGEST_RETRY)))
        .where(_run.c.id == _task.c.run_id)
        .scalar_subquery()
    )
    latest = tables.milliseconds(now) + interval
    retry_at = type_coerce(_task.c.retry_at, tables.Number)
    connection.execute(
        unfinished.where(_task.c.retry_at > now, retry_at > latest).values(
            retry_at=type_coerce(latest, tables.Moment())
        )
    )
    soon = literal(tables.milliseconds(now)) + pace.INTERVAL
    at = dialects.later_of(soon, func.coalesce(retry_at, 0))
    due = type_coerce(_task.c.push_due_at, tables.Number)
    connection.execute(
        unfinished.where(_task.c.push_due_at > now, due > at).values(
            push_due_at=type_coerce(at, tables.Moment())
        )
    )
    connection.execute(unfinished.where(_task.c.last_pushed_at > now).values(last_pushed_at=None))


def _ms(span: timedelta) -> int:
    return span // tables.MILLISECOND
