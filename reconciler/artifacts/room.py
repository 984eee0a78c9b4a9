"""Decides whether a file still fits on the disk: what lies beside the files, the database above all, needs room, too.

Asked by the store before a file's first byte, as far as its size is known, and before each piece of it. Who was
promised room has it: others that come meanwhile find less. All calls block.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading
from collections.abc import Callable, Iterator

from reconciler import errors

_SOON = 60.0
"""Seconds until a file is tried again that was found not to fit before anything of it came."""
_LATE = 3600.0
"""The same where only its coming told: each try costs all that fits."""


class NoRoomError(errors.TransientError):
    """A file does not fit: an operator makes room, or it waits until there is some."""


def free_bytes(folder: pathlib.Path) -> int:
    """What the daemon may still write to the volume of a folder."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class Room:
    """The room on a folder's volume.

    Args:
        folder: is on it.
        reserve: bytes of it that files leave free.
        free: bytes that are free there, with the reserve.
    """

    def __init__(
        self, folder: pathlib.Path, reserve: int, free: Callable[[pathlib.Path], int] = free_bytes
    ) -> None:
        self._folder = folder
        self._reserve = reserve
        self._free = free
        self._lock = threading.Lock()
        self._shares: list[Share] = []

    @contextlib.contextmanager
    def share(self) -> Iterator[Share]:
        """One file's part of the room, for as long as it is written."""
        share = Share(self)
        with self._lock:
            self._shares.append(share)
        try:
            yield share
        finally:
            with self._lock:
                self._shares.remove(share)

    def check(self, share: Share, needed: int) -> None:
        """Promises so many bytes to a file; see `Share`."""
        with self._lock:
            free, others = self._free(self._folder), sum(each.owed for each in self._shares) - share.owed
            if free - others - needed < self._reserve:
                share.owed = 0
                raise self._no_room(share, needed, free, others)
            share.owed = needed

    def _no_room(self, share: Share, needed: int, free: int, others: int) -> NoRoomError:
        more = "" if share.is_whole else "at least "
        text = f"the disk of {self._folder} has {free:,} bytes free: this file needs {more}{needed:,}"
        text += f", others that are on their way {others:,}" if others else ""
        text += f", and {self._reserve:,} stay free for the database" if self._reserve else ""
        remedy = "An operator has to make room there, or to let less stay free (--disk-reserve)."
        return NoRoomError(text, remedy=remedy, retry_after=_SOON if share.is_whole else _LATE)


class Share:
    """What one file may still take.

    Args:
        room: it is a part of that.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self.owed = 0
        """Bytes that were promised, and are not written yet."""
        self.is_whole = False
        """Whether all of the file was promised."""

    def promise(self, size: int) -> None:
        """There is room for all that is to come of the file.

        Raises:
            NoRoomError: there isn't.
            OSError: nobody can tell.
        """
        self.is_whole = True
        self._room.check(self, max(size, 0))

    def take(self, count: int) -> None:
        """Called before so many bytes are written. Others, who ask nobody, may have filled the disk since.

        Raises:
            NoRoomError: there is no room for them, or for the rest of what was promised.
            OSError: nobody can tell.
        """
        self._room.check(self, max(self.owed, count))
        self.owed -= count
