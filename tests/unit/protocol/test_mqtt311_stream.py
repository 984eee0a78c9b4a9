"""What is taken out of a broker's stream, and what goes on to paho as it came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.protocol.mqtt311 import packets, stream

MESSAGES = [
    packets.Publish("a/b", b"{}"),
    packets.Publish("a/b", b"{}", retain=True),
    packets.Publish("a/b", b"", 1, 7),
    packets.Publish("a/b", b"{}", 1, 7, duplicate=True),
    packets.Publish("a/b", b"x" * 300, 1, 7, duplicate=True, retain=True),
    packets.Publish("a/b", b"{}", 1, 7, retain=True),
]
FOREIGN = {
    "a CONNACK": packets.Connack(0).encode(),
    "a SUBACK": packets.Suback(3, (1, 1)).encode(),
    "a PINGRESP": packets.Pingresp().encode(),
    "a PUBACK": packets.Puback(9).encode(),
    "a message at QoS 2": b"\x34\x07\x00\x03a/b\x00\x01",
    "a topic that is no UTF-8": b"\x32\x06\x00\x02\xff\xfe\x00\x01",
    "a topic with a wildcard": packets.frame(0x30, b"\x00\x01+{}"),
    "a topic longer than its packet": packets.frame(0x30, b"\x00\x09a"),
    "a message without its id": packets.frame(0x32, b"\x00\x01a"),
    "a reserved type": packets.frame(0xF0, b"what"),
    "a long one": packets.frame(0x90, b"x" * 20_000),
}


def read(data, *, size=None):
    parser, found = stream.parser(), []
    for start in range(0, len(data), size or len(data)):
        parser.feed(data[start : start + (size or len(data))])
        found += list(parser)
    return found


@pytest.mark.parametrize("message", MESSAGES, ids=str)
def test_a_message_is_taken_out(message):
    assert read(message.encode()) == [message]


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_everything_else_goes_on_as_it_came(data):
    assert read(data) == [packets.Foreign(data)]
    assert read(data)[0].encode() == data


@given(st.lists(st.sampled_from([*(m.encode() for m in MESSAGES), *FOREIGN.values()])), st.integers(1, 50))
def test_nothing_is_lost_doubled_or_moved_however_the_stream_is_cut(parts, size):
    assert b"".join(packet.encode() for packet in read(b"".join(parts) or b"", size=size)) == b"".join(parts)


def test_a_length_that_is_none_ends_the_stream():
    with pytest.raises(packets.ProtocolError, match="remaining length"):
        read(b"\x30\xff\xff\xff\xff\x01")
