"""Decides how files are read for downloads: one descriptor for all who download a file, and no wait in the event loop.

Part of `downloads`. A thousand clients of one file take a thousand sockets and one descriptor. Nothing here knows who
may download what.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
from collections.abc import AsyncIterator

_STRIDE = 128 << 10
"""Bytes from one look into the page cache to the next: what the kernel reads ahead at least."""
_READ = 1 << 20


class OpenFile:
    """A file that somebody downloads."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.users = 0
        self.size = size
        """Bytes."""
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Its descriptor."""
        return self._descriptor

    def read(self, at: int, count: int) -> bytes:
        """So many bytes; in the event loop only when they are warm.

        Raises:
            EOFError: the file has become shorter.
        """
        found = os.pread(self._descriptor, count, at)
        if len(found) < count:
            raise EOFError("a file became shorter while it was downloaded")
        return found

    async def warm(self, at: int, count: int) -> None:
        """Makes sure that so many bytes are in the system's memory, so that the event loop waits for no disk.

        Raises:
            EOFError: the file has become shorter.
        """
        if not self._is_warm(range(at, at + count, _STRIDE)):
            for place in range(at, at + count, _READ):
                await asyncio.to_thread(self.read, place, min(_READ, at + count - place))

    def _is_warm(self, places: range) -> bool:
        """Whether a byte here and there is in the page cache; False where the system doesn't say."""
        byte = bytearray(1)
        try:
            return all(os.preadv(self._descriptor, [byte], at, os.RWF_NOWAIT) for at in places)
        except (OSError, AttributeError):  # it is not, or the file system, or the system, does not know
            return False


class OpenFiles:
    """Those that are downloaded now."""

    def __init__(self) -> None:
        self._files: dict[tuple[int, int], OpenFile] = {}

    @contextlib.asynccontextmanager
    async def opened(self, path: pathlib.Path) -> AsyncIterator[OpenFile]:
        """A file for as long as it is downloaded.

        Raises:
            OSError: it can't be opened.
        """
        descriptor, found = await asyncio.to_thread(_open, path)
        key = (found.st_dev, found.st_ino)  # not the path: another file may lie there by now
        if key in self._files:
            os.close(descriptor)
        file = self._files.setdefault(key, OpenFile(descriptor, found.st_size))
        file.users += 1
        try:
            yield file
        finally:
            file.users -= 1
            if not file.users:
                del self._files[key]
                os.close(file.fileno())


def _open(path: pathlib.Path) -> tuple[int, os.stat_result]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return descriptor, os.fstat(descriptor)
