"""Who may read which blocks of which file over MQTT, and that reading them costs little."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import threading
import tracemalloc

import block_reader
import pytest
from rows import KEY, NOW, Rows
from sqlalchemy import update

from reconciler import errors
from reconciler.artifacts import store
from reconciler.artifacts.store import FileStore
from reconciler.protocol import blocks, topics
from reconciler.protocol.topics import Address
from reconciler.services import blocks as service
from reconciler.services.blocks import Blocks
from reconciler.services.verifying import Verifying
from reconciler.store import tables
from reconciler.transport.base import Intake
from reconciler.transport.memory import MemoryTransport

FILE = random.Random(5).randbytes(300_001)
MINE, FOREIGN = Address(KEY, "dev-1"), Address(KEY, "dev-2")


class Clock:
    def now(self):
        return NOW

    def monotonic(self):
        return 1000.0


class Bench:
    """The service over a real database and a real file; devices in memory."""

    def __init__(self, root, database) -> None:
        self.database = database
        self.files = FileStore(root / "files")
        self.files.prepare()
        self.verifying = Verifying(self.files)
        self.stored = self.files.put([FILE])
        self.wire = MemoryTransport()
        self.wire.set_products(frozenset({KEY}))
        self.blocks = Blocks(database, self.wire, Clock(), self.verifying)
        with database.writing() as connection:
            rows = Rows(connection)
            rows.world()
            connection.execute(update(tables.blob).values(sha256=self.stored.sha256, size=len(FILE)))
            run = rows.run(download="MQTT")
            self.mine = rows.task(run, rows.device("dev-1"), "NOTIFIED")
            self.foreign = rows.task(run, rows.device("dev-2"), "IN_PROGRESS")

    def move(self, task_id: int, **values: object) -> None:
        with self.database.writing() as connection:
            connection.execute(update(tables.task).where(tables.task.c.id == task_id).values(**values))

    async def asks(self, *asked: tuple[int, int], stream: int = 0, address: Address = MINE, file: int = 1):
        """The answers to questions for (offset, size)."""
        for number, (offset, size) in enumerate(asked):
            assert self.blocks.ask(address, blocks.Request(number, stream or self.mine, file, size, offset))
        await self.blocks.idle()
        return self.heard(address)

    def heard(self, address: Address = MINE) -> list[block_reader.Block]:
        found = [push for push in self.wire.published if push.address == address]
        assert {push.topic for push in found} <= {topics.file_download_reply(address)}
        self.wire.published = [push for push in self.wire.published if push.address != address]
        return [block_reader.read(push.payload) for push in found]


@pytest.fixture
async def bench(tmp_path, database):
    made = Bench(tmp_path, database)
    serving = asyncio.create_task(made.wire.serve(Intake()))
    await asyncio.sleep(0)
    made.wire.connect(MINE)
    made.wire.connect(FOREIGN)
    yield made
    serving.cancel()


async def test_a_file_is_read_in_blocks_whose_last_is_the_rest(bench):
    offsets = range(0, len(FILE), 65_536)
    answers = await bench.asks(*((offset, 65_536) for offset in offsets))
    assert [(each.code, each.offset, each.file_length) for each in answers] == [
        (200, offset, len(FILE)) for offset in offsets
    ]
    assert b"".join(each.content for each in answers) == FILE
    assert hashlib.sha256(b"".join(each.content for each in answers)).hexdigest() == bench.stored.sha256


async def test_any_order_and_any_number_of_times_gives_the_same_bytes(bench):
    asked = [(random.Random(i).randrange(len(FILE)), 1 + i * 97) for i in range(8)]
    answers = await bench.asks(*asked, *reversed(asked))
    expected = [FILE[offset : offset + size] for offset, size in [*asked, *reversed(asked)]]
    assert [each.content for each in answers] == expected
    assert [each.id for each in answers] == [str(i) for i in range(16)]


@pytest.mark.parametrize(
    ("offset", "size", "code", "got"),
    [
        (0, 1, 200, 1),
        (0, 0, 400, 0),
        (0, -1, 400, 0),
        (0, blocks.MAX_BLOCK - 1, 200, blocks.MAX_BLOCK - 1),
        (0, blocks.MAX_BLOCK, 200, blocks.MAX_BLOCK),
        (0, blocks.MAX_BLOCK + 1, 400, 0),
        (0, 2**52, 400, 0),
        (-1, 5, 400, 0),
        (len(FILE) - 1, 5, 200, 1),
        (len(FILE), 5, 400, 0),
        (len(FILE) + 1, 5, 400, 0),
        (2**52, 5, 400, 0),
    ],
)
async def test_what_is_impossible_is_answered_with_an_error_and_no_bytes(bench, offset, size, code, got):
    (answer,) = await bench.asks((offset, size))
    assert (answer.code, answer.offset, len(answer.content)) == (code, offset, got)


async def test_a_device_reads_the_stream_of_its_own_task_only(bench):
    assert [each.code for each in await bench.asks((0, 5), stream=bench.foreign)] == [404]
    assert [each.code for each in await bench.asks((0, 5), stream=bench.foreign, address=FOREIGN)] == [200]
    assert [each.code for each in await bench.asks((0, 5), stream=999)] == [404]
    assert [each.code for each in await bench.asks((0, 5), stream=-1)] == [404]
    assert [each.code for each in await bench.asks((0, 5), file=2)] == [404]


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "CANCELED"])
async def test_a_task_that_is_over_is_no_stream(bench, status):
    bench.move(bench.mine, status=status, holds=False, ended_at=NOW)
    assert [each.code for each in await bench.asks((0, 5))] == [404]


@pytest.mark.parametrize("status", ["CONFIRM", "QUEUED"])
async def test_a_task_that_its_device_was_not_told_of_is_no_stream(bench, status):
    bench.move(bench.mine, status=status)
    assert [each.code for each in await bench.asks((0, 5))] == [404]


async def test_the_same_name_in_another_product_is_another_device(bench):
    stranger = Address("other", "dev-1")
    bench.wire.set_products(frozenset({KEY, "other"}))
    bench.wire.connect(stranger)
    assert [each.code for each in await bench.asks((0, 5), address=stranger)] == [404]


def alter(path):
    path.write_bytes(FILE[:-1] + b"X")


@pytest.mark.parametrize("spoil", [os.unlink, lambda path: os.truncate(path, 5), alter])
async def test_a_file_that_is_missing_or_damaged_is_an_error_and_not_other_bytes(bench, spoil):
    spoil(bench.files.path(bench.stored.sha256))
    assert [each.code for each in await bench.asks((0, 5))] == [503]


async def test_a_file_that_somebody_copied_is_read_on(bench):
    path = bench.files.path(bench.stored.sha256)
    path.with_suffix(".copy").write_bytes(FILE)
    path.with_suffix(".copy").replace(path)
    assert [each.content for each in await bench.asks((0, 5), (5, 5))] == [FILE[:5], FILE[5:10]]


async def test_who_waits_for_a_file_to_be_verified_keeps_no_other_from_being_read(bench):
    await bench.verifying.open(bench.stored.sha256)  # it is known
    may_go_on = threading.Event()
    real = bench.files.verify
    bench.files.verify = lambda *given: may_go_on.wait(10) and real(*given)
    names = [f"many-{number}" for number in range(6)]
    with bench.database.writing() as connection:
        rows = Rows(connection)
        other = bench.files.put([b"other"])
        values = {"sha256": other.sha256, "md5": other.md5, "size": other.size, "created_at": NOW}
        blob = rows.add(tables.blob, **values)
        package = rows.package("other", "9")
        connection.execute(
            update(tables.package_file)
            .where(tables.package_file.c.package_id == package)
            .values(blob_id=blob)
        )
        run = rows.run("more", package_id=package, download="MQTT")
        streams = [rows.task(run, rows.device(name), "NOTIFIED") for name in names]
    bench.files.path(other.sha256).touch()
    for name, stream in zip(names, streams, strict=True):
        bench.wire.connect(Address(KEY, name))
        assert bench.blocks.ask(Address(KEY, name), blocks.Request(1, stream, 1, 5, 0))
    assert bench.blocks.ask(MINE, blocks.Request(1, bench.mine, 1, 5, 0))
    await until(lambda: any(push.address == MINE for push in bench.wire.published))
    assert [push.address for push in bench.wire.published] == [MINE]
    may_go_on.set()
    await bench.blocks.idle()
    assert len(bench.wire.published) == 1 + len(names)


async def test_refusals_are_said_once_a_minute_a_device(bench, caplog):
    with caplog.at_level(logging.WARNING):
        await bench.asks(*[(0, 0)] * 5)
    (line,) = caplog.messages
    assert line == (
        f"{KEY}/dev-1: a block was refused: a block has 1 to 131072 bytes "
        f"(asked for 0 bytes at 0 of stream {bench.mine}, file 1)"
    )


class Slow(MemoryTransport):
    """Acknowledges when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.on_the_way = self.bytes = self.most = self.most_bytes = 0

    async def publish(self, address, topic, payload):
        self.on_the_way += 1
        self.bytes += len(payload)
        self.most, self.most_bytes = max(self.most, self.on_the_way), max(self.most_bytes, self.bytes)
        await self.gate.wait()
        self.on_the_way -= 1
        self.bytes -= len(payload)
        return await super().publish(address, topic, payload)


