"""The engine without its daemon: real services over a real SQLite file, which die at the edge of a transaction.

What is in memory dies with them: intake, claims on their way, connections, the services themselves. `boot` is the next
process over the same file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import pathlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event, text

from reconciler.artifacts.store import FileStore
from reconciler.domain import limits, plan
from reconciler.protocol import urls
from reconciler.services import apply, burst, materialize, observe, operate, sweep
from reconciler.services.bell import Bell
from reconciler.services.blocks import Blocks
from reconciler.services.clock import Jumps
from reconciler.services.dispatch import Dispatch
from reconciler.services.ingest import LIMIT, Ingest
from reconciler.services.offers import Offers
from reconciler.services.sweep import Sweep
from reconciler.services.verifying import Verifying
from reconciler.source import tree, validate
from reconciler.store import commands, devices, objects
from reconciler.store.commands import Command
from reconciler.store.database import Connection, Database
from reconciler.store.pushes import Claimant

from .faults import Crash, Edge, Faults
from .wire import KEY, SteadyIntake, Wire

START = datetime(2026, 11, 2, tzinfo=UTC)
SETTLE = timedelta(seconds=10)


class SimulatedClock:
    """Stands still between two moments of the simulation."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return 1000.0 + self.seconds


_OPEN = text(
    "SELECT EXISTS (SELECT 1 FROM job) OR EXISTS (SELECT 1 FROM inventory WHERE cursor IS NOT NULL)"
    " OR EXISTS (SELECT 1 FROM device_group WHERE cursor IS NOT NULL)"
)


