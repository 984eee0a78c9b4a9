"""Opens files of the store for those who send them to devices: only what is known to be what its name says.

The store knows most files, as it digested them when they came in. One that it does not know, after a restart, or as
somebody touched it, is read first, once for all who wait for it; nobody else waits. One that turned out to be another
is missing from then on, and got again: from the commit by the next pass, from outside by the fetch service.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Awaitable, Callable

from reconciler.artifacts.network import Halt
from reconciler.artifacts.store import FileStore, UnverifiedError

_AT_ONCE = 2
_log = logging.getLogger(__name__)


async def _nothing(_: str) -> None:
    """What follows a loss when nobody asked for more."""


class Verifying:
    """The one who opens.

    Args:
        files: the store.
        lost: awaited with the digest of a file that is found damaged, before anybody hears that it is missing.
    """

    def __init__(self, files: FileStore, lost: Callable[[str], Awaitable[None]] = _nothing) -> None:
        self._files = files
        self._lost = lost
        self._running: dict[str, asyncio.Task[None]] = {}
        # Threads of its own: a large file that is read keeps nobody else's work waiting.
        self._threads = concurrent.futures.ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="verify")
        self._halt = Halt()
        self.damaged = 0
        """Files that were found to be other ones."""

    async def open(self, sha256: str) -> int:
        """The descriptor of a file, which is the caller's to close.

        Raises:
            OSError: it is missing, or can't be opened.
            TransientError: the daemon is being stopped; or what is lost can't be written down.
        """
        while True:
            try:
                return await asyncio.to_thread(self.open_known, sha256)
            except UnverifiedError:
                await self.verified(sha256)

    def open_known(self, sha256: str) -> int:
        """The same, for who is in a thread already.

        Raises:
            UnverifiedError: wait until it is `verified`, and come again.
            OSError: it is missing, or can't be opened.
        """
        return self._files.open(sha256)

    async def verified(self, sha256: str) -> None:
        """Waits until a file was read; who goes away meanwhile ends it for nobody else.

        Raises:
            OSError: it can't be read.
            TransientError: the daemon is being stopped; or what is lost can't be written down.
        """
        if sha256 not in self._running:
            self._running[sha256] = asyncio.create_task(self._verify(sha256))
            self._running[sha256].add_done_callback(lambda _: self._running.pop(sha256))
        await asyncio.shield(self._running[sha256])

    def close(self) -> None:
        """What is being read is left; who waits for it hears so."""
        self._halt.halt()
        self._threads.shutdown(wait=False)

    async def _verify(self, sha256: str) -> None:
        loop = asyncio.get_running_loop()
        damage = await loop.run_in_executor(self._threads, self._files.verify, sha256, self._halt)
        if damage is None:
            return
        self.damaged += 1
        moved = (
            f"was moved to {damage.place}"
            if damage.place
            else "could not be moved: mend its folder's permissions"
        )
        _log.error(
            "file %s of the store is damaged: %s. It is sent to nobody, and %s. It is got again by itself, if Git"
            " still names it", sha256, damage.what, moved,
        )  # fmt: skip
        await self._lost(sha256)
