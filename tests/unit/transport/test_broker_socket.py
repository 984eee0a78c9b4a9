"""The socket that paho reads from and writes to."""

from __future__ import annotations

import socket

import pytest

from reconciler.transport.broker_socket import BufferedSocket, Buffering


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    theirs.settimeout(5)
    with ours, theirs:
        yield BufferedSocket(ours), theirs


def fill(buffered):
    """Until neither the system nor the buffer takes more; how many bytes that were."""
    taken = 0
    while True:
        try:
            taken += buffered.send(b"x" * 1000)
        except BlockingIOError:
            if not buffered.flush():
                return taken


def test_what_came_at_once_is_handed_out_in_the_pieces_that_are_asked_for(pair):
    buffered, theirs = pair
    theirs.sendall(b"abcdef")
    assert [buffered.recv(1), buffered.recv(2)] == [b"a", b"bc"]
    assert buffered.pending() == 3
    assert buffered.recv(100) == b"def"
    assert buffered.pending() == 0


def test_nothing_to_read_is_said_as_a_socket_says_it(pair):
    buffered, theirs = pair
    with pytest.raises(BlockingIOError):
        buffered.recv(1)
    theirs.close()
    assert buffered.recv(1) == b""


def test_a_socket_that_is_not_held_writes_at_once(pair):
    buffered, theirs = pair
    assert buffered.send(b"hello") == 5
    assert theirs.recv(10) == b"hello"


def test_a_held_one_writes_everything_at_the_flush(pair):
    buffered, theirs = pair
    buffered.is_held = True
    assert (buffered.send(b"one "), buffered.send(b"two")) == (4, 3)
    theirs.settimeout(0)
    with pytest.raises(BlockingIOError):
        theirs.recv(10)
    assert buffered.flush()
    assert theirs.recv(10) == b"one two"


def test_a_peer_that_reads_nothing_stops_the_writer_and_loses_nothing(pair):
    buffered, theirs = pair
    buffered.is_held = True
    taken, received = fill(buffered), 0
    assert not buffered.flush()
    while received < taken:
        received += len(theirs.recv(65536))
        buffered.flush()
    assert (received, buffered.flush()) == (taken, True)


def test_closing_writes_what_waits(pair):
    buffered, theirs = pair
    buffered.is_held = True
    buffered.send(b"goodbye")
    buffered.close()
    assert theirs.recv(10) == b"goodbye"
    assert theirs.recv(10) == b""


def test_closing_after_the_peer_is_gone_raises_nothing(pair):
    buffered, theirs = pair
    buffered.is_held = True
    buffered.send(b"goodbye")
    theirs.close()
    buffered.close()
    assert buffered.fileno() == -1


def test_a_flush_to_a_peer_that_is_gone_says_so(pair):
    buffered, theirs = pair
    buffered.is_held = True
    buffered.send(b"hello")
    theirs.close()
    with pytest.raises(OSError, match="pipe"):
        buffered.flush()


def test_without_tls_the_plain_socket_is_wrapped_and_negotiates_nothing(pair):
    ours, theirs = socket.socketpair()
    with theirs:
        buffered = Buffering(None).wrap_socket(ours, server_hostname="broker")
        buffered.settimeout(1.0)
        buffered.do_handshake()
        buffered.send(b"plain")
        assert theirs.recv(10) == b"plain"
        buffered.close()
