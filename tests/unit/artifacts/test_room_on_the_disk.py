"""Files take the room of the database from nobody, and theirs from each other only in turn."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os

import pytest

from reconciler import errors
from reconciler.artifacts.fetch import Fetcher, Wanted
from reconciler.artifacts.local import LocalFiles
from reconciler.artifacts.network import Halt
from reconciler.artifacts.origin import Opened
from reconciler.artifacts.room import NoRoomError, Room, free_bytes
from reconciler.artifacts.store import FileStore

RESERVE = 1_000_000
CONTENT = os.urandom(2_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = "ab" * 32


class Disk:
    """A volume of some size, of which only the files of one folder and `others` take any."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.others = 0

    def free(self, folder) -> int:
        return (
            self.size - self.others - sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
        )


@pytest.fixture
def root(tmp_path):
    return tmp_path / "files"


@pytest.fixture
def disk():
    return Disk(RESERVE + 3_000_000)


@pytest.fixture
def store(root, disk):
    made = FileStore(root, room=Room(root, RESERVE, disk.free))
    made.prepare()
    return made


@pytest.fixture
def fetch(store, tmp_path):
    (tmp_path / "app.bin").write_bytes(CONTENT)
    seen = []

    def attempt(*, size=None, origin=None):
        fetcher = Fetcher(store, {"file": origin or LocalFiles([tmp_path])}, 10**9)
        wanted = Wanted(f"file://{tmp_path}/app.bin", SHA256, size)
        return fetcher.fetch(wanted, Halt(), lambda have, _: seen.append(have))

    attempt.seen = seen
    return attempt


def lying(root):
    return [each.name for folder in ("partial", "unfinished") for each in (root / folder).iterdir()]


def test_what_is_free_is_asked_of_the_system(tmp_path):
    assert 0 < free_bytes(tmp_path) < 10**18
    with (
        pytest.raises(NoRoomError, match="stay free for the database"),
        Room(tmp_path, 10**18).share() as one,
    ):
        one.take(1)


def test_a_file_from_outside_that_does_not_fit_is_not_even_begun(fetch, root, disk):
    disk.others = 1_000_000
    with pytest.raises(
        NoRoomError, match=r"bytes free: this file needs 2,500,000, and 1,000,000 stay"
    ) as caught:
        fetch()
    assert "operator" in caught.value.remedy
    assert (fetch.seen, lying(root)) == ([], [])
    disk.others = 0
    assert fetch().sha256 == SHA256


def test_a_file_whose_size_nobody_says_stops_before_the_reserve_and_leaves_its_room_to_others(
    fetch, root, disk
):
    class Endless:
        def __init__(self):
            self.sent = 0

        def open(self, *_args, **_more):
            return contextlib.nullcontext(Opened(self.chunks(), 0, None, None))

        def chunks(self):
            while True:
                self.sent += 250_000
                yield bytes(250_000)

    endless = Endless()
    with pytest.raises(NoRoomError, match="needs at least 250,000") as caught:
        fetch(origin=endless)
    assert 3_000_000 <= endless.sent <= 3_250_000
    assert caught.value.retry_after == 3600  # each try costs all that fits
    assert lying(root) == []


def test_what_came_is_given_up_when_somebody_else_fills_the_disk(store, root, disk):
    def half():
        with store.partial(SHA256) as partial:
            partial.restart("https://x.example/a", None)
            partial.expect(2_500_000)
            partial.write(CONTENT[:1_000_000])
            disk.others = 1_000_000
            partial.write(CONTENT[1_000_000:1_500_000])

    with pytest.raises(NoRoomError):
        half()
    assert lying(root) == []


def test_what_came_is_given_up_when_the_disk_is_full_all_the_same(store, root):
    def half():
        with store.partial(SHA256) as partial:
            partial.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(errors.TransientError, match="full"):
        half()
    assert lying(root) == []


def test_two_files_that_fit_one_at_a_time_come_one_after_the_other(store):
    with store.partial(SHA256) as first:
        first.expect(2_500_000)
        first.write(CONTENT[:500_000])
        with (
            pytest.raises(NoRoomError, match="others that are on their way 2,000,000"),
            store.partial(OTHER) as second,
        ):
            second.expect(1_000_000)
        first.write(CONTENT[500_000:])
        store.keep(first)
    assert store.found(SHA256)


def test_a_file_of_the_repository_that_does_not_fit_is_not_begun(store, root, disk):
    def chunks():
        raise AssertionError("nothing is read of it")
        yield b""

    with pytest.raises(NoRoomError, match="needs 3,500,000"):
        store.put(chunks(), expect_size=3_500_000)
    with pytest.raises(NoRoomError, match="at least"):
        store.put([bytes(3_500_000)])
    assert lying(root) == []
    disk.others = -1_000_000
    assert store.put([bytes(3_500_000)], expect_size=3_500_000)
