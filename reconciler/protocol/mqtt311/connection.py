"""The server's side of one connection: bytes in, events and bytes out.

The device endpoint feeds it, acts on its events and writes its output. It answers by itself what needs
nobody's decision (PINGREQ, SUBSCRIBE, repeats, topics that are not the device's) and leaves to its owner what
does: who may log in, when a message counts as taken, when to close.

Decisions that MQTT leaves open, or that we take differently on purpose (`engine.md` §1):

- Subscriptions are granted or refused, never stored: the platform's topics reach the device without one, and
  once (trap 1). They come at QoS 1, whatever QoS was asked for.
- Of a payload that is longer than any message may be, only so much is kept as shows that it is.
- A message on a foreign topic, or with the retain flag, is acknowledged, so that it is not sent for ever, and
  dropped; the device keeps its connection. QoS 2 closes it: there is no other way to refuse that.
- Sessions end with their connection; a client that asks for a lasting one is told that there is none.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

from reconciler.protocol import messages, topics
from reconciler.protocol.mqtt311 import access, decoding
from reconciler.protocol.mqtt311.packets import (
    FAILURE,
    PINGRESP,
    Connack,
    Connect,
    ConnectCode,
    Disconnect,
    Packet,
    Pingreq,
    ProtocolError,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from reconciler.protocol.mqtt311.parser import Parser
from reconciler.protocol.topics import Address, Route

CONNECT_LIMIT = 8 * 1024
"""The largest first packet in bytes: who has not logged in gets little memory."""

NOBODY = Address("", "")

T = TypeVar("T")


class Drop(enum.StrEnum):
    """Why a message of a device has no effect."""

    FOREIGN = "foreign"
    """Its topic carries names that are not the device's."""
    RETAINED = "retained"
    """It should be kept for others; nothing is kept here."""
    UNUSED = "unused"
    """The device's own topic, but none that the platform listens to."""


class Received(NamedTuple):
    """A message for the platform. At QoS 1 (packet id not 0) `Connection.acknowledge` is owed."""

    route: Route
    payload: bytes
    packet_id: int
    duplicate: bool


class Dropped(NamedTuple):
    """A message that has no effect; already acknowledged."""

    topic: str
    reason: Drop


class Answered(NamedTuple):
    """A packet that leaves nothing to do: answered already, or a repeat."""


ANSWERED = Answered()


class Confirmed(NamedTuple, Generic[T]):
    """The device acknowledged a push; `token` is what `Connection.push` was given for it."""

    token: T


