"""Decides who may download which bytes: signed URLs, ranges, and headers as devices in C need them.

Part of `app`. It knows blobs by number and asks an injected function where they lie; nothing of packages or tasks.
Whatever is wrong with a request is answered with the same 403, so that nothing can be found out by trying.

Device protocol §1, trap 7: exactly `Content-Length`, never chunked, and `Range: bytes=N-` in every request.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from reconciler.protocol import urls

_log = logging.getLogger(__name__)

_SMALLEST_PIECE = 64 << 10
_LARGEST_PIECE = 1 << 20
_ALL_PIECES = 16 << 20
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.ASCII)
_FORBIDDEN = b"Forbidden\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Blob:
    """A file that can be downloaded."""

    path: pathlib.Path
    size: int
    """Bytes."""
    sha256: str


class Downloads:
    """The ASGI application behind `/d/{token}/{name}`.

    Args:
        key: what the URLs are signed with.
        find: the blob with this number, or None.
        now: seconds since 1970.
    """

    def __init__(
        self, key: bytes, find: Callable[[int], Awaitable[Blob | None]], now: Callable[[], int]
    ) -> None:
        self._key = key
        self._find = find
        self._now = now
        self._running = 0
        self._refusals: dict[str, tuple[int, int]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one GET or HEAD."""
        try:
            blob = await self._blob(scope["path_params"]["token"])
            descriptor = await asyncio.to_thread(_open, blob)
        except urls.Forbidden as refusal:
            self._count(refusal.reason)
            await _answer(send, 403, {"Content-Type": "text/plain"}, _FORBIDDEN)
            return
        try:
            await self._serve(scope, receive, send, blob, descriptor)
        finally:
            os.close(descriptor)

    async def _blob(self, token: str) -> Blob:
        grant = urls.verify(self._key, token, self._now())
        blob = await self._find(grant.blob_id)
        if blob is None:
            raise urls.Forbidden("no such blob")
        return blob

    async def _serve(self, scope: Scope, receive: Receive, send: Send, blob: Blob, descriptor: int) -> None:
        etag = f'"{blob.sha256}"'
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "ETag": etag}
        part = _part(Headers(scope=scope), etag, blob.size)
        if part is None:
            await _answer(send, 200, headers, length=blob.size)
            part = range(blob.size)
        elif not part:
            await _answer(send, 416, headers | {"Content-Range": f"bytes */{blob.size}"}, b"")
            return
        else:
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{blob.size}"
            await _answer(send, 206, headers, length=len(part))
        if scope["method"] == "HEAD":
            part = range(0)
        await self._stream(receive, send, descriptor, part)

    async def _stream(self, receive: Receive, send: Send, descriptor: int, part: range) -> None:
        """Sends a part of the file until its end, or until the device is gone.

        One piece at a time is in memory, and nothing is read before it went out: that is what the empty message
        waits for. Pieces are large while few download, for speed, and small while many do, who may all be slow.
        """
        gone = asyncio.create_task(_wait_until_gone(receive))
        self._running += 1
        at = part.start
        try:
            while at < part.stop and not gone.done():
                piece = min(
                    max(_ALL_PIECES // self._running, _SMALLEST_PIECE), _LARGEST_PIECE, part.stop - at
                )
                body = await asyncio.to_thread(os.pread, descriptor, piece, at)
                if not body:
                    raise EOFError("a file became shorter while it was downloaded")
                at += len(body)
                await send({"type": "http.response.body", "body": body, "more_body": True})
                del body
                await send({"type": "http.response.body", "body": b"", "more_body": True})
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._running -= 1
            gone.cancel()

    def _count(self, reason: str) -> None:
        """Logs each reason at most once a minute, with how often it was given."""
        now = self._now()
        logged, count = self._refusals.get(reason, (0, 0))
        if now - logged >= 60:
            _log.warning("downloads refused: %s (%d times)", reason, count + 1)
            logged, count = now, -1
        self._refusals[reason] = (logged, count + 1)


def _open(blob: Blob) -> int:
    try:
        descriptor = os.open(blob.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise urls.Forbidden("the file is missing") from None
    if os.fstat(descriptor).st_size != blob.size:
        os.close(descriptor)
        raise urls.Forbidden("the file is damaged")
    return descriptor


def _part(headers: Headers, etag: str, size: int) -> range | None:
    """The wanted part; None for all of it, an empty one when there is no such part (RFC 9110 §14).

    Several ranges at once, and units that nobody knows, may be answered with the whole.
    """
    match = _RANGE.fullmatch(headers.get("range", "").strip())
    if match is None or headers.get("if-range", etag) != etag:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return range(max(size - int(suffix), 0), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)


async def _answer(
    send: Send, status: int, headers: dict[str, str], body: bytes | None = None, *, length: int = 0
) -> None:
    """The head of an answer, and its body when it is given; a streamed one has `length` bytes."""
    headers = {**headers, "Content-Length": str(length if body is None else len(body))}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    if body is not None:
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
