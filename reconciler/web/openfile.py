"""Decides how files are read for downloads: one descriptor for all who download a file, and no wait in the event loop.

Part of `downloads`. A thousand clients of one file take a thousand sockets and one descriptor. A file that somebody
writes to meanwhile is sent no further. Nothing here knows who may download what.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable

_STRIDE = 128 << 10
"""Bytes from one look into the page cache to the next: what the kernel reads ahead at least."""
_READ = 1 << 20

Open = Callable[[], Awaitable[int]]
"""Opens a file that is what it should be; the descriptor is the caller's to close."""


class OpenFile:
    """A file that somebody downloads."""

    def __init__(self, descriptor: int, found: os.stat_result) -> None:
        self.users = 0
        self.size = found.st_size
        """Bytes."""
        self._descriptor = descriptor
        self._version = _version(found)

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
            EOFError: the file has become shorter, or another one. Who asks for the rest opens it anew.
        """
        if _version(os.fstat(self._descriptor)) != self._version:
            raise EOFError("a file was altered while it was downloaded")
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
        self._files: dict[tuple[int, ...], OpenFile] = {}

    @contextlib.asynccontextmanager
    async def opened(self, opening: Open) -> AsyncIterator[OpenFile]:
        """A file for as long as it is downloaded.

        Raises:
            OSError: it can't be opened.
            TransientError: not just now.
        """
        descriptor = await opening()
        found = os.fstat(descriptor)
        key = _version(found)  # not the path: another file may lie there by now
        if key in self._files:
            os.close(descriptor)
        file = self._files.setdefault(key, OpenFile(descriptor, found))
        file.users += 1
        try:
            yield file
        finally:
            file.users -= 1
            if not file.users:
                del self._files[key]
                os.close(file.fileno())


def _version(found: os.stat_result) -> tuple[int, ...]:
    """What differs when somebody wrote to a file; not when they did something else to it, such as a backup's link."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
