"""Makes a plan so: first what can be repeated (files, lists), then everything else in one transaction.

Called by the reconcile service. The transaction plans again before it acts, so what is applied is always what a plan of
this very moment says, whoever else changed something meanwhile.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from datetime import datetime

from reconciler import errors
from reconciler.artifacts.room import NoRoomError
from reconciler.artifacts.store import FileStore
from reconciler.domain import actual, limits, plan
from reconciler.domain import desired as desires
from reconciler.domain.desired import Declaration, Key
from reconciler.domain.plan import Action, Plan, Verb
from reconciler.services import carrying, lists, observe
from reconciler.services.observe import Commit
from reconciler.store import events, fetches, objects, rosters
from reconciler.store.database import Connection, Database

_log = logging.getLogger(__name__)
_TYPES = {
    Verb.CREATE: events.Type.CREATED,
    Verb.CHANGE: events.Type.CHANGED,
    Verb.CANCEL: events.Type.CHANGED,
    Verb.REMOVE: events.Type.REMOVED,
}


class Stage:
    """What an apply needs beforehand: the packages' files in the store, and long lists in the database.

    Args:
        database: where lists go.
        files: where files go.
        allowed: the limits that the commit was checked with.
    """

    def __init__(self, database: Database, files: FileStore, allowed: limits.Limits) -> None:
        self._database = database
        self._files = files
        self._allowed = allowed

    def prepare(self, commit: Commit, planned: Plan) -> None:
        """Stores what the plan's actions refer to, and files that went missing since. Safe to repeat.

        Runs outside the event loop.

        Raises:
            TransientError: the repository or the database is away, or there is no room for a file.
            StalledError: the files' folder can't be written.
        """
        refused = {verdict.key for verdict in planned.verdicts}
        own = [
            file
            for key, declaration in commit.desired.declarations.items()
            for file in (declaration.files if key not in refused else ())
            if isinstance(file, desires.FileFact)
        ]
        for file in own:
            self._store_file(commit, file)
        self._regain(file.sha256 for file in own)
        self._miss(commit)
        for action in planned.actions:
            if action.declaration is not None and lists.are_in(action.declaration):
                self._store_roster(commit, action.declaration)

    def _store_file(self, commit: Commit, fact: desires.FileFact) -> None:
        if not self._files.holds(fact.sha256):
            chunks = commit.files.chunks(fact.path)
            try:
                self._files.put(chunks, expect_sha256=fact.sha256, expect_size=fact.size)
            except NoRoomError as error:
                text = f"{fact.path} can't be stored: {error.message}"
                raise errors.TransientError(
                    text, remedy=error.remedy, retry_after=error.retry_after
                ) from error

    def _regain(self, here: Iterable[str]) -> None:
        """What was lost, and could be taken from the commit once more, may be sent again."""
        with self._database.reading() as connection:
            back = fetches.lost(connection).intersection(here)
        if back:
            with self._database.writing() as connection:
                fetches.regain(connection, back)

    def _miss(self, commit: Commit) -> None:
        """What somebody took out of the store by hand is fetched again."""
        with self._database.reading() as connection:
            here = fetches.stored(connection)
        declared = {file.sha256 for file in foreign_files(commit) if file.sha256 in here}
        gone = [sha256 for sha256 in declared if not self._files.holds(sha256)]
        if gone:
            _log.warning("%d files are missing in the store: they are fetched again", len(gone))
            with self._database.writing() as connection:
                fetches.lose(connection, gone)

    def _store_roster(self, commit: Commit, declaration: Declaration) -> None:
        with self._database.writing() as connection:
            roster_id, complete = rosters.begin(connection, lists.digest(declaration))
        if complete:
            return
        for chunk in lists.chunks(lists.entries(commit.files, declaration, self._allowed)):
            with self._database.writing() as connection:
                rosters.add(connection, roster_id, chunk)
        with self._database.writing() as connection:
            rosters.complete(connection, roster_id)


def foreign_files(commit: Commit) -> Iterator[desires.ForeignFile]:
    """The files from outside that a commit names."""
    for declaration in commit.desired.declarations.values():
        yield from (file for file in declaration.files if isinstance(file, desires.ForeignFile))


@dataclasses.dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did."""

    plan: Plan
    changed: bool
    """False when even the statuses were as they are."""


