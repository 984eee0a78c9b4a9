"""One client's connection: its bytes, its pace, its end.

The asyncio shell around `protocol.mqtt311.connection`. It never decides who may log in (`admission`) nor who is
who (`hall`). Reading stops, and the kernel slows the client down, while a login is decided (`LOGIN`), the intake
is full (`ROOM`), or the client is over its rate (`RATE`); nothing is dropped for that.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from reconciler.protocol.mqtt311 import connection, packets
from reconciler.protocol.topics import Address
from reconciler.transport import base
from reconciler.transport.endpoint.limits import Cut, EndpointLimits, Tally
from reconciler.transport.endpoint.tls import TlsLayer

LOGIN, ROOM, RATE = 1, 2, 4
LINGER_SECONDS = 5.0
"""How long the last bytes may take to go out."""

Waiter = asyncio.Future[base.Delivery]


class Host(Protocol):
    """What a session needs of those around it. `hall.Hall` is the one."""

    loop: asyncio.AbstractEventLoop
    limits: EndpointLimits
    intake: base.Intake
    tally: Tally
    pace: tuple[float, float]
    """Seconds that a packet costs its sender, and how many seconds it may be ahead; zeros are no limit."""
    read_buffer: memoryview
    """Shared by all sessions: what is read into it is taken before anything else happens."""

    def enter(self, session: Session) -> None:
        """A connection was made."""

    def log_in(self, session: Session, connect: packets.Connect) -> None:
        """A client says who it is."""

    def write_soon(self, session: Session) -> None:
        """Calls `Session.write` once in this turn of the loop."""

    def wait_for_room(self, session: Session) -> None:
        """Calls `Session.release(ROOM)` when the intake has room."""

    def end(self, session: Session) -> None:
        """The session is over for the platform; its socket may still linger."""

    def leave(self, session: Session) -> None:
        """The socket is gone."""

    def report(self, session: Session, what: str) -> None:
        """Logs what a client did wrong, once a minute."""


class Phase(enum.Enum):
    """How far a client has come."""

    CONNECTING = enum.auto()
    LOGGING_IN = enum.auto()
    OPEN = enum.auto()
    OVER = enum.auto()


class Session(asyncio.BufferedProtocol):
    """One client.

    Args:
        host: those around it.
        tls: the context to speak TLS with, or None.
    """

    __slots__ = (
        "_due",
        "_heard",
        "_holds",
        "_host",
        "_mqtt",
        "_parked",
        "_patience",
        "_tls",
        "_transport",
        "claim",
        "number",
        "phase",
        "writes",
    )

    def __init__(self, host: Host, tls: ssl.SSLContext | None) -> None:
        limits = host.limits
        self._host = host
        self._mqtt: connection.Connection[Waiter] = connection.Connection(
            packet_limit=limits.packet_bytes, push_limit=limits.pushes
        )
        self._tls = TlsLayer(tls) if tls is not None else None
        self._transport: asyncio.Transport
        self._heard = self._due = host.loop.time()
        self._patience = limits.connect_seconds
        self._holds = 0
        self._parked: connection.Received | None = None
        self.phase = Phase.CONNECTING
        self.claim = ""
        """Who it says it is, for the log; nothing is proven by it."""
        self.number = 0
        """The session's number; 0 until it is let in."""
        self.writes = False
        """True while `Host.write_soon` is about to write."""

    # -- what asyncio calls ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._host.limits.write_buffer_bytes)
        self._host.enter(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's hint; the buffer is shared
        """Where to put what comes in."""
        return self._host.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came in."""
        if self.phase is Phase.OVER:
            return
        data: memoryview | bytes = self._host.read_buffer[:nbytes]
        if self._tls is not None:
            try:
                data = self._tls.decrypt(data)
            except ssl.SSLError as error:
                self.cut(Cut.TLS, error.reason or "not TLS")
                return
            self._host.write_soon(self)
        self._mqtt.feed(data)
        self._read()
        if self._tls is not None and self._tls.ended and not self._holds:
            self.close()

    def pause_writing(self) -> None:
        """More waits to be read by the client than the limit allows."""
        self.cut(Cut.SLOW_READER)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter to devices
        """The socket is gone."""
        self._end()
        self._host.leave(self)

    # -- what the hall and admission call -------------------------------------------------------------------

    @property
    def address(self) -> Address:
        """Who it is, once it is let in."""
        return self._mqtt.address

    @property
    def will(self) -> connection.Received | None:
        """What is to be said for a client that is lost."""
        return self._mqtt.will

    @property
    def peer(self) -> str:
        """Where the client connects from."""
        name = self._transport.get_extra_info("peername")
        return name[0] if name else "?"

    def accept(self, connect: packets.Connect, address: Address, number: int) -> None:
        """Lets the client in. `release(LOGIN)` goes on with what it said since."""
        limits = self._host.limits
        self.phase, self.number, self.claim = Phase.OPEN, number, str(address)
        self._mqtt.accept(connect, address)
        self._patience = connect.keepalive * limits.keepalive_factor or limits.idle_seconds
        self._heard = self._host.loop.time()
        self.write()

    def refuse(self, code: packets.ConnectCode, cut: Cut, detail: str) -> None:
        """Tells the client why it isn't let in, and closes."""
        self._mqtt.refuse(code)
        self.cut(cut, detail)

    def push(self, topic: str, payload: bytes, waiter: Waiter) -> int | None:
        """Sends at QoS 1; None when too many pushes are unacknowledged. The acknowledgement ends the waiter."""
        packet_id = self._mqtt.push(topic, payload, waiter)
        if packet_id is not None:
            self._host.write_soon(self)
        return packet_id

    def withdraw(self, packet_id: int, waiter: Waiter) -> None:
        """Waits no more for this acknowledgement."""
        self._mqtt.withdraw(packet_id, waiter)

    def write(self) -> None:
        """Writes what is to be written, all at once."""
        self.writes = False
        output = self._mqtt.output
        data = bytes(output) if self._tls is None else self._tls.encrypt(output)
        output.clear()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def release(self, hold: int) -> None:
        """One reason less not to read."""
        if self.phase is Phase.OVER:
            return
        self._holds &= ~hold
        if hold == ROOM and self._parked is not None:
            parked, self._parked = self._parked, None
            self._offer(parked)
        if not self._holds:
            self._read()
        if not self._holds and self._tls is not None and self._tls.ended:
            self.close()
        elif not self._holds and not self._transport.is_closing():
            self._transport.resume_reading()

    def check(self, now: float) -> None:
        """Ends what has been silent for too long. Silence counts only while we listen."""
        if self.phase is Phase.LOGGING_IN or (self._holds and self.phase is not Phase.OVER):
            self._heard = now
        elif now - self._heard > self._patience:
            if self.phase is Phase.OPEN:
                self.cut(Cut.SILENT)
            elif self.phase is Phase.CONNECTING:
                self.cut(Cut.CONNECT_TIMEOUT)
            self._transport.abort()

    def cut(self, reason: Cut, detail: str = "") -> None:
        """Ends the session for a reason that is counted, and logged where it is this client's own."""
        if self.phase is Phase.OVER:
            return
        self._host.tally.cuts[reason] += 1
        if reason not in {Cut.REPLACED, Cut.CROWDED}:
            self._host.report(self, f"closed ({reason}{detail and ': '}{detail})")
        self.close()

    def close(self) -> None:
        """Writes what is to be written, then closes."""
        if self._transport.is_closing():
            return
        self._end()
        self.write()
        if self._tls is not None:
            self._transport.write(self._tls.close())
        self._transport.close()
        self._heard, self._patience = self._host.loop.time(), LINGER_SECONDS

    def abort(self) -> None:
        """Closes now, whatever waits to be written."""
        self._end()
        self._transport.abort()

    # -- what it does by itself -----------------------------------------------------------------------------

    def _read(self) -> None:
        """Acts on what came in, until there is no more or a reason not to read comes up."""
        now = self._host.loop.time()
        if self.phase is Phase.OPEN:
            self._heard = now
        cost, ahead = self._host.pace
        due = max(self._due, now)
        try:
            for event in self._mqtt.events():
                if type(event) is connection.Received:
                    if self._host.intake.full:
                        self._park(event)
                        break
                    self._offer(event)
                else:
                    self._act(event)
                due += cost
                if due > now + ahead:
                    self._slow_down(due - now - ahead / 2)
                if self._holds:
                    break
        except packets.ProtocolError as error:
            self.cut(Cut.PROTOCOL, error.reason)
            return
        self._due = due
        if self._mqtt.output:
            self._host.write_soon(self)
        if self.phase is Phase.LOGGING_IN and self._mqtt.waiting > connection.CONNECT_LIMIT:
            self._hold(LOGIN)

    def _offer(self, received: connection.Received) -> None:
        route, payload, packet_id, duplicate = received
        acknowledge: Callable[[], None] = (
            functools.partial(self._acknowledge, packet_id) if packet_id else _nothing
        )
        host = self._host
        host.tally.messages += 1
        host.intake.offer(base.Message(self._mqtt.address, route, payload, duplicate, acknowledge))

    def _park(self, received: connection.Received) -> None:
        """Keeps the message that the intake has no room for; nothing more is read until it has."""
        self._parked = received
        self._hold(ROOM)
        self._host.wait_for_room(self)

    def _act(self, event: object) -> None:
        match event:
            case connection.Confirmed(waiter):
                if not waiter.done():
                    waiter.set_result(base.Delivery.CONFIRMED)
            case connection.Dropped(topic, reason):
                self._count_dropped(topic, reason)
            case packets.Connect():
                self.phase = Phase.LOGGING_IN
                self._host.log_in(self, event)
            case packets.Disconnect():
                self.close()

    def _acknowledge(self, packet_id: int) -> None:
        if self.phase is Phase.OPEN:
            self._mqtt.acknowledge(packet_id)
            if not self.writes:
                self._host.write_soon(self)

    def _count_dropped(self, topic: str, reason: connection.Drop) -> None:
        if reason is connection.Drop.FOREIGN:
            self._host.tally.foreign += 1
        else:
            self._host.tally.dropped += 1
        if reason is not connection.Drop.UNUSED:
            self._host.report(self, f"a message on {topic!r} was dropped ({reason})")

    def _hold(self, reason: int) -> None:
        self._holds |= reason
        self._transport.pause_reading()

    def _slow_down(self, seconds: float) -> None:
        self._hold(RATE)
        self._host.loop.call_later(seconds, self.release, RATE)

    def _end(self) -> None:
        if self.phase is Phase.OVER:
            return
        self.phase = Phase.OVER
        for waiter in self._mqtt.pushes.values():
            if not waiter.done():
                waiter.set_result(base.Delivery.OFFLINE)
        self._mqtt.pushes.clear()
        self._host.end(self)


def _nothing() -> None:
    """What is owed for a message at QoS 0."""
