"""Which addresses are anybody's."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from reconciler.artifacts import network

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "2002:a00:1::",
    "fec0::1",  # what sites used before fd00::/8
    "64:ff9b:1::a00:1",  # a site's own NAT64 (RFC 8215)
    "64:ff9b:1:a00::1:0",
    "::127.0.0.1",
    "::ffff:0:10.0.0.1",
]
PUBLIC = [
    "1.1.1.1",
    "93.184.216.34",
    "2606:4700:4700::1111",
    "::ffff:1.1.1.1",
    "64:ff9b::101:101",
    "::ffff:0:1.1.1.1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_of_a_site_a_link_or_a_machine_are_private_also_inside_of_others(address):
    assert not network.is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_others_are_public(address):
    assert network.is_public(address)


def test_a_private_address_is_not_even_connected_to():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        port = listening.getsockname()[1]
        with pytest.raises(network.RefusedError):
            network.connect("localhost", port, network.Halt(), public_only=True)
        with pytest.raises(BlockingIOError):
            listening.accept()
        network.connect("127.0.0.1", port, network.Halt(), public_only=False).close()


@pytest.fixture
def black_hole():
    """A port that answers nobody: its queue is full, so the system drops who knocks."""
    with socket.socket() as listening, contextlib.ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            knocking = waiting.enter_context(socket.socket())
            knocking.settimeout(0)
            knocking.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def halted(port, host="127.0.0.1"):
    """Seconds from the halt until a connection that is being made ends."""
    halt, ended = network.Halt(), []

    def connect():
        with pytest.raises(network.HaltedError):
            network.connect(host, port, halt, public_only=False)
        ended.append(time.monotonic())

    connecting = threading.Thread(target=connect)
    connecting.start()
    time.sleep(0.05)
    assert not ended
    begun = time.monotonic()
    halt.halt()
    connecting.join(5)
    return ended[0] - begun


def test_who_waits_for_a_host_that_does_not_answer_is_halted_at_once(black_hole):
    assert halted(black_hole) < 1


def test_who_waits_for_a_name_server_that_does_not_answer_is_halted_at_once(monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(5) and [])
    assert halted(443, "slow.example") < 1
    answered.set()
