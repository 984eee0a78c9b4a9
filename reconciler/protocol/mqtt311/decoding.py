"""Reads the bytes of one whole packet, as strictly as MQTT 3.1.1 says.

Called by `parser`, which found out where the packet ends. `FROM_CLIENTS` and `FROM_SERVERS` say by the first
byte what each side may send at all, flags included, so that a wrong direction, a reserved type or flag, and
everything of QoS 2 is refused before a body is awaited. A decoder raises `ProtocolError` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from reconciler.protocol.mqtt311.packets import (
    FAILURE,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    ProtocolError,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)

Decoder: TypeAlias = Callable[[bytes | bytearray, int, int], Packet]
"""Takes a buffer, the place where the packet's body begins, and where it ends."""

MOST_FILTERS = 256
"""Of one SUBSCRIBE or UNSUBSCRIBE. Ours, not MQTT's: each is looked at, while everybody else waits."""
_LEVELS = {"MQTT": 4, "MQIsdp": 3}


class UnacceptableLevelError(ProtocolError):
    """The client speaks another version of MQTT; it is told so before it is closed."""


class _Reader:
    """Takes one field after the other out of a packet, never past its end."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes | bytearray, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def take(self, count: int) -> bytes:
        at = self.at
        if at + count > self.end:
            raise ProtocolError("a field is longer than its packet")
        self.at = at + count
        return bytes(self.data[at : at + count])

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        return self.take(self.number())

    def string(self) -> str:
        return _text(self.binary())

    def packet_id(self) -> int:
        if not (number := self.number()):
            raise ProtocolError("packet id 0")
        return number

    def finish(self) -> None:
        if self.at != self.end:
            raise ProtocolError("bytes after the last field of a packet")


def _text(data: bytes | bytearray) -> str:
    if 0 in data:
        raise ProtocolError("U+0000 in a string")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ProtocolError("a string is not UTF-8") from None


def _connect(data: bytes | bytearray, at: int, end: int) -> Connect:
    reader = _Reader(data, at, end)
    name, level = reader.string(), reader.byte()
    if name not in _LEVELS:
        raise ProtocolError("a protocol that is not MQTT")
    if level != _LEVELS[name]:
        raise UnacceptableLevelError(f"protocol level {level}; MQTT 3.1.1 is level 4")
    flags, keepalive = reader.byte(), reader.number()
    if flags & 0x01 or flags & 0xC0 == 0x40 or (not flags & 0x04 and flags & 0x38) or flags & 0x18 == 0x18:
        raise ProtocolError(f"flags of CONNECT that contradict each other: {flags:#04x}")
    client_id = reader.string()
    will = None
    if flags & 0x04:
        topic = _topic(reader.string())
        will = Will(topic, reader.binary(), qos=flags >> 3 & 3, retain=bool(flags & 0x20))
    username = reader.string() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    reader.finish()
    return Connect(client_id, username, password, keepalive, bool(flags & 0x02), will, level)


def _topic(topic: str) -> str:
    if not topic or "+" in topic or "#" in topic:
        raise ProtocolError("a topic to publish to is empty or has wildcards")
    return topic


def _publish_at_qos_0(*, retain: bool) -> Decoder:
    def decode(data: bytes | bytearray, at: int, end: int) -> Publish:
        topic, at = _publish_topic(data, at, end)
        return Publish(topic, bytes(data[at:end]), retain=retain)

    return decode


def _publish_at_qos_1(*, duplicate: bool, retain: bool) -> Decoder:
    def decode(data: bytes | bytearray, at: int, end: int) -> Publish:
        topic, at = _publish_topic(data, at, end)
        if at + 2 > end:
            raise ProtocolError("a field is longer than its packet")
        packet_id = data[at] << 8 | data[at + 1]
        if not packet_id:
            raise ProtocolError("packet id 0")
        return Publish(topic, bytes(data[at + 2 : end]), 1, packet_id, duplicate, retain)

    return decode


def _publish_topic(data: bytes | bytearray, at: int, end: int) -> tuple[str, int]:
    """The topic, and where the field after it begins. By hand, not by `_Reader`: this is the hot path."""
    if at + 2 > end:
        raise ProtocolError("a field is longer than its packet")
    after = at + 2 + (data[at] << 8 | data[at + 1])
    if after > end:
        raise ProtocolError("a field is longer than its packet")
    return _topic(_text(data[at + 2 : after])), after


def _publish_2(_data: bytes | bytearray, _at: int, _end: int) -> Publish:
    raise ProtocolError("QoS 2 is not offered here: publish at QoS 1")


def _connack(data: bytes | bytearray, at: int, end: int) -> Connack:
    reader = _Reader(data, at, end)
    flags, code = reader.byte(), reader.byte()
    reader.finish()
    if flags > 1:
        raise ProtocolError("reserved flags of CONNACK are set")
    return Connack(code, bool(flags))


def _only_packet_id(data: bytes | bytearray, at: int, end: int) -> int:
    reader = _Reader(data, at, end)
    number = reader.packet_id()
    reader.finish()
    return number


def _puback(data: bytes | bytearray, at: int, end: int) -> Puback:
    return Puback(_only_packet_id(data, at, end))


def _unsuback(data: bytes | bytearray, at: int, end: int) -> Unsuback:
    return Unsuback(_only_packet_id(data, at, end))


def _subscribe(data: bytes | bytearray, at: int, end: int) -> Subscribe:
    reader = _Reader(data, at, end)
    packet_id = reader.packet_id()
    filters = []
    while reader.at < end:
        filters.append((_filter(reader), reader.byte()))
        if filters[-1][1] > 2:
            raise ProtocolError("SUBSCRIBE asks for a QoS over 2")
        _bound(len(filters))
    if not filters:
        raise ProtocolError("SUBSCRIBE without a filter")
    return Subscribe(packet_id, tuple(filters))


def _filter(reader: _Reader) -> str:
    if not (name := reader.string()):
        raise ProtocolError("an empty filter")
    return name


def _bound(filters: int) -> None:
    if filters > MOST_FILTERS:
        raise ProtocolError(f"more than {MOST_FILTERS} filters in a packet")


def _suback(data: bytes | bytearray, at: int, end: int) -> Suback:
    reader = _Reader(data, at, end)
    packet_id, codes = reader.packet_id(), tuple(reader.take(end - reader.at))
    if not codes or any(code > 2 and code != FAILURE for code in codes):
        raise ProtocolError("SUBACK without codes, or with unknown ones")
    return Suback(packet_id, codes)


def _unsubscribe(data: bytes | bytearray, at: int, end: int) -> Unsubscribe:
    reader = _Reader(data, at, end)
    packet_id = reader.packet_id()
    filters = []
    while reader.at < end:
        filters.append(_filter(reader))
        _bound(len(filters))
    if not filters:
        raise ProtocolError("UNSUBSCRIBE without a filter")
    return Unsubscribe(packet_id, tuple(filters))


def _empty(packet: Packet) -> Decoder:
    def decode(_data: bytes | bytearray, at: int, end: int) -> Packet:
        if at != end:
            raise ProtocolError("bytes after the last field of a packet")
        return packet

    return decode


_PUBLISH: Mapping[int, Decoder] = {
    0x30: _publish_at_qos_0(retain=False),
    0x31: _publish_at_qos_0(retain=True),
    0x32: _publish_at_qos_1(duplicate=False, retain=False),
    0x33: _publish_at_qos_1(duplicate=False, retain=True),
    0x3A: _publish_at_qos_1(duplicate=True, retain=False),
    0x3B: _publish_at_qos_1(duplicate=True, retain=True),
}
_PUBLISH_2: Mapping[int, Decoder] = dict.fromkeys((0x34, 0x35, 0x3C, 0x3D), _publish_2)

FIRST_FROM_CLIENTS: Mapping[int, Decoder] = {0x10: _connect}
"""What a server takes first; a second time it takes no CONNECT."""

FROM_CLIENTS: Mapping[int, Decoder] = {
    **_PUBLISH,
    **_PUBLISH_2,
    0x40: _puback,
    0x82: _subscribe,
    0xA2: _unsubscribe,
    0xC0: _empty(Pingreq()),
    0xE0: _empty(Disconnect()),
}
"""What a server takes after the CONNECT."""

FROM_SERVERS: Mapping[int, Decoder] = {
    **_PUBLISH,
    0x20: _connack,
    0x40: _puback,
    0x90: _suback,
    0xB0: _unsuback,
    0xD0: _empty(Pingresp()),
}
"""What a client takes."""
