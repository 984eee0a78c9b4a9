"""Gets the files from outside that Git names into the store, several at a time, for as long as it takes.

The intent is a row (`store.fetches`), the effect a file in the store, the confirmation another row: a daemon that is
killed in between continues where the bytes ended. What fails is tried again, later each time; what can't become right
by itself says so, and waits for Git or for an operator.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import logging
from collections.abc import Callable
from datetime import timedelta

from reconciler import errors
from reconciler.artifacts.fetch import Fetcher, PartsError, Wanted
from reconciler.artifacts.network import Halt
from reconciler.artifacts.room import NoRoomError
from reconciler.artifacts.store import MismatchError
from reconciler.domain import foreign
from reconciler.services import backoff
from reconciler.services.bell import Bell
from reconciler.services.clock import Clock
from reconciler.store import fetches
from reconciler.store.database import Database
from reconciler.store.fetches import Came, Due, Failure, Far

AT_ONCE = 4
LONGEST_SECONDS = 300.0
"""Between two attempts, at most; unless the source itself asks for more."""
_MOST_DOUBLINGS = 10
"""Until the longest is reached."""
_LOOK_SECONDS = 1.0
_FAULT_SECONDS = 10.0
"""Until a file is tried again whose attempt could not be written down, or ended as none should."""
_log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class _Running:
    """A fetch that is under way."""

    due: Due
    halt: Halt
    begun: int | None = None
    """How many bytes were here when it began."""
    far: Far | None = None
    """How far it is, where that was not written down yet."""

    gained: bool = False
    """Whether it continued what came before, and brought more: one that begins anew each time gets nowhere."""

    def progress(self, received: int, total: int | None) -> None:
        """Told by the thread."""
        self.begun = received if self.begun is None else self.begun
        self.gained = received > self.begun > 0
        self.far = Far(received, total)


class Fetching:
    """Fetches what is due.

    Args:
        database: where the intents are.
        fetcher: makes one attempt.
        clock: time.
        arrived: called when there is news for the next pass: a file came, or never will.
    """

    def __init__(
        self, database: Database, fetcher: Fetcher, clock: Clock, arrived: Callable[[], None]
    ) -> None:
        self._database = database
        self._fetcher = fetcher
        self._clock = clock
        self._arrived = arrived
        self._running: dict[str, _Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Threads of its own: a source that is slow for hours keeps nobody else's work waiting.
        self._threads = concurrent.futures.ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")
        self.due = Bell()
        """Rung when Git may name new files."""

    async def run(self) -> None:
        """Fetches until cancelled."""
        retry = backoff.Backoff(1.0, 10.0)
        has_begun = False
        try:
            while True:
                try:
                    if not has_begun:
                        await self._database.write(fetches.begin)
                        has_begun = True
                    await self._round()
                except errors.ReconcilerError as error:
                    _log.warning("fetches wait: %s", error.message)
                    await asyncio.sleep(retry.failed())
                else:
                    retry.succeeded()
                    await self.due.wait(_LOOK_SECONDS)
        finally:
            self._halt()

    async def once(self) -> int:
        """One attempt at everything that is not here, and to the end of it; the number of files that came.

        For who runs a single pass. What is not due yet has its turn, too.

        Raises:
            TransientError: the database is away.
        """
        await self._database.write(fetches.begin)
        before = len(await self._database.read(fetches.stored))
        tried: set[str] = set()
        try:
            while await self._start(tried) or self._tasks:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._halt()
        return len(await self._database.read(fetches.stored)) - before

    async def _round(self) -> None:
        far = {running.due.id: running.far for running in self._running.values() if running.far is not None}
        if far:
            await self._database.write(fetches.advance, far)
            for running in self._running.values():
                running.far = None
        await self._start(None)

    async def _start(self, tried: set[str] | None) -> int:
        """Starts what is due, as far as there is room. `tried`: each file once, whether it is due or not."""
        now = self._clock.now() if tried is None else self._clock.now() + timedelta(days=1)
        started = 0
        for due in await self._database.read(fetches.due, now):
            if len(self._running) >= AT_ONCE:
                break
            if due.sha256 in self._running or due.sha256 in (tried or ()):
                continue
            if tried is not None:
                tried.add(due.sha256)
            running = self._running[due.sha256] = _Running(due, Halt())
            task = asyncio.create_task(self._one(running))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
            started += 1
        return started

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a fetch failed", exc_info=task.exception())
        self.due.ring()

    def _halt(self) -> None:
        """What is under way ends soon; what has come of it is kept."""
        for running in self._running.values():
            running.halt.halt()
        for task in self._tasks:
            task.cancel()

    async def _one(self, running: _Running) -> None:
        """One attempt, and what follows from it."""
        try:
            await self._attempt(running)
        except errors.ReconcilerError as error:
            place = foreign.shown(running.due.source)
            _log.warning("how the fetch of %s ended can't be written down: %s", place, error.message)
            await asyncio.sleep(_FAULT_SECONDS)  # no row says that it is to wait: it is due again at once
        except Exception:
            await asyncio.sleep(_FAULT_SECONDS)
            raise
        finally:
            del self._running[running.due.sha256]

    async def _attempt(self, running: _Running) -> None:
        due, place = running.due, foreign.shown(running.due.source)
        wanted = Wanted(due.source, due.sha256, due.size)
        _log.info("fetching %s", place)
        try:
            stored = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._fetcher.fetch, wanted, running.halt, running.progress
            )
        except errors.UserError as error:
            await self._failed(due, error)
        except (errors.TransientError, errors.StalledError) as error:
            await self._again(running, error)
        except Exception as error:  # noqa: BLE001 - one file's bug is no other file's
            _log.error("the fetch of %s ended as none should", place, exc_info=error)
            text = f"it ended as none should ({type(error).__name__})"
            remedy = "Please report what the daemon's log says about it."
            await self._again(running, errors.TransientError(text, remedy=remedy, retry_after=_FAULT_SECONDS))
        else:
            came = Came(stored.sha256, stored.md5, stored.size)
            await self._database.write(fetches.arrived, due.id, came, self._clock.now())
            _log.info("fetched %s: %s bytes", place, f"{stored.size:,}")
            self._arrived()

    async def _failed(self, due: Due, error: errors.UserError) -> None:
        is_mismatch = isinstance(error, MismatchError)
        failure = Failure.MISMATCH if is_mismatch else Failure.REFUSED
        remedy = error.remedy
        if is_mismatch:
            remedy = "If it is the right one, correct the manifest; else put the right one there under another name."
        message = f"{error.message}. {remedy}".rstrip(". ") + "."
        _log.error("%s can't be used: %s", foreign.shown(due.source), message)
        await self._database.write(fetches.fail, due.id, failure, message)
        self._arrived()

    async def _again(self, running: _Running, error: errors.TransientError | errors.StalledError) -> None:
        due = running.due
        attempts = 0 if running.gained and not isinstance(error, PartsError) else due.attempts + 1
        asked = error.retry_after if isinstance(error, errors.TransientError) else LONGEST_SECONDS
        delay = max(asked, min(LONGEST_SECONDS, 2.0 ** min(attempts, _MOST_DOUBLINGS)))
        message = f"{error.message}. {error.remedy}".rstrip(". ") + "."
        at = self._clock.now() + timedelta(seconds=delay)
        # Said before it is written: where the disk is full, this line is all that anybody learns.
        _log.warning("%s: %s Next try in %.0f s", foreign.shown(due.source), message, delay)
        await self._database.write(fetches.try_again, due.id, message, attempts, at)
        if isinstance(error, NoRoomError):
            running.far = Far(0, None)  # what came was given up
        if running.far is not None:
            await self._database.write(fetches.advance, {due.id: running.far})
        if attempts == 1:
            self._arrived()  # for the status; how often it fails since is no news
