"""A file of a few hundred kB, read over MQTT through the real endpoint.

The device is a paho client with an own reader of blocks: all that it shares with us is MQTT.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import socket
from datetime import timedelta

import block_reader
import paho.mqtt.client as paho
import pytest
from endpoints import eventually, secret, served
from rows import EPOCH, KEY, Rows
from sqlalchemy import select, update

from reconciler.artifacts.store import FileStore
from reconciler.protocol import login, urls
from reconciler.protocol.topics import Address
from reconciler.services import burst
from reconciler.services.blocks import Blocks
from reconciler.services.clock import SystemClock
from reconciler.services.ingest import Ingest
from reconciler.services.offers import Offers
from reconciler.services.verifying import Verifying
from reconciler.store import tables
from reconciler.transport.endpoint import EndpointLimits

FILE = random.Random(7).randbytes(400_123)
DIGEST = hashlib.sha256(FILE).hexdigest()
ONE, TWO = Address(KEY, "dev-0001"), Address(KEY, "dev-0002")
UNHURRIED = EndpointLimits(packets_per_second=0, logins_per_second=0)


class Device:
    """A paho client that reads blocks; how well its network is, is up to the test.

    Args:
        loses: which answers never reach it.
    """

    def __init__(self, address: Address, stream: int, loses=lambda: False) -> None:
        self.stream = stream
        self.answers: dict[str, block_reader.Block] = {}
        self.lost = self.asked = 0
        self._loses = loses
        self._topic = f"/sys/{address.product_key}/{address.device_name}/thing/file/download"
        made = login.make(address, secret(address))
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, made.client_id, protocol=paho.MQTTv311)
        self.client.username_pw_set(made.username, made.password)
        self.client.on_message = self._heard
        self.client.on_socket_open = lambda _client, _data, wire: wire.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )

    @contextlib.asynccontextmanager
    async def connected(self, port: int):
        await asyncio.to_thread(self.client.connect, "127.0.0.1", port, 30)
        self.client.loop_start()
        await eventually(self.client.is_connected)
        yield self
        self.client.disconnect()
        await asyncio.to_thread(self.client.loop_stop)

    def _heard(self, _client, _data, message) -> None:
        assert message.topic == f"{self._topic}_reply"
        if self._loses():
            self.lost += 1
            return
        read = block_reader.read(message.payload)
        self.answers[json.loads(read.id)] = read

    def ask(self, offset: int, size: int, *, stream: int | None = None, qos: int = 1) -> str:
        """As the C SDK does, with a comma too much."""
        self.asked += 1
        id_ = str(self.asked)
        info = f'{{"streamId":{self.stream if stream is None else stream},"fileId":1,}}'
        block = f'{{"size":{size},"offset":{offset}}}'
        params = f'{{"fileToken":"default","fileInfo":{info},"fileBlock":{block}}}'
        self.client.publish(self._topic, f'{{"id":"{id_}","version":"1.0","params":{params}}}', qos=qos)
        return id_

    async def answer(self, id_: str) -> block_reader.Block | None:
        """The answer to a question, or None when it doesn't come soon."""
        with contextlib.suppress(TimeoutError):
            await eventually(lambda: id_ in self.answers, within=0.3 if self._loses is not never else 10)
        return self.answers.get(id_)

    async def block(self, offset: int, size: int, *, qos: int = 1) -> bytes:
        """A block, asked for until it comes."""
        for _ in range(20):
            found = await self.answer(self.ask(offset, size, qos=qos))
            if found is not None:
                assert (found.code, found.offset, found.file_length) == (200, offset, len(FILE))
                assert found.token == "default"
                return found.content
        raise AssertionError("no answer to 20 questions")


def never() -> bool:
    return False


class Platform:
    """The endpoint, what listens behind it, and two devices with a task each."""

    def __init__(self, root, database) -> None:
        self.database = database
        self.files = FileStore(root / "files")
        self.files.prepare()
        self.verifying = Verifying(self.files)
        stored = self.files.put([FILE])
        with database.writing() as connection:
            rows = Rows(connection)
            rows.world()
            connection.execute(update(tables.blob).values(sha256=stored.sha256, size=stored.size))
            run = rows.run(download="MQTT")
            self.streams = {
                each: rows.task(run, rows.device(each.device_name), "NOTIFIED") for each in (ONE, TWO)
            }

    def device(self, address: Address, loses=never) -> Device:
        return Device(address, self.streams[address], loses)

    def rows(self):
        with self.database.reading() as connection:
            return connection.execute(select(tables.task).order_by(tables.task.c.id)).all()


