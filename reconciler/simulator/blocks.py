"""Reads a file over MQTT for a device, block by block, as the C SDK does (device protocol §2, trap 9).

One for each device, made by its runner. What doesn't come, or comes damaged, is asked for again. It decides
nothing about upgrades, and keeps nothing of a file.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from reconciler.protocol import blocks
from reconciler.simulator.download import DownloadError, Pieces
from reconciler.simulator.push import File, Stream

_TRIES = 6


class BlockReader:
    """Asks for blocks and waits for them.

    Args:
        ask: sends a question; when there is no connection, it is lost.
        size: bytes to ask for at a time.
        patience: seconds to wait for an answer before it asks again.
    """

    def __init__(self, ask: Callable[[bytes], None], size: int, patience: float) -> None:
        self._ask = ask
        self._size = size
        self._patience = patience
        self._last_id = 0
        self._awaited: tuple[str, int, asyncio.Future[bytes]] | None = None

    async def read(self, file: File, stream: Stream) -> Pieces:
        """A file whose source is a stream.

        Raises:
            DownloadError: the server refuses, or doesn't answer.
        """
        offset = 0
        while offset < file.size:
            block = await self._block(stream, offset, min(self._size, file.size - offset))
            offset += len(block)
            yield block

    def heard(self, payload: bytes) -> None:
        """An answer came. One that is late, or damaged, is as good as none."""
        if self._awaited is None:
            return
        id_, offset, answer = self._awaited
        try:
            length = int.from_bytes(payload[:2], "big")
            head = json.loads(payload[2 : 2 + length])
            data, content = head["data"], payload[2 + length : -2]
            if answer.done() or head["id"] != id_:
                return
            if head["code"] != 200:
                refusal = f"the server refuses a block: {head['code']} {head['message']}"
                answer.set_exception(DownloadError(-2, refusal))
            elif _is_whole(data, offset, content, payload[-2:]):
                answer.set_result(content)
        except (ValueError, KeyError, TypeError):
            return

    async def _block(self, stream: Stream, offset: int, size: int) -> bytes:
        for _ in range(_TRIES):
            self._last_id += 1
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._awaited = (str(self._last_id), offset, answer)
            self._ask(_question(self._last_id, stream, offset, size))
            try:
                async with asyncio.timeout(self._patience):
                    return await answer
            except TimeoutError:
                continue
            finally:
                self._awaited = None
        raise DownloadError(-2, f"no answer to {_TRIES} questions for the block at {offset}")


def _is_whole(data: dict[str, Any], offset: int, content: bytes, crc: bytes) -> bool:
    as_said = (data["bOffset"], data["bSize"]) == (offset, len(content)) and bool(content)
    return as_said and blocks.crc16(content) == crc


def _question(id_: int, stream: Stream, offset: int, size: int) -> bytes:
    """With the comma too much of the C SDK (trap 9)."""
    info = f'{{"streamId":{stream.id},"fileId":{stream.file_id},}}'
    block = f'{{"size":{size},"offset":{offset}}}'
    params = f'{{"fileToken":"default","fileInfo":{info},"fileBlock":{block}}}'
    return f'{{"id":"{id_}","version":"1.0","params":{params}}}'.encode()
