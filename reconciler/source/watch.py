"""Decides when a local repository's refs may have moved: at once, instead of at the next poll.

The reconcile service waits for `Watch.changed` beside its interval. It is a hint and never the only signal: it
may come for nothing, and where the machine cannot watch files it never comes. What moved is for
`repository.fetch` to find out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
from collections.abc import AsyncIterator
from typing import Self

import watchfiles

_log = logging.getLogger(__name__)

_QUIET_MS = 50
"""A change is reported when nothing else has changed for so long: git writes several files for one commit."""
_LONGEST_MS = 400
_AGAIN_SECONDS = 10.0


class Watch:
    """Watches the refs of a repository on this machine, as an asynchronous context manager.

    Args:
        path: its folder (bare, with a `.git`, or a linked worktree); None for a repository that is elsewhere,
            which never says anything.
    """

    def __init__(self, path: pathlib.Path | None) -> None:
        self._path = path
        self._moved = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Starts watching."""
        if self._path is not None:
            self._tasks = [
                asyncio.create_task(self._watch(self._path, is_deep=is_deep), name=f"watch {self._path}")
                for is_deep in (False, True)
            ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def changed(self) -> None:
        """Returns when the refs may have moved since the last return; for ever silent when nothing moves."""
        await self._moved.wait()
        self._moved.clear()

    async def _watch(self, path: pathlib.Path, *, is_deep: bool) -> None:
        """Tells of changes, and starts again when the folder was away."""
        is_warned = False
        while True:
            try:
                async for _ in _changes(path, is_deep=is_deep):
                    self._moved.set()
            except (
                OSError,
                RuntimeError,
            ) as problem:  # watchfiles raises both, for limits and for missing folders
                if not is_warned:
                    _log.warning("%s cannot be watched, so it is only polled: %s", path, problem)
                    is_warned = True
            await asyncio.sleep(_AGAIN_SECONDS)
            self._moved.set()


async def _changes(path: pathlib.Path, *, is_deep: bool) -> AsyncIterator[object]:
    """HEAD and the packed refs lie in the Git folders themselves, branches and tags in folders of their own."""
    git_dirs = git_directories(path)
    folders = [git_dirs[-1] / "refs", git_dirs[-1] / "reftable"] if is_deep else list(git_dirs)
    changes = watchfiles.awatch(
        *(folder for folder in folders if folder.is_dir()),
        watch_filter=_is_a_ref,
        step=_QUIET_MS,
        debounce=_LONGEST_MS,
        recursive=is_deep,
        ignore_permission_denied=True,
    )
    async with contextlib.aclosing(changes):
        async for change in changes:
            yield change


def _is_a_ref(_: watchfiles.Change, path: str) -> bool:
    """Locks come before every change, and an index or a fetch's note moves no ref."""
    name = path.rsplit("/", 1)[-1]
    return not (name.endswith(".lock") or name in {"index", "FETCH_HEAD", "COMMIT_EDITMSG", "gc.pid"})


def git_directories(path: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The Git folders of a repository: its own first, the one that holds its branches last.

    They are the same but for a linked worktree. Raises OSError when there is none.
    """
    own = path / ".git"
    if own.is_file():
        own = path / own.read_text().removeprefix("gitdir:").strip()
    elif not own.is_dir():
        own = path
    common = own / "commondir"
    if common.is_file():
        return own.resolve(), (own / common.read_text().strip()).resolve()
    if not (own / "HEAD").is_file():
        raise FileNotFoundError(2, "no Git repository", str(path))
    return (own.resolve(),)