class Connection(Generic[T]):
    """One client, from its first byte.

    Args:
        packet_limit: the largest packet after the first one, in bytes.
        push_limit: how many pushes may be unacknowledged.
    """

    __slots__ = (
        "_known_topic",
        "_known_use",
        "_last_id",
        "_packet_limit",
        "_parser",
        "_push_limit",
        "_stopped",
        "_unacknowledged",
        "address",
        "output",
        "pushes",
        "will",
    )

    def __init__(self, *, packet_limit: int, push_limit: int) -> None:
        self._parser = Parser(decoding.FIRST_FROM_CLIENTS, min(CONNECT_LIMIT, packet_limit))
        self._packet_limit = packet_limit
        self._push_limit = push_limit
        self._stopped = False
        self._last_id = 0
        self._unacknowledged: set[int] = set()
        self._known_topic = ""
        self._known_use: Route | Drop = Drop.FOREIGN
        self.address = NOBODY
        """Who the client is, from `accept` on; nothing but a CONNECT is taken before that."""
        self.output = bytearray()
        """What is to be written to the client. Whoever writes it clears it."""
        self.pushes: dict[int, T] = {}
        """What waits for an acknowledgement of the device, by packet id."""
        self.will: Received | None = None
        """What the device says if it is lost without a DISCONNECT."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Takes what came in; `events` tells what it means."""
        self._parser.feed(data)

    @property
    def waiting(self) -> int:
        """How many bytes came in that were not looked at, or belong to a packet that is not complete."""
        return len(self._parser)

    def events(self) -> Iterator[Connect | Received | Dropped | Confirmed[T] | Answered | Disconnect]:
        """What came in, in order, one event for each packet. May be left early and begun again.

        Stops after a Connect, until `accept`, and for good after a Disconnect.

        Raises:
            ProtocolError: the client broke the protocol. Write `output`, then close.
        """
        if self._stopped:
            return
        try:
            for packet in self._parser:
                yield self._take(packet)
                if self._stopped:
                    return
        except decoding.UnacceptableLevelError:
            self.refuse(ConnectCode.BAD_PROTOCOL_LEVEL)
            raise

    def accept(self, connect: Connect, address: Address) -> None:
        """Lets the client in, as this device. Its packets after the CONNECT are looked at from now on."""
        self.address = address
        if connect.will is not None and isinstance(use := self._use(connect.will.topic), Route):
            self.will = Received(use, connect.will.payload, 0, duplicate=False)
        self._parser.takes = decoding.FROM_CLIENTS
        self._parser.limit = self._packet_limit
        self._stopped = False
        self.output += Connack(ConnectCode.ACCEPTED).encode()

    def refuse(self, code: ConnectCode) -> None:
        """Says why the client is not let in. Write `output`, then close."""
        self._stopped = True
        self.output += Connack(code).encode()

    def acknowledge(self, packet_id: int) -> None:
        """Says to the device that its message was taken. A second time changes nothing."""
        if packet_id in self._unacknowledged:
            self._unacknowledged.remove(packet_id)
            self.output += b"\x40\x02" + packet_id.to_bytes(2, "big")

    def push(self, topic: str, payload: bytes, token: T) -> int | None:
        """Sends at QoS 1; the packet id, or None when too many pushes are unacknowledged."""
        if len(self.pushes) >= self._push_limit:
            return None
        packet_id = self._last_id % 0xFFFF + 1
        while packet_id in self.pushes:
            packet_id = packet_id % 0xFFFF + 1
        self._last_id = packet_id
        self.pushes[packet_id] = token
        self.output += Publish(topic, payload, 1, packet_id).encode()
        return packet_id

    def withdraw(self, packet_id: int, token: T) -> None:
        """Waits no more for the acknowledgement of this push, if it still did."""
        if self.pushes.get(packet_id) is token:
            del self.pushes[packet_id]

    def _take(self, packet: Packet) -> Connect | Received | Dropped | Confirmed[T] | Answered | Disconnect:
        match packet:
            case Publish():
                return self._publish(packet)
            case Puback(packet_id):
                return Confirmed(self.pushes.pop(packet_id)) if packet_id in self.pushes else ANSWERED
            case Pingreq():
                self.output += PINGRESP
            case Subscribe():
                self.output += self._subscribe(packet).encode()
            case Unsubscribe(packet_id):
                self.output += Unsuback(packet_id).encode()
            case Connect():
                return self._connect(packet)
            case _:
                self._stopped, self.will = True, None
                return Disconnect()
        return ANSWERED

    def _publish(self, packet: Publish) -> Received | Dropped | Answered:
        topic, payload, qos, packet_id, duplicate, retain = packet
        if qos and packet_id in self._unacknowledged:
            return ANSWERED
        use = self._known_use if topic == self._known_topic else self._use(topic)
        if retain and use is not Drop.FOREIGN:
            use = Drop.RETAINED
        if isinstance(use, Drop):
            if qos:
                self.output += Puback(packet_id).encode()
            return Dropped(topic, use)
        if qos:
            self._unacknowledged.add(packet_id)
        return Received(use, messages.bounded(payload), packet_id, duplicate)

    def _use(self, topic: str) -> Route | Drop:
        """What a topic is for. The last answer is kept: a device mostly says the same thing again."""
        parsed = topics.parse(topic)
        if parsed is not None and parsed[1] == self.address:
            use: Route | Drop = parsed[0]
        else:
            use = Drop.UNUSED if access.may_publish(self.address, topic) else Drop.FOREIGN
        self._known_topic, self._known_use = topic, use
        return use

    def _subscribe(self, packet: Subscribe) -> Suback:
        return Suback(
            packet.packet_id,
            tuple(
                min(qos, 1) if access.may_subscribe(self.address, name) else FAILURE
                for name, qos in packet.filters
            ),
        )

    def _connect(self, packet: Connect) -> Connect:
        self._stopped = True
        if not packet.client_id and not packet.clean_session:
            self.refuse(ConnectCode.BAD_CLIENT_ID)
            raise ProtocolError("an empty client id with a lasting session")
        return packet
