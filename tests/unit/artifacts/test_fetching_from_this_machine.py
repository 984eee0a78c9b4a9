"""A file from file://: below the allowed folders, and nowhere else, whatever a manifest says."""

from __future__ import annotations

import hashlib
import os
import pathlib
import threading

import pytest

from reconciler import errors
from reconciler.artifacts.fetch import Fetcher, Wanted
from reconciler.artifacts.local import LocalFiles
from reconciler.artifacts.network import Halt, HaltedError, RefusedError
from reconciler.artifacts.store import MismatchError

CONTENT = os.urandom(2_999_999) + b"."
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "firmware"
    (folder / "lamp").mkdir(parents=True)
    (folder / "lamp" / "app.bin").write_bytes(CONTENT)
    (tmp_path / "secret.bin").write_bytes(CONTENT)
    return folder


@pytest.fixture
def fetch(store, root):
    def attempt(source, *, roots=None, halt=None, progress=lambda *_: None):
        origin = LocalFiles([root] if roots is None else roots)
        wanted = Wanted(source if "://" in source else f"file://{root}/{source}", SHA256, None)
        return Fetcher(store, {"file": origin}, 10**9).fetch(wanted, halt or Halt(), progress)

    return attempt


@pytest.mark.parametrize("source", ["lamp/app.bin", "lamp/%61pp.bin"])
def test_a_file_below_an_allowed_folder_is_taken(fetch, store, source):
    fetch(source)
    assert store.found(SHA256)


def test_an_allowed_folder_may_be_a_link_itself(fetch, root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    fetch(f"file://localhost{tmp_path}/link/lamp/app.bin", roots=[tmp_path / "link"])


def test_an_allowed_folder_may_be_written_from_where_the_daemon_was_started(fetch, store, root, monkeypatch):
    monkeypatch.chdir(root / "lamp")
    fetch("lamp/app.bin", roots=[pathlib.Path("../../firmware")])
    assert store.found(SHA256)


@pytest.mark.parametrize(
    "source",
    [
        "../secret.bin",
        "lamp/../../secret.bin",
        "%2e%2e/secret.bin",
        "lamp/%2E%2E%2F%2E%2E%2Fsecret.bin",
        "lamp//app.bin",
        "lamp/app.bin%00.bin",
        "./lamp/app.bin",
        "lamp/app.bin\0",
    ],
)
def test_a_path_that_goes_up_or_is_odd_is_no_path(fetch, source):
    with pytest.raises(RefusedError):
        fetch(source)


def test_what_is_elsewhere_is_refused_and_the_folders_are_named(fetch, root, tmp_path):
    with pytest.raises(RefusedError, match="below none of the folders") as caught:
        fetch(f"file://{tmp_path}/secret.bin")
    assert str(root) in caught.value.remedy
    with pytest.raises(RefusedError, match="below none") as caught:
        fetch("lamp/app.bin", roots=[])
    assert "--file-root" in caught.value.remedy
    with pytest.raises(RefusedError, match="three slashes"):
        fetch("file://host/lamp/app.bin")
    with pytest.raises(RefusedError, match="below none"):
        fetch(f"file://{root}-2/app.bin")


def test_letters_that_only_look_like_dots_are_letters(fetch):
    with pytest.raises(errors.TransientError, match="no such file"):
        fetch("\u2025/\uff0e\uff0e/app.bin")


@pytest.mark.parametrize("inside", [True, False])
def test_no_link_is_followed_wherever_it_leads(fetch, root, tmp_path, inside):
    target = root / "lamp" if inside else tmp_path
    (root / "link").symlink_to(target)
    (root / "file.bin").symlink_to(target / ("app.bin" if inside else "secret.bin"))
    for source in ("link/app.bin", "link/secret.bin", "file.bin"):
        with pytest.raises(RefusedError, match="symbolic link"):
            fetch(source)


def test_what_is_no_regular_file_is_refused_and_never_waited_for(fetch, root):
    os.mkfifo(root / "pipe.bin")
    (root / "folder.bin").mkdir()
    for source in ("pipe.bin", "folder.bin"):
        with pytest.raises(RefusedError, match="no regular file"):
            fetch(source)


def test_a_file_that_is_not_there_may_come(fetch, root):
    with pytest.raises(errors.TransientError, match="no such file"):
        fetch("new.bin")
    (root / "new.bin").write_bytes(CONTENT)
    fetch("new.bin")


def test_a_fetch_that_was_halted_is_continued_unless_the_file_changed(fetch, root):
    halt, far = Halt(), []

    def halt_early(have, _):
        far.append(have)
        if have:
            halt.halt()

    with pytest.raises(HaltedError):
        fetch("lamp/app.bin", halt=halt, progress=halt_early)
    half = far[-1]
    assert 0 < half < len(CONTENT)
    again = []
    fetch("lamp/app.bin", progress=lambda have, _: again.append(have))
    assert again[0] == half


def test_a_file_that_changed_meanwhile_begins_anew_and_is_refused_for_its_digest(fetch, root):
    halt = Halt()
    with pytest.raises(HaltedError):
        fetch("lamp/app.bin", halt=halt, progress=lambda have, _: have and halt.halt())
    (root / "lamp" / "app.bin").write_bytes(CONTENT[:-1] + b"X")
    begun = []
    with pytest.raises(MismatchError):
        fetch("lamp/app.bin", progress=lambda have, _: begun.append(have))
    assert begun[0] == 0


def test_a_file_that_shrinks_while_it_is_read_is_not_taken_for_whole(fetch, root):
    done = threading.Event()

    def shrink(have, _):
        if have and not done.is_set():
            done.set()
            os.truncate(root / "lamp" / "app.bin", have)

    with pytest.raises(errors.TransientError, match="of 3,000,000 bytes"):
        fetch("lamp/app.bin", progress=shrink)
