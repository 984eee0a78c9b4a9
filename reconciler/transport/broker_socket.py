"""What paho reads from and writes to: a socket with a buffer for each direction.

Paho asks the system for each byte of a packet's header, and writes each acknowledgement by itself. Here many packets
come with one call and leave with one. `broker_link` owns it and says when to `flush`; this knows bytes, no packets.
"""

from __future__ import annotations

import socket
import ssl
from typing import cast

_AT_ONCE = 64 * 1024
"""Bytes read with one call, and bytes to be written that may wait before paho has to keep the rest."""


class BufferedSocket:
    """A connected socket, plain or TLS, as far as paho uses one.

    Args:
        sock: what it reads from and writes to.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.is_held = False
        """What is sent waits for `flush`."""
        self._sock = sock
        self._read = memoryview(b"")
        self._unsent = bytearray()

    # what paho calls

    def recv(self, limit: int) -> bytes:
        """The next bytes; raises what the socket raises when there are none."""
        if not self._read:
            self._read = memoryview(self._sock.recv(_AT_ONCE))
        taken, self._read = self._read[:limit], self._read[limit:]
        return bytes(taken)

    def send(self, data: bytes) -> int:
        """Takes all of it, or raises BlockingIOError when too much waits already."""
        if not self.is_held:
            return self._sock.send(data)
        if len(self._unsent) >= _AT_ONCE:
            raise BlockingIOError
        self._unsent += data
        return len(data)

    def pending(self) -> int:
        """Bytes that were read or decrypted already: the selector doesn't see them."""
        inner = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return len(self._read) + inner

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


class Buffering:
    """Makes paho's sockets `BufferedSocket`s: it stands where paho expects a TLS context, and passes one on.

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
    ) -> BufferedSocket:
        """Called by paho with each connection that it makes."""
        if self._tls is not None:
            sock = self._tls.wrap_socket(
                sock, server_hostname=server_hostname, do_handshake_on_connect=do_handshake_on_connect
            )
        return BufferedSocket(sock)

    def as_context(self) -> ssl.SSLContext:
        """For paho's signature: of a context it uses what is here, and nothing else."""
        return cast("ssl.SSLContext", self)
