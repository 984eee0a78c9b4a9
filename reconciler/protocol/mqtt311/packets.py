"""What is said: one immutable value for each packet of MQTT 3.1.1, and how it is written as bytes.

Used by the server's connection and by clients (the simulator, benches). Named tuples rather than dataclasses,
because one is made for each message of each device and they are made four times as fast. Nothing is checked
here that only a peer can get wrong; `decoding` does that.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

MAX_REMAINING_LENGTH = 268_435_455
PINGREQ = b"\xc0\x00"
PINGRESP = b"\xd0\x00"
DISCONNECT = b"\xe0\x00"
FAILURE = 0x80
"""The SUBACK code of a filter that was refused."""


class ProtocolError(Exception):
    """The peer broke the protocol: its connection is closed.

    Args:
        reason: which rule, in words for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ConnectCode(IntEnum):
    """How a CONNECT is answered."""

    ACCEPTED = 0
    BAD_PROTOCOL_LEVEL = 1
    BAD_CLIENT_ID = 2
    UNAVAILABLE = 3
    BAD_CREDENTIALS = 4
    NOT_AUTHORIZED = 5


class Will(NamedTuple):
    """What the server says for a client that is lost without a DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Connect(NamedTuple):
    """A client's first packet."""

    client_id: str
    username: str | None = None
    password: bytes | None = None
    keepalive: int = 0
    """Seconds; 0 is none."""
    clean_session: bool = True
    will: Will | None = None
    level: int = 4
    """4 is MQTT 3.1.1, 3 is MQTT 3.1."""

    def encode(self) -> bytes:
        """The packet's bytes."""
        flags = 0x02 if self.clean_session else 0
        fields = [_string(self.client_id)]
        if self.will is not None:
            flags |= 0x04 | self.will.qos << 3 | (0x20 if self.will.retain else 0)
            fields += [_string(self.will.topic), _binary(self.will.payload)]
        if self.username is not None:
            flags |= 0x80
            fields.append(_string(self.username))
        if self.password is not None:
            flags |= 0x40
            fields.append(_binary(self.password))
        name = _string("MQIsdp" if self.level == 3 else "MQTT")
        head = name + bytes((self.level, flags)) + self.keepalive.to_bytes(2, "big")
        return frame(0x10, head + b"".join(fields))


class Connack(NamedTuple):
    """The server's answer to a CONNECT."""

    code: int
    session_present: bool = False

    def encode(self) -> bytes:
        """The packet's bytes."""
        return bytes((0x20, 2, self.session_present, self.code))


class Publish(NamedTuple):
    """A message, in either direction."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    """1..65535 at QoS 1, 0 at QoS 0."""
    duplicate: bool = False
    retain: bool = False

    def encode(self) -> bytes:
        """The packet's bytes."""
        first = 0x30 | self.duplicate << 3 | self.qos << 1 | self.retain
        packet_id = self.packet_id.to_bytes(2, "big") if self.qos else b""
        return frame(first, _string(self.topic) + packet_id + self.payload)


class Puback(NamedTuple):
    """The acknowledgement of a message at QoS 1."""

    packet_id: int

    def encode(self) -> bytes:
        """The packet's bytes."""
        return b"\x40\x02" + self.packet_id.to_bytes(2, "big")


class Subscribe(NamedTuple):
    """A client's wish to hear topics: filters with the highest QoS it takes."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]

    def encode(self) -> bytes:
        """The packet's bytes."""
        body = b"".join(_string(name) + bytes((qos,)) for name, qos in self.filters)
        return frame(0x82, self.packet_id.to_bytes(2, "big") + body)


class Suback(NamedTuple):
    """The answer to a SUBSCRIBE: for each filter the QoS that was granted, or `FAILURE`."""

    packet_id: int
    codes: tuple[int, ...]

    def encode(self) -> bytes:
        """The packet's bytes."""
        return frame(0x90, self.packet_id.to_bytes(2, "big") + bytes(self.codes))


class Unsubscribe(NamedTuple):
    """A client's wish to hear some filters no more."""

    packet_id: int
    filters: tuple[str, ...]

    def encode(self) -> bytes:
        """The packet's bytes."""
        return frame(0xA2, self.packet_id.to_bytes(2, "big") + b"".join(map(_string, self.filters)))


class Unsuback(NamedTuple):
    """The answer to an UNSUBSCRIBE."""

    packet_id: int

    def encode(self) -> bytes:
        """The packet's bytes."""
        return b"\xb0\x02" + self.packet_id.to_bytes(2, "big")


class Pingreq(NamedTuple):
    """A client says that it is alive."""

    def encode(self) -> bytes:
        """The packet's bytes."""
        return PINGREQ


class Pingresp(NamedTuple):
    """The server says so too."""

    def encode(self) -> bytes:
        """The packet's bytes."""
        return PINGRESP


class Disconnect(NamedTuple):
    """A client leaves on purpose."""

    def encode(self) -> bytes:
        """The packet's bytes."""
        return DISCONNECT


class Foreign(NamedTuple):
    """A packet that was not looked into, as it came (see `stream`)."""

    data: bytes

    def encode(self) -> bytes:
        """The packet's bytes."""
        return self.data


Packet = (
    Connect
    | Foreign
    | Connack
    | Publish
    | Puback
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
)


def frame(first: int, body: bytes) -> bytes:
    """A packet's bytes: its first byte, the length of the rest, the rest.

    Raises:
        ValueError: the body is longer than MQTT can say.
    """
    length = len(body)
    if length > MAX_REMAINING_LENGTH:
        raise ValueError(f"an MQTT packet of {length} bytes is over the protocol's limit")
    head = bytearray((first,))
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + body


def _string(text: str) -> bytes:
    return _binary(text.encode())


def _binary(data: bytes) -> bytes:
    """The two-byte length, then the data.

    Raises:
        OverflowError: over 65,535 bytes.
    """
    return len(data).to_bytes(2, "big") + data
