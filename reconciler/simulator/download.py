"""Fetches a file for a device and checks it.

By HTTP, as the C SDK does (device protocol §1, traps 7 and 8), or from whoever brings its pieces (`blocks`).
Shared by the devices of a fleet, so that no more than so many download at a time. It keeps nothing of a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
import urllib.parse
from collections.abc import AsyncGenerator

from reconciler.simulator.push import File

_CHUNK = 64 * 1024
_BUFFER = 256  # bytes that older C SDKs have for a host, and for a path
_WITHIN = 120.0  # seconds without a byte


class DownloadError(Exception):
    """The file did not come as promised.

    Args:
        step: what the device reports: -2 for a failed download, -3 for a wrong digest.
        description: why.
    """

    def __init__(self, step: int, description: str) -> None:
        super().__init__(description)
        self.step = step
        self.description = description


Pieces = AsyncGenerator[bytes, None]
"""A file as it comes: as many bytes as the push says. Raises DownloadError."""


class Downloads:
    """What a fleet's devices download with.

    Args:
        at_once: how many downloads run at a time; the others wait.
        digest_once: check each different file's digest once only, and of later copies the size: with
            thousands of devices in one process, the digests would be most of the work.
        tls: for https; None for the system's certificates.
    """

    def __init__(
        self, at_once: int = 50, *, digest_once: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        self.count = 0
        """Finished downloads."""
        self.bytes = 0
        self._slots = asyncio.Semaphore(at_once)
        self._digest_once = digest_once
        self._tls = tls
        self._checked: set[tuple[str, str, int]] = set()

    async def fetch(self, file: File, pieces: Pieces | None = None) -> None:
        """Downloads a file and checks it.

        Args:
            file: what to download.
            pieces: how it comes when its source is a stream; None: it has a URL.

        Raises:
            DownloadError: whatever went wrong.
        """
        async with self._slots:
            try:
                async with contextlib.aclosing(pieces or self._http(file)) as coming:
                    await self._check(file, coming)
            except (OSError, EOFError, ValueError) as error:
                raise DownloadError(-2, f"download failed: {type(error).__name__}: {error}") from error
        self.count += 1
        self.bytes += file.size

    async def _http(self, file: File) -> Pieces:
        assert isinstance(file.source, str), "a stream comes in pieces"
        url = urllib.parse.urlsplit(file.source)
        path = url.path + (f"?{url.query}" if url.query else "")
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise DownloadError(-2, "the URL is not http or https")
        if max(len(url.netloc), len(path)) >= _BUFFER:
            raise DownloadError(-2, "the URL is longer than a device's buffer")
        tls = (self._tls or ssl.create_default_context()) if url.scheme == "https" else None
        port = url.port or (80 if tls is None else 443)
        reader, writer = await asyncio.open_connection(url.hostname, port, ssl=tls)
        try:
            request = f"GET {path or '/'} HTTP/1.1\r\nHost: {url.netloc}\r\nRange: bytes=0-\r\n"
            writer.write(f"{request}Connection: close\r\n\r\n".encode("ascii"))
            async with asyncio.timeout(_WITHIN):
                await _expect_head(reader, file.size)
            left = file.size
            while left:
                async with asyncio.timeout(_WITHIN):
                    piece = await reader.read(min(_CHUNK, left))
                if not piece:
                    raise EOFError(f"{left} of {file.size} bytes are missing")
                left -= len(piece)
                yield piece
        finally:
            writer.close()

    async def _check(self, file: File, pieces: Pieces) -> None:
        """Takes all the pieces, and keeps nothing of them but their digest."""
        key = (file.method, file.sign, file.size)
        digest = None if key in self._checked else hashlib.new(file.method, usedforsecurity=False)
        async for piece in pieces:
            if digest is not None:
                digest.update(piece)
        if digest is not None and digest.hexdigest() != file.sign:
            raise DownloadError(-3, f"the file's {file.method} is not what the push says")
        if self._digest_once:
            self._checked.add(key)


async def _expect_head(reader: asyncio.StreamReader, size: int) -> None:
    """Reads status and headers. Their names' case matters, as it does to the C SDK."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = head.rstrip("\r\n").split("\r\n")
    if status.split(" ", 2)[1:2] not in (["200"], ["206"]):
        raise ValueError(f"the server says {status!r}")
    headers = dict(line.split(": ", 1) for line in lines)
    length = headers.get("Content-Length")
    if length is None or "Transfer-Encoding" in headers:
        raise ValueError("no Content-Length, written just so")
    if length != str(size):
        raise ValueError(f"the server has {length} bytes, the push says {size}")