@pytest.fixture
async def platform(tmp_path, database):
    made = Platform(tmp_path, database)
    async with served(UNHURRIED, products=frozenset({KEY})) as running:
        made.port = running.port
        clock = SystemClock()
        blocks = Blocks(database, running.endpoint, clock, made.verifying)
        host = burst.Host(EPOCH, settle=timedelta(hours=1))
        offers = Offers(b"k" * 32, urls.check_bases("http://localhost"))
        made.ingest = Ingest(database, running.endpoint, clock, host, offers=offers, blocks=blocks)
        listening = asyncio.create_task(made.ingest.run(running.intake))
        yield made
        listening.cancel()
        await blocks.idle()


async def test_a_file_is_read_to_its_end_and_is_what_it_was(platform):
    async with platform.device(ONE).connected(platform.port) as device:
        pieces = [await device.block(0, 5120)]
        before = platform.rows()
        pieces += [await device.block(offset, 5120) for offset in range(5120, len(FILE), 5120)]
        assert platform.rows() == before
    assert hashlib.sha256(b"".join(pieces)).hexdigest() == DIGEST
    assert len(pieces[-1]) == len(FILE) % 5120
    assert platform.ingest.counted["file_download", "accepted"] == len(pieces)


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_device_that_loses_a_third_of_the_answers_asks_again_and_gets_the_file(platform, qos):
    lots = random.Random(3)
    device = platform.device(ONE, lambda: lots.random() < 0.33)
    async with device.connected(platform.port):
        pieces = [await device.block(offset, 16_384, qos=qos) for offset in range(0, len(FILE), 16_384)]
    assert hashlib.sha256(b"".join(pieces)).hexdigest() == DIGEST
    assert device.lost >= 5


async def test_blocks_may_be_asked_for_in_any_order_several_at_a_time_and_twice(platform):
    offsets = list(range(0, len(FILE), 8192)) * 2
    random.Random(1).shuffle(offsets)
    found = {}
    async with platform.device(ONE).connected(platform.port) as device:
        for start in range(0, len(offsets), 8):
            asked = {device.ask(offset, 8192): offset for offset in offsets[start : start + 8]}
            for id_, offset in asked.items():
                block = await device.answer(id_)
                assert block is not None
                assert found.setdefault(offset, block.content) == block.content
    whole = b"".join(found[offset] for offset in sorted(found))
    assert hashlib.sha256(whole).hexdigest() == DIGEST


async def test_two_devices_read_at_a_time_each_its_own_stream_and_not_the_others(platform):
    async with (
        platform.device(ONE).connected(platform.port) as one,
        platform.device(TWO).connected(platform.port) as two,
    ):
        offsets = range(0, len(FILE), 65_536)
        pieces = await asyncio.gather(
            *(device.block(offset, 65_536) for offset in offsets for device in (one, two))
        )
        assert b"".join(pieces[::2]) == b"".join(pieces[1::2]) == FILE
        foreign = await one.answer(one.ask(0, 100, stream=two.stream))
        unknown = await one.answer(one.ask(0, 100, stream=4711))
        beyond = await one.answer(one.ask(len(FILE), 100))
        large = await one.answer(one.ask(0, 200_000))
    assert [(each.code, each.content) for each in (foreign, unknown, beyond, large)] == [
        (404, b""), (404, b""), (400, b""), (400, b""),
    ]  # fmt: skip


async def test_what_is_no_question_is_counted_and_costs_nobody_the_connection(platform):
    async with platform.device(ONE).connected(platform.port) as device:
        device.client.publish(f"/sys/{KEY}/dev-0001/thing/file/download", b"{,", qos=1)
        assert await device.block(0, 10) == FILE[:10]
    assert platform.ingest.counted["file_download", "malformed"] == 1
