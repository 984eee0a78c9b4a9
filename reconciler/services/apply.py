"""Makes a plan so: first what can be repeated (files, lists), then everything else in one transaction.

Called by the reconcile service. The transaction plans again before it acts, so what is applied is always what a plan of
this very moment says, whoever else changed something meanwhile.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from datetime import datetime

from reconciler import errors
from reconciler.artifacts.store import FileStore
from reconciler.domain import actual, limits, plan, resources, targeting
from reconciler.domain import desired as desires
from reconciler.domain.desired import Declaration, Key
from reconciler.domain.plan import Action, Plan, Verb
from reconciler.services import observe
from reconciler.services.observe import Commit
from reconciler.store import events, objects, products, rosters, runs
from reconciler.store.database import Connection, Database

_CHUNK = 20_000
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
            TransientError: the repository or the database is away.
            StalledError: there is no room for the files.
        """
        refused = {verdict.key for verdict in planned.verdicts}
        for key, declaration in commit.desired.declarations.items():
            if declaration.file is not None and key not in refused:
                self._store_file(commit, declaration.file)
        for action in planned.actions:
            if action.declaration is not None and observe.lists_devices(action.declaration):
                self._store_roster(commit, action.declaration)

    def _store_file(self, commit: Commit, fact: desires.FileFact) -> None:
        if not self._files.path(fact.sha256).exists():
            chunks = commit.files.chunks(fact.path)
            self._files.put(chunks, expect_sha256=fact.sha256, expect_size=fact.size)

    def _store_roster(self, commit: Commit, declaration: Declaration) -> None:
        digest = roster_digest(declaration)
        with self._database.writing() as connection:
            roster_id, complete = rosters.begin(connection, digest)
        entries = iter(()) if complete else observe.entries(commit, declaration, self._allowed)
        while chunk := list(itertools.islice(entries, _CHUNK)):
            with self._database.writing() as connection:
                rosters.add(connection, roster_id, chunk)
        if not complete:
            with self._database.writing() as connection:
                rosters.complete(connection, roster_id)


