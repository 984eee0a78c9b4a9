"""Plans against the live state: what the daemon would do with a commit, and whom that touches. Changes nothing.

`live` is what `reconciler plan` and the API both call, so that they say the same. `Planning` is the API's: it gets
the commit by itself, through a mirror of its own, so that the daemon's passes notice nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson

from reconciler import errors
from reconciler.domain import plan
from reconciler.services import observe, planned, preview, reconcile
from reconciler.services.clock import Clock
from reconciler.services.observe import Commit
from reconciler.source import validate
from reconciler.source.repository import Repository
from reconciler.store import objects
from reconciler.store.database import Connection, Database

SECONDS = 120.0
"""How long one plan may take: a first fetch of a large repository is the longest part of it."""
LARGEST = 32 << 20
"""Bytes of a plan that is answered: a commit in which everything is wrong says so as often."""


class BusyError(errors.TransientError):
    """Another plan is being made."""


def live(
    connection: Connection, commit: Commit, policy: plan.Policy, now: datetime, *, notes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What the commit would do now, as `planned.document` has it.

    The commit is planned as if it were what the daemon's ref names: nothing is merged. What a branch lacks of what is
    in force shows as deleted (`behind` says so). Files that are to come from outside are taken for granted.

    Args:
        connection: a reading transaction.
        commit: what to plan.
        policy: the operator's rules.
        now: this moment.
        notes: what the reader must know besides.
    """
    policy = dataclasses.replace(policy, awaits_files=False)
    followed = objects.followed_origin(connection)
    if followed not in {None, commit.origin}:
        theirs, ours = (origin.rpartition(" ")[0] for origin in (followed or "", commit.origin))
        if theirs != ours:  # another ref is what was asked for
            notes += (f"this state follows {theirs}, and not {ours}: planned as if the commit were there",)
        commit = dataclasses.replace(commit, origin=followed or "")
    seen = observe.make_plan(connection, commit, policy, now)
    looked = planned.Looked(
        basis=planned.Basis.LIVE,
        revision=str(commit.revision),
        subject=commit.revision.subject,
        diagnostics=commit.diagnostics,
        notes=notes,
    )
    reaches = preview.reaches(connection, commit, seen, policy.limits)
    return planned.document(looked, seen.plan, seen.actual, reaches=reaches)


def behind(database: Database, repository: Repository, commit: Commit) -> tuple[str, ...]:
    """The note that a commit lacks some of what was applied last; none where that can't be known.

    The repository may have to be asked, so this is no part of the transaction in which the plan is made.
    """
    with database.reading() as connection:
        applied = objects.newest_revision(connection)
    if applied is None or applied.sha == commit.revision.sha:
        return ()
    count = repository.lacks(commit.revision.sha, applied.sha)
    remedy = "Bring the branch up to date, or plan its merge (refs/pull/N/merge)."
    return planned.lacking(count, str(commit.revision), str(applied), remedy)


def fetch(repository: Repository, cache: validate.Cache, policy: plan.Policy) -> Commit:
    """The commit that a repository's ref names now, read and checked.

    Raises:
        ReconcilerError: there is none, or it can't be read.
    """
    sha = repository.fetch()
    if sha is None:
        raise errors.UserError(
            f"{repository.url} has no commit yet", remedy="Commit manifests, then look again."
        )
    return reconcile.read_commit(repository, sha, cache, policy.limits)


class Planning:
    """Plans of refs of the daemon's repository: one at a time, each within its time.

    Args:
        database: the state.
        clock: time.
        policy: the operator's rules.
        opened: gives the repository, following a ref (empty: the daemon's own). Its mirror is nobody else's.
        seconds: how long one may take.
        largest: how many bytes one may have.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        policy: plan.Policy,
        opened: Callable[[str], Repository],
        *,
        seconds: float = SECONDS,
        largest: int = LARGEST,
    ) -> None:
        self._database = database
        self._clock = clock
        self._policy = policy
        self._opened = opened
        self._seconds = seconds
        self._largest = largest
        self._cache = validate.Cache()
        self._making: asyncio.Future[bytes] | None = None

    async def plan(self, ref: str) -> bytes:
        """The plan of a ref's newest commit, as JSON.

        Raises:
            BusyError: another one is being made.
            UsageError: the ref can't be one.
            UserError: there is no such ref, or no commit, or the plan is too large.
            TransientError: the repository or the database is away, or it took too long.
            StalledError: an operator must act.
        """
        if self._making is not None and not self._making.done():
            raise BusyError("another plan is being made", remedy="Ask again in a moment.", retry_after=2.0)
        repository = self._opened(ref)
        making = self._making = asyncio.ensure_future(asyncio.to_thread(self._make, repository))
        making.add_done_callback(_taken)
        try:
            return await asyncio.wait_for(asyncio.shield(making), self._seconds)
        except TimeoutError:
            raise errors.TransientError(
                f"the plan took longer than {self._seconds:g} s",
                remedy="Ask again later; `reconciler plan` beside the daemon takes the time that it needs.",
                retry_after=10.0,
            ) from None
        finally:
            if not making.done():  # too late, or nobody waits any more: git is ended, the rest ends by itself
                repository.close()

    def _make(self, repository: Repository) -> bytes:
        try:
            commit = fetch(repository, self._cache, self._policy)
            notes = behind(self._database, repository, commit)
            with self._database.reading() as connection:
                said = live(connection, commit, self._policy, self._clock.now(), notes=notes)
            body = orjson.dumps(said, option=orjson.OPT_INDENT_2)
            if len(body) > self._largest:
                raise errors.UserError(
                    f"the plan has {len(body):,} bytes, at most {self._largest:,} are answered",
                    remedy="Mend what `reconciler validate` finds first, or use `reconciler plan` beside the daemon.",
                )
            return body
        finally:
            repository.close()


def _taken(making: asyncio.Future[bytes]) -> None:
    """What went wrong after nobody waited any more is of no interest."""
    if not making.cancelled():
        making.exception()
