"""Simulated time: a queue of what comes next. The engine lives only in the moments in which something is due.

What devices do is gathered into pulses, one a minute while much happens and one in ten minutes else, so that fourteen
days are some thousand moments. While pushes go out, the engine has a moment each second, as its daemon does.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import itertools
import math
import pathlib
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from reconciler.protocol.topics import Address
from reconciler.store import pushes
from reconciler.store.database import Connection

from . import campaign
from .checks import Checks
from .engine import START, Engine, SimulatedClock, until_alive
from .faults import CALM, Crash, Faults, Odds
from .fleet import DAY, HOUR, Fleet
from .wire import Wire

_NEXT = text(
    """SELECT min(at) FROM (
      SELECT min(task.push_due_at) AS at FROM task JOIN run ON run.id = task.run_id
      WHERE task.push_due_at > :now AND task.push_due_at IS NOT NULL AND run.started_at IS NOT NULL
        AND NOT run.suspended AND run.suspended_by IS NULL
      UNION ALL SELECT (min(deadline_at) / 60000 + 1) * 60000 FROM task WHERE deadline_at IS NOT NULL
      UNION ALL SELECT min(start_at) FROM run WHERE started_at IS NULL AND start_at > :now AND NOT schedule_ended
      UNION ALL SELECT min(end_at) FROM run WHERE NOT schedule_ended AND end_at > :now)"""
)
_FETCHED = text(
    """SELECT device.name, task.module FROM task JOIN run ON run.id = task.run_id
    JOIN device ON device.id = task.device_id WHERE task.holds AND NOT run.push_delivery ORDER BY task.id"""
)
_NEWEST = text("SELECT max(id) FROM task")
_OPEN = text(
    """SELECT DISTINCT device.name FROM task JOIN run ON run.id = task.run_id JOIN device ON device.id = task.device_id
    WHERE task.holds AND run.push_delivery ORDER BY task.device_id"""
)
_SOME_TASK = text(
    """SELECT run.batch, device.name, task.status FROM task JOIN run ON run.id = task.run_id AND run.type <> 'Verify'
    JOIN device ON device.id = task.device_id
    WHERE task.id >= :start AND task.status <> 'SUCCEEDED' ORDER BY task.id LIMIT 1"""
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is simulated."""

    devices: int = 10_000
    days: float = 14.0
    busy: int = 300
    """Seconds between two pulses of the fleet in the hours after something was merged."""
    quiet: int = 3600
    """The same at other times."""
    odds: Odds = dataclasses.field(default_factory=Odds)


