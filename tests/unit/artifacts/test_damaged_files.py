"""A file is opened when it is known to be the one that was digested; one that is another by now never is."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib

import pytest

from reconciler.artifacts import store as artifacts
from reconciler.artifacts.network import Halt, HaltedError
from reconciler.artifacts.store import FileStore, UnverifiedError

CONTENT = b"firmware 1.4.0" * 1000
OTHER = CONTENT[:-1] + b"X"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    opened = FileStore(tmp_path / "files", clock)
    opened.prepare()
    opened.put([CONTENT])
    return opened


def read(store, sha256=SHA256):
    with os.fdopen(store.open(sha256), "rb") as file:
        return file.read()


def rewrite(store):
    """Somebody writes into the file, and hides it as well as everybody can."""
    place = store.path(SHA256)
    before = place.stat()
    with place.open("r+b") as file:
        file.write(OTHER)
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(store):
    """Another file of that size comes out of a backup."""
    new = store.path(SHA256).with_suffix(".new")
    new.write_bytes(OTHER)
    new.replace(store.path(SHA256))


def truncate(store):
    os.truncate(store.path(SHA256), 100)


def test_what_was_put_is_opened_without_being_read_again(store):
    assert read(store) == CONTENT


def test_what_was_kept_is_opened_without_being_read_again(store):
    content = b"fetched" * 1000
    sha256 = hashlib.sha256(content).hexdigest()
    with store.partial(sha256) as partial:
        partial.restart("https://x.example/app.bin", None)
        partial.write(content)
        store.keep(partial)
    assert store.holds(sha256)
    assert read(store, sha256) == content


def test_another_process_reads_it_once(store, tmp_path):
    later = FileStore(tmp_path / "files")
    with pytest.raises(UnverifiedError):
        later.open(SHA256)
    assert later.verify(SHA256, Halt()) is None
    assert read(later) == CONTENT


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "after a restart"])
@pytest.mark.parametrize("damage", [rewrite, replace, truncate])
def test_a_file_that_was_altered_is_moved_out_of_the_way_until_it_is_put_again(
    store, tmp_path, damage, is_known
):
    damage(store)
    if not is_known:
        store = FileStore(tmp_path / "files")
    assert store.holds(SHA256)
    with pytest.raises(UnverifiedError):
        store.open(SHA256)
    found = store.verify(SHA256, Halt())
    assert found.place == tmp_path / "files" / "damaged" / SHA256
    assert found.what == f"its SHA-256 is {hashlib.sha256(found.place.read_bytes()).hexdigest()}"
    assert not store.holds(SHA256)
    with pytest.raises(FileNotFoundError):
        store.open(SHA256)
    assert store.verify(SHA256, Halt()) is None
    store.put([CONTENT])
    assert read(store) == CONTENT


def test_an_equal_copy_is_as_good_once_it_was_read(store):
    copy = store.path(SHA256).with_suffix(".copy")
    copy.write_bytes(CONTENT)
    copy.replace(store.path(SHA256))
    with pytest.raises(UnverifiedError):
        store.open(SHA256)
    assert store.verify(SHA256, Halt()) is None
    assert read(store) == CONTENT


def test_what_a_disk_forgets_without_a_trace_is_noticed_a_day_later(store, clock):
    clock.seconds = artifacts._TRUSTED_SECONDS
    assert read(store) == CONTENT
    clock.seconds += 1
    with pytest.raises(UnverifiedError):
        store.open(SHA256)
    assert store.verify(SHA256, Halt()) is None
    assert read(store) == CONTENT


def test_what_the_disk_can_not_read_is_damaged_and_other_trouble_is_not(store, monkeypatch):
    trouble = [errno.ENOMEM, errno.EIO]

    def failing(*_):
        raise OSError(trouble.pop(0), "trouble")

    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(OSError, match="trouble"):
        store.verify(SHA256, Halt())
    assert store.path(SHA256).exists()
    assert store.verify(SHA256, Halt()).what == "the disk can't read it"


def test_a_file_that_is_put_again_while_the_damaged_one_is_read_stays(store, monkeypatch):
    rewrite(store)
    real = artifacts.sha256_of

    def slow(descriptor, between):
        found = real(descriptor, between)
        store.put([CONTENT])
        return found

    monkeypatch.setattr(artifacts, "sha256_of", slow)
    assert store.verify(SHA256, Halt()) is None
    assert read(store) == CONTENT


def test_a_file_that_is_written_to_while_it_is_read_is_not_known(store, monkeypatch):
    real = artifacts.sha256_of

    def slow(descriptor, between):
        found = real(descriptor, between)
        rewrite(store)
        return found

    store.path(SHA256).touch()
    monkeypatch.setattr(artifacts, "sha256_of", slow)
    assert store.verify(SHA256, Halt()) is None
    with pytest.raises(UnverifiedError):
        store.open(SHA256)


def test_a_damaged_file_that_can_not_be_moved_is_read_once_and_never_opened(store, tmp_path, monkeypatch):
    rewrite(store)
    (tmp_path / "files" / "damaged").write_text("in the way")
    assert store.verify(SHA256, Halt()).place is None
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            store.open(SHA256)
    assert not store.holds(SHA256)
    store.put([CONTENT])
    assert read(store) == CONTENT


def test_few_damaged_files_are_kept(store, tmp_path):
    for number in range(5):
        sha256 = store.put([bytes([number])]).sha256
        store.path(sha256).write_bytes(b"?")
        assert store.verify(sha256, Halt())
    kept = [place.name for place in (tmp_path / "files" / "damaged").iterdir()]
    assert len(kept) == 3
    assert sha256 in kept
    assert list(store.everything()) == [SHA256]


def test_reading_ends_when_it_is_told_to(store):
    halt = Halt()
    halt.halt()
    with pytest.raises(HaltedError):
        store.verify(SHA256, halt)


def test_no_descriptor_is_left_open(store):
    def count():
        return len(list(pathlib.Path("/proc/self/fd").iterdir()))

    before = count()
    store.path(SHA256).touch()
    with contextlib.suppress(UnverifiedError):
        store.open(SHA256)
    store.verify(SHA256, Halt())
    rewrite(store)
    store.verify(SHA256, Halt())
    with contextlib.suppress(FileNotFoundError):
        store.open(SHA256)
    assert count() == before