async def test_a_device_that_acknowledges_nothing_has_one_block_on_the_way_and_some_waiting(bench):
    slow = Slow()
    bench.blocks = Blocks(bench.database, slow, Clock(), bench.verifying)
    taken = [bench.blocks.ask(MINE, blocks.Request(i, bench.mine, 1, 100, 0)) for i in range(40)]
    await until(lambda: slow.on_the_way)
    taken += [bench.blocks.ask(MINE, blocks.Request(i, bench.mine, 1, 100, 0)) for i in range(40)]
    assert slow.most == 1
    assert sum(taken) == service.MOST_WAITING + 1
    slow.gate.set()
    await bench.blocks.idle()
    assert slow.most == 1
    assert bench.blocks.ask(MINE, blocks.Request(1, bench.mine, 1, 100, 0))


async def test_how_many_questions_of_a_device_wait_is_the_operators_to_say(bench):
    slow = Slow()
    made = Blocks(bench.database, slow, Clock(), bench.verifying, most_waiting=2)
    made.ask(MINE, blocks.Request(1, bench.mine, 1, 100, 0))
    await until(lambda: slow.on_the_way)
    assert [made.ask(MINE, blocks.Request(2, bench.mine, 1, 100, 0)) for _ in range(3)] == [True, True, False]
    slow.gate.set()
    await made.idle()


