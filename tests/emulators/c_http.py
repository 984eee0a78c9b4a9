"""How the C SDK 4.x downloads over HTTP (trap 7): its requests, how it reads an answer, and how it goes on."""

from __future__ import annotations

import asyncio
import hashlib
from typing import NamedTuple

LINE = 128
"""Bytes of the buffer that one line of an answer's head must fit into, its end included."""
STATUS = b"HTTP/1.1 "
LENGTH = b"Content-Length: "


class Stuck(Exception):  # noqa: N818 - what becomes of the device
    """The SDK asks again and again, and never ends."""


class Failed(Exception):  # noqa: N818 - what the device reports
    """The SDK tells its firmware that the download failed."""


class Head(NamedTuple):
    """What the SDK keeps of an answer's head."""

    status: int
    length: int


def request(host: str, path: str, start: int) -> bytes:
    """The question for the file from a byte on: always a range, without an end, also for all of it."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Accept: text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8",
        f"Range: bytes={start}-",
        "Content-Length: 0",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Reads up to the empty line. Names are compared byte by byte; without a length there is no body for it."""
    status = length = 0
    while (line := await reader.readline()) != b"\r\n":
        if not line:
            raise EOFError
        if len(line) > LINE:
            raise Failed(f"a line of {len(line)} bytes")
        if line.startswith(STATUS):
            status = int(line[len(STATUS) : len(STATUS) + 3])
        if line.startswith(LENGTH):
            length = int(line[len(LENGTH) :])
    return Head(status, length)


class Download:
    """One file.

    Args:
        size: as pushed.
        sha256: as pushed.
        patience: how often it asks in vain for more before we call it stuck; the SDK never does.
    """

    def __init__(self, size: int, sha256: str, *, patience: int = 3) -> None:
        self._size = size
        self._sha256 = sha256
        self._patience = patience
        self._digest = hashlib.sha256()
        self.fetched = 0
        self.requests = 0

    async def run(self, host: str, port: int, path: str, *, cut: int | None = None) -> None:
        """Downloads, and asks for the rest whenever the connection ends.

        Args:
            host: where; also what it says that it wants.
            port: where.
            path: what.
            cut: bytes after which it loses each connection.

        Raises:
            Failed: as the firmware hears it.
            Stuck: it would go on for ever.
        """
        in_vain = 0
        while self.fetched < self._size:
            before = self.fetched
            await self._once(host, port, path, cut)
            in_vain = 0 if self.fetched > before else in_vain + 1
            if in_vain == self._patience:
                raise Stuck(f"{in_vain} answers without a byte")
        if self.fetched > self._size:
            raise Failed("more bytes than there are")
        if self._digest.hexdigest() != self._sha256:
            raise Failed("another file")

    async def _once(self, host: str, port: int, path: str, cut: int | None) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(request(host, path, self.fetched))
            self.requests += 1
            head = await read_head(reader)
            if not head.length:
                return  # nothing to read, so it asks again at once
            body = await reader.read(1)
            if body and head.status not in {200, 206}:
                raise Failed(f"HTTP {head.status}")
            await self._take(reader, body, min(head.length, cut or head.length))
        except EOFError:
            return
        finally:
            writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, piece: bytes, left: int) -> None:
        """Whatever comes is the file, as many bytes as the head said."""
        while piece:
            self._digest.update(piece)
            self.fetched += len(piece)
            left -= len(piece)
            piece = await reader.read(min(left, 4096)) if left > 0 else b""
