"""Cuts a stream of bytes into packets, in bounded memory.

Used by the server's connection (with `decoding.FROM_CLIENTS`) and by clients (with `FROM_SERVERS`). The kind
and the length of a packet are looked at as soon as they are there, so that nothing is held for one that will
be refused: what is held is at most one packet of the limit's size, plus what the caller fed after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.protocol.mqtt311.decoding import Decoder
from reconciler.protocol.mqtt311.packets import Packet, ProtocolError


class Parser:
    """One direction of one connection.

    Args:
        takes: what this side may be sent; see `decoding`. May be changed between packets.
        limit: the largest packet in bytes, without its head of two to five bytes. May be changed, too.
    """

    __slots__ = ("_at", "_buffer", "_needed", "limit", "takes")

    def __init__(self, takes: Mapping[int, Decoder], limit: int) -> None:
        self.takes = takes
        self.limit = limit
        self._buffer = bytearray()
        self._at = 0
        """Where the next packet begins."""
        self._needed = 1
        """How many unread bytes make it worth looking again: a slow packet costs nothing."""

    def __len__(self) -> int:
        """How many bytes wait to be read, or for the rest of their packet."""
        return len(self._buffer) - self._at

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Takes what came in; a copy is kept."""
        self._forget()
        self._buffer += data

    def __iter__(self) -> Iterator[Packet]:
        """The packets that are there in full. May be left early and begun again.

        Raises:
            ProtocolError: the peer broke the protocol; the packets before that were given. Nothing sensible
                comes after it.
        """
        buffer = self._buffer
        while len(buffer) - self._at >= self._needed:
            first = self._at
            decode = self.takes.get(buffer[first])
            if decode is None:
                raise ProtocolError(f"a packet that nobody may send here: {buffer[first]:#04x}")
            body, end = self._extent(first + 1)
            if end > len(buffer):
                self._needed = end - first
                break
            self._at, self._needed = end, 1
            yield decode(buffer, body, end)
        self._forget()

    def _extent(self, at: int) -> tuple[int, int]:
        """Where the body begins and ends of the packet whose length stands here; past the end when cut."""
        buffer, length = self._buffer, 0
        for shift in (0, 7, 14, 21):
            if at == len(buffer):
                return at, at + 1
            byte = buffer[at]
            at += 1
            length |= (byte & 127) << shift
            if byte < 128:
                break
        else:
            raise ProtocolError("a remaining length of more than four bytes")
        if length > self.limit:
            raise ProtocolError(f"a packet of {length} bytes; the limit is {self.limit}")
        return at, at + length

    def _forget(self) -> None:
        """Frees what was read."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