class MortalDatabase(Database):
    """A database whose process may die right before or right after any commit.

    It works on the calling thread: which thread it is changes nothing, and there is but one order. Nothing waits for
    the disk (`synchronous=OFF`): the process dies, the machine does not.
    """

    def __init__(self, url: str, faults: Faults) -> None:
        super().__init__(url)
        self._faults = faults
        self.mortal = True
        for engine in (self._writer_engine, self._reader_engine):
            event.listen(engine, "connect", _hurry)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        edge = self._faults.death() if self.mortal else None
        with super().writing() as connection:
            yield connection
            if edge is Edge.BEFORE:
                raise Crash
        if edge is Edge.AFTER:
            raise Crash

    async def read(self, statement: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self.reading() as connection:
            return statement(connection, *args, **kwargs)

    async def write(self, statement: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self.writing() as connection:
            return statement(connection, *args, **kwargs)

    async def write_first(self, statement: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self.write(statement, *args, **kwargs)  # nobody else waits

    @contextlib.contextmanager
    def from_outside(self) -> Iterator[Connection]:
        """A transaction of another process, which does not die: the command line's."""
        self.mortal = False
        try:
            with self.writing() as connection:
                yield connection
        finally:
            self.mortal = True


def _hurry(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


class Branch(tree.FolderTree):
    """A tree whose files have names for their content, as in Git: what did not change is not read again."""

    def oid(self, path: str) -> str | None:
        found = self._texts.get(path)
        return None if found is None else hashlib.sha256(found).hexdigest()


class Engine:
    """One state, and the daemons that live on it one after the other.

    Args:
        root: a folder of its own.
        faults: when it dies.
        wire: the devices.
        clock: time.
    """

    def __init__(self, root: pathlib.Path, faults: Faults, wire: Wire, clock: SimulatedClock) -> None:
        self.clock = clock
        self.wire = wire
        url = f"sqlite:///{root / 'state.db'}"
        Database.open(url, upgrade=True).close()
        self.database = MortalDatabase(url, faults)
        files = FileStore(root / "files")
        files.prepare()
        self._policy = plan.Policy(hold_first_sight=False)
        self._stage = apply.Stage(self.database, files, limits.DEFAULT)
        self._files = files
        self._offers = Offers(KEY, urls.check_bases("http://download.example"))
        self._root = root
        self._cache = validate.Cache()
        self._commit: observe.Commit | None = None
        self._commits = 0
        self._is_asked = False
        self.is_up = False
        self.lives = 0
        self.bursts = 0
        self.verdicts: dict[str, str] = {}
        """What Git asks for and does not get."""

    async def boot(self) -> None:
        """A daemon starts over what the last one left: its epoch, then what is newest in Git."""
        self.lives += 1
        database, wire, clock = self.database, self.wire, self.clock
        epoch = await database.write(sweep.take_over, clock.now(), None)
        self._presence = devices.Presence(epoch, SETTLE)
        self._intake = SteadyIntake(1_000_000)
        blocks = Blocks(database, wire, clock, Verifying(self._files))
        host = burst.Host(epoch, SETTLE)
        self._ingest = Ingest(database, wire, clock, host, offers=self._offers, blocks=blocks)
        claimant, jumps = Claimant(epoch, self._presence), Jumps(clock)
        self._dispatch = Dispatch(
            database, wire, clock, claimant, jumps=jumps, offers=self._offers, intake=self._intake
        )
        self._sweep = Sweep(
            database,
            wire,
            self._intake,
            clock,
            jumps=jumps,
            presence=self._presence,
            work=Bell(),
            pushes_due=self._ingest.pushes_due,
        )
        if self._commit is not None:
            await self._apply(self._commit)
        self._is_asked = True
        await wire.serve(self._intake)
        self.is_up = True

    async def die(self) -> None:
        """The process is gone; what it had begun to send may or may not have left."""
        self.is_up = False
        self.wire.cut()
        await _idle()  # what was on its way finds nobody

    async def moment(self) -> int:
        """What a daemon does in a second: hear, look at the clock, obey, work, push. The number of pushes."""
        while len(self._intake):
            await self._ingest.process(await self._intake.take(LIMIT))
            self._intake.committed()
            self.bursts += 1
            await _idle()
        await self._sweep.round()
        if self._is_asked:
            while await self.database.read(commands.waiting):
                await self.database.write(
                    operate.carry_out_all, self._presence, self.clock.now(), self._policy.ways
                )
            self._is_asked = False
        if self.look(_is_open):  # else the idle look of every ten seconds finds nothing
            await self._work()
        before = self.wire.fresh
        self.wire.fresh = []
        pushes = await self._dispatch.round()  # how these end is written down by the next
        self.wire.settled(before)
        await _idle()
        return pushes

    async def _work(self) -> None:
        if await materialize.everything(self.database, self.clock, self._presence):
            await self._ingest.recognise()

    async def commit(self, files: dict[str, bytes]) -> None:
        """Something is merged: a pass over it, and everything that follows."""
        self._commits += 1
        revision = objects.Revision(f"{self._commits:040d}", "main", f"commit {self._commits}")
        found = Branch(self._root / "nothing", texts=files)
        checked = validate.check(found, limits.DEFAULT, self._cache)
        wrong = [str(each) for each in checked.diagnostics if each.severity == "error"]
        assert not wrong, wrong
        self._commit = observe.Commit(revision, found, checked.desired, tuple(checked.diagnostics))
        if self.is_up:
            await self._apply(self._commit)

    async def _apply(self, commit: observe.Commit) -> None:
        seen = await self.database.read(observe.make_plan, commit, self._policy, self.clock.now())
        self._stage.prepare(commit, seen.plan)
        applied = await self.database.write(apply.apply, commit, self._policy, seen.unknown, self.clock.now())
        self.verdicts = {str(each.key): f"{each.reason}: {each.message}" for each in applied.plan.verdicts}
        await self._work()

    def order(self, type_: str, arguments: dict[str, object]) -> int:
        """An operator writes an order down; the daemon obeys in its next moment."""
        now = self.clock.now()
        self._is_asked = True
        with self.database.from_outside() as connection:
            return commands.submit(connection, type_, arguments, who="olga", why="simulated", now=now)

    def answer(self, number: int) -> Command:
        """What became of an order."""
        found: Command = self.look(commands.get, number)
        return found

    def look(self, statement: Callable[..., Any], *args: Any) -> Any:
        """Reads something."""
        with self.database.reading() as connection:
            return statement(connection, *args)

    def close(self) -> None:
        self.database.close()


def _is_open(connection: Connection) -> bool:
    return bool(connection.execute(_OPEN).scalar())


async def _idle() -> None:
    """Lets what was started on the loop come to its end."""
    for _ in range(4):
        await asyncio.sleep(0)


async def until_alive(begin: Callable[[], Awaitable[None]]) -> int:
    """Starts as often as it takes: a process may die while it starts. The number of deaths."""
    deaths = 0
    while True:
        try:
            await begin()
        except Crash:
            deaths += 1
        else:
            return deaths
