"""Which addresses are anybody's."""

from __future__ import annotations

import socket

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
