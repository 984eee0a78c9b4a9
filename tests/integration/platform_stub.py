"""A platform as small as can be, for the simulator: pushes one package to whoever reports another version."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from reconciler.protocol import blocks, topics
from reconciler.protocol.topics import Address, Route
from reconciler.transport.base import Delivery, Intake, Message, Transport

FIRMWARE = bytes(range(256)) * 400


class Platform:
    """What devices meet.

    Args:
        transport: the way to them; it is served while the platform is entered.
        target: the version of the package.
    """

    def __init__(self, transport: Transport, target: str = "1.4.0", method: str = "SHA256") -> None:
        self.transport = transport
        self.target = target
        self.method = method
        self.body = FIRMWARE
        self.headers = "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n"
        self.requests: list[str] = []
        self.heard: list[tuple[Address, Route, dict[str, str]]] = []
        """What devices said, in order."""
        self.pushes = True
        self.streams = False
        """True: devices read the file over MQTT."""
        self._tasks: list[asyncio.Task[None]] = []
        self._pushing: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Platform:  # noqa: PYI034 - nobody derives from it
        self.transport.set_products(frozenset({"pk"}))
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        intake = Intake()
        self._tasks = [
            asyncio.create_task(self.transport.serve(intake)),
            asyncio.create_task(self._listen(intake)),
        ]
        async with asyncio.timeout(10):
            while not self.transport.health().ok:  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in (*self._tasks, *self._pushing):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def steps(self, route: Route = Route.PROGRESS) -> Counter[str]:
        """How often each step was reported."""
        return Counter(params["step"] for _, heard, params in self.heard if heard is route)

    def late_progress(self) -> int:
        """How many progress reports came after their device had reported the new version."""
        done, late = set(), 0
        for address, route, params in self.heard:
            if params.get("version") == self.target:
                done.add(address)
            late += route is Route.PROGRESS and address in done
        return late

    def push(self, **more: object) -> bytes:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        digest = hashlib.new(self.method.lower(), FIRMWARE).hexdigest()
        data = {
            "size": len(FIRMWARE),
            "version": self.target,
            "url": f"http://127.0.0.1:{port}/f",
            "sign": digest,
            "signMethod": self.method,
            **more,
        }
        if self.streams:
            del data["url"]
            data |= {"dProtocol": "mqtt", "streamId": 41, "streamFileId": 1}
        return json.dumps({"code": "1000", "data": data, "id": 1}, separators=(",", ":")).encode()

    async def _listen(self, intake: Intake) -> None:
        while True:
            for item in await intake.take(500):
                if isinstance(item, Message):
                    self._take(item)
                    item.acknowledge()

    def _take(self, message: Message) -> None:
        if message.route is Route.FILE_DOWNLOAD:
            asked = blocks.parse_request(message.payload)
            block = blocks.reply(asked, len(FIRMWARE), self.body[asked.offset : asked.offset + asked.size])
            self._start(
                self.transport.publish(message.address, topics.file_download_reply(message.address), block)
            )
            return
        params = json.loads(message.payload)["params"]
        self.heard.append((message.address, message.route, params))
        topic = None
        if message.route is Route.INFORM and params["version"] != self.target and self.pushes:
            topic = topics.upgrade(message.address)
        elif message.route is Route.FIRMWARE_GET:
            topic = topics.firmware_get_reply(message.address)
        if topic is not None:
            self._start(self._push(message.address, topic))

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        pushing = asyncio.create_task(work)
        self._pushing.add(pushing)
        pushing.add_done_callback(self._pushing.discard)

    async def _push(self, address: Address, topic: str) -> None:
        while await self.transport.publish(address, topic, self.push()) is Delivery.BUSY:  # noqa: ASYNC110 - retries
            await asyncio.sleep(0.1)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.headers.format(length=len(FIRMWARE)).encode() + b"\r\n" + self.body)
            await writer.drain()
        writer.close()
