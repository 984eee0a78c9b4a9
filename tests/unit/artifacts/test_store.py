"""Files by content, on a real disk."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import tracemalloc

import pytest

from reconciler import errors
from reconciler.artifacts.store import FileStore, MismatchError, Stored

CONTENT = b"firmware 1.4.0" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
STORED = Stored(SHA256, hashlib.md5(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data" / "files"


@pytest.fixture
def store(root):
    opened = FileStore(root)
    opened.prepare()
    return opened


def files(root):
    return sorted(str(place.relative_to(root)) for place in root.rglob("*") if place.is_file())


def test_a_file_is_kept_under_the_digest_of_its_content(store, root):
    assert store.put([CONTENT[:5], b"", CONTENT[5:]]) == STORED
    assert files(root) == [f"{SHA256[:2]}/{SHA256}"]
    assert store.path(SHA256) == root / SHA256[:2] / SHA256
    assert store.path(SHA256).read_bytes() == CONTENT


def test_putting_it_again_changes_nothing(store, root):
    assert store.put([CONTENT]) == store.put(
        [CONTENT], expect_sha256=SHA256.upper(), expect_size=len(CONTENT)
    )
    assert files(root) == [f"{SHA256[:2]}/{SHA256}"]


def test_an_empty_file_is_a_file(store):
    assert store.put([]) == Stored(hashlib.sha256().hexdigest(), hashlib.md5().hexdigest(), 0)
    assert store.found(hashlib.sha256().hexdigest())


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"expect_sha256": "ab" * 32}, "SHA-256"),
        ({"expect_size": len(CONTENT) + 1}, "14,000 bytes, not 14,001"),
        ({"expect_size": len(CONTENT) - 1}, "more than 13,999 bytes"),
    ],
)
def test_what_is_not_the_expected_file_is_not_kept(store, root, expected, words):
    with pytest.raises(MismatchError, match=words):
        store.put([CONTENT], **expected)
    assert files(root) == []


def test_reading_stops_as_soon_as_there_is_more_than_expected(store):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield bytes(1000)

    with pytest.raises(MismatchError):
        store.put(endless(), expect_size=10_000)
    assert len(taken) == 11


def test_a_source_that_breaks_off_leaves_nothing_and_its_error_comes_through(store, root):
    def broken():
        yield CONTENT
        raise OSError(28, "No space left on device")  # the source's own trouble, not ours

    with pytest.raises(OSError, match="No space"):
        store.put(broken())
    assert files(root) == []


def test_a_process_that_is_killed_half_way_leaves_no_file_and_the_next_start_clears_up(store, root):
    program = f"""
import pathlib, sys, time
from reconciler.artifacts.store import FileStore
def chunks():
    yield bytes(100_000)
    print("half", flush=True)
    time.sleep(60)
FileStore(pathlib.Path({str(root)!r})).put(chunks())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert [name.split("/")[0] for name in files(root)] == ["unfinished"]
    store.put([CONTENT])
    FileStore(root).prepare()
    assert files(root) == [f"{SHA256[:2]}/{SHA256}"]


def test_a_full_disk_is_waited_for(store, root):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(errors.TransientError, match="full") as caught:
            store.put([bytes(200_000)] * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.remedy == "make room"
    assert files(root) == []


def test_a_folder_that_can_not_be_written_needs_an_operator(tmp_path):
    (tmp_path / "file").write_text("")
    store = FileStore(tmp_path / "file")
    with pytest.raises(errors.StalledError, match="cannot be written") as caught:
        store.prepare()
    assert caught.value.remedy
    with pytest.raises(errors.StalledError):
        store.put([CONTENT])


def test_a_file_that_is_missing_or_was_altered_is_not_found(store):
    assert not store.found(SHA256)
    store.put([CONTENT])
    assert store.found(SHA256)
    store.path(SHA256).write_bytes(CONTENT[:-1] + b"X")
    assert not store.found(SHA256)
    store.put([CONTENT])
    assert store.found(SHA256)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", SHA256.upper(), SHA256 + "\n", SHA256[:-1]])
def test_a_path_is_only_given_for_a_digest(store, name):
    with pytest.raises(ValueError):
        store.path(name)


def test_memory_stays_flat_however_large_the_file_or_its_pieces(store):
    piece = os.urandom(8 << 20)
    tracemalloc.start()
    try:
        stored = store.put(piece for _ in range(16))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert stored.size == 128 << 20
    assert peak < 3 << 20


def test_the_same_file_may_be_put_from_many_threads(store, root):
    threads = [threading.Thread(target=store.put, args=([CONTENT],)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(root) == [f"{SHA256[:2]}/{SHA256}"]
    assert store.found(SHA256)
