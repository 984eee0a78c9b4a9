"""One connection to a broker, from CONNECT to the end: paho's client, driven by the event loop.

Decides how paho is used, and nothing else: what a message means and when to connect again is the business of
`mqtt`, which makes one link after the other and throws each away with everything that was unfinished on it.
So a push is never sent again by a later connection, and a late acknowledgement finds its link closed.

It must never start paho's thread (`loop_start` can't use sockets numbered 1024 and above, and costs two
thirds of the speed): only connecting, which blocks, is done in a thread, before the loop takes the socket.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import ssl
from collections.abc import Callable, Iterable
from typing import Concatenate, ParamSpec, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from reconciler import errors
from reconciler.protocol import broker_url
from reconciler.protocol.mqtt311 import packets, stream
from reconciler.transport.base import Delivery
from reconciler.transport.broker_socket import SharedSocket, Sharing

_log = logging.getLogger(__name__)

_BURST = 64  # packets taken before other work on the loop gets its turn
_CONNACK_WITHIN = 10.0  # seconds
_FILTERS_A_SUBSCRIBE = 200  # keeps a SUBSCRIBE under the packet limits of usual brokers
_SERVER_UNAVAILABLE = "Server unavailable"

_P = ParamSpec("_P")


@dataclasses.dataclass(frozen=True, slots=True)
class LinkOptions:
    """How one connection behaves. Times are in seconds."""

    client_id: str
    keepalive: int
    max_inflight: int
    """Pushes that the broker has not acknowledged; brokers get slower beyond 100."""
    max_queued: int
    """Pushes that wait for their turn; one more is BUSY."""
    publish_timeout: float


def _guarded(method: Callable[Concatenate[Link, _P], None]) -> Callable[Concatenate[Link, _P], None]:
    """Logs an exception and keeps it out of paho, whose parser would be left in the middle of a packet."""

    @functools.wraps(method)
    def call(self: Link, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:  # noqa: BLE001 - whatever it is, it is in the log and paho goes on
            _log.exception("%s: a callback failed", self)

    return call


class ClosingSocket(ssl.SSLSocket):
    """A TLS socket that a failed handshake closes; paho would leave it open until it is collected."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the base's signature
        """Negotiates, or closes the socket and raises what the base raises."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


class Link:
    """A connection to a broker, used once.

    Args:
        url: where, and as whom.
        options: limits and times.
        tls: how to check and be checked; None for plain TCP.
        connected: called when the broker let us in, before anything is received: messages may come right behind.
        received: called with each message, on the event loop.
    """

    def __init__(
        self,
        url: broker_url.BrokerUrl,
        options: LinkOptions,
        tls: ssl.SSLContext | None,
        *,
        connected: Callable[[Link], None],
        received: Callable[[Link, packets.Publish], None],
    ) -> None:
        self.refused: set[str] = set()
        """Filters that the broker doesn't let us subscribe to."""
        self.flowing_since: float | None = None
        """When the last of the first subscriptions was confirmed, in the loop's time."""
        self._url = url
        self._options = options
        self._let_in = connected
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[ReasonCode] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._slots = asyncio.Semaphore(options.max_inflight)
        self._queued = 0
        self._unacknowledged: dict[int, asyncio.Future[Delivery]] = {}
        self._subscribing: dict[int, list[str]] = {}
        self._kept: str | None = None
        self._paused = False
        self._stream = stream.parser()
        self._is_behind = False
        """There may be packets that were read and not taken."""
        self._will_read = False
        self._will_write = False
        self._seconds = 0
        self._timer: asyncio.TimerHandle | None = None
        self._client = self._make_client(tls)

    def __str__(self) -> str:
        """The broker's address, without the password."""
        return str(self._url)

    def _make_client(self, tls: ssl.SSLContext | None) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._options.client_id,
            clean_session=False,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.max_inflight_messages = 0  # `_slots` counts them: what waits here is dropped with the link
        if self._url.username is not None:
            client.username_pw_set(self._url.username, self._url.password)
        client.tls_set_context(Sharing(tls).as_context())
        client.on_connect = lambda _c, _u, _flags, reason, _p: self._on_connect(reason)
        client.on_disconnect = lambda _c, _u, _flags, reason, _p: self._on_disconnect(reason)
        client.on_message = lambda _c, _u, message: self._on_message(message)
        client.on_publish = lambda _c, _u, mid, _reason, _p: self._on_publish(mid)
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._on_subscribe(mid, reasons)
        client.connect_async(self._url.host, self._url.port, self._options.keepalive)
        return client

    # The connection's life

    async def open(self) -> None:
        """Connects and logs in.

        Raises:
            TransientError: the broker is away, or says that it can't serve now.
            StalledError: it refuses us, or its certificate is not to be trusted: retrying alone won't help.
        """
        try:
            await asyncio.to_thread(self._client.reconnect)
        except ssl.SSLError as error:
            raise errors.StalledError(
                f"no secure connection to {self}: {error}",
                remedy="check the CA file, the client certificate, and that the certificate names this host",
            ) from error
        except OSError as error:
            raise errors.TransientError(f"no connection to {self}: {error}") from error
        self._attach()
        try:
            async with asyncio.timeout(_CONNACK_WITHIN):
                reason = await asyncio.shield(self._connected)
        except TimeoutError as error:
            raise errors.TransientError(f"{self} did not answer the login") from error
        if reason.is_failure:
            self._raise_refused(str(reason))

    def _raise_refused(self, reason: str) -> None:
        message = f"{self} refuses the login as client {self._options.client_id}: {reason}"
        if reason == _SERVER_UNAVAILABLE:
            raise errors.TransientError(message)
        raise errors.StalledError(message, remedy="check user, password and the broker's access rules")

    def _attach(self) -> None:
        """Gives the socket, which only this thread touches from now on, to the event loop."""
        sock = self._socket()
        if sock is None:
            raise errors.TransientError(f"{self} closed the connection at once")
        client, loop = self._client, self._loop
        client.on_socket_register_write = lambda _c, _u, _s: self._write_soon()
        client.on_socket_close = lambda _c, _u, s: self._detach(cast("SharedSocket", s))
        sock.take()
        loop.add_reader(sock, self._read_soon)
        self._timer = loop.call_later(1.0, self._each_second)
        self._read_soon()  # TLS may have decrypted the answer already
        self._write_soon()

    def _socket(self) -> SharedSocket | None:
        return cast("SharedSocket | None", self._client.socket())

    def _detach(self, sock: SharedSocket) -> None:
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)

    async def ended(self) -> str:
        """Waits for the end of the connection and says why it came."""
        return await asyncio.shield(self._ended)

    def close(self) -> None:
        """Says goodbye and ends the link; whatever is unfinished ends as OFFLINE. May be called again."""
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_write()
        sock = self._socket()
        if sock is not None:  # the goodbye could not be written, and won't be waited for
            self._detach(sock)
            sock.close()
        self._finish("closed by us")

    def _finish(self, why: str) -> None:
        if self._ended.done():
            return
        self._ended.set_result(why)
        if not self._connected.done():
            problem = errors.TransientError(f"{self} closed the connection during the login: {why}")
            self._connected.set_exception(problem)
            self._connected.exception()  # it may be that nobody waits any more
        self.flowing_since = None
        if self._timer is not None:
            self._timer.cancel()
        for waiting in self._unacknowledged.values():
            if not waiting.done():
                waiting.set_result(Delivery.OFFLINE)
            self._slots.release()
        self._unacknowledged.clear()

    # Reading, writing and time, called by the event loop

    def _read_soon(self) -> None:
        if not self._will_read:
            self._will_read = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        """Once in a turn of the loop: takes what was read, and reads, with one call, when all of that is taken."""
        self._will_read = False
        sock = self._socket()
        if self._paused or self._ended.done() or sock is None:
            return
        try:
            data = None if self._is_behind else sock.read()
        except OSError as error:
            self._finish(f"the connection broke: {error}")
            return
        if data == b"":
            self._lend(b"")
            return
        if data is not None:
            self._stream.feed(data)
        self._is_behind = self._take()
        if self._is_behind or sock.decrypted():
            self._read_soon()

    def _take(self) -> bool:
        """Takes messages out of the stream and lends paho the rest, up to a burst; True when that may not be all."""
        try:
            for taken, packet in enumerate(self._stream, 1):
                if isinstance(packet, packets.Publish):
                    self._receive(packet)
                else:
                    self._lend(packet.encode())
                if self._paused or self._ended.done() or taken == _BURST:
                    return True
        except packets.ProtocolError as error:
            self._finish(f"the broker sent what is no MQTT: {error.reason}")
        return False

    def _receive(self, message: packets.Publish) -> None:
        try:
            self._received(self, message)
        except Exception:  # noqa: BLE001 - whatever it is, it is in the log and the others are read
            _log.exception("%s: a message could not be taken", self)

    def _lend(self, data: bytes) -> None:
        """Lets paho read a packet, or that the stream has ended."""
        sock = self._socket()
        if sock is not None:
            sock.lend(data)
            self._step(self._client.loop_read)

    def _write_soon(self) -> None:
        if not self._will_write:
            self._will_write = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Once in a turn of the loop: whatever was said in it, with one call."""
        self._will_write = False
        sock = self._socket()
        while sock is not None and not self._ended.done():
            self._loop.remove_writer(sock)
            self._step(self._client.loop_write)
            if not self._is_flushed(sock):
                return
            if not self._client.want_write():
                return

    def _is_flushed(self, sock: SharedSocket) -> bool:
        try:
            if sock.flush():
                return True
        except OSError as error:
            self._finish(f"the connection broke: {error}")
        else:
            self._loop.add_writer(sock, self._write)
        return False

    def _step(self, step: Callable[[], object]) -> None:
        """Runs one of paho's steps; whatever it makes of a broken packet ends the link, not the program."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - a broken packet may raise anything
            _log.exception("%s: the MQTT client failed", self)
            self._finish(f"the MQTT client failed: {error}")

    def _each_second(self) -> None:
        self._seconds += 1
        if not self._paused:
            self._step(self._client.loop_misc)
        elif self._kept is not None and self._seconds % max(1, self._options.keepalive // 2) == 0:
            # We don't read, so a ping's answer would not be seen. Any packet keeps us alive at the broker.
            self._client.subscribe(self._kept, qos=1)
        if not self._ended.done():
            self._timer = self._loop.call_later(1.0, self._each_second)

    def pause(self) -> None:
        """Stops reading; the broker holds back what it has, and the devices with it when it is full."""
        sock = self._socket()
        if not self._paused and sock is not None:
            self._paused = True
            self._loop.remove_reader(sock)

    def resume(self) -> None:
        """Reads again. Harmless on a link that has ended."""
        sock = self._socket()
        if self._paused and sock is not None and not self._ended.done():
            self._paused = False
            self._loop.add_reader(sock, self._read_soon)
            self._read_soon()

    # What is said

    def subscribe(self, filters: Iterable[str]) -> None:
        """Asks for topics at QoS 1. `flowing_since` and `refused` say what came of it."""
        wanted = list(filters)
        for start in range(0, len(wanted), _FILTERS_A_SUBSCRIBE):
            some = wanted[start : start + _FILTERS_A_SUBSCRIBE]
            _, mid = self._client.subscribe([(each, 1) for each in some])
            if mid is not None:
                self._subscribing[mid] = some
                self._kept = some[0]
        self._note_flow()

    def unsubscribe(self, filters: Iterable[str]) -> None:
        """Asks for topics no more."""
        unwanted = list(filters)
        self.refused.difference_update(unwanted)
        if unwanted:
            self._client.unsubscribe(unwanted)

    def acknowledge(self, mid: int) -> None:
        """Acknowledges a received message; does nothing when the link has ended: it will be sent again."""
        sock = self._socket()
        if not self._ended.done() and sock is not None:
            sock.say(packets.Puback(mid).encode())
            self._write_soon()

    async def publish(self, topic: str, payload: bytes) -> Delivery:
        """Sends at QoS 1, when fewer than `max_inflight` are on their way, and waits for the PUBACK."""
        if self._queued >= self._options.max_queued:
            return Delivery.BUSY
        try:
            async with asyncio.timeout(self._options.publish_timeout):
                await self._slot()
                return await self._send(topic, payload)
        except TimeoutError:
            return Delivery.TIMED_OUT

    async def _slot(self) -> None:
        self._queued += 1
        try:
            await self._slots.acquire()
        finally:
            self._queued -= 1

    def _send(self, topic: str, payload: bytes) -> asyncio.Future[Delivery]:
        """The slot is given back by the PUBACK or the link's end, not by a publisher that lost patience."""
        waiting: asyncio.Future[Delivery] = self._loop.create_future()
        info = None if self._ended.done() else self._client.publish(topic, payload, qos=1)
        if info is None or info.rc != paho.MQTT_ERR_SUCCESS:
            self._slots.release()
            waiting.set_result(Delivery.OFFLINE)
        else:
            self._unacknowledged[info.mid] = waiting
        return waiting

    # What paho calls back

    @_guarded
    def _on_connect(self, reason: ReasonCode) -> None:
        if not self._connected.done():
            self._connected.set_result(reason)
        if not reason.is_failure:
            self._let_in(self)

    @_guarded
    def _on_disconnect(self, reason: ReasonCode) -> None:
        self._finish(str(reason))

    @_guarded
    def _on_message(self, message: paho.MQTTMessage) -> None:
        """One that is not as MQTT says: it has no topic that can be read, or none at all."""
        self._received(self, packets.Publish("", b"", message.qos, message.mid, message.dup, message.retain))

    @_guarded
    def _on_publish(self, mid: int) -> None:
        waiting = self._unacknowledged.pop(mid, None)
        if waiting is None:
            return
        self._slots.release()
        if not waiting.done():
            waiting.set_result(Delivery.CONFIRMED)

    @_guarded
    def _on_subscribe(self, mid: int, reasons: list[ReasonCode]) -> None:
        filters = self._subscribing.pop(mid, [])
        self.refused.update(each for each, reason in zip(filters, reasons, strict=False) if reason.is_failure)
        self._note_flow()

    def _note_flow(self) -> None:
        if self.flowing_since is None and not self._subscribing:
            self.flowing_since = self._loop.time()
