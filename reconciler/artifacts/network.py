"""Decides which addresses files are fetched from: the address that is checked is the one that is connected to.

Called by the fetcher of https://. A name that leads elsewhere at the second look leads nowhere else here, because there
is no second look.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import ipaddress
import os
import select
import socket
import threading
from typing import Any

from reconciler import errors

CONNECT_SECONDS = 10.0
SILENT_SECONDS = 60.0
"""A source that sends nothing for so long is gone."""
_LOOK_SECONDS = 0.1
"""While a connection is made: until it is seen that it is to end."""
_AROUND_IPV4 = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")))
"""Addresses whose last four bytes are one of IPv4: NAT64 (RFC 6052), compatible (RFC 4291), translated (RFC 2765)."""
_OWN_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
"""A site's own translation to IPv4 (RFC 8215): where its address lies in there, only the site knows."""


class RefusedError(errors.UserError):
    """We may not, or will not, fetch this: trying again changes nothing."""


class HaltedError(errors.TransientError):
    """The daemon is being stopped."""


class Halt:
    """Ends a fetch from another thread, also one that waits for bytes."""

    def __init__(self) -> None:
        self._halted = threading.Event()
        self._socket: socket.socket | None = None

    def halt(self) -> None:
        """Ends it, soon."""
        self._halted.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):  # below TLS: what is read afterwards is an end, not ciphertext
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def watch(self, connected: socket.socket) -> None:
        """The socket that the fetch waits for from now on."""
        self._socket = connected
        self.check()

    def check(self) -> None:
        """To be called between any two steps.

        Raises:
            HaltedError: it is to end.
        """
        if self._halted.is_set():
            raise HaltedError("the daemon was stopped")


def is_public(address: str) -> bool:
    """True for an address that anybody on the internet reaches, or would."""
    found: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.is_site_local or found in _OWN_NAT64:
            return False
        embedded = found.ipv4_mapped or found.sixtofour
        if any(found in network for network in _AROUND_IPV4):
            embedded = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        found = embedded or found
    return found.is_global and not found.is_multicast


def connect(host: str, port: int, halt: Halt, *, public_only: bool) -> socket.socket:
    """A connection to a host.

    Raises:
        RefusedError: it has private addresses only, and those are not allowed.
        TransientError: it is not known, or can't be reached.
        HaltedError: it is to end.
    """
    try:
        found = _addresses(host, port, halt)
    except (OSError, UnicodeError) as error:
        raise errors.TransientError(f"the name {host} is not known: {_words(error)}") from error
    allowed = [entry for entry in found if not public_only or is_public(str(entry[4][0]))]
    if not allowed:
        raise RefusedError(
            f"it leads to {host}, which has a private address ({found[0][4][0]})",
            remedy="Name that host in the manifest, or allow it with --allow-private-redirects.",
        )
    failed: OSError | None = None
    for family, kind, protocol, _, address in allowed:
        with contextlib.ExitStack() as closing:
            connected = closing.enter_context(socket.socket(family, kind, protocol))
            try:
                _reach(connected, address, halt)
            except OSError as error:
                failed = error
                continue
            connected.settimeout(SILENT_SECONDS)
            closing.pop_all()  # it is the caller's from here on
            return connected
    assert failed is not None, "a name has at least one address"
    raise errors.TransientError(f"{host} can't be reached: {_words(failed)}") from failed


def _addresses(host: str, port: int, halt: Halt) -> list[tuple[Any, ...]]:
    """What the system knows of a name. Its look-up can't be ended: it is left to a thread that no exit waits for."""
    answer: concurrent.futures.Future[list[tuple[Any, ...]]] = concurrent.futures.Future()

    def look() -> None:
        try:
            answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=look, name="name-look-up", daemon=True).start()
    while not answer.done():
        halt.check()
        concurrent.futures.wait([answer], _LOOK_SECONDS)
    return answer.result()


def _reach(connecting: socket.socket, address: Any, halt: Halt) -> None:
    """Connects.

    Raises:
        OSError: it can't be reached, or does not answer.
        HaltedError: it is to end.
    """
    connecting.settimeout(0)
    problem = connecting.connect_ex(address)
    if problem == errno.EINPROGRESS:
        waiting = select.poll()
        waiting.register(connecting, select.POLLOUT)
        for _ in range(round(CONNECT_SECONDS / _LOOK_SECONDS)):
            halt.check()
            if waiting.poll(_LOOK_SECONDS * 1000):
                break
        else:
            raise TimeoutError("timed out")
        problem = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if problem:
        raise OSError(problem, os.strerror(problem))


def _words(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error) or type(error).__name__).lower()
