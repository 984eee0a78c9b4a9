"""The device endpoint as its tests run it: served on a free port, with accounts, and with clients that are raw."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl

from certificates import Certificates

from reconciler.protocol import login, topics
from reconciler.protocol.mqtt311 import decoding, packets
from reconciler.protocol.mqtt311.parser import Parser
from reconciler.protocol.topics import Address
from reconciler.transport import endpoint
from reconciler.transport.base import Intake, Message, Presence

PRODUCT = "thermostat"
SECRET = "the secret of {}"


def device(number: int) -> Address:
    return Address(PRODUCT, f"dev-{number:04}")


def secret(address: Address) -> str:
    return SECRET.format(address)


class Accounts:
    """Knows the secret of every device of the product whose name begins with `dev-`."""

    def __init__(self) -> None:
        self.asked: list[Address] = []
        self.at_once = self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def authenticate(self, claim: login.Login) -> bool:
        self.asked.append(claim.address)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await self.gate.wait()
        finally:
            self.at_once -= 1
        if self.error is not None:
            raise self.error
        return claim.address.device_name.startswith("dev-") and login.verify(claim, secret(claim.address))


@dataclasses.dataclass
class Served:
    """An endpoint that is served, and what came out of it."""

    endpoint: endpoint.Endpoint
    accounts: Accounts
    intake: Intake
    task: asyncio.Task[None]
    clients: list[Raw] = dataclasses.field(default_factory=list)

    async def connect(self, port: int = 0, tls: ssl.SSLContext | None = None) -> Raw:
        """A client that has said nothing yet."""
        raw = Raw(*await asyncio.open_connection("127.0.0.1", port or self.port, ssl=tls))
        self.clients.append(raw)
        return raw

    async def log_in(self, address: Address, *, port: int = 0, **changes: object) -> Raw:
        """A device that is let in."""
        raw = await self.connect(port)
        raw.send(hello(address, **changes))
        assert await raw.read() == packets.Connack(0)
        return raw

    @property
    def port(self) -> int:
        return self.endpoint.bound_port

    async def take(self, count: int) -> list[Message | Presence]:
        """The next so many items, whatever they are."""
        found: list[Message | Presence] = []
        async with asyncio.timeout(10):
            while len(found) < count:
                found += await self.intake.take(count - len(found))
        return found

    async def messages(self, count: int) -> list[Message]:
        """The next so many messages."""
        found: list[Message] = []
        while len(found) < count:
            found += [item for item in await self.take(1) if isinstance(item, Message)]
        return found

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@contextlib.asynccontextmanager
async def served(
    limits: endpoint.EndpointLimits | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    allow_anonymous: bool = False,
    capacity: int = 4096,
    products: frozenset[str] | None = frozenset({PRODUCT}),
):
    """An endpoint on a free port."""
    accounts, intake = Accounts(), Intake(capacity)
    made = endpoint.Endpoint(
        [endpoint.Bind(port=0, tls=tls)], accounts, limits=limits, allow_anonymous=allow_anonymous
    )
    if products is not None:
        made.set_products(products)
    task = asyncio.create_task(made.serve(intake))
    await made.listening()
    running = Served(made, accounts, intake, task)
    try:
        yield running
    finally:
        await running.stop()
        for client in running.clients:
            await client.leave()


class Raw:
    """A client that sends what a test wants, and reads packets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._parser = Parser(decoding.FROM_SERVERS, 1_000_000)

    def send(self, *said: packets.Packet) -> None:
        self.writer.write(b"".join(packet.encode() for packet in said))

    async def read(self, within: float = 10.0) -> packets.Packet | None:
        """The next packet; None when the connection was closed."""
        async with asyncio.timeout(within):
            while True:
                for packet in self._parser:
                    return packet
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._parser.feed(data)

    async def closed(self, within: float = 10.0) -> bool:
        """Waits until the server closed the connection; packets before that are skipped."""
        while await self.read(within) is not None:
            pass
        return True

    async def leave(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def hello(address: Address, *, cid: str | None = None, **changes: object) -> packets.Connect:
    """The CONNECT of a device, with its right password."""
    made = login.make(address, secret(address), cid=cid)
    connect = packets.Connect(made.client_id, made.username, made.password.encode(), 60)
    return connect._replace(**changes)


def report(address: Address, number: int, payload: bytes = b"{}") -> packets.Publish:
    """A version report at QoS 1."""
    return packets.Publish(topics.inform(address), payload, 1, number)


def certificate(folder) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context for 127.0.0.1; the client's CA file is `folder/ca.pem`."""
    made = Certificates.make(folder)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.server, made.server_key)
    return server, ssl.create_default_context(cafile=str(made.ca))


async def eventually(holds, within: float = 10.0) -> None:
    """Waits until something holds, and fails when it doesn't in time."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - what it waits for happens on the other side of a socket
            await asyncio.sleep(0.01)
