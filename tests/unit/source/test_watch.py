"""Being woken when a ref of a real repository moves."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess

import pytest

from reconciler.source import watch
from reconciler.source.watch import Watch

PATIENCE = 8.0


def git(path, *arguments):
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    who = ("-c", "user.name=T", "-c", "user.email=t@example.com")
    subprocess.run(["git", *who, *arguments], cwd=path, env=env, check=True, capture_output=True)


@pytest.fixture
def fleet(tmp_path):
    path = tmp_path / "fleet"
    path.mkdir()
    git(path, "init", "--initial-branch=main")
    git(path, "commit", "--allow-empty", "-m", "first")
    return path


async def is_woken_by(watched: Watch, act) -> bool:
    """Acts again and again until the watch wakes: a watch may take a moment to start."""
    waiting = asyncio.create_task(watched.changed())
    for _ in range(20):
        await asyncio.to_thread(act)
        done, _ = await asyncio.wait({waiting}, timeout=PATIENCE / 20)
        if done:
            return True
    waiting.cancel()
    return False


def commit(path):
    return lambda: git(path, "commit", "--allow-empty", "-m", "next")


async def test_a_commit_wakes(fleet):
    async with Watch(fleet) as watched:
        assert await is_woken_by(watched, commit(fleet))


async def test_a_push_into_a_bare_repository_wakes(fleet, tmp_path):
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--bare", "fleet", "bare.git")

    def push():
        commit(fleet)()
        git(fleet, "push", str(bare), "main")

    async with Watch(bare) as watched:
        assert await is_woken_by(watched, push)


async def test_a_commit_in_a_linked_worktree_wakes_its_own_watch_and_that_of_the_main_one(fleet, tmp_path):
    side = tmp_path / "side"
    git(fleet, "worktree", "add", "-b", "side", str(side))
    async with Watch(side) as own, Watch(fleet) as main:
        assert await is_woken_by(own, commit(side))
        assert await is_woken_by(main, commit(side))


async def test_packed_refs_and_another_branch_in_head_wake(fleet):
    git(fleet, "branch", "other")
    branches = iter(["other", "main"] * 10)
    async with Watch(fleet) as watched:
        assert await is_woken_by(watched, lambda: git(fleet, "checkout", next(branches)))
        assert await is_woken_by(watched, lambda: (commit(fleet)(), git(fleet, "pack-refs", "--all")))


async def is_quiet_for_a_second(watched: Watch) -> bool:
    waiting = asyncio.create_task(watched.changed())
    done, _ = await asyncio.wait({waiting}, timeout=1.0)
    waiting.cancel()
    return not done


async def test_what_moves_no_ref_does_not_wake(fleet):
    async with Watch(fleet) as watched:
        assert await is_woken_by(watched, commit(fleet))
        while not await is_quiet_for_a_second(watched):
            pass  # the echo of the commits above
        (fleet / "file").write_text("x")
        git(fleet, "add", "file")
        assert await is_quiet_for_a_second(watched)


async def test_a_repository_that_is_elsewhere_never_wakes():
    async with Watch(None) as watched:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await watched.changed()


async def test_a_repository_that_comes_later_is_watched_then(fleet, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(watch, "_AGAIN_SECONDS", 0.05)
    later = tmp_path / "later"
    async with Watch(later) as watched:
        await watched.changed()
        await watched.changed()
        shutil.copytree(fleet, later)
        await asyncio.sleep(0.2)
        assert await is_woken_by(watched, commit(later))
    assert len([record for record in caplog.records if "only polled" in record.message]) == 2


def test_the_git_folders_of_each_kind_of_repository_are_found(fleet, tmp_path):
    git(fleet, "worktree", "add", "-b", "side", str(tmp_path / "side"))
    git(tmp_path, "clone", "--bare", "fleet", "bare.git")
    assert watch.git_directories(fleet) == (fleet / ".git",)
    assert watch.git_directories(tmp_path / "bare.git") == (tmp_path / "bare.git",)
    assert watch.git_directories(tmp_path / "side") == (fleet / ".git/worktrees/side", fleet / ".git")
    with pytest.raises(OSError, match="no Git repository"):
        watch.git_directories(tmp_path)
