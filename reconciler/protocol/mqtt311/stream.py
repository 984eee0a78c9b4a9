"""Decides which packets of a broker are taken out of its stream, and which go on to a client library as they came.

Used by the broker's link. Messages at QoS 0 and 1 are read here. All else is `packets.Foreign`: what the library is
for, and what is not as MQTT 3.1.1 says, so that there is one place that judges it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from reconciler.protocol.mqtt311 import packets
from reconciler.protocol.mqtt311.decoding import FROM_SERVERS, Decoder
from reconciler.protocol.mqtt311.parser import Parser

_MESSAGES = (0x30, 0x31, 0x32, 0x33, 0x3A, 0x3B)
"""The first bytes of PUBLISH at QoS 0 and 1, without and with DUP and RETAIN."""


def _as_it_came(first: int, data: bytes | bytearray, at: int, end: int) -> packets.Packet:
    return packets.Foreign(packets.frame(first, bytes(data[at:end])))


def _message(first: int, data: bytes | bytearray, at: int, end: int) -> packets.Packet:
    try:
        return FROM_SERVERS[first](data, at, end)
    except packets.ProtocolError:
        return _as_it_came(first, data, at, end)


_TAKES: Mapping[int, Decoder] = {
    first: functools.partial(_message if first in _MESSAGES else _as_it_came, first) for first in range(256)
}


def parser() -> Parser:
    """For one connection to a broker, which is trusted with packets of any length."""
    return Parser(_TAKES, packets.MAX_REMAINING_LENGTH)