async def test_blocks_on_their_way_to_all_devices_take_bounded_memory(bench):
    slow = Slow()
    made = Blocks(bench.database, slow, Clock(), bench.verifying, most_bytes=1_000_000)
    names = [f"many-{i:02}" for i in range(50)]
    with bench.database.writing() as connection:
        rows = Rows(connection)
        run = rows.run("more", download="MQTT")
        streams = [rows.task(run, rows.device(name), "NOTIFIED") for name in names]
    for name, stream in zip(names, streams, strict=True):
        assert made.ask(Address(KEY, name), blocks.Request(1, stream, 1, 100_000, 0))
    await until(lambda: slow.on_the_way == 10)
    await asyncio.sleep(0.05)
    assert slow.most == 10
    slow.gate.set()
    await made.idle()
    assert slow.most_bytes < 1_010_000


class Moody:
    """A database that is away when the test says so, and counts who looks."""

    def __init__(self, database, *, away: bool = True) -> None:
        self.database, self.away, self.looks = database, away, 0

    async def read(self, statement, *args):
        self.looks += 1
        if self.away:
            raise errors.TransientError("the database is away")
        return await self.database.read(statement, *args)


async def test_an_outage_of_the_database_is_said_and_the_next_question_is_answered(bench, caplog):
    moody = Moody(bench.database)
    bench.blocks = Blocks(moody, bench.wire, Clock(), bench.verifying)
    with caplog.at_level(logging.WARNING):
        assert await bench.asks((0, 5), (0, 6)) == []
    assert caplog.messages == [f"{KEY}/dev-1: a block was not sent: the database is away"]
    moody.away = False
    assert [each.code for each in await bench.asks((0, 5))] == [200]


async def test_devices_that_ask_together_are_looked_up_together_and_each_is_told_its_own(bench):
    moody = Moody(bench.database, away=False)
    bench.blocks = Blocks(moody, bench.wire, Clock(), bench.verifying)
    asked = [(MINE, bench.mine, 100), (FOREIGN, bench.mine, 100), (Address(KEY, "dev-3"), bench.foreign, 0)]
    for address, stream, offset in asked:
        bench.wire.connect(address)
        assert bench.blocks.ask(address, blocks.Request(1, stream, 1, 7, offset))
    assert bench.blocks.ask(FOREIGN, blocks.Request(2, bench.foreign, 1, 9, 200))
    await bench.blocks.idle()
    heard = [[(each.code, each.content) for each in bench.heard(address)] for address, _, _ in asked]
    assert heard == [[(200, FILE[100:107])], [(404, b""), (200, FILE[200:209])], [(404, b"")]]
    assert moody.looks == 2


class Faulty(Verifying):
    """Has a defect that shows once."""

    def open_known(self, sha256):
        self.open_known = super().open_known
        raise RuntimeError("a defect")


async def test_a_defect_costs_those_who_asked_their_answer_and_nobody_after_them(bench, caplog):
    made = Blocks(bench.database, bench.wire, Clock(), Faulty(bench.files))
    for number in range(3):
        assert made.ask(MINE, blocks.Request(number, bench.mine, 1, 5, 0))
    with caplog.at_level(logging.ERROR):
        await made.idle()
    assert [(each.id, each.content) for each in bench.heard()] == [("1", FILE[:5]), ("2", FILE[:5])]
    assert caplog.messages == ["a block was not sent"]


async def test_reading_from_a_large_file_takes_the_memory_of_a_block(bench, monkeypatch):
    monkeypatch.setattr(store, "sha256_of", lambda *_: bench.stored.sha256)  # reading it all would take long
    huge = 4 << 30
    os.truncate(bench.files.path(bench.stored.sha256), huge)  # sparse: it takes no place
    with bench.database.writing() as connection:
        connection.execute(update(tables.blob).values(size=huge))
    await bench.asks((0, blocks.MAX_BLOCK))
    tracemalloc.start()
    (answer,) = await bench.asks((huge - 1000, blocks.MAX_BLOCK))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.content == bytes(1000)
    assert peak < 2 << 20


async def until(holds) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - threads do the work, and have no event
            await asyncio.sleep(0.001)
