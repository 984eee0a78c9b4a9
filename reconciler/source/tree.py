"""The port that manifests and the files beside them come through, and the plainest thing behind it: a folder.

`validate.check` and `rosters` read through a `Tree` and nothing else, so that a commit
(`repository.CommitTree`) and a working folder are judged by the same code. A tree decides nothing about what
a file means.

Paths are relative to the tree's root, with `/` between their parts, never absolute, without `.` and `..`.
Only regular files exist in a tree: symbolic links, submodules and devices do not.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Protocol

from reconciler import errors

CHUNK_BYTES = 1 << 20


class UnreadableError(errors.UserError):
    """A file of the tree cannot be read: it is missing, too large, or not ours to read."""


class Tree(Protocol):
    """A set of files at one moment. Reading twice gives the same bytes."""

    def paths(self) -> Iterable[str]:
        """The files to look for manifests in, in any order. The tree may hold more that can be read."""
        ...

    def unread(self) -> Iterable[str]:
        """What stands where a file or a folder could, and is not read: symbolic links and submodules."""
        ...

    def size(self, path: str) -> int | None:
        """The file's size in bytes; None when there is no regular file at `path`."""
        ...

    def read(self, path: str, limit: int) -> bytes:
        """The whole file.

        Raises:
            UnreadableError: there is no such file, it is larger than `limit` bytes, or it cannot be read.
        """
        ...

    def chunks(self, path: str) -> Iterator[bytes]:
        """The file's bytes in pieces of at most `CHUNK_BYTES`, so that a large file never stands in memory.

        Raises:
            UnreadableError: there is no such file, or it cannot be read.
        """
        ...

    def oid(self, path: str) -> str | None:
        """A name for the file's content, the same for the same bytes (Git's blob id); None: there is none."""
        ...

    def is_pointer(self, path: str) -> bool:
        """Whether Git LFS keeps the file, so that a commit has only a pointer to what lies whole in this tree."""
        ...


class FolderTree:
    """A folder as it lies on the disk.

    Args:
        root: the folder. Nothing outside it can be read.
        only: when given, `paths` lists just these files and those below these folders, relative to the root.
        texts: files that exist in memory only, by path: standard input is one.
        in_lfs: tells which files Git LFS keeps (`lfs.kept`); asked once, when there is a file of a package.
    """

    def __init__(
        self,
        root: pathlib.Path,
        *,
        only: Iterable[str] | None = None,
        texts: dict[str, bytes] | None = None,
        in_lfs: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._root = root.resolve()
        self._above = os.path.join(self._root, "")  # noqa: PTH118 - with the slash at its end
        self._only = None if only is None else tuple(only)
        self._texts = texts or {}
        self._in_lfs = functools.cache(in_lfs)

    def paths(self) -> Iterable[str]:
        """The texts, then the regular files below the folder or its chosen parts, hidden folders left out."""
        found = dict.fromkeys(self._texts)
        for start in self._starts():
            place = self._root / start
            files = (path for path in self._below(place) if not path.is_symlink() and path.is_file())
            found.update(dict.fromkeys(map(self._name, files) if place.is_dir() else (start,)))
        return tuple(found)

    def unread(self) -> Iterable[str]:
        """The symbolic links below the folder or its chosen parts."""
        for start in self._starts():
            yield from (self._name(path) for path in self._below(self._root / start) if path.is_symlink())

    def _starts(self) -> Iterable[str]:
        return ("",) if self._only is None else self._only

    def _name(self, path: pathlib.Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _below(self, folder: pathlib.Path) -> Iterator[pathlib.Path]:
        """The files, and the links to folders, which are not followed."""
        for directory, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            links = [name for name in folders if pathlib.Path(directory, name).is_symlink()]
            yield from (pathlib.Path(directory, name) for name in sorted([*files, *links]))

    def size(self, path: str) -> int | None:
        """The file's size in bytes; None when there is no regular file at `path`."""
        if path in self._texts:
            return len(self._texts[path])
        place = self._place(path)
        return place.stat().st_size if place is not None else None

    def read(self, path: str, limit: int) -> bytes:
        """The whole file; see `Tree.read`."""
        if path in self._texts:
            content = self._texts[path]
        else:
            try:
                with self._existing(path).open("rb") as file:
                    content = file.read(limit + 1)
            except OSError as problem:
                raise _unreadable(path, problem) from problem
        if len(content) > limit:
            raise UnreadableError(f"{path} is larger than {limit:,} bytes")
        return content

    def chunks(self, path: str) -> Iterator[bytes]:
        """The file in pieces; see `Tree.chunks`."""
        if path in self._texts:
            yield self._texts[path]
            return
        try:
            with self._existing(path).open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except OSError as problem:
            raise _unreadable(path, problem) from problem

    def oid(self, path: str) -> str | None:  # noqa: ARG002 - the port's signature
        """None: a folder's files have no name for their content, and can change between two looks."""
        return None

    def is_pointer(self, path: str) -> bool:
        """Whether a commit of this folder would have only a pointer; see `Tree.is_pointer`."""
        return path in self._in_lfs()

    def _existing(self, path: str) -> pathlib.Path:
        place = self._place(path)
        if place is not None:
            return place
        if (self._root / path).is_symlink():
            raise UnreadableError(f"{path} is a symbolic link: only regular files are read")
        raise UnreadableError(f"there is no file {path}")

    def _place(self, path: str) -> pathlib.Path | None:
        """The file on the disk; None: there is none, a symbolic link leads there, or it is outside."""
        place = os.path.normpath(os.path.join(self._above, path))  # noqa: PTH118 - as texts: it is asked of every file
        try:
            inside = place.startswith(self._above) and os.path.realpath(place) == place
            return pathlib.Path(place) if inside and os.path.isfile(place) else None  # noqa: PTH113
        except (OSError, ValueError):  # a name that is too long, or holds a NUL
            return None


def _unreadable(path: str, problem: OSError) -> UnreadableError:
    return UnreadableError(f"{path} cannot be read: {problem.strerror or problem}")
