"""Takes files out of the store that nothing has needed for some time.

What is needed is `store.blobs`' to say; the file and the word of it go in one transaction, so that nobody can begin to
need a file between the two.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from reconciler import errors
from reconciler.artifacts.store import FileStore
from reconciler.services.clock import Clock
from reconciler.store import blobs
from reconciler.store.database import Database

_EVERY_SECONDS = 600.0
_log = logging.getLogger(__name__)


class Collecting:
    """The collector.

    Args:
        database: knows what is needed.
        files: the store.
        clock: time.
        grace: for how long a file stays that nothing needs.
    """

    def __init__(self, database: Database, files: FileStore, clock: Clock, grace: timedelta) -> None:
        self._database = database
        self._files = files
        self._clock = clock
        self._grace = grace

    async def run(self) -> None:
        """Collects now and then, until cancelled."""
        while True:
            try:
                await self.round()
            except errors.ReconcilerError as error:
                _log.warning("files are collected later: %s", error.message)
            await asyncio.sleep(_EVERY_SECONDS)

    async def round(self) -> list[str]:
        """One look at everything; the digests of the files that are gone.

        Raises:
            TransientError: the database is away.
            StalledError: the store can't be written.
        """
        gone = await self._database.write(blobs.collect, self._grace, self._clock.now(), self._files.discard)
        here = await asyncio.to_thread(self._files.everything)
        for sha256 in await self._database.read(blobs.strangers, here):
            if await asyncio.to_thread(self._files.discard, sha256):
                gone.append(sha256)
        wanted = await self._database.read(blobs.wanted)
        await asyncio.to_thread(self._files.forget_partials, wanted)
        if gone:
            _log.info("%d files that nothing needs were removed", len(gone))
        return gone
