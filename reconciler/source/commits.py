"""Decides which files of a commit exist for us: regular ones; symbolic links and submodules are named, never read.

`repository` makes a `CommitTree` for each commit; whoever reads manifests reads it as a `tree.Tree`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator

from reconciler.source.mirror import Mirror
from reconciler.source.tree import CHUNK_BYTES, UnreadableError

_ABSENT_KINDS = {"120000": "a symbolic link", "160000": "a submodule"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Blob:
    oid: str
    size: int


class CommitTree:
    """The files of one commit; a `tree.Tree`.

    Args:
        commit: its id.
        mirror: where it is.

    Raises:
        TransientError: it is not there (any more). Reading raises this too, when the mirror is damaged.
    """

    def __init__(self, commit: str, mirror: Mirror) -> None:
        self.commit = commit
        self._mirror = mirror
        self._blobs: dict[str, _Blob] = {}
        self._absent: dict[str, str] = {}
        for row in filter(None, mirror.listing(commit).split(b"\0")):
            facts, _, raw = row.partition(b"\t")
            mode, _, oid, size = facts.decode().split()
            path = raw.decode(errors="backslashreplace")
            if mode.startswith("100"):
                if not size.isdecimal():
                    raise mirror.damaged(f"object {oid}, {path}, is missing")
                self._blobs[path] = _Blob(oid, int(size))
            else:
                self._absent[path] = _ABSENT_KINDS.get(mode, "no regular file")

    def paths(self) -> Iterable[str]:
        """Every regular file, without those that are hidden or below a hidden folder (as in a folder)."""
        return tuple(path for path in self._blobs if not path.startswith(".") and "/." not in path)

    def unread(self) -> Iterable[str]:
        """The symbolic links and submodules."""
        return tuple(self._absent)

    def size(self, path: str) -> int | None:
        """The file's size in bytes; None when there is no regular file at `path`."""
        blob = self._blobs.get(path)
        return blob.size if blob else None

    def oid(self, path: str) -> str | None:
        """Git's id of the file's content; None when there is no regular file at `path`."""
        blob = self._blobs.get(path)
        return blob.oid if blob else None

    def is_pointer(self, path: str) -> bool:  # noqa: ARG002 - the port's signature
        """False: what a commit has is the pointer itself, and nothing lies whole beside it."""
        return False

    def read(self, path: str, limit: int) -> bytes:
        """The whole file; see `Tree.read`."""
        blob = self._existing(path)
        if blob.size > limit:
            raise UnreadableError(f"{path} is larger than {limit:,} bytes")
        return self._mirror.read(blob.oid)

    def chunks(self, path: str) -> Iterator[bytes]:
        """The file in pieces; see `Tree.chunks`."""
        blob = self._existing(path)
        if blob.size > CHUNK_BYTES:
            yield from self._mirror.stream(blob.oid, blob.size)
        elif blob.size:
            yield self._mirror.read(blob.oid)

    def _existing(self, path: str) -> _Blob:
        blob = self._blobs.get(path)
        if blob is not None:
            return blob
        for place in (path, *map(str, pathlib.PurePosixPath(path).parents)):
            if place in self._absent:
                raise UnreadableError(f"{place} is {self._absent[place]}: only regular files are read")
        raise UnreadableError(f"there is no file {path}")
