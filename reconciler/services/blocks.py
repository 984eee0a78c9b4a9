"""Answers devices that read their file over MQTT, block by block (device protocol §2, block download).

Ingest hands over the questions. They change nothing, so they wait for no transaction: who may read what is looked
up by a reader, the files are read in a thread, for everybody who asked meanwhile at once, because a thread's turn
costs more than what it does. A device may read the streams of its own unfinished tasks only; its questions are
answered one after the other, in its order, each when the one before was acknowledged. So nobody has more than one
block on the way, and what is in memory is bounded. Nothing is retried: a device that misses an answer asks again,
which costs no more than the first time.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import os
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import NamedTuple

from reconciler import errors
from reconciler.artifacts.store import UnverifiedError
from reconciler.domain import limits
from reconciler.protocol import blocks, messages, topics
from reconciler.protocol.topics import Address
from reconciler.services.clock import Clock
from reconciler.services.quiet import QuietLog
from reconciler.services.verifying import Verifying
from reconciler.store import products
from reconciler.store.database import Database
from reconciler.transport.base import Transport

MOST_WAITING = limits.DEFAULT.mqtt_blocks_waiting
"""Questions of one device that wait; a further one is dropped, as if it had got lost on the way."""
MOST_BYTES = limits.DEFAULT.mqtt_blocks_bytes

_AT_ONCE = 64
"""Questions that are answered together: the first waits until the last one's block is read."""
_log = logging.getLogger(__name__)


class _Question(NamedTuple):
    """What a device asks, and waits for."""

    address: Address
    request: blocks.Request

    @property
    def room(self) -> int:
        """Bytes that the answer takes in memory."""
        return min(max(self.request.size, 0), blocks.MAX_BLOCK)


class _Reply(NamedTuple):
    payload: bytes
    refusal: str = ""
    """Why it carries no block."""
    unverified: str = ""
    """The digest of the file that has to be read first: there is no answer yet."""


_Streams = Mapping[tuple[Address, int], tuple[str, int]]
"""SHA-256 and length of the file that a device reads as this stream."""


