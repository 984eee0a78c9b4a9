"""MQTT for a device: one connection, as small as thousands in one process need it.

Used by the runner, and by tests that play a device. It decides nothing about upgrades; it speaks MQTT 3.1.1
as a client, with the codec of `protocol.mqtt311`. It is used once: to connect again takes another.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import Callable

from reconciler import errors
from reconciler.protocol import broker_url
from reconciler.protocol.mqtt311 import decoding, packets
from reconciler.protocol.mqtt311.parser import Parser

_PACKET_LIMIT = 1024 * 1024
_LOGIN_WITHIN = 20.0  # seconds


class RefusedError(errors.StalledError):
    """The server knows us and does not want us: wrong credentials, or a subscription that is not allowed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """What a device says of itself when it connects."""

    client_id: str
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    keepalive: int = 60
    """Seconds."""
    clean_session: bool = True
    filters: tuple[str, ...] = ()
    """What it subscribes to, at QoS 1."""


class Client(asyncio.Protocol):
    """A device's connection. Made by `connect`.

    Args:
        session: who connects.
        received: called with topic and payload of each message, before it is acknowledged.
    """

    def __init__(self, session: Session, received: Callable[[str, bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.session = session
        self.acknowledges = True
        """Set to False, it takes messages and never acknowledges them."""
        self.ended: asyncio.Future[str] = loop.create_future()
        """Done when the connection is over, with the reason."""
        self._loop = loop
        self._received = received
        self._parser = Parser(decoding.FROM_SERVERS, _PACKET_LIMIT)
        self._transport: asyncio.Transport | None = None
        self._greeted: asyncio.Future[None] = loop.create_future()
        self._subscribed: asyncio.Future[None] = loop.create_future()
        self._unacknowledged: dict[int, asyncio.Future[None]] = {}
        self._last_id = 0
        self._heard = True
        self._timer: asyncio.TimerHandle | None = None

    async def log_in(self) -> None:
        """Waits until the server has answered the login, and the subscriptions if there are any.

        Raises:
            RefusedError: it refuses one of them.
            ConnectionError: the connection was lost before.
            TimeoutError: there was no answer.
        """
        async with asyncio.timeout(_LOGIN_WITHIN):
            await self._greeted
            if self.session.filters:
                filters = tuple((each, 1) for each in self.session.filters)
                self._send(packets.Subscribe(self._next_id(), filters).encode())
                await self._subscribed

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, duplicate: bool = False
    ) -> asyncio.Future[None]:
        """Sends a message. The result is done when it is acknowledged (at QoS 0: at once).

        It is cancelled when the connection ends before.
        """
        acknowledged: asyncio.Future[None] = self._loop.create_future()
        if self.ended.done():
            acknowledged.cancel()
            return acknowledged
        packet_id = self._next_id() if qos else 0
        if qos:
            self._unacknowledged[packet_id] = acknowledged
        else:
            acknowledged.set_result(None)
        self._send(packets.Publish(topic, payload, qos, packet_id, duplicate).encode())
        return acknowledged

    def close(self) -> None:
        """Says goodbye, and closes when everything is written."""
        if self._transport is not None and not self._transport.is_closing():
            self._send(packets.DISCONNECT)
            self._transport.close()

    def abort(self) -> None:
        """Is gone at once, as if the power had failed."""
        if self._transport is not None:
            self._transport.abort()

    def _next_id(self) -> int:
        self._last_id = self._last_id % 65535 + 1
        return self._last_id

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the login."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        session = self.session
        password = None if session.password is None else session.password.encode()
        self._send(
            packets.Connect(
                session.client_id, session.username, password, session.keepalive, session.clean_session
            ).encode()
        )
        if session.keepalive:
            self._timer = self._loop.call_later(session.keepalive / 2, self._keep_alive)

    def data_received(self, data: bytes) -> None:
        """Takes what came in, packet by packet."""
        self._heard = True
        self._parser.feed(data)
        try:
            for packet in self._parser:
                self._take(packet)
        except packets.ProtocolError as error:
            self._end(f"the server broke the protocol: {error}")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends everything that was waited for."""
        self._end("closed" if exc is None else str(exc))

    def _keep_alive(self) -> None:
        """Twice in a keep-alive's time: if nothing was heard since the last ping, the server is gone."""
        if not self._heard:
            self._end("the server is silent")
            self.abort()
            return
        self._heard = False
        self._send(packets.PINGREQ)
        self._timer = self._loop.call_later(self.session.keepalive / 2, self._keep_alive)

    def _end(self, why: str) -> None:
        if self.ended.done():
            return
        self.ended.set_result(why)
        if self._timer is not None:
            self._timer.cancel()
        for waited_for in (self._greeted, self._subscribed):
            _fail(waited_for, ConnectionError(f"the connection ended: {why}"))
        for acknowledged in self._unacknowledged.values():
            acknowledged.cancel()
        self._unacknowledged.clear()

    # What the server says

    def _take(self, packet: packets.Packet) -> None:
        match packet:
            case packets.Publish():
                self._received(packet.topic, packet.payload)
                if packet.qos and self.acknowledges:
                    self._send(packets.Puback(packet.packet_id).encode())
            case packets.Puback():
                acknowledged = self._unacknowledged.pop(packet.packet_id, None)
                if acknowledged is not None and not acknowledged.done():
                    acknowledged.set_result(None)
            case packets.Connack():
                _settle(self._greeted, None if packet.code == 0 else _refused_login(packet.code))
            case packets.Suback():
                refused = packets.FAILURE in packet.codes
                _settle(self._subscribed, RefusedError("a subscription was refused") if refused else None)
            case _:
                pass


def _refused_login(code: int) -> RefusedError:
    names = {each.value: each.name.lower().replace("_", " ") for each in packets.ConnectCode}
    return RefusedError(f"the login was refused: {names.get(code, code)}")


def _settle(waited_for: asyncio.Future[None], error: Exception | None) -> None:
    if error is not None:
        _fail(waited_for, error)
    elif not waited_for.done():
        waited_for.set_result(None)


def _fail(waited_for: asyncio.Future[None], error: Exception) -> None:
    if not waited_for.done():
        waited_for.set_exception(error)
        waited_for.exception()  # seen, also when nobody waits for it


async def connect(
    url: broker_url.BrokerUrl,
    session: Session,
    received: Callable[[str, bytes], None],
    tls: ssl.SSLContext | None = None,
) -> Client:
    """A device that is connected, logged in and subscribed.

    Raises:
        RefusedError: the server refuses the login or a subscription.
        OSError: there is no connection (ConnectionError is one).
    """
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(
        lambda: Client(session, received), url.host, url.port, ssl=tls if url.tls else None
    )
    try:
        await client.log_in()
    except TimeoutError as error:
        client.abort()
        raise ConnectionError(f"no answer to the login within {_LOGIN_WITHIN:.0f} s") from error
    except BaseException:
        client.abort()
        raise
    return client
