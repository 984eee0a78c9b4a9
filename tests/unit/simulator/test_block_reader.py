"""A simulated device reads a file over MQTT, from a server that answers late, wrongly or not at all."""

from __future__ import annotations

import asyncio
import json

import pytest

from reconciler.protocol import blocks
from reconciler.simulator.blocks import BlockReader
from reconciler.simulator.download import DownloadError, Downloads
from reconciler.simulator.push import File, Stream

FILE = bytes(range(256)) * 9 + b"the end"
STREAM = Stream(41, 1)
WANTED = File(STREAM, len(FILE), "sha256", "0" * 64)


class Server:
    """Answers each question by what a test says: a list of what to do, one for each, then rightly."""

    def __init__(self, *spoiling) -> None:
        self.asked: list[blocks.Request] = []
        self.texts: list[bytes] = []
        self.reader = BlockReader(self._ask, size=512, patience=0.02)
        self._spoiling = list(spoiling)

    def _ask(self, question: bytes) -> None:
        request = blocks.parse_request(question)
        self.asked.append(request)
        self.texts.append(question)
        reply = blocks.reply(request, len(FILE), FILE[request.offset : request.offset + request.size])
        spoil = self._spoiling.pop(0) if self._spoiling else None
        for each in [reply] if spoil is None else spoil(reply, request):
            asyncio.get_running_loop().call_soon(self.reader.heard, each)

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.reader.read(WANTED, STREAM)])


def nothing(_reply, _request):
    return []


def twice(reply, _request):
    return [reply, reply]


def damaged(reply, _request):
    return [reply[:-5] + b"!!!" + reply[-2:], reply[:-1], reply[:7], b""]


def of_another_question(_reply, request):
    late = blocks.Request("999", 41, 1, request.size, request.offset)
    return [blocks.reply(late, len(FILE), b"x" * request.size)]


def refused(_reply, request):
    return [blocks.error(request, 404, "no such stream")]


async def test_a_file_is_read_block_by_block_and_its_end_is_the_rest():
    server = Server()
    assert await server.read() == FILE
    assert [request.offset for request in server.asked] == [0, 512, 1024, 1536, 2048]
    assert server.asked[-1].size == len(FILE) - 2048


async def test_it_asks_as_the_c_sdk_does_which_is_no_json():
    server = Server()
    await server.read()
    with pytest.raises(json.JSONDecodeError):
        json.loads(server.texts[0])
    assert server.texts[0] == (
        b'{"id":"1","version":"1.0","params":{"fileToken":"default","fileInfo":{"streamId":41,"fileId":1,},'
        b'"fileBlock":{"size":512,"offset":0}}}'
    )


@pytest.mark.parametrize("spoil", [nothing, twice, damaged, of_another_question])
async def test_what_does_not_come_or_comes_wrongly_is_asked_for_again(spoil):
    server = Server(None, spoil, None, spoil)
    assert await server.read() == FILE
    assert len(server.asked) == (5 if spoil is twice else 7)


async def test_a_refusal_is_a_failed_download():
    with pytest.raises(DownloadError, match="refuses a block: 404 no such stream") as caught:
        await Server(None, refused).read()
    assert caught.value.step == -2


async def test_silence_is_a_failed_download_after_six_questions():
    server = Server(*[nothing] * 10)
    with pytest.raises(DownloadError, match="no answer to 6 questions for the block at 0") as caught:
        await server.read()
    assert (caught.value.step, len(server.asked)) == (-2, 6)


async def test_a_file_with_another_digest_is_found_out():
    server, downloads = Server(), Downloads()
    with pytest.raises(DownloadError) as caught:
        await downloads.fetch(WANTED, server.reader.read(WANTED, STREAM))
    assert (caught.value.step, downloads.count) == (-3, 0)


def test_an_answer_that_nobody_waits_for_is_nothing():
    Server().reader.heard(b"")
