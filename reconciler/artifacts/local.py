"""Files on the daemon's own machine, below the folders that its operator allows, and nowhere else.

No symbolic link below a root is followed, not even one that leads inside: each part of the path is opened in the one
before it, so that nothing can be exchanged between a look and the reading.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
from collections.abc import Iterator, Sequence

from reconciler import errors
from reconciler.artifacts.network import Halt, RefusedError
from reconciler.artifacts.origin import Opened
from reconciler.domain import foreign

_CHUNK_BYTES = 1 << 20


class LocalFiles:
    """Files below some folders.

    Args:
        roots: the folders; each may itself be a link, which is the operator's own.
    """

    def __init__(self, roots: Sequence[pathlib.Path]) -> None:
        # a URL has no `..`, and what it means behind a link only the system can say
        self._roots = [root.resolve() if ".." in root.parts else root.absolute() for root in roots]

    @contextlib.contextmanager
    def open(self, source: str, halt: Halt, *, start: int, validator: str | None) -> Iterator[Opened]:
        """Opens a file; see `origin.Origin.open`."""
        path = pathlib.PurePosixPath(foreign.place(source).path)
        root = next((root for root in self._roots if path.is_relative_to(root)), None)
        if root is None or ".." in path.parts:
            allowed = ", ".join(map(str, self._roots))
            raise RefusedError(
                f"{path} is below none of the folders that files may come from",
                remedy=f"Those are {allowed}." if allowed else "Allow its folder with --file-root.",
            )
        descriptor = _open_below(root, path.relative_to(root).parts)
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise RefusedError(f"{path} is no regular file", remedy="Name a file.")
            version = f"{about.st_ino}-{about.st_size}-{about.st_mtime_ns}"
            begin = start if validator == version else 0
            os.lseek(descriptor, begin, os.SEEK_SET)
            yield Opened(_chunks(descriptor, halt), begin, about.st_size, version)
        finally:
            os.close(descriptor)


def _open_below(root: pathlib.Path, parts: Sequence[str]) -> int:
    """Opens a file below a folder, through no link."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    try:
        descriptor = os.open(root, flags | os.O_DIRECTORY)
        for number, part in enumerate(parts, 1):
            more = os.O_NONBLOCK if number == len(parts) else os.O_DIRECTORY
            above, descriptor = descriptor, -1
            try:
                descriptor = os.open(part, flags | os.O_NOFOLLOW | more, dir_fd=above)
            finally:
                os.close(above)
    except (OSError, ValueError) as error:
        place = root.joinpath(*parts)
        if any(root.joinpath(*parts[:count]).is_symlink() for count in range(1, len(parts) + 1)):
            raise RefusedError(
                f"a symbolic link leads to {place}, and none is followed", remedy="Name the file itself."
            ) from error
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise errors.TransientError(f"{place} can't be read: {why}", retry_after=10.0) from error
    return descriptor


def _chunks(descriptor: int, halt: Halt) -> Iterator[bytes]:
    try:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            yield chunk
            halt.check()
    except OSError as error:
        raise errors.TransientError(f"the file can't be read: {error.strerror}", retry_after=10.0) from error
