"""The engine without its daemon: every service over a real database, devices in memory, and time moved by hand.

A test commits manifests, plays the devices, gives an operator's orders, moves the clock, and asks for one round of the
service it is about. `commit`, `order` and `wait` work on jobs until nothing is left; `hear`, `push` and `sweep.round`
do one thing each, in the order that a test wants. What devices do is a method of its own each, and waits in the intake
until `hear`. `check` holds what must be true at every moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from reconciler.artifacts.store import FileStore
from reconciler.domain import limits, plan
from reconciler.protocol import topics, urls
from reconciler.protocol.topics import Address
from reconciler.services import apply, burst, materialize, observe, operate, sweep
from reconciler.services.bell import Bell
from reconciler.services.blocks import Blocks
from reconciler.services.clock import Jumps
from reconciler.services.dispatch import Dispatch
from reconciler.services.ingest import Ingest
from reconciler.services.offers import Offers
from reconciler.services.signing import Keyring, Signing
from reconciler.services.sweep import Sweep
from reconciler.services.verifying import Verifying
from reconciler.source import tree, validate
from reconciler.store import commands, devices, events, fetches, objects, tables
from reconciler.store.commands import Command
from reconciler.store.database import Database
from reconciler.store.pushes import Claimant
from reconciler.transport.base import Health, Intake, PresenceKind
from reconciler.transport.memory import MemoryTransport

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
SETTLE = timedelta(seconds=10)
PRODUCT_KEY = "lampkey"
SOURCE, TARGET = "1.0.0", "2.0.0"


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self._now, self._steady = START, 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._steady

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._steady += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._now += timedelta(seconds=seconds)


class Wire(MemoryTransport):
    """Devices in memory, on a connection that is as old and as well as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.connected = 3600.0
        self.well = True

    def connected_for(self) -> float:
        return self.connected

    def cut(self) -> None:
        """Every connection breaks, and nobody is left to hear of it."""
        self._sessions.clear()
        self._backlog.clear()

    def health(self) -> Health:
        return super().health() if self.well else Health(ok=False, message="away")


class BrokerWire(Wire):
    """The same, as a broker's client sees it: who is there is only assumed."""

    presence = PresenceKind.ASSUMED


def address(name: str) -> Address:
    return Address(PRODUCT_KEY, name)


