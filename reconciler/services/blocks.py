"""Answers devices that read their file over MQTT, block by block (device protocol §2, block download).

Ingest hands over the questions. They change nothing, so they wait for no transaction: who may read what is looked
up by a reader, the file is read in a thread. A device may read the streams of its own unfinished tasks only; its
questions are answered one after the other, in its order, each when the one before was acknowledged. So nobody has
more than one block on the way, and what is in memory is bounded. Nothing is retried: a device that misses an
answer asks again, which costs no more than the first time.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import pathlib
from collections.abc import Callable

from reconciler import errors
from reconciler.domain import limits
from reconciler.protocol import blocks, messages, topics
from reconciler.protocol.topics import Address
from reconciler.services.clock import Clock
from reconciler.services.quiet import QuietLog
from reconciler.store import products
from reconciler.store.database import Database
from reconciler.transport.base import Transport

MOST_WAITING = limits.DEFAULT.mqtt_blocks_waiting
"""Questions of one device that wait; a further one is dropped, as if it had got lost on the way."""
MOST_BYTES = limits.DEFAULT.mqtt_blocks_bytes

_READS_AT_ONCE = 4
_log = logging.getLogger(__name__)


class Blocks:
    """The one who answers.

    Args:
        database: knows whose stream is what.
        transport: the way to the devices.
        clock: for the log.
        path: where the file with a SHA-256 lies.
        most_bytes: what the blocks on their way to all devices may take in memory.
        most_waiting: questions of one device that wait.
    """

    def __init__(
        self,
        database: Database,
        transport: Transport,
        clock: Clock,
        path: Callable[[str], pathlib.Path],
        *,
        most_bytes: int = MOST_BYTES,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._database = database
        self._transport = transport
        self._clock = clock
        self._path = path
        self._most_waiting = most_waiting
        self._quiet = QuietLog(_log)
        self._waiting: dict[Address, collections.deque[blocks.Request]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._memory = _Memory(most_bytes)

    def ask(self, address: Address, request: blocks.Request) -> bool:
        """A device asks; it is answered soon. False when too much of it waits already, so that it is not."""
        waiting = self._waiting.get(address)
        if waiting is not None:
            if len(waiting) >= self._most_waiting:
                return False
            waiting.append(request)
            return True
        self._waiting[address] = collections.deque([request])
        answering = asyncio.create_task(self._answer_all(address))
        self._answering.add(answering)
        answering.add_done_callback(self._answered)
        return True

    async def idle(self) -> None:
        """Waits until nobody waits for an answer."""
        while self._answering:
            await asyncio.wait(self._answering)

    async def _answer_all(self, address: Address) -> None:
        waiting = self._waiting[address]
        try:
            while waiting:
                await self._answer(address, waiting.popleft())
        finally:
            del self._waiting[address]

    async def _answer(self, address: Address, request: blocks.Request) -> None:
        size = min(max(request.size, 0), blocks.MAX_BLOCK)
        await self._memory.take(size)
        try:
            payload = await self._reply(address, request)
            await self._transport.publish(address, topics.file_download_reply(address), payload)
        except errors.ReconcilerError as error:
            self._warn(address, f"a block was not sent: {error.message}")
        finally:
            self._memory.give(size)

    def _answered(self, answering: asyncio.Task[None]) -> None:
        self._answering.discard(answering)
        if not answering.cancelled() and answering.exception() is not None:
            _log.error("a block was not sent", exc_info=answering.exception())

    async def _reply(self, address: Address, request: blocks.Request) -> bytes:
        file = await self._database.read(
            products.file_of_task, address, request.stream_id, messages.STREAM_FILE
        )
        if file is None or request.file_id != messages.STREAM_FILE:
            return self._refusal(address, request, 404, "no such stream, or its upgrade is over")
        sha256, length = file
        if not 0 < request.size <= blocks.MAX_BLOCK:
            return self._refusal(address, request, 400, f"a block has 1 to {blocks.MAX_BLOCK} bytes")
        if not 0 <= request.offset < length:
            return self._refusal(address, request, 400, f"the file has {length} bytes")
        async with self._reads:
            reply = await asyncio.to_thread(_read, self._path(sha256), length, request)
        return reply or self._refusal(address, request, 503, "the file is missing or damaged")

    def _refusal(self, address: Address, request: blocks.Request, code: int, why: str) -> bytes:
        asked = (
            f"{request.size} bytes at {request.offset} of stream {request.stream_id}, file {request.file_id}"
        )
        self._warn(address, f"a block was refused: {why} (asked for {asked})")
        return blocks.error(request, code, why)

    def _warn(self, address: Address, text: str) -> None:
        self._quiet.warning((address, "block"), self._clock.monotonic(), f"{address}: {text}")


class _Memory:
    """Bytes that may be used at a time; who wants some waits for its turn."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._waiting: collections.deque[tuple[int, asyncio.Future[None]]] = collections.deque()

    async def take(self, size: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._next()
        await turn

    def give(self, size: int) -> None:
        self._free += size
        self._next()

    def _next(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= size
                turn.set_result(None)


def _read(path: pathlib.Path, length: int, request: blocks.Request) -> bytes | None:
    """The answer with the block, never more of the file than that; None when the file is not as it should be."""
    try:
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != length:
                return None
            content = os.pread(file.fileno(), request.size, request.offset)
    except OSError:
        return None
    return blocks.reply(request, length, content)
