"""The server's side of one connection (engine.md §1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.protocol import messages, topics
from reconciler.protocol.mqtt311 import decoding
from reconciler.protocol.mqtt311.connection import ANSWERED, Confirmed, Connection, Drop, Dropped, Received
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
    Will,
    frame,
)
from reconciler.protocol.mqtt311.parser import Parser
from reconciler.protocol.topics import Address, Route

ME = Address("thermostat", "dev-0001")
OTHER = Address("thermostat", "dev-0002")
CONNECT = Connect("x", "dev-0001&thermostat")


def opened(connect: Connect = CONNECT, *, push_limit: int = 16) -> Connection[str]:
    """A connection that was let in, with nothing left to write."""
    connection: Connection[str] = Connection(packet_limit=2000, push_limit=push_limit)
    assert said(connection, connect) == [connect]
    connection.accept(connect, ME)
    assert answers(connection) == [Connack(ConnectCode.ACCEPTED)]
    return connection


def said(connection: Connection[str], *packets: Packet) -> list[object]:
    """The events of these packets."""
    connection.feed(b"".join(packet.encode() for packet in packets))
    return list(connection.events())


def answers(connection: Connection[str]) -> list[Packet]:
    """What the client reads."""
    parser = Parser(decoding.FROM_SERVERS, 1_000_000)
    parser.feed(connection.output)
    connection.output.clear()
    return list(parser)


def test_a_message_is_given_out_and_acknowledged_only_when_its_owner_says_so() -> None:
    connection = opened()
    assert said(connection, Publish(topics.inform(ME), b"{}", 1, 7)) == [
        Received(Route.INFORM, b"{}", 7, duplicate=False)
    ]
    assert answers(connection) == []
    connection.acknowledge(7)
    connection.acknowledge(7)
    assert answers(connection) == [Puback(7)]


def test_a_message_at_qos_0_is_owed_nothing() -> None:
    connection = opened()
    assert said(connection, Publish(topics.progress(ME), b"x")) == [
        Received(Route.PROGRESS, b"x", 0, duplicate=False)
    ]
    connection.acknowledge(0)
    assert answers(connection) == []


def test_of_what_is_too_long_to_mean_anything_no_more_is_kept_than_shows_that() -> None:
    """It may wait long for the database: thousands of them, at the packet limit, were a gigabyte."""
    connection: Connection[str] = Connection(packet_limit=256 * 1024, push_limit=16)
    connection.accept(CONNECT, ME)
    (received,) = said(connection, Publish(topics.inform(ME), b"x" * 200_000, 1, 7))
    assert isinstance(received, Received)
    assert len(received.payload) == messages.MAX_PAYLOAD + 1
    with pytest.raises(messages.Malformed, match="more than 16384 bytes"):
        messages.parse_inform(received.payload)


def test_a_repeat_of_an_unacknowledged_message_is_not_given_out_twice() -> None:
    connection = opened()
    message = Publish(topics.inform(ME), b"{}", 1, 7)
    again = message._replace(duplicate=True)
    assert said(connection, message, again, message)[1:] == [ANSWERED, ANSWERED]
    connection.acknowledge(7)
    assert answers(connection) == [Puback(7)]
    assert said(connection, again) == [Received(Route.INFORM, b"{}", 7, duplicate=True)]


def test_pubacks_go_out_in_the_order_of_the_acknowledgements() -> None:
    connection = opened()
    said(connection, *(Publish(topics.inform(ME), b"", 1, number) for number in (3, 1, 2)))
    for number in (3, 1, 2):
        connection.acknowledge(number)
    assert answers(connection) == [Puback(3), Puback(1), Puback(2)]


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (Publish(topics.inform(OTHER), b"", 1, 9), Drop.FOREIGN),
        (Publish("/sys/thermostat/dev-0002/thing/ota/firmware/get", b"", 1, 9), Drop.FOREIGN),
        (Publish(topics.inform(OTHER), b"", 1, 9, retain=True), Drop.FOREIGN),
        (Publish("anything", b"", 1, 9), Drop.FOREIGN),
        (Publish(topics.inform(ME), b"", 1, 9, retain=True), Drop.RETAINED),
        (Publish("/sys/thermostat/dev-0001/thing/event/property/post", b"", 1, 9), Drop.UNUSED),
    ],
)
def test_a_message_without_effect_is_acknowledged_at_once_and_told(packet: Publish, reason: Drop) -> None:
    connection = opened()
    assert said(connection, packet) == [Dropped(packet.topic, reason)]
    assert answers(connection) == [Puback(9)]
    assert said(connection, packet._replace(qos=0)) == [Dropped(packet.topic, reason)]
    assert answers(connection) == []
    assert said(connection, Publish(topics.inform(ME), b"")) != []


def test_changing_topics_are_told_apart() -> None:
    connection = opened()
    mine, foreign = Publish(topics.inform(ME), b""), Publish(topics.inform(OTHER), b"")
    kinds = [type(event) for event in said(connection, mine, foreign, foreign, mine, mine)]
    assert kinds == [Received, Dropped, Dropped, Received, Received]


def test_subscriptions_are_granted_up_to_qos_1_in_the_own_namespace_and_refused_elsewhere() -> None:
    connection = opened()
    filters = (
        ("/sys/thermostat/dev-0001/thing/event/+/post_reply", 0),
        (topics.upgrade(ME), 1),
        (topics.upgrade(ME), 2),
        (topics.upgrade(OTHER), 1),
        ("#", 0),
    )
    assert said(connection, Subscribe(5, filters), Unsubscribe(6, ("#",))) == [ANSWERED, ANSWERED]
    assert answers(connection) == [Suback(5, (0, 1, 1, FAILURE, FAILURE)), Unsuback(6)]


@pytest.mark.parametrize(
    "make", [lambda n: Subscribe(9, (("a", 0),) * n), lambda n: Unsubscribe(9, ("a",) * n)]
)
def test_a_packet_of_very_many_filters_is_refused_before_all_of_them_are_read(make) -> None:
    """One of 256 KiB holds 65,533 of them, and cost everybody else an eighth of a second."""
    connection = opened()
    assert said(connection, make(decoding.MOST_FILTERS)) == [ANSWERED]
    with pytest.raises(ProtocolError, match="more than 256 filters"):
        said(connection, make(decoding.MOST_FILTERS + 1))


def test_a_ping_is_answered() -> None:
    connection = opened()
    assert said(connection, Pingreq()) == [ANSWERED]
    assert connection.output == PINGRESP


def test_what_comes_before_the_login_is_decided_waits_for_it() -> None:
    connection: Connection[str] = Connection(packet_limit=1000, push_limit=16)
    early = Publish(topics.inform(ME), b"{}")
    assert said(connection, CONNECT, early) == [CONNECT]
    assert said(connection, Pingreq()) == []
    assert connection.waiting == len(early.encode()) + 2
    connection.accept(CONNECT, ME)
    assert list(connection.events()) == [Received(Route.INFORM, b"{}", 0, duplicate=False), ANSWERED]
    assert answers(connection)[0] == Connack(ConnectCode.ACCEPTED)
    assert connection.waiting == 0


def test_after_a_refusal_nothing_is_heard() -> None:
    connection: Connection[str] = Connection(packet_limit=1000, push_limit=16)
    said(connection, CONNECT)
    connection.refuse(ConnectCode.BAD_CREDENTIALS)
    assert said(connection, Publish(topics.inform(ME), b"")) == []
    assert answers(connection) == [Connack(ConnectCode.BAD_CREDENTIALS)]


def test_nothing_is_heard_after_a_disconnect() -> None:
    connection = opened()
    assert said(connection, Disconnect(), Publish(topics.inform(ME), b"")) == [Disconnect()]


def test_another_level_of_mqtt_is_told_before_the_close() -> None:
    connection: Connection[str] = Connection(packet_limit=1000, push_limit=16)
    connection.feed(frame(0x10, b"\0\4MQTT\5\2\0\0\0\0\0"))
    with pytest.raises(ProtocolError, match="level 5"):
        list(connection.events())
    assert answers(connection) == [Connack(ConnectCode.BAD_PROTOCOL_LEVEL)]


def test_an_empty_client_id_needs_a_clean_session() -> None:
    connection: Connection[str] = Connection(packet_limit=1000, push_limit=16)
    with pytest.raises(ProtocolError, match="empty client id"):
        said(connection, CONNECT._replace(client_id="", clean_session=False))
    assert answers(connection) == [Connack(ConnectCode.BAD_CLIENT_ID)]
    opened(CONNECT._replace(client_id="", clean_session=True))


def test_a_lasting_session_is_let_in_but_never_found_again() -> None:
    opened(CONNECT._replace(clean_session=False))


@pytest.mark.parametrize("packet", [CONNECT, Connack(0), Publish(topics.inform(ME), b"", 2, 1)])
def test_a_breach_of_the_protocol_ends_the_connection(packet: Packet) -> None:
    with pytest.raises(ProtocolError):
        said(opened(), packet)


def test_the_packet_limit_is_small_before_the_login_and_the_setting_after_it() -> None:
    connection: Connection[str] = Connection(packet_limit=100_000, push_limit=16)
    connection.feed(frame(0x10, bytes(9000))[:4])
    with pytest.raises(ProtocolError, match="9000 bytes; the limit is 8192"):
        list(connection.events())
    connection = Connection(packet_limit=100_000, push_limit=16)
    said(connection, CONNECT)
    connection.accept(CONNECT, ME)
    assert said(connection, Publish(topics.inform(ME), bytes(90_000))) != []
    with pytest.raises(ProtocolError, match="the limit is 100000"):
        said(connection, Publish(topics.inform(ME), bytes(100_000)))


def test_a_push_goes_out_at_qos_1_and_its_confirmation_carries_its_token() -> None:
    connection = opened()
    assert connection.push("/t", b"one", "first") == 1
    assert connection.push("/t", b"two", "second") == 2
    assert answers(connection) == [Publish("/t", b"one", 1, 1), Publish("/t", b"two", 1, 2)]
    assert said(connection, Puback(2), Puback(2), Puback(77)) == [Confirmed("second"), ANSWERED, ANSWERED]
    assert connection.pushes == {1: "first"}


def test_a_push_can_be_given_up_unless_its_number_belongs_to_another_by_now() -> None:
    connection = opened()
    connection.push("/t", b"", "first")
    connection.withdraw(1, "another")
    assert connection.pushes == {1: "first"}
    connection.withdraw(1, "first")
    connection.withdraw(1, "first")
    assert connection.pushes == {}


def test_pushes_are_bounded_and_their_numbers_are_not_used_twice_at_a_time() -> None:
    connection = opened(push_limit=2)
    assert connection.push("/t", b"", "slow") == 1
    for number in range(2, 0x10000):
        assert connection.push("/t", b"", "quick") == number
        assert connection.push("/t", b"", "too many") is None
        connection.output.clear()
        assert said(connection, Puback(number)) == [Confirmed("quick")]
    assert connection.push("/t", b"", "round") == 2


def test_a_will_on_an_own_topic_is_kept_until_a_disconnect() -> None:
    will = Will(topics.progress(ME), b"bye")
    connection = opened(CONNECT._replace(will=will))
    assert connection.will == Received(Route.PROGRESS, b"bye", 0, duplicate=False)
    said(connection, Disconnect())
    assert connection.will is None
    assert opened(CONNECT._replace(will=will._replace(topic="/thermostat/dev-0001/x"))).will is None


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_garbage_ends_a_connection_with_a_protocol_error_or_has_no_effect(chunks: list[bytes]) -> None:
    connection = opened()
    try:
        for chunk in chunks:
            connection.feed(chunk)
            assert not any(isinstance(event, Received) for event in connection.events())
    except ProtocolError:
        pass