def document(kind: str, name: str, **spec: object) -> bytes:
    data = {"apiVersion": "ota/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return json.dumps(data).encode()


def base(*names: str, **product: object) -> dict[str, bytes]:
    """A product with a package, and an inventory of the named devices."""
    files = [{"name": "app.bin", "source": "app.bin"}]
    found = {
        "app.bin": b"firmware " * 10,
        "product.yaml": document("Product", "lamp", productKey=PRODUCT_KEY, **product),
        "package.yaml": document("Package", "lamp-2", product="lamp", version=TARGET, files=files),
    }
    if names:
        listed = [{"name": name} for name in names]
        found["inventory.yaml"] = document("DeviceInventory", "berlin", product="lamp", devices=listed)
    return found


def package(name: str = "lamp-3", version: str = "3.0.0", **spec: object) -> dict[str, bytes]:
    """Another package of that product, over the same file."""
    files = [{"name": "app.bin", "source": "app.bin"}]
    text = document("Package", name, **{"product": "lamp", "version": version, "files": files, **spec})
    return {f"{name}.yaml": text}


def inventory(name: str = "berlin", /, **tags: dict[str, str]) -> dict[str, bytes]:
    """The product's devices with their tags: `inventory(**{"dev-1": {"region": "eu"}})`."""
    listed = [{"name": device, "tags": given} for device, given in tags.items()]
    return {"inventory.yaml": document("DeviceInventory", name, product="lamp", devices=listed)}


def static_group(name: str, *names: str) -> dict[str, bytes]:
    """A group of just these devices."""
    return {f"{name}.yaml": document("DeviceGroup", name, product="lamp", devices=list(names))}


def dynamic_group(
    name: str, tags: dict[str, str] | None = None, version: str = "", module: str = "default", **spec: object
) -> dict[str, bytes]:
    """A group of the product's devices that have these tags, and report this version."""
    selector = {"matchTags": tags} if tags else {}
    if version:
        selector |= {"module": {"name": module, "version": version}}
    text = document("DeviceGroup", name, **{"product": "lamp", "selector": selector, **spec})
    return {f"{name}.yaml": text}


def batch(name: str = "all", **spec: object) -> dict[str, bytes]:
    """A manifest of a batch for everybody, unless it says otherwise."""
    return {f"{name}.yaml": document("Batch", name, **{"package": "lamp-2", "target": {"all": {}}, **spec})}


class Rig:
    """One database and one daemon's services over it; `boot` again is a restart."""

    def __init__(self, root, database: Database, wire: Wire | None = None, **policy: object) -> None:
        self.clock = ManualClock()
        self.database = database
        self.files = FileStore(root / "files", self.clock.monotonic)
        self.files.prepare()
        self.wire = wire or Wire()
        self.policy = plan.Policy(**{"hold_first_sight": False, **policy})
        self.stage = apply.Stage(database, self.files, limits.DEFAULT)
        self.environment: dict[str, str] = {}
        self._root = root
        self._commits = 0
        self._serving: asyncio.Task[None] | None = None

    async def boot(self) -> int:
        """A daemon starts; the epoch."""
        exact = self.wire.presence is PresenceKind.EXACT
        push_at = None if exact else self.clock.now() + SETTLE
        epoch = await self.database.write(sweep.take_over, self.clock.now(), push_at)
        presence = epoch if exact else devices.ASSUMED_EPOCH
        self.signing = Signing(self.database, Keyring(self.environment), self.clock)
        await self.signing.look()
        offers = Offers(b"k" * 32, urls.check_bases("http://download.example"), self.signing.keyring)
        self.intake = Intake()
        host = burst.Host(presence, SETTLE, assumed_presence=not exact)
        self.verifying = Verifying(self.files, self._lost)
        self.blocks = Blocks(self.database, self.wire, self.clock, self.verifying)
        self.ingest = Ingest(self.database, self.wire, self.clock, host, offers=offers, blocks=self.blocks)
        self.presence = devices.Presence(presence, SETTLE)
        claimant = Claimant(epoch, self.presence)
        self.jumps = Jumps(self.clock)
        self.dispatch = Dispatch(
            self.database,
            self.wire,
            self.clock,
            claimant,
            jumps=self.jumps,
            offers=offers,
            intake=self.intake,
        )
        self.work = Bell()
        self.sweep = self.make_sweep(self.intake)
        self._serving = asyncio.create_task(self.wire.serve(self.intake))
        await asyncio.sleep(0)
        return epoch

    async def _lost(self, sha256: str) -> None:
        await self.database.write(fetches.lose, [sha256])

    def make_sweep(self, intake: Intake) -> Sweep:
        """The service that watches the time; over another intake, where a test says how old its messages are."""
        return Sweep(
            self.database,
            self.wire,
            intake,
            self.clock,
            jumps=self.jumps,
            presence=self.presence,
            work=self.work,
            pushes_due=self.ingest.pushes_due,
        )

    async def kill(self) -> None:
        """The daemon is gone; every connection with it. What nobody acknowledged will be sent again."""
        if self._serving is not None:
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving
        self.wire.cut()

    def read_tree(self, files: dict[str, bytes], confirmed: int | None = None) -> observe.Commit:
        """A commit of just these files."""
        self._commits += 1
        revision = objects.Revision(f"{self._commits:040d}", "main", f"commit {self._commits}")
        found = tree.FolderTree(self._root / "nothing", texts=dict(files))
        checked = validate.check(found, limits.DEFAULT)
        return observe.Commit(revision, found, checked.desired, tuple(checked.diagnostics), confirmed)

    async def commit(self, *parts: dict[str, bytes], confirmed: int | None = None) -> apply.Applied:
        """A pass over a new commit, and everything that follows from it."""
        found = self.read_tree({name: text for part in parts for name, text in part.items()}, confirmed)
        return await self.apply(found)

    async def apply(self, commit: observe.Commit) -> apply.Applied:
        seen = await self.database.read(observe.make_plan, commit, self.policy, self.clock.now())
        await asyncio.to_thread(self.stage.prepare, commit, seen.plan)
        applied = await self.database.write(apply.apply, commit, self.policy, seen.unknown, self.clock.now())
        await self.signing.look()
        self.wire.set_products(await self.database.read(devices.served_product_keys))
        await self.materialize()
        return applied

    async def materialize(self) -> None:
        if await materialize.everything(self.database, self.clock, self.presence):
            await self.ingest.recognise()

    async def order(self, type_: str, *, who: str = "alice", why: str = "", **arguments: object) -> Command:
        """An operator's order is carried out, with everything that follows; what became of it: `ok` and `result`."""
        given = {"who": who, "why": why, "now": self.clock.now()}
        number = await self.database.write(commands.submit, type_, arguments, **given)
        while await self.database.read(commands.waiting):
            await self.database.write(
                operate.carry_out_all, self.presence, self.clock.now(), self.policy.ways
            )
        await self.materialize()
        return await self.database.read(commands.get, number)

    async def hear(self) -> None:
        """Everything that waits in the intake, in one burst; and the answers are out."""
        if len(self.intake):
            await self.ingest.process(await self.intake.take(500))
            self.intake.committed()
        await turn()

    async def push(self) -> int:
        """One round of pushes, and one that settles what became of them; the number of pushes."""
        pushed = await self.dispatch.round()
        await turn()
        return pushed + await self.dispatch.round()

    async def wait(self, seconds: int, *, each: int = 1) -> int:
        """Time passes, with a round of everything each second: messages, time, jobs, pushes. The number of pushes."""
        pushed = 0
        for _ in range(0, seconds, each):
            self.clock.advance(each)
            await self.hear()
            await self.sweep.round()
            await self.materialize()
            pushed += await self.push()
        return pushed

    # What a device does

    def connect(self, *names: str) -> None:
        for name in names:
            self.wire.connect(address(name))

    def inform(
        self, name: str, version: str, *, module: str = "", number: object = "1", duplicate: bool = False
    ) -> None:
        params = {"version": version} | ({"module": module} if module else {})
        self.say(name, topics.inform, {"id": number, "params": params}, duplicate=duplicate)

    def progress(
        self, name: str, step: int, *, module: str = "default", number: object = "1", duplicate: bool = False
    ) -> None:
        """`number` is the message's id: the same step with the same id is the device's own repeat."""
        params = {"step": str(step), "desc": "", "module": module}
        self.say(name, topics.progress, {"id": number, "params": params}, duplicate=duplicate)

    def ask(self, name: str, request: object = 7, *, module: str = "") -> None:
        """`firmware/get`; `answers` has what it was told."""
        params = {"module": module} if module else {}
        self.say(name, topics.firmware_get, {"id": request, "params": params})

    def say(self, name: str, topic, payload: object, *, duplicate: bool = False) -> None:
        text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.wire.send(address(name), topic(address(name)), text, duplicate=duplicate)

    async def arrive(self, *names: str, version: str = SOURCE) -> None:
        """Devices connect, report, and have settled."""
        for name in names:
            self.connect(name)
            self.inform(name, version)
        await self.hear()
        self.clock.advance(SETTLE.total_seconds())

    # What is in the database

    def rows(self, query) -> list:
        with self.database.reading() as connection:
            return list(connection.execute(query))

    def task(self, device: str, name: str = "all"):
        """A device's newest task in a batch."""
        task, run, named = tables.task, tables.run, tables.device
        query = (
            select(task)
            .join(run, run.c.id == task.c.run_id)
            .join(named, named.c.id == task.c.device_id)
            .where(run.c.batch == name, named.c.name == device)
            .order_by(task.c.id.desc())
        )
        return self.rows(query)[0]

    def status(self, device: str, name: str = "all") -> str:
        """Its status, and the reason or the hold where there is one: `FAILED timeout`, `QUEUED behind`."""
        found = self.task(device, name)
        more = found.reason or (found.hold if found.hold != "none" else "")
        return f"{found.status} {more}" if more else found.status

    def run(self, name: str = "all"):
        """A batch's newest run."""
        query = select(tables.run).where(tables.run.c.batch == name).order_by(tables.run.c.id.desc())
        return self.rows(query)[0]

    def object(self, name: str):
        return self.rows(select(tables.object_).where(tables.object_.c.name == name))[0]

    def events(self, type_: str = "") -> list[events.Line]:
        with self.database.reading() as connection:
            found = events.read(connection, events.Filter(), 100_000)
        return [line for line in found if type_ in {"", line.type}]

    def dump(self, *but: str) -> dict[str, list]:
        """Every row of every table, to compare before and after."""
        left = {table: table for table in tables.metadata.sorted_tables if table.name not in but}
        return {table.name: self.rows(select(table).order_by(*table.primary_key)) for table in left}

    def pushed(self, name: str) -> list[dict]:
        """What a device was pushed or answered."""
        return [json.loads(push.payload) for push in self.wire.published if push.address == address(name)]

    def answers(self, name: str) -> list[dict]:
        """The `data` of what a device was answered when it asked."""
        return [said["data"] for said in self.pushed(name) if said["code"] == 200]

    def check(self) -> None:
        """What must hold at every moment, whatever happened."""
        task, count = tables.task, tables.task_count
        real = select(task.c.run_id, task.c.status, func.coalesce(task.c.reason, ""), func.count())
        counted = self.rows(real.group_by(task.c.run_id, task.c.status, task.c.reason))
        kept = self.rows(select(count).where(count.c.count > 0))
        assert sorted(map(tuple, counted)) == sorted(map(tuple, kept))
        occupied: dict[int, list] = {}
        for row in self.rows(select(task)):
            unfinished = row.status in {"CONFIRM", "QUEUED", "NOTIFIED", "IN_PROGRESS"}
            assert row.holds == (unfinished and row.hold != "behind")
            assert (row.hold == "retry") == (row.retry_at is not None)
            if not unfinished:
                assert (row.hold, row.push_due_at, row.deadline_at) == ("none", None, None)
                assert (row.claim_epoch, row.failure_mark) == (None, None)
            if row.push_due_at is not None:
                assert row.status != "CONFIRM"
                assert row.hold != "behind"
            if row.holds:
                occupied.setdefault(row.device_id, []).append(row)
        for rows in occupied.values():
            assert len(rows) == 1 or all(row.multi for row in rows)
            assert len({row.module for row in rows}) == len(rows)


async def turn() -> None:
    """Lets what was started on the loop come to its end."""
    for _ in range(5):
        await asyncio.sleep(0)
