"""Packages whose files are somewhere else, from the commit to the push: from a folder, through every trouble."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os

import pytest
from rig import base, batch, document
from sqlalchemy import select

from reconciler import errors
from reconciler.artifacts.fetch import Fetcher
from reconciler.artifacts.local import LocalFiles
from reconciler.artifacts.network import Halt
from reconciler.artifacts.origin import Opened
from reconciler.artifacts.room import Room
from reconciler.artifacts.store import FileStore
from reconciler.domain import plan
from reconciler.services import fetching as services_fetching
from reconciler.services.fetching import Fetching
from reconciler.store import events, fetches, tables

ONE = "dev-1"
CONTENT = os.urandom(2_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


@pytest.fixture
def file(outside):
    place = outside / "app.bin"
    place.write_bytes(CONTENT)
    return place


@pytest.fixture
def news():
    return []


@pytest.fixture
def fetching(rig, outside, news):
    fetcher = Fetcher(rig.files, {"file": LocalFiles([outside])}, 10**9)
    return Fetching(rig.database, fetcher, rig.clock, lambda: news.append(rig.clock.now()))


def fleet(outside, *, name="app.bin", sha256=SHA256, **spec):
    """A product, a device, and a package whose file is outside."""
    files = [{"name": "app.bin", "source": f"file://{outside}/{name}", "sha256": sha256}]
    one = document("Package", "lamp-2", product="lamp", version="2.0.0", files=files, **spec)
    return {**base(ONE), "package.yaml": one}


def reason(rig, name="lamp-2"):
    return rig.object(name).reason


async def test_a_package_begins_when_its_file_is_here_and_not_before(rig, fetching, outside, file, news):
    await rig.commit(fleet(outside), batch())
    assert (reason(rig), reason(rig, "all")) == ("Fetching", "Reference")
    await rig.arrive(ONE)
    assert await rig.push() == 0
    assert await fetching.once() == 1
    assert len(news) == 1
    assert rig.files.found(SHA256)
    await rig.commit(fleet(outside), batch())
    assert (reason(rig), reason(rig, "all")) == ("", "")
    await rig.push()
    (pushed,) = rig.pushed(ONE)
    assert (pushed["data"]["sign"], pushed["data"]["size"]) == (SHA256, len(CONTENT))


async def test_the_next_commit_over_a_file_that_is_here_waits_for_nothing(rig, fetching, outside, file):
    await rig.commit(fleet(outside))
    await fetching.once()
    await rig.commit(fleet(outside))
    before = rig.dump()
    assert not (await rig.apply(rig.read_tree(fleet(outside)))).plan.actions
    assert await fetching.once() == 0
    assert rig.dump("revision", "object")["fetch"] == before["fetch"]


async def test_another_file_than_the_manifest_names_is_final_and_said_aloud(
    rig, fetching, file, news, caplog
):
    outside = file.parent
    file.write_bytes(b"another")
    await rig.commit(fleet(outside), batch())
    assert await fetching.once() == 0
    assert "can't be used" in caplog.text
    assert len(news) == 1
    await rig.commit(fleet(outside), batch())
    assert reason(rig) == "FetchFailed"
    assert (
        "correct the manifest; else put the right one there under another name"
        in rig.object("lamp-2").message
    )
    file.write_bytes(CONTENT)
    assert await fetching.once() == 0  # final: also for the next daemon
    os.link(file, outside / "app-2.bin")
    await rig.commit(fleet(outside, name="app-2.bin"), batch())
    assert await fetching.once() == 1
    await rig.commit(fleet(outside, name="app-2.bin"), batch())
    assert (reason(rig), reason(rig, "all")) == ("", "")


async def test_a_file_that_is_not_there_yet_is_tried_again_later_each_time(rig, fetching, outside, news):
    await rig.commit(fleet(outside))
    waits = []
    for _ in range(11):
        await fetching.once()
        (row,) = rig.rows(select(tables.fetch))
        waits.append((row.retry_at - rig.clock.now()).total_seconds())
        rig.clock.advance(waits[-1])
    assert waits == [10, 10, 10, 16, 32, 64, 128, 256, 300, 300, 300]
    assert len(news) == 1
    await rig.commit(fleet(outside))
    assert reason(rig) == "Fetching"
    assert "no such file" in rig.object("lamp-2").message
    (outside / "app.bin").write_bytes(CONTENT)
    assert await fetching.once() == 1


async def test_a_place_that_is_not_allowed_is_tried_again_by_a_daemon_with_other_settings(
    rig, fetching, outside, file
):
    nowhere = Fetching(
        rig.database, Fetcher(rig.files, {"file": LocalFiles([])}, 10**9), rig.clock, lambda: None
    )
    await rig.commit(fleet(outside))
    await nowhere.once()
    await rig.commit(fleet(outside))
    assert reason(rig) == "FetchFailed"
    assert "--file-root" in rig.object("lamp-2").message
    assert await fetching.once() == 1


async def test_how_far_it_is_changes_the_status_and_writes_no_line_of_the_log(rig, outside, file):
    await rig.commit(fleet(outside))
    (row,) = rig.rows(select(tables.fetch))
    await rig.database.write(fetches.advance, {row.id: fetches.Far(625_000, len(CONTENT))})
    await rig.commit(fleet(outside))
    assert "25% of 2,500,000 bytes" in rig.object("lamp-2").message
    said = [line for line in rig.events(events.Type.REFUSED) if line.name == "lamp-2"]
    assert [line.reason for line in said] == [plan.Reason.FETCHING]


async def test_a_file_that_git_names_no_more_is_not_fetched(rig, fetching, outside, file):
    await rig.commit(fleet(outside))
    await rig.commit(base(ONE))
    assert rig.rows(select(tables.fetch)) == []
    assert await fetching.once() == 0


async def test_a_corrected_size_is_tried_again(rig, fetching, outside, file):
    def sized(size):
        files = [{"name": "a.bin", "source": f"file://{file}", "sha256": SHA256, "size": size}]
        one = document("Package", "lamp-2", product="lamp", version="2.0.0", files=files)
        return {**base(ONE), "package.yaml": one}

    await rig.commit(sized(5))
    assert await fetching.once() == 0
    await rig.commit(sized(5))
    assert reason(rig) == "FetchFailed"
    await rig.commit(sized(len(CONTENT)))
    assert await fetching.once() == 1
    await rig.commit(sized(len(CONTENT)))
    assert reason(rig) == ""


async def test_a_file_that_somebody_removed_from_the_store_is_fetched_again(rig, fetching, outside, file):
    await rig.commit(fleet(outside))
    await fetching.once()
    await rig.commit(fleet(outside))
    rig.files.path(SHA256).unlink()
    await rig.commit(fleet(outside), batch())
    assert (reason(rig), reason(rig, "all")) == ("Fetching", "Reference")
    assert await fetching.once() == 1
    await rig.commit(fleet(outside), batch())
    assert reason(rig, "all") == ""


async def test_two_packages_of_one_file_fetch_it_once(rig, fetching, outside, file):
    files = [{"name": "b.bin", "source": f"file://{file}", "sha256": SHA256}]
    other = {"o.yaml": document("Package", "lamp-3", product="lamp", version="3.0.0", files=files)}
    await rig.commit(fleet(outside), other)
    assert await fetching.once() == 1
    await rig.commit(fleet(outside), other)
    assert (reason(rig), reason(rig, "lamp-3")) == ("", "")


async def test_a_daemon_that_stops_half_way_leaves_the_half_for_the_next(
    rig, fetching, outside, file, monkeypatch
):
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    real = Halt.check

    def check(self):  # stops the source where it would go on
        loop.call_soon_threadsafe(begun.set)
        while not self._halted.wait(0.01):
            pass
        real(self)

    await rig.commit(fleet(outside))
    monkeypatch.setattr(Halt, "check", check)
    running = asyncio.create_task(fetching.run())
    await begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    monkeypatch.undo()
    assert not rig.files.holds(SHA256)
    assert await fetching.once() == 1


async def test_the_daemon_fetches_by_itself(rig, outside, file):
    arrived = asyncio.Event()
    fetcher = Fetcher(rig.files, {"file": LocalFiles([outside])}, 10**9)
    fetching = Fetching(rig.database, fetcher, rig.clock, arrived.set)
    await rig.commit(fleet(outside))
    running = asyncio.create_task(fetching.run())
    await arrived.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert rig.files.found(SHA256)


async def test_an_attempt_that_ends_as_none_should_is_not_begun_again_at_once(rig, outside, caplog):
    begun = []

    class Odd:
        def open(self, *_args, **_more):
            begun.append(1)
            raise ValueError("never seen before")

    fetching = Fetching(rig.database, Fetcher(rig.files, {"file": Odd()}, 10**9), rig.clock, list)
    await rig.commit(fleet(outside))
    running = asyncio.create_task(fetching.run())
    await asyncio.sleep(0.3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert begun == [1]
    await rig.commit(fleet(outside))
    assert "it ended as none should (ValueError)" in rig.object("lamp-2").message
    assert "never seen before" in caplog.text  # the traceback
    (row,) = rig.rows(select(tables.fetch))
    assert (row.attempts, (row.retry_at - rig.clock.now()).total_seconds()) == (1, 10)


async def test_a_file_that_does_not_fit_on_the_disk_says_so_and_comes_when_there_is_room(
    rig, outside, file, news, caplog
):
    free = [1_000_000]
    files = FileStore(outside / "files", room=Room(outside, 250_000, lambda _: free[0]))
    files.prepare()
    fetcher = Fetcher(files, {"file": LocalFiles([outside])}, 10**9)
    fetching = Fetching(rig.database, fetcher, rig.clock, lambda: news.append(1))
    await rig.commit(fleet(outside))
    assert await fetching.once() == 0
    await rig.commit(fleet(outside))
    said = "has 1,000,000 bytes free: this file needs 2,500,000, and 250,000 stay free for the database"
    assert said in rig.object("lamp-2").message
    assert "An operator has to make room" in rig.object("lamp-2").message
    assert said in caplog.text
    assert (reason(rig), len(news)) == ("Fetching", 1)
    free[0] = 10_000_000
    assert await fetching.once() == 1


async def test_how_a_fetch_ended_is_said_also_when_the_database_can_not_take_it(
    rig, outside, file, monkeypatch, caplog
):
    monkeypatch.setattr(services_fetching, "_FAULT_SECONDS", 0.01)

    with rig.database.writing() as connection:
        writer = connection.connection.driver_connection

    class Filling(LocalFiles):
        """The disk of the database is full when it was asked the first time, and is not at the second."""

        turns = 0

        def open(self, *given, **more):
            self.turns += 1
            writer.execute(f"PRAGMA query_only={self.turns == 1}")
            if self.turns == 1:
                raise errors.TransientError("there is no room")
            return super().open(*given, **more)

    arrived = asyncio.Event()
    fetching = Fetching(
        rig.database, Fetcher(rig.files, {"file": Filling([outside])}, 10**9), rig.clock, arrived.set
    )
    await rig.commit(fleet(outside))
    running = asyncio.create_task(fetching.run())
    await arrived.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "there is no room. Next try" in caplog.text
    assert "can't be written down" in caplog.text
    assert "a fetch failed" not in caplog.text


async def test_however_often_it_failed_it_is_tried_again_after_five_minutes(rig, fetching, outside, caplog):
    await rig.commit(fleet(outside))
    with rig.database.writing() as connection:
        connection.execute(tables.fetch.update().values(attempts=1023))  # three and a half days
    await fetching.once()
    (row,) = rig.rows(select(tables.fetch))
    assert (row.retry_at - rig.clock.now()).total_seconds() == 300
    assert "Next try in 300 s" in caplog.text


class Breaking:
    """A source that breaks off after each 100,000 bytes, and continues there or begins anew each time."""

    def __init__(self, *, continues):
        self.continues = continues

    @contextlib.contextmanager
    def open(self, _source, _halt, *, start, validator):
        begin = start if self.continues else 0
        yield Opened(self.chunks(begin), begin, len(CONTENT), "v1" if self.continues else None)

    def chunks(self, begin):
        yield CONTENT[begin : begin + 100_000]
        raise errors.TransientError("the connection broke", retry_after=0.0)


@pytest.mark.parametrize(("continues", "expected"), [(False, [2, 4, 8, 16, 32]), (True, [2, 1, 1, 1, 1])])
async def test_a_source_that_breaks_off_and_gains_nothing_by_it_is_asked_less_and_less(
    rig, outside, news, continues, expected
):
    fetcher = Fetcher(rig.files, {"file": Breaking(continues=continues)}, 10**9)
    fetching = Fetching(rig.database, fetcher, rig.clock, lambda: news.append(1))
    await rig.commit(fleet(outside))
    waits = []
    for _ in expected:
        await fetching.once()
        (row,) = rig.rows(select(tables.fetch))
        waits.append((row.retry_at - rig.clock.now()).total_seconds())
    assert waits == expected
    assert len(news) == 1  # each is a pass