class Blocks:
    """The one who answers.

    Args:
        database: knows whose stream is what.
        transport: the way to the devices.
        clock: for the log.
        files: opens files.
        most_bytes: what the blocks on their way to all devices may take in memory.
        most_waiting: questions of one device that wait.
    """

    def __init__(
        self,
        database: Database,
        transport: Transport,
        clock: Clock,
        files: Verifying,
        *,
        most_bytes: int = MOST_BYTES,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._database = database
        self._transport = transport
        self._clock = clock
        self._files = files
        self._most_waiting = most_waiting
        self._quiet = QuietLog(_log)
        self._waiting: dict[Address, collections.deque[blocks.Request]] = {}
        """Of each device that asked something, also of one that is being answered."""
        self._next: collections.deque[Address] = collections.deque()
        """Whose turn it is: those of them who are not being answered."""
        self._answering = False
        self._free = most_bytes
        self._working: set[asyncio.Task[None]] = set()

    def ask(self, address: Address, request: blocks.Request) -> bool:
        """A device asks; it is answered soon. False when too much of it waits already, so that it is not."""
        waiting = self._waiting.get(address)
        if waiting is None:
            self._waiting[address] = collections.deque([request])
            self._next.append(address)
            self._go_on()
            return True
        if len(waiting) >= self._most_waiting:
            return False
        waiting.append(request)
        return True

    async def idle(self) -> None:
        """Waits until nobody waits for an answer."""
        while self._working:
            await asyncio.wait(self._working)

    def _go_on(self) -> None:
        if self._next and not self._answering:
            self._answering = True
            self._start(self._answer_all())

    def _start(self, work: Coroutine[None, None, None]) -> None:
        working = asyncio.create_task(work)
        self._working.add(working)
        working.add_done_callback(self._working.discard)

    async def _answer_all(self) -> None:
        """Answers, until nobody waits, or the blocks on their way take all the memory."""
        while asked := self._take():
            try:
                replies = await self._replies(asked)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is in the log and others are answered
                self._failed(asked, error)
                for question in asked:
                    self._done(question)
            else:
                for question, reply in zip(asked, replies, strict=True):
                    if reply.unverified:
                        self._start(self._ask_again(question, reply.unverified))
                    else:
                        self._start(self._send(question, reply))
        self._answering = False

    def _take(self) -> list[_Question]:
        """The questions whose turn it is, in order, and as many as there is memory for."""
        asked: list[_Question] = []
        while self._next and len(asked) < _AT_ONCE:
            question = _Question(self._next[0], self._waiting[self._next[0]][0])
            if question.room > self._free:
                break
            self._free -= question.room
            self._waiting[self._next.popleft()].popleft()
            asked.append(question)
        return asked

    async def _ask_again(self, question: _Question, sha256: str) -> None:
        """It is the device's turn again when its file was read. Meanwhile nothing is kept for it."""
        self._free += question.room
        self._go_on()
        try:
            await self._files.verified(sha256)
        except Exception as error:  # noqa: BLE001 - the same
            self._free -= question.room
            if isinstance(error, OSError):
                await self._send(question, self._said(question, _damaged(question.request)))
            else:
                self._failed([question], error)
                self._done(question)
        else:
            self._waiting[question.address].appendleft(question.request)
            self._next.append(question.address)
            self._go_on()

    async def _send(self, question: _Question, reply: _Reply) -> None:
        address = question.address
        try:
            await self._transport.publish(address, topics.file_download_reply(address), reply.payload)
        except Exception as error:  # noqa: BLE001 - the same
            self._failed([question], error)
        self._done(question)

    def _done(self, question: _Question) -> None:
        """The device has its answer, or will have none: what it asked behind that is next."""
        self._free += question.room
        if self._waiting[question.address]:
            self._next.append(question.address)
        else:
            del self._waiting[question.address]
        self._go_on()

    async def _replies(self, asked: Sequence[_Question]) -> list[_Reply]:
        task_ids = {question.request.stream_id for question in asked}
        streams = await self._database.read(products.streams, task_ids, messages.STREAM_FILE)
        replies = await asyncio.to_thread(_read_all, asked, streams, self._files)
        return [self._said(question, reply) for question, reply in zip(asked, replies, strict=True)]

    def _said(self, question: _Question, reply: _Reply) -> _Reply:
        """A refusal is in the log."""
        if reply.refusal:
            address, request = question
            self._warn(
                address,
                f"a block was refused: {reply.refusal} (asked for {request.size} bytes at {request.offset} "
                f"of stream {request.stream_id}, file {request.file_id})",
            )
        return reply

    def _failed(self, asked: Iterable[_Question], error: Exception) -> None:
        if not isinstance(error, errors.ReconcilerError):
            _log.error("a block was not sent", exc_info=error)
            return
        for question in asked:
            self._warn(question.address, f"a block was not sent: {error.message}")

    def _warn(self, address: Address, text: str) -> None:
        self._quiet.warning((address, "block"), self._clock.monotonic(), f"{address}: {text}")


def _read_all(asked: Iterable[_Question], streams: _Streams, files: Verifying) -> list[_Reply]:
    return [_reply(request, streams.get((address, request.stream_id)), files) for address, request in asked]


def _reply(request: blocks.Request, file: tuple[str, int] | None, files: Verifying) -> _Reply:
    """The block, or why there is none."""
    if file is None or request.file_id != messages.STREAM_FILE:
        return _refusal(request, 404, "no such stream, or its upgrade is over")
    sha256, length = file
    if not 0 < request.size <= blocks.MAX_BLOCK:
        return _refusal(request, 400, f"a block has 1 to {blocks.MAX_BLOCK} bytes")
    if not 0 <= request.offset < length:
        return _refusal(request, 400, f"the file has {length} bytes")
    try:
        content = _read(files, sha256, length, request)
    except UnverifiedError:
        return _Reply(b"", unverified=sha256)
    except OSError:
        content = None
    return _damaged(request) if content is None else _Reply(blocks.reply(request, length, content))


def _damaged(request: blocks.Request) -> _Reply:
    return _refusal(request, 503, "the file is missing or damaged")


def _refusal(request: blocks.Request, code: int, why: str) -> _Reply:
    return _Reply(blocks.error(request, code, why), why)


def _read(files: Verifying, sha256: str, length: int, request: blocks.Request) -> bytes | None:
    """The block, never more of the file than that; None when the file has another length."""
    descriptor = files.open_known(sha256)
    try:
        if os.fstat(descriptor).st_size != length:
            return None
        return os.pread(descriptor, request.size, request.offset)
    finally:
        os.close(descriptor)
