"""What takes the devices' messages, in a process of its own whose CPU time and memory are looked at from outside.

Either the daemon's own way from the wire to the database (transport, intake, ingest, the writer; no Git, no pushes), or
the least that a consumer behind a broker can do.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.connection import Connection

import orjson
import paho.mqtt.client as paho
import processes
import seeding

from reconciler import process
from reconciler.artifacts.store import FileStore
from reconciler.protocol import topics, urls
from reconciler.services import burst
from reconciler.services.blocks import Blocks
from reconciler.services.clock import SystemClock
from reconciler.services.ingest import Ingest
from reconciler.services.offers import Offers
from reconciler.services.verifying import Verifying
from reconciler.store import devices
from reconciler.store.database import Database
from reconciler.transport import base, endpoint, mqtt

UNPACED = endpoint.EndpointLimits(packets_per_second=0, logins_per_second=0)
SETTLE = timedelta(seconds=10)


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What a process has done and taken so far."""

    messages: int
    """Committed."""
    at: float
    cpu: float
    resident: float
    peak: float
    """Megabytes."""


def offers() -> Offers:
    """What makes the payloads of pushes."""
    return Offers(b"k" * 32, urls.check_bases("http://127.0.0.1"))


class Anywhere(Verifying):
    """Opens files for blocks with the steps of the daemon; here a row names the place instead of the digest."""

    def __init__(self) -> None:
        super().__init__(FileStore(pathlib.Path("nowhere")))

    def open_known(self, sha256: str) -> int:
        """Whatever lies there."""
        return os.open(sha256, os.O_RDONLY)


def ingest_of(database: Database, transport: base.Transport, *, settle: timedelta = SETTLE) -> Ingest:
    """The ingest of a daemon that devices are connected to."""
    clock = SystemClock()
    exact = transport.presence is base.PresenceKind.EXACT
    epoch = seeding.EPOCH if exact else devices.ASSUMED_EPOCH
    blocks = Blocks(database, transport, clock, Anywhere())
    host = burst.Host(epoch, settle, assumed_presence=not exact)
    return Ingest(database, transport, clock, host, offers=offers(), blocks=blocks)


# -- the daemon's way ---------------------------------------------------------------------------------------


class _Nobody:
    async def authenticate(self, login: object) -> bool:
        del login
        return False


def _transport(broker: str, limits: endpoint.EndpointLimits | None) -> base.Transport:
    if broker:
        return mqtt.MqttTransport(broker)
    return endpoint.Endpoint([endpoint.Bind(port=0)], _Nobody(), limits=limits, allow_anonymous=True)


async def _live(
    pipe: Connection, path: pathlib.Path, broker: str, limits: endpoint.EndpointLimits | None
) -> None:
    database = Database.open(seeding.url(path), upgrade=False)
    transport = _transport(broker, limits)
    transport.set_products(frozenset({seeding.PRODUCT_KEY}))
    ingest, intake, over = ingest_of(database, transport), base.Intake(), asyncio.Event()

    def asked() -> None:
        if pipe.recv() is None:
            over.set()
            return
        counted = sum(ingest.counted.values())
        usage = (time.monotonic(), time.process_time(), processes.megabytes(), processes.megabytes("VmHWM"))
        pipe.send(Look(counted, *usage))

    tasks = [asyncio.create_task(transport.serve(intake)), asyncio.create_task(ingest.run(intake))]
    if isinstance(transport, endpoint.Endpoint):
        await transport.listening()
        pipe.send(transport.bound_port)
    asyncio.get_running_loop().add_reader(pipe.fileno(), asked)
    ended = asyncio.create_task(over.wait())
    await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            await task  # it never ends but by an error
        task.cancel()
    await asyncio.wait(tasks)
    database.close()


def _serve(pipe: Connection, path: pathlib.Path, broker: str, limits: endpoint.EndpointLimits | None) -> None:
    process.prepare()  # as `reconciler run` does
    asyncio.run(_live(pipe, path, broker, limits))


class Daemon:
    """A running one, as it is seen from outside."""

    def __init__(self, pipe: Connection, *, listens: bool) -> None:
        self._pipe = pipe
        self.port: int = pipe.recv() if listens else 0

    def look(self) -> Look:
        """What it has done and taken."""
        self._pipe.send("look")
        found = self._pipe.recv()
        assert isinstance(found, Look)
        return found


@contextlib.contextmanager
def daemon(
    path: pathlib.Path, *, broker: str = "", limits: endpoint.EndpointLimits | None = None
) -> Iterator[Daemon]:
    """The way from the wire to a database: an endpoint of our own, or a broker's client."""
    with processes.playing(_serve, path, broker, limits) as pipe:
        yield Daemon(pipe, listens=not broker)
        pipe.send(None)


# -- the least that a consumer can do -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Bare:
    """What a consumer did that decodes and acknowledges, and nothing else."""

    rate: float
    cpu: float
    """Seconds a message."""


def consume(port: int, count: int) -> Bare | None:
    """Takes so many messages from a broker, in the session that the daemon will use; none: only makes that session."""
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2,
        client_id=mqtt.MqttOptions().client_id,
        clean_session=False,
        manual_ack=True,
    )
    marks: list[tuple[float, float]] = []
    came = 0

    def received(_client: paho.Client, _user: object, message: paho.MQTTMessage) -> None:
        nonlocal came
        orjson.loads(message.payload)
        client.ack(message.mid, message.qos)
        came += 1
        if came in {1, count}:
            marks.append((time.monotonic(), time.process_time()))
            if came == count:
                client.disconnect()

    def subscribed(*_: object) -> None:
        if not count:
            client.disconnect()

    client.on_connect = lambda *_: client.subscribe([(f, 1) for f in topics.uplinks(seeding.PRODUCT_KEY)])
    client.on_message, client.on_subscribe = received, subscribed
    client.connect("127.0.0.1", port)
    client.loop_forever()
    if not count:
        return None
    (began, before), (ended, after) = marks
    return Bare(count / (ended - began), (after - before) / count)