class World:
    """Everything there is, from one seed.

    Args:
        root: a folder of its own.
        seed: of all dice.
        size: how much.
    """

    def __init__(self, root: pathlib.Path, seed: int, size: Size) -> None:
        self._dice = random.Random(seed)
        self._size = size
        self._day = (size.days - campaign.CALM_DAYS) / campaign.CALM_AT * DAY
        self.clock = SimulatedClock()
        self.faults = Faults(self._dice, size.odds)
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()
        self._busy: list[tuple[float, float]] = []
        self._errands: list[Callable[[], Awaitable[None]]] = []
        self.wire = Wire(self.faults, self.clock.now, self._reached)
        self.fleet = Fleet(size.devices, self._dice, faults=self.faults, wire=self.wire, later=self.later)
        self.engine = Engine(root, self.faults, self.wire, self.clock)
        self.checks = Checks(self.engine, self.wire, self.fleet)
        self._git = campaign.Git()
        self._orders: list[int] = []
        self.answers: collections.Counter[tuple[str, bool]] = collections.Counter()
        self.refused: dict[str, str] = {}
        """What Git asked for and did not get, at any time."""
        self.deaths = self.moments = self.pushes = 0

    def _reached(self, whom: Address, payload: bytes) -> None:
        self.fleet.reached(whom, payload)

    # ------------------------------------------------------------------------------------------------ time

    def later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Plans a call for the pulse that follows on so many seconds from now."""
        at = self.clock.seconds + seconds
        busy = any(begin <= at < end for begin, end in self._busy)
        grid = self._size.busy if busy else self._size.quiet
        self.at(math.floor(at / grid + 1) * grid, call, *arguments)

    def at(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Plans a call for just that second."""
        heapq.heappush(self._queue, (seconds, next(self._numbers), call, arguments))

    async def run(self) -> None:
        """From the first day to the last."""
        self._plan()
        end, at = self._size.days * DAY, 0.0
        while at <= end:
            self.clock.seconds = at + self._dice.randrange(900) / 1000  # somewhere within its second
            self.moments += 1
            while self._queue and self._queue[0][0] <= at:
                _, _, call, arguments = heapq.heappop(self._queue)
                call(*arguments)
            pushed = 0
            try:
                pushed = await self._live()
            except Crash:
                await self._die()
            self.checks.look(self.clock.seconds)
            at = self._next(int(at), pushed)
        self.checks.finish(START + timedelta(seconds=campaign.CALM_AT * self._day))

    async def _live(self) -> int:
        """What people do, then what the engine does; the number of pushes."""
        while self._errands:
            await self._errands.pop(0)()
        if not self.engine.is_up:
            return 0
        pushed = await self.engine.moment()
        self.pushes += pushed
        while self._orders:
            answer = self.engine.answer(self._orders.pop(0))
            self.answers[answer.type, bool(answer.ok)] += 1
        return pushed

    def _next(self, at: int, pushed: int) -> float:
        """The next second in which something is due."""
        nearest = self._queue[0][0] if self._queue else math.inf
        if pushed:
            nearest = min(at + 1, nearest)
        elif self.engine.is_up:
            nearest = min(nearest, self.engine.look(self._due, at))
        return max(at + 1, nearest)

    def _due(self, connection: Connection, at: int) -> float:
        if pushes.runs_due(connection, self.clock.now()):
            return at + 5  # the rate keeps them waiting
        now = int(START.timestamp() * 1000 + self.clock.seconds * 1000)
        found = connection.execute(_NEXT, {"now": now}).scalar()
        return math.inf if found is None else math.ceil(found / 1000 - START.timestamp())

    # --------------------------------------------------------------------------------------- life and death

    async def _die(self) -> None:
        self.deaths += 1
        await self.engine.die()
        self.fleet.cut()
        down = self._dice.choice((1, 5, 30, 300, 2400))
        self.at(math.ceil(self.clock.seconds) + down, self._errands.append, self._boot)

    async def _boot(self) -> None:
        self.deaths += await until_alive(self.engine.boot)
        self.fleet.come_back()

    # ----------------------------------------------------------------------------------------------- people

    def _plan(self) -> None:
        for step in campaign.STEPS:
            at = round(step.day * self._day)
            self._busy.append((at, at + 1.5 * HOUR))
            self.at(at, self._take, step)
        self._errands.insert(0, self._boot)
        self.fleet.begin()
        self.at(round(campaign.CALM_AT * self._day), self._calm)
        for hour in range(2, 34, 4):
            self.at(round(campaign.CALM_AT * self._day + hour * HOUR), self._remind)
        self._meddle()

    def _take(self, step: campaign.Step) -> None:
        names = [device.address.device_name for device in self.fleet.devices]
        desk = campaign.Desk(self._git, names, self.clock.now(), timedelta(seconds=self._day))
        step.do(desk)
        for type_, arguments in desk.orders:
            self._order(type_, arguments)
        if step.merges:
            self._errands.append(self._merge)

    async def _merge(self) -> None:
        await self.engine.commit(self._git.files())
        self.refused |= self.engine.verdicts

    def _order(self, type_: str, arguments: dict[str, object]) -> None:
        self._orders.append(self.engine.order(type_, arguments))

    def _meddle(self) -> None:
        """Now and then an operator looks at some task, and cancels it or has it upgraded again."""
        if self.fleet.is_calm:
            return
        self.later(self._dice.uniform(0, self._day / 7), self._meddle)
        newest = self.engine.look(lambda connection: connection.execute(_NEWEST).scalar()) or 0
        start = self._dice.randint(0, newest)
        found = self.engine.look(lambda connection: connection.execute(_SOME_TASK, {"start": start}).first())
        if found is not None:
            type_ = "retry" if found.status in {"FAILED", "CANCELED"} else "cancel"
            self._order(type_, {"batch": found.batch, "device": found.name})

    def _calm(self) -> None:
        self.faults.odds = CALM
        self.fleet.calm()

    def _remind(self) -> None:
        """What waits for devices that must ask is asked for, and who has something unfinished boots once more."""
        fetched = self.engine.look(lambda connection: connection.execute(_FETCHED).all())
        self.fleet.wanted([(name, module) for name, module in fetched])
        open_ = self.engine.look(lambda connection: connection.execute(_OPEN).scalars().all())
        self.fleet.restart(open_)
