"""Decides who may download which bytes: signed URLs, within the operator's limits, headers as devices in C need them.

Part of `app`. It knows blobs by what a URL grants and has them opened by an injected function; nothing of packages or
tasks. Whatever is wrong with a URL is answered with the same 403, so that nothing can be found out by trying; who has
a good one while there is no room hears 503 and when to come again.

Device protocol §1, trap 7: exactly `Content-Length`, never chunked, and `Range: bytes=N-` in every request.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from reconciler import errors
from reconciler.protocol import urls
from reconciler.web import ranges
from reconciler.web.gate import Gate, Limits, Passage
from reconciler.web.openfile import Open, OpenFile, OpenFiles

__all__ = ["Blob", "Downloads", "Limits"]

_log = logging.getLogger(__name__)

ZERO_COPY = "http.response.zerocopysend"
"""The extension of ASGI by which a server sends a part of a file without a copy in our memory."""
_COPIED = 64 << 10
_PLAIN = {"Content-Type": "text/plain"}
_MISSING = (FileNotFoundError, IsADirectoryError, PermissionError)


@dataclasses.dataclass(frozen=True, slots=True)
class Blob:
    """A file that can be downloaded."""

    open: Open
    size: int
    """Bytes."""
    sha256: str
    batch: str = ""
    """Whose limits it counts in."""


Find = Callable[[urls.Grant], Awaitable[Blob | None]]
"""What a URL opens, if there is such a thing."""


class Downloads:
    """The ASGI application behind `/d/{token}/{name}`.

    Args:
        key: what the URLs are signed with.
        find: what a URL opens.
        now: seconds since 1970.
        limits: how many, and how fast.
    """

    def __init__(
        self, key: bytes, find: Find, now: Callable[[], int], *, limits: Limits | None = None
    ) -> None:
        self._key = key
        self._find = find
        self._now = now
        self._gate = Gate(limits or Limits(), time.monotonic)
        self._files = OpenFiles()
        self._refusals: dict[str, tuple[int, int]] = {}
        self.counted: collections.Counter[str] = collections.Counter()
        """Requests by how they ended: served, left (the device went away), forbidden, busy."""

    @property
    def running(self) -> int:
        """Downloads that are under way."""
        return self._gate.running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one GET or HEAD."""
        try:
            grant = urls.verify(self._key, scope["path_params"]["token"], self._now())
            async with contextlib.AsyncExitStack() as stack:
                blob, file = await self._open(grant, stack)
                answer = ranges.answer(Headers(scope=scope), blob.sha256, blob.size)
                if scope["method"] == "HEAD" or not answer.body:
                    await _say(send, answer.status, answer.headers, b"", length=answer.length)
                    return
                with self._gate.enter(blob.batch) as passage:
                    await self._serve(Exchange(scope, receive, send), answer, file, passage)
        except urls.Forbidden as refusal:
            self._count("forbidden", refusal.reason)
            await _say(send, 403, _PLAIN, b"Forbidden\n")
        except errors.TransientError as busy:
            self._count("busy", busy.message)
            again = str(10 + grant.task_id % 20)  # not all at the same moment
            await _say(send, 503, _PLAIN | {"Retry-After": again}, b"Busy\n")

    async def _open(self, grant: urls.Grant, stack: contextlib.AsyncExitStack) -> tuple[Blob, OpenFile]:
        """What a URL opens.

        Raises:
            Forbidden: nothing.
            TransientError: we can't say, or can't open it just now.
        """
        blob = await self._find(grant)
        if blob is None:
            raise urls.Forbidden("no such file, or its task was cancelled")
        try:
            file = await stack.enter_async_context(self._files.opened(blob.open))
        except _MISSING:
            raise urls.Forbidden("the file is missing") from None
        except OSError as problem:
            raise errors.TransientError(f"a file can't be opened: {problem.strerror}") from problem
        if file.size != blob.size:
            raise urls.Forbidden("the file is damaged")
        return blob, file

    async def _serve(
        self, exchange: Exchange, answer: ranges.Answer, file: OpenFile, passage: Passage
    ) -> None:
        """Sends an answer until its end, or until the device is gone."""
        await _say(exchange.send, answer.status, answer.headers, length=answer.length)
        gone = asyncio.create_task(_wait_until_gone(exchange.receive))
        try:
            for part in answer.body:
                if isinstance(part, bytes):
                    await exchange.say(part)
                else:
                    await _stream(exchange, file, part, passage, gone)
            if not gone.done():
                await exchange.say(b"", more=False)
        except ConnectionError:
            pass  # it went away while a file was sent
        finally:
            gone.cancel()
            self.counted["served" if exchange.is_over else "left"] += 1

    def _count(self, result: str, reason: str) -> None:
        """Logs each reason at most once a minute, with how often it was given."""
        self.counted[result] += 1
        now = self._now()
        logged, count = self._refusals.get(reason, (0, 0))
        if now - logged >= 60:
            _log.warning("downloads refused: %s (%d times)", reason, count + 1)
            logged, count = now, -1
        self._refusals[reason] = (logged, count + 1)


class Exchange:
    """One request, and how its answer is sent."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.receive = receive
        self.send = send
        self.is_over = False
        """Whether the answer was sent to its end."""
        self._zero_copy = ZERO_COPY in scope.get("extensions", {})

    async def say(self, body: bytes, *, more: bool = True) -> None:
        """Sends these bytes."""
        await self.send({"type": "http.response.body", "body": body, "more_body": more})
        self.is_over = not more

    async def say_file(self, file: OpenFile, at: int, count: int) -> None:
        """Sends a part of a file, and waits until the system has taken it.

        Where the server can't do that without a copy (TLS), little of it is in memory at a time, and nothing is
        read before that went out: this is what the empty message waits for.
        """
        await file.warm(at, count)
        if self._zero_copy:
            message = {"type": ZERO_COPY, "file": file, "offset": at, "count": count, "more_body": True}
            await self.send(message)
            return
        for place in range(at, at + count, _COPIED):
            await self.say(file.read(place, min(_COPIED, at + count - place)))
            await self.say(b"")
            await asyncio.sleep(0)  # nothing waits while the system takes it all: the others have their turn


async def _stream(
    exchange: Exchange, file: OpenFile, part: range, passage: Passage, gone: asyncio.Task[None]
) -> None:
    """Sends a part of the file piece by piece, each when its turn comes."""
    at = part.start
    while at < part.stop and not gone.done():
        count = min(passage.piece, part.stop - at)
        delay = passage.delay(count)
        if delay > 0 and (await asyncio.wait([gone], timeout=delay))[0]:
            return
        await exchange.say_file(file, at, count)
        at += count


async def _say(
    send: Send, status: int, headers: dict[str, str], body: bytes | None = None, *, length: int | None = None
) -> None:
    """The head of an answer, and its body when it is given; what is streamed, or only told of, has `length` bytes."""
    size = len(body or b"") if length is None else length
    headers = {**headers, "Content-Length": str(size)}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    if body is not None:
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
