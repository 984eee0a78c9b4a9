"""Files beside a manifest: where a path leads, and a package file's size and digests.

Called by `references`. Everything is streamed once for each content; `Facts` keeps the results by content id.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import posixpath
from collections.abc import Mapping

from reconciler.domain import desired
from reconciler.domain.desired import Declaration, File, FileFact, Key, RosterRef
from reconciler.domain.limits import Limits
from reconciler.domain.resources import Resource
from reconciler.source import explain, rosters
from reconciler.source.tree import Tree

_COMPARED = 1_000
"""Files that the name of a missing one is compared with."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
OUT_OF_LFS = (
    "`git lfs untrack` it, `git add --renormalize .` and commit; or name it by https://, s3:// or file://"
)


def resolve(manifest: str, path: str) -> str | None:
    """The tree's path of a file that a manifest names relative to itself; None when it leaves the tree."""
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(manifest), path))
    return None if joined.startswith(("../", "/")) or joined == ".." or "\0" in joined else joined


@dataclasses.dataclass(frozen=True, slots=True)
class Content:
    """What a file's bytes are. `is_pointer`: commits hold only Git LFS's pointer to it."""

    size: int
    sha256: str
    md5: str
    is_pointer: bool

    def fact(self, path: str) -> FileFact:
        """The fact about the file at this path."""
        return FileFact(path, self.size, self.sha256, self.md5)


class Missing:
    """Says which file was meant by the path of one that does not exist."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    @functools.cached_property
    def _others(self) -> tuple[str, ...]:
        """The files that are no manifests. Looked for once: many packages may miss theirs."""
        return tuple(path for path in self._tree.paths() if not path.lower().endswith((".yaml", ".yml")))

    def remedy(self, path: str, manifest: str) -> str:
        """The nearest file of the same folder or name, written as the manifest would have it."""
        folder, name = posixpath.split(path)
        here = posixpath.dirname(manifest) or "."
        parts = ((other, *posixpath.split(other)) for other in self._others)
        near = (other for other, its_folder, its_name in parts if its_folder == folder or its_name == name)
        written = {posixpath.relpath(other, here) for other in itertools.islice(near, _COMPARED)}
        wanted = posixpath.relpath(path, here)
        return explain.nearest(wanted, written) or "paths are relative to the manifest; links do not count"


_Judged = tuple[Resource, str, int, tuple[File, ...], RosterRef | None]
"""A valid object, where it is declared, and the files beside it."""


class Facts:
    """What is known of the files of a tree, so that nothing is read twice, also from commit to commit."""

    def __init__(self) -> None:
        self._contents: dict[str, Content] = {}
        self._rosters: dict[tuple[str, rosters.Shape, Limits], rosters.Checked] = {}
        self._declared: dict[Key, Declaration] = {}

    def content(self, tree: Tree, path: str) -> Content:
        """The digests of a file that exists.

        Raises:
            UnreadableError: it cannot be read.
        """
        oid = tree.oid(path)
        known = self._contents.get(oid) if oid else None
        found = known or _digest(tree, path)
        if oid:
            self._contents[oid] = found
        return found

    def roster(self, tree: Tree, path: str, shape: rosters.Shape, limits: Limits) -> rosters.Checked:
        """What a CSV file of devices holds.

        Raises:
            UnreadableError: it cannot be read.
        """
        oid = tree.oid(path)
        if oid is None:
            return rosters.check(tree, path, shape, limits)
        key = (oid, shape, limits)
        if key not in self._rosters:
            self._rosters[key] = rosters.check(tree, path, shape, limits)
        found = self._rosters[key]
        ref = None if found.ref is None else dataclasses.replace(found.ref, path=path)
        return rosters.Checked(ref, found.flaws)

    def declarations(self, judged: Mapping[Key, _Judged]) -> dict[Key, Declaration]:
        """The declarations of valid objects; one of which nothing has changed is the one of the last time."""
        made = {}
        for key, said in judged.items():
            known = self._declared.get(key)
            is_same = known is not None and known.resource is said[0] and _said(known) == said
            made[key] = known if known is not None and is_same else desired.declare(*said)
        self._declared = made
        return dict(made)

    def keep(self, oids: set[str]) -> None:
        """Forgets what no file of the tree holds any more."""
        self._contents = {oid: found for oid, found in self._contents.items() if oid in oids}
        self._rosters = {key: found for key, found in self._rosters.items() if key[0] in oids}


def _said(known: Declaration) -> _Judged:
    return known.resource, known.path, known.line, known.files, known.roster


def _digest(tree: Tree, path: str) -> Content:
    sha256, md5, size, start = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0, b""
    for chunk in tree.chunks(path):
        start = start or chunk[: len(LFS_POINTER)]
        size += len(chunk)
        sha256.update(chunk)
        md5.update(chunk)
    is_pointer = (start == LFS_POINTER and size < 1024) or tree.is_pointer(path)
    return Content(size, sha256.hexdigest(), md5.hexdigest(), is_pointer)
