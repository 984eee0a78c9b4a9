"""Carries out the actions of a plan, one after the other, in one transaction: objects become rows, and runs begin.

Called by `apply`. Nothing is decided here: what an action may do was decided by the plan of this very transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from reconciler import errors
from reconciler.domain import actual, resources
from reconciler.domain import desired as desires
from reconciler.domain.desired import Declaration, Key
from reconciler.domain.limits import Limits
from reconciler.domain.plan import Action, Verb
from reconciler.services import beginning, lists
from reconciler.store import groups, objects, products, rosters, runs
from reconciler.store.database import Connection


class Carrier:
    """Carries out actions.

    Args:
        connection: a writing transaction.
        state: what the plan compared with.
        limits: the operator's numbers.
        revision_id: the commit that asks for it.
        now: this moment.
    """

    def __init__(
        self,
        connection: Connection,
        state: actual.ActualState,
        limits: Limits,
        revision_id: int,
        now: datetime,
    ) -> None:
        self._connection = connection
        self._runs: Mapping[Key, actual.Run] = {
            key: stored.run for key, stored in state.objects.items() if stored.run is not None
        }
        self._limits = limits
        self._revision_id = revision_id
        self._now = now

    def carry_out(self, action: Action) -> None:
        """One action, by what it is on.

        Raises:
            TransientError: what became possible meanwhile is not staged; the next pass will.
        """
        if action.cancels_run:
            cancellation = runs.Cancellation(actual.GIT, action.statuses, action.why)
            runs.cancel(self._connection, self._runs[action.key].id, cancellation, self._now)
        declaration = action.declaration
        if declaration is None:
            self._remove(action.key)
            return
        object_id = self._accept(declaration)
        match declaration.resource:
            case resources.Product() as product:
                self._product(object_id, product)
            case resources.Package() as package:
                self._package(object_id, action, declaration, package)
            case resources.DeviceInventory() as inventory:
                product_id = self._product_id(inventory.spec.product)
                roster_id = self._roster_id(declaration)
                products.put_inventory(self._connection, object_id, product_id, roster_id)
            case resources.DeviceGroup() as group:
                self._group(object_id, action, declaration, group)
            case resources.Batch() as batch:
                self._batch(object_id, action, declaration, batch)

    def _remove(self, key: Key) -> None:
        object_id = objects.object_id(self._connection, key)
        if key.kind is resources.Kind.DEVICE_GROUP:
            groups.remove(self._connection, object_id)
        products.remove(self._connection, object_id)
        objects.remove(self._connection, key, self._revision_id, self._now)

    def _accept(self, declaration: Declaration) -> int:
        spec = desires.content(declaration.resource, declaration.files, declaration.roster)
        acceptance = objects.Acceptance(
            key=declaration.key,
            path=declaration.path,
            digest=declaration.digest,
            spec=spec,
            revision_id=self._revision_id,
            metadata=declaration.metadata,
        )
        return objects.accept(self._connection, acceptance, self._now)

    def _product(self, object_id: int, resource: resources.Product) -> None:
        spec = resource.spec
        product = products.NewProduct(
            object_id=object_id,
            name=resource.metadata.name,
            product_key=resource.product_key,
            numeric_versions=spec.version_format is resources.VersionFormat.NUMERIC,
            auto_registration=spec.registration is resources.Registration.AUTO,
            modules=[module.name for module in spec.modules],
            signing_key=spec.signing.private_key_from.reference if spec.signing is not None else None,
            protocol=spec.protocol,
            md5_name=spec.md5_name,
        )
        products.put_product(self._connection, product)

    def _package(
        self, object_id: int, action: Action, declaration: Declaration, resource: resources.Package
    ) -> None:
        spec = resource.spec
        package = products.NewPackage(
            object_id=object_id,
            name=resource.metadata.name,
            product_id=self._product_id(spec.product),
            files=tuple(map(self._file, spec.files, declaration.files)),
            module=spec.module,
            version=spec.version,
            source_version=spec.source_version,
            sign_method=spec.sign_method,
            custom_info=spec.custom_info or None,
            verification=beginning.verification(action, resource),
        )
        package_id = products.put_package(self._connection, package)
        if action.starts_run:
            where = beginning.Where(object_id, package_id, package.product_id, self._revision_id)
            roster_id = self._roster_id(declaration)
            new = beginning.trial(resource, where, roster_id, self._limits)
            runs.create(self._connection, new, self._now)

    def _file(self, written: resources.PackageFile, file: desires.File) -> products.NewFile:
        if isinstance(file, desires.ForeignFile):
            found = products.blob_id(self._connection, file.sha256)
            assert found is not None, "a rule of the plan asked for it"
            return products.NewFile(written.name, found)
        blob_id = products.put_blob(
            self._connection, sha256=file.sha256, md5=file.md5, size=file.size, now=self._now
        )
        return products.NewFile(written.name, blob_id)

    def _group(
        self, object_id: int, action: Action, declaration: Declaration, resource: resources.DeviceGroup
    ) -> None:
        if action.verb is Verb.CHANGE and set(action.changed) <= {"title"}:
            return
        spec = resource.spec
        selector = resources.normalised(resource).get("selector")
        group = groups.NewGroup(
            object_id=object_id,
            name=resource.metadata.name,
            product_id=self._product_id(spec.product) if spec.product is not None else None,
            roster_id=self._roster_id(declaration) if spec.selector is None else None,
            selector=selector,
        )
        groups.put(self._connection, group, None, self._now)

    def _batch(
        self, object_id: int, action: Action, declaration: Declaration, resource: resources.Batch
    ) -> None:
        spec = resource.spec
        package = products.package(self._connection, spec.package)
        assert package is not None, "validation resolved the reference, and the plan's order made it"
        fitting = beginning.Fitting(package.module, package.version, package.source_version)
        if action.starts_run:
            where = beginning.Where(object_id, package.id, package.product_id, self._revision_id)
            whom = self._whom(declaration, spec.target)
            new = beginning.batch(resource, fitting, where, whom)
            new = beginning.scheduled(new, spec.schedule, self._limits, self._now)
            runs.create(self._connection, new, self._now)
        elif action.changed and action.key in self._runs:
            changes = beginning.changes(spec, fitting)
            runs.change(self._connection, self._runs[action.key].id, changes, self._now)

    def _whom(self, declaration: Declaration, target: resources.Target) -> beginning.Whom:
        """The list or the group of a batch, as it is now: a static group's list is the batch's own from here on."""
        if target.group is None:
            return beginning.Whom(self._roster_id(declaration) if lists.are_in(declaration) else None)
        group = products.group(self._connection, target.group)
        assert group is not None, "a rule of the plan asked for it, and the plan's order made it"
        return beginning.Whom(group.roster_id, group.id if group.roster_id is None else None)

    def _product_id(self, name: str) -> int:
        found = products.product_id(self._connection, name)
        assert found is not None, "validation resolved the reference, and the plan's order made it"
        return found

    def _roster_id(self, declaration: Declaration) -> int:
        found = rosters.find(self._connection, lists.digest(declaration))
        if found is None:  # something ended since the plan was made, and now more is possible than was staged
            raise errors.TransientError("the state moved while this was planned", retry_after=0.1)
        return found