def apply(
    connection: Connection, commit: Commit, policy: plan.Policy, unknown: observe.Unknown, now: datetime
) -> Applied:
    """Plans and carries out, in this transaction. Nothing is written when there is nothing to say.

    Args:
        connection: a writing transaction.
        commit: what to apply.
        policy: how careful to be.
        unknown: names that no device has, as they were just before: a long list is not compared here.
        now: this moment.

    Raises:
        TransientError: what became possible meanwhile is not staged; the next pass will.
    """
    new_files = fetches.declare(connection, foreign_files(commit), now)
    state = observe.state(connection, commit, unknown, now)
    planned = plan.diff(commit.desired, state, policy)
    notes = list(_notes(commit, planned, state))
    newest = objects.newest_revision(connection)
    whole = state.first_sight and not commit.desired.unnamed and not _keeps_back(planned)
    is_known = newest is not None and newest.sha == commit.revision.sha
    if is_known and not (planned.actions or notes or whole or new_files):
        return Applied(planned, changed=False)
    revision_id = objects.record_revision(connection, commit.revision, now)
    lines = objects.note(connection, notes, revision_id, now)
    carrier = carrying.Carrier(connection, state, policy.limits, revision_id, now)
    for action in planned.actions:
        carrier.carry_out(action)
        lines.append(_line(action, revision_id))
    if whole:
        objects.take_over(connection, commit.origin)
    events.append(connection, now, lines)
    return Applied(planned, changed=True)


def _keeps_back(planned: Plan) -> bool:
    """Whether removals wait for somebody's word: what they would remove is still another repository's."""
    return any(verdict.reason is plan.Reason.MASS_CANCEL for verdict in planned.verdicts)


def _line(action: Action, revision_id: int) -> events.Event:
    message = action.why + (f": {', '.join(action.changed)}" if action.changed else "")
    message += "".join(f"; warning: {warning}" for warning in action.warnings)
    return events.Event(
        type=_TYPES[action.verb],
        kind=action.key.kind,
        name=action.key.name,
        revision_id=revision_id,
        message=message,
    )


def _notes(commit: Commit, planned: Plan, state: actual.ActualState) -> Iterator[objects.Note]:
    """The statuses that differ from what is written: refused, held, moved to another file, or well again."""
    acted = {action.key for action in planned.actions}
    verdicts = {verdict.key: verdict for verdict in planned.verdicts}
    for key in sorted({*commit.desired.declarations, *verdicts} - acted):
        declaration, stored = commit.desired.declarations.get(key), state.objects.get(key)
        note = _note(declaration, stored, key, verdicts.get(key))
        if stored is None or _differs(stored, note):
            yield note


def _note(
    declaration: Declaration | None, stored: actual.Stored | None, key: Key, verdict: plan.Verdict | None
) -> objects.Note:
    if declaration is not None:
        goes_on = verdict is not None and stored is not None and _still_fetching(verdict, stored)
        return objects.Note(
            key, declaration.path, declaration.digest, verdict, declaration.metadata, is_news=not goes_on
        )
    if stored is None:
        return objects.Note(key, "", "", verdict)
    unknown = verdict is not None and verdict.holds and stored.held is None  # it is held, whatever it says
    digest = "" if unknown else stored.declared_digest
    return objects.Note(key, stored.path, digest, verdict, stored.metadata)


def _still_fetching(verdict: plan.Verdict, stored: actual.Stored) -> bool:
    """How far it is, is for its status, not for the log."""
    return verdict.reason is plan.Reason.FETCHING and stored.reason == verdict.reason


def _differs(stored: actual.Stored, note: objects.Note) -> bool:
    verdict = note.verdict
    reason, message = (str(verdict.reason), verdict.message) if verdict else ("", "")
    is_new_hold = verdict is not None and verdict.holds and stored.held is None
    have = stored.path, stored.declared_digest, stored.reason, stored.message, stored.metadata
    return is_new_hold or have != (note.path, note.declared_digest, reason, message, note.metadata)
