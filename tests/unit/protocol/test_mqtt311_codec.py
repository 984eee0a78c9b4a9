"""Packets, their bytes, and streams of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.protocol.mqtt311 import decoding, packets
from reconciler.protocol.mqtt311.packets import (
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
from reconciler.protocol.mqtt311.parser import Parser

LIMIT = 256 * 1024

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
some_text = text.filter(bool)
topic = st.text(st.characters(codec="utf-8", exclude_characters="\0+#"), min_size=1, max_size=40)
packet_id = st.integers(1, 0xFFFF)
payload = st.binary(max_size=300)
will = st.builds(Will, topic, payload, st.integers(0, 2), st.booleans())
connect = st.builds(
    Connect,
    client_id=text,
    username=text,
    password=st.none() | payload,
    keepalive=st.integers(0, 0xFFFF),
    clean_session=st.booleans(),
    will=st.none() | will,
    level=st.sampled_from([3, 4]),
) | text.map(Connect)
publish = st.builds(
    Publish, topic, payload, st.just(0), st.just(0), st.just(value=False), st.booleans()
) | st.builds(Publish, topic, payload, st.just(1), packet_id, st.booleans(), st.booleans())
filters = st.lists(st.tuples(some_text, st.integers(0, 2)), min_size=1, max_size=20).map(tuple)
codes = st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1, max_size=20).map(tuple)
from_clients = st.one_of(
    publish,
    st.builds(Puback, packet_id),
    st.builds(Subscribe, packet_id, filters),
    st.builds(Unsubscribe, packet_id, st.lists(some_text, min_size=1, max_size=20).map(tuple)),
    st.just(Pingreq()),
    st.just(Disconnect()),
)
from_servers = st.one_of(
    publish,
    st.builds(Puback, packet_id),
    st.builds(Connack, st.integers(0, 5), st.booleans()),
    st.builds(Suback, packet_id, codes),
    st.builds(Unsuback, packet_id),
    st.just(Pingresp()),
)


def parse(
    chunks: Iterable[bytes], takes: Mapping[int, decoding.Decoder], limit: int = LIMIT
) -> tuple[list[Packet], str]:
    """What a parser makes of the chunks: the packets, and why it gave up if it did."""
    parser, found = Parser(takes, limit), []
    try:
        for chunk in chunks:
            parser.feed(chunk)
            found.extend(parser)
    except ProtocolError as error:
        return found, error.reason
    return found, ""


def split(data: bytes, places: list[int]) -> list[bytes]:
    """The data cut at these places."""
    cuts = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(cuts)]


places = st.lists(st.integers(0, 100_000), max_size=12)


@given(connect)
def test_a_connect_comes_back_as_it_was_written(packet: Connect) -> None:
    assert parse([packet.encode()], decoding.FIRST_FROM_CLIENTS) == ([packet], "")


@given(st.lists(from_clients, max_size=8), places)
def test_what_clients_say_comes_back_whatever_the_split(said: list[Packet], cut: list[int]) -> None:
    chunks = split(b"".join(packet.encode() for packet in said), cut)
    assert parse(chunks, decoding.FROM_CLIENTS) == (said, "")


@given(st.lists(from_servers, max_size=8), places)
def test_what_servers_say_comes_back_whatever_the_split(said: list[Packet], cut: list[int]) -> None:
    chunks = split(b"".join(packet.encode() for packet in said), cut)
    assert parse(chunks, decoding.FROM_SERVERS) == (said, "")


TABLES = st.sampled_from([decoding.FIRST_FROM_CLIENTS, decoding.FROM_CLIENTS, decoding.FROM_SERVERS])
first_byte = st.sampled_from([*decoding.FROM_CLIENTS, *decoding.FROM_SERVERS, 0x10])
likely = st.builds(packets.frame, first_byte, st.binary(max_size=40))
mutated = st.builds(
    lambda data, place, byte: data[: place % len(data)] + bytes((byte,)) + data[place % len(data) + 1 :],
    st.one_of(connect, from_clients, from_servers).map(lambda packet: packet.encode()),
    st.integers(0, 400),
    st.integers(0, 255),
)


@given(st.lists(st.binary(max_size=60) | likely | mutated, max_size=6).map(b"".join), places, TABLES)
@example(b"\x30" + b"\xff" * 20, [1, 2], decoding.FROM_CLIENTS)
def test_garbage_is_packets_then_a_protocol_error_the_same_for_every_split(
    data: bytes, cut: list[int], takes: Mapping[int, decoding.Decoder]
) -> None:
    whole = parse([data], takes, limit=200)
    assert parse(split(data, cut), takes, limit=200) == whole
    assert parse([bytes((byte,)) for byte in data], takes, limit=200) == whole


@given(st.binary(max_size=200), TABLES)
def test_never_more_is_held_than_one_packet_of_the_limit(
    data: bytes, takes: Mapping[int, decoding.Decoder]
) -> None:
    parser = Parser(takes, 50)
    try:
        for byte in data:
            parser.feed(bytes((byte,)))
            list(parser)
            assert len(parser) < 50 + 5
    except ProtocolError:
        pass


def test_a_packet_over_the_limit_is_refused_when_its_length_is_known_and_its_body_is_not() -> None:
    head = packets.frame(0x30, bytes(95_000_000))[:5]
    assert parse([head], decoding.FROM_CLIENTS)[1] == "a packet of 95000000 bytes; the limit is 262144"
    assert parse([packets.frame(0x30, bytes(LIMIT + 1))[:4]], decoding.FROM_CLIENTS)[1]
    largest = Publish("t", bytes(LIMIT - 3))
    assert parse([largest.encode()], decoding.FROM_CLIENTS) == ([largest], "")


@pytest.mark.parametrize("first", [0x00, 0xF0, 0x20, 0x50, 0x62, 0x36, 0x38, 0x80, 0x12, 0x47])
def test_a_packet_that_clients_may_not_send_is_refused_by_its_first_byte(first: int) -> None:
    assert "nobody may send" in parse([bytes((first,))], decoding.FROM_CLIENTS)[1]
    assert "nobody may send" in parse([bytes((first,))], decoding.FIRST_FROM_CLIENTS)[1]


def test_a_second_connect_is_refused() -> None:
    assert parse([Connect("x").encode()], decoding.FROM_CLIENTS)[1]


def test_a_length_that_never_ends_is_refused_at_its_fourth_byte() -> None:
    assert "more than four bytes" in parse([b"\x30\xff\xff\xff\xff"], decoding.FROM_CLIENTS)[1]


def test_a_parser_may_be_left_and_taken_up_again() -> None:
    parser = Parser(decoding.FROM_CLIENTS, LIMIT)
    parser.feed(Puback(1).encode() + Puback(2).encode() + b"\x40")
    for packet in parser:
        assert packet == Puback(1)
        break
    assert len(parser) == 5
    parser.feed(b"\x02\0\3")
    assert list(parser) == [Puback(2), Puback(3)]
    assert len(parser) == 0


def test_a_parser_that_was_fed_in_between_goes_on() -> None:
    parser = Parser(decoding.FROM_CLIENTS, LIMIT)
    parser.feed(Puback(1).encode())
    stream = iter(parser)
    assert next(stream) == Puback(1)
    parser.feed(Puback(2).encode())
    assert list(stream) == [Puback(2)]


CONNECT = "00044d515454"  # "MQTT" with its length


@pytest.mark.parametrize(
    ("first", "body", "why"),
    [
        (0x10, "00044854545004", "not MQTT"),
        (0x10, CONNECT + "05c2003c", "protocol level 5"),
        (0x10, "00064d514973647004c2003c", "protocol level 4"),
        (0x10, CONNECT + "0403003c0000", "contradict"),  # the reserved bit
        (0x10, CONNECT + "0442003c0000000161", "contradict"),  # a password without a user name
        (0x10, CONNECT + "040a003c0000", "contradict"),  # the QoS of no will
        (0x10, CONNECT + "0422003c0000", "contradict"),  # the retain flag of no will
        (0x10, CONNECT + "041e003c00000001610000", "contradict"),  # a will at QoS 3
        (0x10, CONNECT + "0406003c0000000000", "empty or has wildcards"),
        (0x10, CONNECT + "0402003c000061", "bytes after"),
        (0x10, CONNECT + "0402003c00", "longer than its packet"),
        (0x10, CONNECT + "0402003c0001ff", "not UTF-8"),
        (0x10, CONNECT + "0402003c0003eda080", "not UTF-8"),  # half a surrogate pair
        (0x10, CONNECT + "0402003c000100", "U+0000"),
        (0x30, "", "longer"),
        (0x30, "0005", "longer"),
        (0x30, "0000", "wildcards"),
        (0x30, "00012b", "wildcards"),
        (0x30, "000123", "wildcards"),
        (0x32, "000161", "longer"),
        (0x32, "0001610000", "packet id 0"),
        (0x34, "0001610001", "QoS 2"),
        (0x3D, "0001610001", "QoS 2"),
        (0x40, "0000", "packet id 0"),
        (0x40, "000100", "bytes after"),
        (0x82, "0001", "without a filter"),
        (0x82, "000100016103", "QoS over 2"),
        (0x82, "0001000000", "empty filter"),
        (0x82, "0001000161", "longer"),
        (0xA2, "0001", "without a filter"),
        (0xA2, "00010000", "empty filter"),
        (0xC0, "00", "bytes after"),
        (0xE0, "00", "bytes after"),
    ],
)
def test_what_a_client_may_not_say_is_refused_with_the_reason(first: int, body: str, why: str) -> None:
    takes = decoding.FIRST_FROM_CLIENTS if first == 0x10 else decoding.FROM_CLIENTS
    found, reason = parse([packets.frame(first, bytes.fromhex(body))], takes)
    assert found == []
    assert why in reason


@pytest.mark.parametrize(
    ("first", "body", "why"),
    [
        (0x20, "0200", "reserved flags"),
        (0x20, "000000", "bytes after"),
        (0x90, "0001", "codes"),
        (0x90, "000103", "codes"),
        (0xB0, "0000", "packet id 0"),
        (0xD0, "01", "bytes after"),
    ],
)
def test_what_a_server_may_not_say_is_refused_with_the_reason(first: int, body: str, why: str) -> None:
    found, reason = parse([packets.frame(first, bytes.fromhex(body))], decoding.FROM_SERVERS)
    assert found == []
    assert why in reason


def test_nobody_writes_a_packet_that_mqtt_has_no_length_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "MAX_REMAINING_LENGTH", 10)
    with pytest.raises(ValueError, match="11 bytes"):
        packets.frame(0x30, bytes(11))


def test_bytes_on_the_wire_are_those_of_the_specification() -> None:
    assert Publish("a/b", b"x", 1, 10).encode().hex(" ") == "32 08 00 03 61 2f 62 00 0a 78"
    assert Publish("a/b", b"x", 1, 10, duplicate=True).encode()[0] == 0x3A
    assert Connack(4).encode().hex(" ") == "20 02 00 04"
    assert packets.frame(0x30, bytes(321))[:3].hex(" ") == "30 c1 02"
    assert Connect("c", "u", b"p", 60).encode().hex() == "1013" + CONNECT + "04c2003c000163000175000170"
