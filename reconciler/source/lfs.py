"""Which files of a working folder Git LFS keeps: they lie here whole, and a commit has only a pointer to each.

Asked by `validate` alone, which looks at a folder. The daemon reads commits, and sees the pointers themselves.
The folder may be a stranger's (a pull request's, another user's), so git is asked warily: nothing that its
configuration names is run, and a repository that git refuses for its owner counts as none.
"""

from __future__ import annotations

import functools
import io
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable

from reconciler import errors
from reconciler.source.beside import LFS_POINTER
from reconciler.source.git import FailedError, Git
from reconciler.source.remotes import Remote

_ALL = ("--stage", "--cached", "--others", "--exclude-standard")
_IN_INDEX = re.compile(rb"\d{6} ([0-9a-f]+) \d\t(.+)", re.DOTALL)
_SECONDS = 60.0
_POINTER_BYTES = 1024
"""A pointer has fewer, by the specification of Git LFS."""


def kept(folder: pathlib.Path) -> frozenset[str]:
    """Those below a folder, relative to it; none where there is no repository that git would read.

    `.gitattributes` names them. Of one in the index, the index has the last word: a file can have been added
    whole, before it was tracked or where Git LFS is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="reconciler-lfs-") as scratch:
        git = Git(Remote(str(folder), folder), pathlib.Path(scratch, "gitconfig"), wary=True)
        git.configure()
        ask = functools.partial(git.run, cwd=folder, timeout=_SECONDS)
        try:
            blobs = _blobs(ask)
            marked = _marked(ask, blobs)
            pointers = _pointers(ask, {blobs[name] for name in marked if blobs[name]})
        except (FailedError, errors.ReconcilerError):
            return frozenset()  # no repository, or no git: then there is no commit, either
    return frozenset(os.fsdecode(name) for name in marked if not blobs[name] or blobs[name] in pointers)


def _blobs(ask: Callable[..., bytes]) -> dict[bytes, bytes]:
    """Every file's blob in the index, by name; an empty one of those that are not added yet."""
    found = {}
    for entry in filter(None, ask("ls-files", "-z", *_ALL).split(b"\0")):
        in_index = _IN_INDEX.fullmatch(entry)
        found[in_index[2] if in_index else entry] = in_index[1] if in_index else b""
    return found


def _marked(ask: Callable[..., bytes], names: Iterable[bytes]) -> list[bytes]:
    """Those that `.gitattributes` gives to Git LFS."""
    told = b"".join(name + b"\0" for name in names)
    words = ask("check-attr", "-z", "--stdin", "filter", told=told).split(b"\0")
    return [name for name, kind in zip(words[::3], words[2::3], strict=False) if kind == b"lfs"]


def _pointers(ask: Callable[..., bytes], blobs: Iterable[bytes]) -> frozenset[bytes]:
    """Those of the blobs that are pointers. What is too large for one is not read."""
    lines = ask("cat-file", "--batch-check=%(objectname) %(objectsize)", told=_lines(blobs)).splitlines()
    sizes = dict(line.split(maxsplit=1) for line in lines)  # or the word "missing"
    small = [blob for blob, size in sizes.items() if size.isdigit() and int(size) < _POINTER_BYTES]
    said = io.BytesIO(ask("cat-file", "--batch=%(objectname) %(objectsize)", told=_lines(small)))
    found = set()
    while heading := said.readline():
        blob, size = heading.split()
        if said.read(int(size) + 1).startswith(LFS_POINTER):
            found.add(blob)
    return frozenset(found)


def _lines(words: Iterable[bytes]) -> bytes:
    return b"".join(word + b"\n" for word in words)
