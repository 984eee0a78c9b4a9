"""One pass after the other: fetch, read, plan, stage, apply. What fails is said, kept on the status, and tried again.

Level-triggered: a pass looks at the newest commit and the state, never at what it missed. A newer commit always
supersedes one that could not be applied.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from reconciler import errors
from reconciler.domain import limits, plan
from reconciler.services import apply, backoff, observe, planned
from reconciler.services.bell import Bell
from reconciler.services.clock import Clock
from reconciler.source import repository, validate, watch
from reconciler.store import objects
from reconciler.store.database import Database

_log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class State:
    """What the last passes found; read by `/readyz` and the metrics."""

    commit: observe.Commit | None = None
    plan: plan.Plan | None = None
    failing: str | None = None
    """What keeps passes from succeeding; None when the last one did."""
    last_success: datetime | None = None
    passes: int = 0
    failures: int = 0
    last_duration: float = 0.0


class Reconcile:
    """Follows a ref and makes the database what it says.

    Args:
        database: the state.
        followed: the repository and its ref.
        stage: where files and lists go before an apply.
        clock: time.
        policy: the operator's own rules for plans.
    """

    def __init__(
        self,
        database: Database,
        followed: repository.Repository,
        stage: apply.Stage,
        clock: Clock,
        policy: plan.Policy,
    ) -> None:
        self._database = database
        self._repository = followed
        self._stage = stage
        self._clock = clock
        self._policy = policy
        self._cache = validate.Cache()
        self._wake = Bell()
        self._is_owed = False
        self.state = State()
        self.after_apply: Callable[[], Awaitable[None]] = _nothing
        """Awaited after each pass that changed something, before the next one; again until it succeeds."""

    def wake(self) -> None:
        """Asks for a pass now."""
        self._wake.ring()

    async def run(self, interval: float) -> None:
        """A pass at every move of the ref, and every `interval` seconds, until cancelled."""
        retry = backoff.Backoff(1.0, max(interval, 1.0))
        async with watch.Watch(self._repository.path) as watching, asyncio.TaskGroup() as group:
            group.create_task(self._listen(watching))
            while True:
                try:
                    await self.run_pass()
                except errors.ReconcilerError as error:
                    await self._wake.wait(self._failed(error, retry))
                else:
                    retry.succeeded()
                    await self._wake.wait(interval)

    async def _listen(self, watching: watch.Watch) -> None:
        while True:
            await watching.changed()
            self.wake()

    def _failed(self, error: errors.ReconcilerError, retry: backoff.Backoff) -> float:
        delay = retry.failed()
        self.state.failures += 1
        self.state.failing = error.message
        remedy = f" ({error.remedy})" if error.remedy else ""
        _log.warning("the pass failed: %s%s; next try in %.0f s", error.message, remedy, delay)
        return delay

    async def run_pass(self) -> apply.Applied | None:
        """One pass; None while the repository has no commit.

        Raises:
            ReconcilerError: it did not succeed; nothing was half done.
        """
        started = self._clock.monotonic()
        self.state.passes += 1
        commit = await self._read()
        if commit is None:
            self.state.failing = "the repository has no commit yet"
            return None
        seen = await self._database.read(observe.make_plan, commit, self._policy, self._clock.now())
        await asyncio.to_thread(self._stage.prepare, commit, seen.plan)
        applied = await self._database.write(
            apply.apply, commit, self._policy, seen.unknown, self._clock.now()
        )
        self._succeeded(commit, applied, started)
        self._is_owed = self._is_owed or applied.changed
        if self._is_owed:
            await self.after_apply()
            self._is_owed = False
        return applied

    async def _read(self) -> observe.Commit | None:
        sha = await asyncio.to_thread(self._repository.fetch)
        if sha is None:
            return None
        if self.state.commit is not None and self.state.commit.revision.sha == sha:
            return self.state.commit
        return await asyncio.to_thread(read_commit, self._repository, sha, self._cache, self._policy.limits)

    def _succeeded(self, commit: observe.Commit, applied: apply.Applied, started: float) -> None:
        state = self.state
        if state.commit is not commit:
            for diagnostic in commit.diagnostics:
                place = f"{diagnostic.place.path}:{diagnostic.place.line}"
                _log.warning("%s: %s %s", place, diagnostic.code.value, diagnostic.message)
        state.commit, state.plan, state.failing = commit, applied.plan, None
        state.last_success = self._clock.now()
        state.last_duration = self._clock.monotonic() - started
        if applied.changed:
            _log.info("applied %s: %s", commit.revision, planned.summary(applied.plan))


async def _nothing() -> None:
    """What follows a pass when nobody asked for more."""


def read_commit(
    followed: repository.Repository, sha: str, cache: validate.Cache, allowed: limits.Limits
) -> observe.Commit:
    """A fetched commit, read and checked.

    Raises:
        ReconcilerError: it can't be read.
    """
    about = followed.describe(sha)
    revision = objects.Revision(sha, followed.ref, about.subject, about.author)
    commit = observe.read(revision, followed.tree(sha), cache, allowed)
    origin = f"{followed.url} {followed.ref}"
    return dataclasses.replace(commit, origin=origin, confirmed_cancels=about.confirmed_cancels)
