"""Which files of a working folder Git LFS keeps, and that asking it runs nothing of the folder's."""

import os
import pathlib
import shutil
import subprocess

import pytest

from reconciler.source import lfs

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
SCRIPT = "#!/bin/sh\ntouch '{}'\n"


def git(folder: pathlib.Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


def program(place: pathlib.Path, text: str) -> str:
    place.write_text(text)
    place.chmod(0o755)
    return str(place)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A repository with a file that its attributes give to Git LFS, and that nobody has added."""
    found = tmp_path / "repository"
    found.mkdir()
    git(found, "init", "-q")
    (found / ".gitattributes").write_text("*.bin filter=lfs\n")
    (found / "new.bin").write_bytes(b"the file itself")
    return found


def test_the_index_has_the_last_word_on_what_was_added(folder):
    """Where Git LFS is not installed, git adds a file as it is; and so it is in commits."""
    (folder / "below").mkdir()
    for name, content in (
        ("whole.bin", b"itself"),
        ("long.bin", bytes(2000)),
        ("below/\n.bin", POINTER),
        ("x", POINTER),
    ):
        (folder / name).write_bytes(content)
    git(folder, "-c", "filter.lfs.clean=", "add", "whole.bin", "long.bin", "below", "x")
    (folder / "below" / "\n.bin").write_bytes(b"smudged")
    assert lfs.kept(folder) == {"new.bin", "below/\n.bin"}
    assert lfs.kept(folder / "below") == {"\n.bin"}


def test_no_program_is_run_that_the_folders_configuration_names(folder, tmp_path):
    ran = tmp_path / "ran"
    evil = program(tmp_path / "evil", SCRIPT.format(ran))
    git(folder, "add", ".gitattributes")
    for setting in (
        "core.fsmonitor",
        "filter.lfs.clean",
        "filter.lfs.process",
        "core.pager",
        "pager.ls-files",
    ):
        git(folder, "config", setting, evil)
    assert lfs.kept(folder) == {"new.bin"}
    assert not ran.exists()


def test_what_a_partial_clone_lacks_is_not_fetched(folder, tmp_path):
    """Its remote's settings name the program that fetches."""
    ran = tmp_path / "ran"
    evil = program(tmp_path / "evil", SCRIPT.format(ran))
    git(folder, "-c", "filter.lfs.clean=", "add", "new.bin")
    for blob in (folder / ".git" / "objects").glob("??"):
        shutil.rmtree(blob)
    for setting, value in (
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", str(tmp_path)),
        ("remote.origin.uploadpack", evil),
    ):
        git(folder, "config", setting, value)
    assert lfs.kept(folder) == frozenset()
    assert not ran.exists()


def test_a_repository_that_git_refuses_for_its_owner_counts_as_none(folder, tmp_path, monkeypatch):
    real = shutil.which("git")
    others = tmp_path / "others"
    others.mkdir()
    program(others / "git", f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {real} "$@"\n')
    assert lfs.kept(folder) == {"new.bin"}
    monkeypatch.setenv("PATH", f"{others}{os.pathsep}{os.environ['PATH']}")
    assert lfs.kept(folder) == frozenset()
