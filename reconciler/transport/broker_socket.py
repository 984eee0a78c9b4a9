"""What paho reads from and writes to: a socket of which it gets only its share.

Messages are most of what a broker sends, and paho spends more on each than all the rest of the daemon does: it asks the
system for every byte of a head, and looks at filters, flows and callbacks that we don't use. So `broker_link` reads the
stream itself, with the parser of our own endpoint, takes the messages out, and lends everything else to paho, as it
came. What is written leaves with one call in a turn of the loop. This knows bytes, no packets.
"""

from __future__ import annotations

import socket
import ssl
from typing import cast

_AT_ONCE = 64 * 1024
"""Bytes read with one call, and bytes to be written that may wait before paho has to keep the rest."""


class SharedSocket:
    """A connected socket, plain or TLS, as far as paho uses one. It is paho's alone until it is `taken`.

    Args:
        sock: what it reads from and writes to.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._taken = False
        self._lent = b""
        self._ended = False
        self._unsent = bytearray()

    # what paho calls

    def recv(self, limit: int) -> bytes:
        """The next of the bytes that were lent; raises BlockingIOError when there are none."""
        if not self._taken:
            return self._sock.recv(limit)
        if not self._lent and not self._ended:
            raise BlockingIOError
        got, self._lent = self._lent[:limit], self._lent[limit:]
        return got

    def send(self, data: bytes) -> int:
        """Takes all of it, or raises BlockingIOError when too much waits already."""
        if not self._taken:
            return self._sock.send(data)
        if len(self._unsent) >= _AT_ONCE:
            raise BlockingIOError
        self._unsent += data
        return len(data)

    def fileno(self) -> int:
        """For the selector."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - a socket's signature
        """As a socket's."""
        self._sock.setblocking(flag)

    def settimeout(self, seconds: float | None) -> None:
        """As a socket's."""
        self._sock.settimeout(seconds)

    def do_handshake(self) -> None:
        """Negotiates TLS, if that is what this is."""
        if isinstance(self._sock, ssl.SSLSocket):
            self._sock.do_handshake()

    def close(self) -> None:
        """Writes what can be written at once, then closes."""
        try:
            self.flush()
        except OSError:
            pass  # the peer is gone, and so is what it was to be told
        finally:
            self._sock.close()

    # what the link calls

    def take(self) -> None:
        """From now on paho reads what it is lent, and what is sent waits for `flush`."""
        self._taken = True

    def read(self) -> bytes | None:
        """What came in; empty at the end of the stream, None when there is nothing yet.

        Raises:
            OSError: the connection is broken.
        """
        try:
            return self._sock.recv(_AT_ONCE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def decrypted(self) -> bool:
        """True when TLS keeps more that can be read: the selector doesn't see that."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def lend(self, data: bytes) -> None:
        """Lets paho read this; nothing at all is the end of the stream."""
        self._ended = not data
        self._lent += data

    def say(self, data: bytes) -> None:
        """Writes a whole packet with the next flush, however much waits."""
        self._unsent += data

    def flush(self) -> bool:
        """Writes what waits; False when the socket takes no more now.

        Raises:
            OSError: the connection is broken.
        """
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True


class Sharing:
    """Makes paho's sockets `SharedSocket`s: it stands where paho expects a TLS context, and passes one on.

    Args:
        tls: how to check and be checked; None for plain TCP.
    """

    check_hostname = True
    """Whoever is behind it checks names itself, if there are any to check."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls

    def wrap_socket(
        self,
        sock: socket.socket,
        *,
        server_hostname: str | None = None,
        do_handshake_on_connect: bool = False,
    ) -> SharedSocket:
        """Called by paho with each connection that it makes."""
        if self._tls is not None:
            sock = self._tls.wrap_socket(
                sock, server_hostname=server_hostname, do_handshake_on_connect=do_handshake_on_connect
            )
        return SharedSocket(sock)

    def as_context(self) -> ssl.SSLContext:
        """For paho's signature: of a context it uses what is here, and nothing else."""
        return cast("ssl.SSLContext", self)