def roster_digest(declaration: Declaration) -> str:
    """What a staged list is found by: its content, in the way its kind reads it."""
    if declaration.roster is not None:
        content: dict[str, object] = {"file": declaration.roster.sha256}
    else:
        spec = resources.normalised(declaration.resource)
        content = {
            "devices": spec["target"]["devices"]
            if declaration.kind is resources.Kind.BATCH
            else spec.get("devices")
        }
    return resources.digest({"kind": declaration.kind, **content})


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
        unknown: names that no device has, by batch, as they were just before: a long list is not compared here.
        now: this moment.

    Raises:
        TransientError: what became possible meanwhile is not staged; the next pass will.
    """
    state = observe.state(connection, commit, unknown)
    planned = plan.diff(commit.desired, state, policy)
    notes = list(_notes(commit, planned, state))
    newest = objects.newest_revision(connection)
    whole = state.first_sight and not commit.desired.unnamed and not _keeps_back(planned)
    if not (planned.actions or notes or whole) and newest is not None and newest.sha == commit.revision.sha:
        return Applied(planned, changed=False)
    revision_id = objects.record_revision(connection, commit.revision, now)
    lines = objects.note(connection, notes, revision_id, now)
    carrier = _Carrier(connection, state, revision_id, now)
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
        return objects.Note(key, declaration.path, declaration.digest, verdict)
    if stored is None:
        return objects.Note(key, "", "", verdict)
    unknown = verdict is not None and verdict.holds and stored.held is None  # it is held, whatever it says
    return objects.Note(key, stored.path, "" if unknown else stored.declared_digest, verdict)


def _differs(stored: actual.Stored, note: objects.Note) -> bool:
    verdict = note.verdict
    reason, message = (str(verdict.reason), verdict.message) if verdict else ("", "")
    is_new_hold = verdict is not None and verdict.holds and stored.held is None
    have = stored.path, stored.declared_digest, stored.reason, stored.message
    return is_new_hold or have != (note.path, note.declared_digest, reason, message)


class _Carrier:
    """Carries out actions, one after the other, in one transaction."""

    def __init__(
        self, connection: Connection, state: actual.ActualState, revision_id: int, now: datetime
    ) -> None:
        self._connection = connection
        self._runs: Mapping[Key, actual.Run] = {
            key: stored.run for key, stored in state.objects.items() if stored.run is not None
        }
        self._revision_id = revision_id
        self._now = now

    def carry_out(self, action: Action) -> None:
        """One action, by what it is on."""
        if action.cancels_run:
            cancellation = runs.Cancellation(actual.GIT, action.statuses, action.why)
            runs.cancel(self._connection, self._runs[action.key].id, cancellation, self._now)
        if action.declaration is None:
            object_id = objects.object_id(self._connection, action.key)
            products.remove(self._connection, object_id)
            objects.remove(self._connection, action.key, self._revision_id, self._now)
            return
        object_id = self._accept(action.declaration)
        resource = action.declaration.resource
        if isinstance(resource, resources.Product):
            self._product(object_id, resource)
        elif isinstance(resource, resources.Package):
            self._package(object_id, action.declaration, resource)
        elif isinstance(resource, resources.DeviceInventory):
            self._inventory(object_id, action.declaration, resource)
        elif isinstance(resource, resources.Batch):
            self._batch(object_id, action, resource)

    def _accept(self, declaration: Declaration) -> int:
        spec = desires.content(declaration.resource, declaration.file, declaration.roster)
        acceptance = objects.Acceptance(
            declaration.key, declaration.path, declaration.digest, spec, self._revision_id
        )
        return objects.accept(self._connection, acceptance, self._now)

    def _product(self, object_id: int, resource: resources.Product) -> None:
        spec = resource.spec
        product = products.NewProduct(
            object_id=object_id,
            name=resource.metadata.name,
            product_key=spec.product_key or resource.metadata.name,
            numeric_versions=spec.version_format is resources.VersionFormat.NUMERIC,
            auto_registration=spec.registration is resources.Registration.AUTO,
            modules=[module.name for module in spec.modules],
        )
        products.put_product(self._connection, product)

    def _package(self, object_id: int, declaration: Declaration, resource: resources.Package) -> None:
        spec, fact = resource.spec, declaration.file
        assert fact is not None, "a package of this release has one file in the repository"
        blob_id = products.put_blob(
            self._connection, sha256=fact.sha256, md5=fact.md5, size=fact.size, now=self._now
        )
        package = products.NewPackage(
            object_id=object_id,
            name=resource.metadata.name,
            product_id=self._product_id(spec.product),
            blob_id=blob_id,
            module=spec.module,
            version=spec.version,
            sign_method=spec.sign_method,
            file_name=spec.files[0].name,
            custom_info=spec.custom_info or None,
        )
        products.put_package(self._connection, package)

    def _inventory(
        self, object_id: int, declaration: Declaration, resource: resources.DeviceInventory
    ) -> None:
        product_id = self._product_id(resource.spec.product)
        products.put_inventory(self._connection, object_id, product_id, self._roster_id(declaration))

    def _batch(self, object_id: int, action: Action, resource: resources.Batch) -> None:
        assert action.declaration is not None
        spec = resource.spec
        if action.starts_run:
            self._start_run(object_id, action.declaration, spec)
        elif action.verb is Verb.CHANGE and action.key in self._runs:
            run_id = self._runs[action.key].id
            runs.change(
                self._connection,
                run_id,
                push_rate=spec.push_rate_per_minute,
                timeout=spec.timeout,
                tags=spec.tags,
            )

    def _start_run(self, object_id: int, declaration: Declaration, spec: resources.BatchSpec) -> None:
        package = products.package(self._connection, spec.package)
        assert package is not None, "validation resolved the reference, and the plan's order made it"
        run = runs.NewRun(
            object_id=object_id,
            batch=declaration.name,
            product_id=package.product_id,
            package_id=package.id,
            revision_id=self._revision_id,
            roster_id=self._roster_id(declaration) if observe.lists_devices(declaration) else None,
            conditions=conditions(spec, package.module, package.version),
            push_rate=spec.push_rate_per_minute,
            timeout=spec.timeout,
            push_delivery=spec.delivery is resources.Delivery.PUSH,
            tags=spec.tags,
        )
        runs.create(self._connection, run, self._now)

    def _product_id(self, name: str) -> int:
        found = products.product_id(self._connection, name)
        assert found is not None, "validation resolved the reference, and the plan's order made it"
        return found

    def _roster_id(self, declaration: Declaration) -> int:
        found = rosters.find(self._connection, roster_digest(declaration))
        if found is None:  # something ended since the plan was made, and now more is possible than was staged
            raise errors.TransientError("the state moved while this was planned", retry_after=0.1)
        return found


def conditions(spec: resources.BatchSpec, module: str, version: str) -> targeting.Conditions:
    """What a batch asks of a device's version."""
    return targeting.Conditions(
        module, version, spec.target.source_versions, allow_downgrade=spec.allow_downgrade
    )
