"""The socket of which paho gets its share."""

from __future__ import annotations

import socket

import pytest

from reconciler.transport.broker_socket import SharedSocket, Sharing


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    theirs.settimeout(5)
    with ours, theirs:
        yield SharedSocket(ours), theirs


@pytest.fixture
def taken(pair):
    pair[0].take()
    return pair


def fill(shared):
    """Until neither the system nor the buffer takes more; how many bytes that were."""
    count = 0
    while True:
        try:
            count += shared.send(b"x" * 1000)
        except BlockingIOError:
            if not shared.flush():
                return count


def test_until_it_is_taken_it_reads_and_writes_at_once(pair):
    shared, theirs = pair
    theirs.sendall(b"hello")
    assert (shared.recv(2), shared.recv(10)) == (b"he", b"llo")
    assert shared.send(b"you") == 3
    assert theirs.recv(10) == b"you"


def test_then_only_what_is_lent_can_be_received_in_the_pieces_that_are_asked_for(taken):
    shared, theirs = taken
    theirs.sendall(b"not for paho")
    with pytest.raises(BlockingIOError):
        shared.recv(1)
    shared.lend(b"abc")
    assert (shared.recv(1), shared.recv(10)) == (b"a", b"bc")
    with pytest.raises(BlockingIOError):
        shared.recv(1)


def test_the_end_of_the_stream_is_lent_as_nothing_behind_what_was_lent_before(taken):
    shared, _ = taken
    shared.lend(b"a")
    shared.lend(b"")
    assert [shared.recv(10), shared.recv(10), shared.recv(10)] == [b"a", b"", b""]


def test_its_owner_reads_what_came_nothing_yet_and_the_end(taken):
    shared, theirs = taken
    assert shared.read() is None
    theirs.sendall(b"hello")
    assert shared.read() == b"hello"
    assert not shared.decrypted(), "it is no TLS"
    theirs.close()
    assert shared.read() == b""


def test_what_was_sent_and_said_leaves_with_the_flush_in_its_order(taken):
    shared, theirs = taken
    assert shared.send(b"one ") == 4
    shared.say(b"two ")
    assert shared.send(b"three") == 5
    theirs.settimeout(0)
    with pytest.raises(BlockingIOError):
        theirs.recv(20)
    assert shared.flush()
    assert theirs.recv(20) == b"one two three"


def test_a_peer_that_reads_nothing_stops_the_writer_and_loses_nothing(taken):
    shared, theirs = taken
    count, received = fill(shared), 0
    assert not shared.flush()
    shared.say(b"an acknowledgement is always taken")
    count += len(b"an acknowledgement is always taken")
    while received < count:
        received += len(theirs.recv(65536))
        shared.flush()
    assert (received, shared.flush()) == (count, True)


def test_closing_writes_what_waits(taken):
    shared, theirs = taken
    shared.send(b"goodbye")
    shared.close()
    assert theirs.recv(10) == b"goodbye"
    assert theirs.recv(10) == b""


def test_closing_after_the_peer_is_gone_raises_nothing(taken):
    shared, theirs = taken
    shared.send(b"goodbye")
    theirs.close()
    shared.close()
    assert shared.fileno() == -1


def test_a_flush_to_a_peer_that_is_gone_says_so(taken):
    shared, theirs = taken
    shared.send(b"hello")
    theirs.close()
    with pytest.raises(OSError, match="pipe"):
        shared.flush()


def test_without_tls_the_plain_socket_is_wrapped_and_negotiates_nothing():
    ours, theirs = socket.socketpair()
    with theirs:
        shared = Sharing(None).wrap_socket(ours, server_hostname="broker")
        shared.settimeout(1.0)
        shared.do_handshake()
        shared.send(b"plain")
        assert theirs.recv(10) == b"plain"
        shared.close()
