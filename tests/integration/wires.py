"""Every transport behind the same few verbs, so that one suite can hold them all to the promises of the port.

A wire is a transport with what is around it (a broker, a listening port), and a way to make devices. A peer is
a device as a test plays it: it knows MQTT only.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import ssl
from collections.abc import Awaitable, Callable

from brokers import Mosquitto

from reconciler.protocol import broker_url, topics
from reconciler.protocol import login as logins
from reconciler.protocol.topics import Address
from reconciler.simulator import client as clients
from reconciler.transport.base import Intake, Transport
from reconciler.transport.endpoint import Bind, Endpoint, EndpointLimits
from reconciler.transport.memory import MemoryTransport, Push
from reconciler.transport.mqtt import MqttOptions, MqttTransport

PRODUCT = "pk"


def address(name: str, product_key: str = PRODUCT) -> Address:
    return Address(product_key, name)


async def eventually(holds: Callable[[], object], within: float = 10.0) -> None:
    """Waits until something holds, and fails when it doesn't in time."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - what it waits for is in other processes
            await asyncio.sleep(0.01)


class Peer:
    """A device that a test plays, over MQTT.

    Args:
        connect: makes a connection.
    """

    def __init__(self, connect: Callable[[Callable[[str, bytes], None]], Awaitable[clients.Client]]) -> None:
        self.pushes: list[tuple[str, bytes]] = []
        self._connect = connect
        self._client: clients.Client | None = None
        self._unacknowledged: dict[int, tuple[str, bytes]] = {}
        self._sent = 0

    async def come(self) -> Peer:
        """Connects, and sends again what was not acknowledged, as a client of a QoS 1 session does."""
        self._client = await self._connect(lambda topic, payload: self.pushes.append((topic, payload)))
        for number, (topic, payload) in list(self._unacknowledged.items()):
            self._publish(number, topic, payload, duplicate=True)
        return self

    def send(self, topic: str, payload: bytes) -> None:
        self._sent += 1
        self._unacknowledged[self._sent] = (topic, payload)
        self._publish(self._sent, topic, payload, duplicate=False)

    def _publish(self, number: int, topic: str, payload: bytes, *, duplicate: bool) -> None:
        assert self._client is not None
        self._client.publish(topic, payload, duplicate=duplicate).add_done_callback(
            lambda done: None if done.cancelled() else self._unacknowledged.pop(number, None)
        )

    @property
    def waits_for(self) -> int:
        """How many of its messages were not acknowledged on the wire."""
        return len(self._unacknowledged)

    async def leave(self) -> None:
        assert self._client is not None
        self._client.close()
        await asyncio.wait([self._client.ended], timeout=5)


class Wire:
    """A transport, what is around it, and devices. Made anew for each test."""

    transport: Transport

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.peers: list[Peer] = []
        self._serving: asyncio.Task[None] | None = None

    async def set_up(self) -> None:
        """Makes the transport. It is not served yet."""
        raise NotImplementedError

    async def tear_down(self) -> None:
        await self.stop()
        for peer in self.peers:
            await peer.leave()

    async def serve(self, intake: Intake) -> None:
        self._serving = asyncio.create_task(self.transport.serve(intake))
        await eventually(lambda: self.transport.health().ok)

    async def stop(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving
            self._serving = None

    async def device(self, name: str, product_key: str = PRODUCT) -> Peer:
        """A device that is connected."""
        peer = self._peer(address(name, product_key))
        self.peers.append(peer)
        return await peer.come()

    def _peer(self, who: Address) -> Peer:
        return Peer(self._over_mqtt(self.url, who))

    @property
    def url(self) -> str:
        raise NotImplementedError

    async def interrupt(self, intake: Intake) -> None:
        """Loses the connection on which messages came, and gets it back."""
        raise NotImplementedError

    @staticmethod
    def _over_mqtt(url: str, who: Address, tls: ssl.SSLContext | None = None):
        async def connect(received: Callable[[str, bytes], None]) -> clients.Client:
            session = clients.Session(
                client_id=str(who).replace("/", "."),
                username=f"{who.device_name}&{who.product_key}",
                filters=(topics.upgrade(who), topics.firmware_get_reply(who)),
            )
            return await clients.connect(broker_url.parse(url), session, received, tls)

        return connect


class MemoryPeer(Peer):
    """A device of the transport in memory."""

    def __init__(self, transport: MemoryTransport, who: Address) -> None:
        self.pushes = []
        self._transport, self._who = transport, who

    async def come(self) -> Peer:
        self._transport.connect(self._who)
        return self

    def send(self, topic: str, payload: bytes) -> None:
        self._transport.send(self._who, topic, payload)

    @property
    def waits_for(self) -> int:
        return len(self._transport.unacknowledged(self._who))

    async def leave(self) -> None:
        if self._transport.is_connected(self._who):
            self._transport.disconnect(self._who)


class MemoryWire(Wire):
    """Devices in memory."""

    transport: MemoryTransport

    async def set_up(self) -> None:
        self.transport = MemoryTransport(self._pushed)

    def _pushed(self, push: Push) -> None:
        for peer in self.peers:
            if isinstance(peer, MemoryPeer) and peer._who == push.address:
                peer.pushes.append((push.topic, push.payload))

    def _peer(self, who: Address) -> Peer:
        return MemoryPeer(self.transport, who)

    async def interrupt(self, intake: Intake) -> None:
        for peer in self.peers:
            await peer.leave()
            await peer.come()


class BrokerWire(Wire):
    """A broker: here the connection on which messages come is the transport's own."""

    transport: MqttTransport

    async def set_up(self) -> None:
        self.broker = Mosquitto(self.folder)
        await asyncio.to_thread(self.broker.start)
        self.transport = self._made()

    def _made(self) -> MqttTransport:
        return MqttTransport(self.url, MqttOptions(retry_min=0.05, retry_max=0.2))

    async def tear_down(self) -> None:
        await super().tear_down()
        await asyncio.to_thread(self.broker.stop)

    @property
    def url(self) -> str:
        return self.broker.url

    async def interrupt(self, intake: Intake) -> None:
        """As after a crash of ours: another transport, under the same name."""
        await self.stop()
        self.transport = self._made()
        self.transport.set_products(frozenset({PRODUCT}))
        await self.serve(intake)


class EndpointWire(Wire):
    """Our own endpoint, on a free port: here the connections on which messages come are the devices'."""

    transport: Endpoint

    async def set_up(self) -> None:
        limits = EndpointLimits(packets_per_second=0, logins_per_second=0)
        self.transport = Endpoint([Bind(port=0)], Anyone(), limits=limits)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.transport.bound_ports[0]}"

    async def interrupt(self, intake: Intake) -> None:
        for peer in self.peers:
            await peer.leave()
            await peer.come()


class Anyone:
    """Lets every device in."""

    async def authenticate(self, login: logins.Login) -> bool:
        return True


WIRES = {"endpoint": EndpointWire, "memory": MemoryWire, "mosquitto": BrokerWire}
