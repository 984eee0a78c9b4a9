"""The rules between manifests: references, uniqueness, versions, and the files beside them.

Called by `validate` with all readings of a tree. Kinds are judged in the order in which they refer to each other;
an object that refers to a broken one is kept out too, but that is no second error. Nobody wins a name that two
objects claim. Of an object that is wrong by itself, the rules are judged which read nothing else of it than what is
sound; nobody loses by it.
"""

from __future__ import annotations

import dataclasses
import functools
import posixpath
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from reconciler.domain import downloads, resources
from reconciler.domain.desired import Declaration, File, ForeignFile, Key, RosterRef
from reconciler.domain.diagnostics import Code, Diagnostic, Place, Related, Severity
from reconciler.domain.limits import Limits
from reconciler.domain.resources import (
    Batch,
    DeviceGroup,
    DeviceInventory,
    Kind,
    Location,
    Package,
    PackageFile,
    Product,
    Resource,
)
from reconciler.domain.resources.partial import Partial, Unsound
from reconciler.source import beside, explain, listed, rosters
from reconciler.source.candidates import Candidate
from reconciler.source.tree import Tree, UnreadableError

_T = TypeVar("_T")


class Judge:
    """Judges the manifests of one tree together; used for one pass.

    Args:
        tree: where the files beside the manifests are.
        limits: the operator's numbers.
        facts: what is known of files from earlier passes.
    """

    def __init__(self, tree: Tree, limits: Limits, facts: beside.Facts) -> None:
        self._tree = tree
        self._limits = limits
        self._facts = facts
        self._missing = beside.Missing(tree)
        self._candidates: dict[Key, Candidate] = {}
        self._files: dict[Key, tuple[File, ...]] = {}
        self._rosters: dict[Key, RosterRef] = {}
        self._lists = listed.Lists(tree, limits, self._rosters)
        self._flawed: set[tuple[str, rosters.Flaw]] = set()
        self._taken: dict[tuple[Any, ...], tuple[Candidate, Location]] = {}
        self.diagnostics: list[Diagnostic] = []
        self.broken: dict[Key, list[str]] = {}

    def judge(
        self, candidates: dict[Key, Candidate], flawed: Sequence[Candidate] = ()
    ) -> dict[Key, Declaration]:
        """The declarations of those that keep every rule. `diagnostics` and `broken` hold the others.

        Args:
            candidates: the manifests that are valid by themselves.
            flawed: what is sound of the others; they are in `broken` already.
        """
        self._candidates = candidates
        rules: dict[Kind, Callable[[Candidate, Any], None]] = {
            Kind.PRODUCT: self._product,
            Kind.PACKAGE: self._package,
            Kind.DEVICE_INVENTORY: self._inventory,
            Kind.DEVICE_GROUP: self._group,
            Kind.BATCH: self._batch,
        }
        afterwards: dict[Kind, Callable[[], None]] = {
            Kind.PACKAGE: lambda: self._count(Kind.PACKAGE, self._limits.packages),
            Kind.DEVICE_INVENTORY: self._devices_twice,
            Kind.DEVICE_GROUP: self._group_members,
        }
        for kind, rule in rules.items():
            for candidate in (*self._of(kind), *(one for one in flawed if one.key.kind is kind)):
                _where_sound(rule, candidate, candidate.resource)
            if kind in afterwards:
                afterwards[kind]()
        return self._facts.declarations(
            {
                key: (
                    cast("Resource", candidate.resource),
                    candidate.path,
                    candidate.document.line,
                    self._files.get(key, ()),
                    self._rosters.get(key),
                )
                for key, candidate in candidates.items()
                if key not in self.broken
            }
        )

    def _of(self, kind: Kind) -> list[Candidate]:
        found = [candidate for key, candidate in self._candidates.items() if key.kind is kind]
        return sorted(found, key=lambda candidate: (candidate.path, candidate.document.line))

    def _refuse(
        self, candidate: Candidate, code: Code, message: str, location: Location, **more: Any
    ) -> None:
        """Reports a finding about an object and keeps the object out."""
        found = candidate.subject.report(code, message, location, **more)
        self.diagnostics.append(found)
        self.broken.setdefault(candidate.key, []).append(str(found))

    def _refer(self, candidate: Candidate, kind: Kind, name: str, location: Location) -> Resource | None:
        """The object that a field names, when there is one and it is not broken."""
        key = Key(kind, name)
        if key in self.broken:
            note = f"{candidate.place(location)}: {key}, which it refers to, is not valid"
            self.broken.setdefault(candidate.key, []).append(note)
            return None
        found = self._candidates.get(key)
        if found is None:
            message = f"there is no {kind} `{name}`"
            self._refuse(candidate, Code.REFERENCE, message, location, **self._meant(kind, name))
            return None
        return cast("Resource", found.resource)

    @functools.cached_property
    def _names(self) -> dict[Kind, list[str]]:
        """What there is of each kind, right or wrong. Gathered once: many references may be wrong."""
        known = (*self._candidates, *self.broken)
        return {kind: [key.name for key in known if key.kind is kind] for kind in Kind}

    def _meant(self, kind: Kind, name: str) -> dict[str, Any]:
        """The remedy for a reference that leads nowhere, and the place of what was probably meant."""
        meant = Key(kind, explain.closest(name, self._names[kind]))
        remedy = f"did you mean `{meant.name}`?" if meant.name else "declare it, or correct the name"
        for other in (Key(another, name) for another in Kind if not meant.name):
            if other in self._candidates:
                meant, remedy = other, f"`{name}` is a {other.kind}, and a {kind} is needed"
        holder = self._candidates.get(meant)
        place = (
            ()
            if holder is None
            else (Related(holder.place(("metadata", "name")), f"{meant} is declared here"),)
        )
        return {"help": remedy, "related": place}

    def _claim(self, candidate: Candidate, location: Location, what: str, *claim: Any, of: str = "") -> None:
        """Reserves something that only one object may have. When it is taken, both lose; none by a flawed one."""
        earlier = self._taken.setdefault((what, *claim), (candidate, location))
        if earlier[0] is candidate:
            return
        other, place = earlier
        message = f"{what} `{claim[-1]}`{of} is taken by {other.key}"
        related = (Related(other.place(place), f"{other.key} has it too"),)
        self._refuse(
            candidate, Code.TAKEN, message, location, related=related, help="neither counts: change one"
        )
        if isinstance(candidate.resource, Partial):
            return
        note = f"{other.place(place)}: {what} `{claim[-1]}`{of} is taken by {candidate.key} too"
        self.broken.setdefault(other.key, []).append(note)

    def _product(self, candidate: Candidate, product: Product) -> None:
        at = ("spec", "productKey") if product.spec.product_key else ("metadata", "name")
        self._claim(candidate, at, "product key", product.product_key)

    def _package(self, candidate: Candidate, package: Package) -> None:
        _where_sound(self._title, candidate, package)
        _where_sound(self._package_of_product, candidate, package)
        found = [
            _where_sound(self._package_file, candidate, file, place)
            for place, file in enumerate(package.spec.files[: resources.MOST_FILES])
        ]
        self._files[candidate.key] = tuple(fact for fact in found if fact is not None)

    def _title(self, candidate: Candidate, package: Package) -> None:
        at = ("spec", "title") if package.spec.title else ("metadata", "name")
        self._claim(candidate, at, "title", package.title)

    def _package_of_product(self, candidate: Candidate, package: Package) -> None:
        product = self._refer(candidate, Kind.PRODUCT, package.spec.product, ("spec", "product"))
        if isinstance(product, Product):
            for rule in (
                self._version_once,
                self._module,
                self._versions,
                self._verification,
                self._file_count,
            ):
                _where_sound(rule, candidate, package, product)

    def _version_once(self, candidate: Candidate, package: Package, _product: Product) -> None:
        spec = package.spec
        self._claim(
            candidate,
            ("spec", "version"),
            f"the {spec.type} version",
            spec.product,
            spec.module,
            spec.source_version,
            spec.version,
            of=f" of product {spec.product}, module {spec.module},",
        )

    def _module(self, candidate: Candidate, package: Package, product: Product) -> None:
        self._has_module(candidate, product, package.spec.module, ("spec", "module"))

    def _versions(self, candidate: Candidate, package: Package, product: Product) -> None:
        self._in_format(candidate, product, package.spec.version, ("spec", "version"))
        if package.spec.source_version is not None:
            self._in_format(candidate, product, package.spec.source_version, ("spec", "sourceVersion"))

    def _file_count(self, candidate: Candidate, package: Package, product: Product) -> None:
        count = len(package.spec.files)
        if count > 1 and product.spec.protocol is resources.Protocol.SAGOO:
            message = f"SagooIOT devices take packages of one file, and this one has {count}"
            remedy = "put the files into an archive, or publish a package for each"
            self._refuse(candidate, Code.COMBINATION, message, ("spec", "files"), help=remedy)

    def _verification(self, candidate: Candidate, package: Package, product: Product) -> None:
        """The versions that narrow a trial are such that a device can come from."""
        if package.spec.verification is None or not package.spec.verification.source_versions:
            return
        written = candidate.document.data["spec"]["verification"]["sourceVersions"]
        for index, version in enumerate(written):
            at: Location = ("spec", "verification", "sourceVersions", index)
            if version == package.spec.version:
                message = f"`{version}` is the package's own version, so no device needs to come from it"
                self._refuse(candidate, Code.SAME_VERSION, message, at, help="remove it")
            elif package.spec.source_version not in {None, version}:
                source = package.spec.source_version
                message = f"the package is a delta from `{source}`, and fits no device on `{version}`"
                self._refuse(candidate, Code.COMBINATION, message, at, help="remove it")
            else:
                self._in_format(candidate, product, version, at)

    def _has_module(self, candidate: Candidate, product: Product, module: str, location: Location) -> None:
        if module not in product.modules:
            remedy = explain.nearest(module, product.modules) or "add it to the product's modules"
            message = f"product `{product.metadata.name}` has no module `{module}`"
            self._refuse(candidate, Code.MODULE, message, location, help=remedy)

    def _in_format(self, candidate: Candidate, product: Product, version: str, location: Location) -> None:
        if product.spec.version_format is resources.VersionFormat.FREE:
            return
        if not resources.NUMERIC_VERSION.fullmatch(version):
            message = f"`{version}` is not a version of product `{product.metadata.name}`, which has x.y.z in digits"
            self._refuse(candidate, Code.VERSION_FORMAT, message, location, help='write it like "1.4.0"')

    def _package_file(self, candidate: Candidate, file: PackageFile, place: int) -> File | None:
        """What one of a package's files is; None when it can't be told, which keeps the package out."""
        if not resources.is_path(file.source):
            digest = file.sha256  # a flawed one may lack it, which is reported already
            return ForeignFile(file.source, file.size, digest, file.md5) if digest is not None else None
        at: Location = ("spec", "files", place)
        path = self._resolve(candidate, file.source, (*at, "source"))
        if path is None:
            return None
        size = self._tree.size(path) or 0
        if not 0 < size <= self._limits.file_bytes:
            message = f"the file has {size:,} bytes; 1 to {self._limits.file_bytes:,} are allowed"
            self._refuse(candidate, Code.FILE, message, (*at, "source"), help="commit the right file")
            return None
        try:
            content = self._facts.content(self._tree, path)
        except UnreadableError as problem:
            self._refuse(candidate, Code.NO_FILE, problem.message, (*at, "source"))
            return None
        if content.is_pointer:
            message = f"commits hold a pointer of Git LFS for {path}, not the file itself"
            self._refuse(candidate, Code.FILE, message, (*at, "source"), help=beside.OUT_OF_LFS)
            return None
        if file.size is not None and file.size != content.size:
            message = f"the size of {path} is {content.size:,}, not {file.size:,}"
            self._refuse(
                candidate,
                Code.SIZE,
                message,
                (*at, "size"),
                help=f"if the file is right, write `size: {content.size}`",
            )
        if file.sha256 is not None and file.sha256 != content.sha256:
            remedy = f"if the file is right, write `sha256: {content.sha256}`"
            self._refuse(candidate, Code.DIGEST, f"{path} has another SHA-256", (*at, "sha256"), help=remedy)
        if file.md5 is not None and file.md5 != content.md5:
            remedy = f"if the file is right, write `md5: {content.md5}`"
            self._refuse(candidate, Code.DIGEST, f"{path} has another MD5", (*at, "md5"), help=remedy)
        return content.fact(path)

    def _resolve(self, candidate: Candidate, source: str, location: Location) -> str | None:
        """The tree's path of an existing file that a manifest names."""
        path = beside.resolve(candidate.path, source)
        if path is None:
            shown = source if source.isprintable() else repr(source)
            message = f"`{shown}` leads out of the repository"
            folder = posixpath.dirname(candidate.path) or "the root itself"
            remedy = f"its root is the Git repository's, or the folder given to `validate`; the path begins at {folder}"
            self._refuse(candidate, Code.NO_FILE, message, location, help=remedy)
            return None
        if self._tree.size(path) is None:
            remedy = self._missing.remedy(path, candidate.path)
            self._refuse(candidate, Code.NO_FILE, f"there is no file {path}", location, help=remedy)
            return None
        return path

    def _valid(self, kind: Kind) -> list[Candidate]:
        return [candidate for candidate in self._of(kind) if candidate.key not in self.broken]

    def _count(self, kind: Kind, most: int) -> None:
        what = "packages" if kind is Kind.PACKAGE else "groups"
        for candidate in self._valid(kind)[most:]:
            message, remedy = f"there are more {what} than allowed (at most {most:,})", "delete old ones"
            self._refuse(candidate, Code.TOO_MANY, message, ("metadata", "name"), help=remedy)

    def _inventory(self, candidate: Candidate, inventory: DeviceInventory) -> None:
        _where_sound(self._of_product, candidate, inventory)
        if inventory.spec.devices_from is not None:
            at = ("spec", "devicesFrom", "file")
            self._roster(candidate, inventory.spec.devices_from.file, rosters.Shape.TAGGED, at)

    def _of_product(self, candidate: Candidate, object_: DeviceInventory | DeviceGroup) -> Resource | None:
        name = object_.spec.product
        return None if name is None else self._refer(candidate, Kind.PRODUCT, name, ("spec", "product"))

    def _group(self, candidate: Candidate, group: DeviceGroup) -> None:
        product = _where_sound(self._of_product, candidate, group)
        _where_sound(self._group_list, candidate, group)
        module = group.spec.selector.module if group.spec.selector is not None else None
        if module is not None and isinstance(product, Product):
            at_module = ("spec", "selector", "module")
            self._has_module(candidate, product, module.name, (*at_module, "name"))
            self._in_format(candidate, product, module.version, (*at_module, "version"))

    def _group_list(self, candidate: Candidate, group: DeviceGroup) -> None:
        if group.spec.devices_from is not None:
            at = ("spec", "devicesFrom", "file")
            limits = dataclasses.replace(self._limits, devices_per_file=self._limits.devices_per_group)
            self._roster(candidate, group.spec.devices_from.file, rosters.Shape.NAMES, at, limits)

    def _group_members(self) -> None:
        """How many groups there are, and in how many static ones a device is: the later ones, by file, are too many."""
        self._count(Kind.DEVICE_GROUP, self._limits.groups)
        static = [group for group in self._valid(Kind.DEVICE_GROUP) if not _is_dynamic(group.resource)]
        most = self._limits.groups_per_device
        for name, (candidate, place) in self._lists.crowded(static, most):
            message = f"device `{name}` is in more than {most:,} static groups"
            self._report(candidate, Code.TOO_MANY, message, place, help="take it out of some")

    def _batch(self, candidate: Candidate, batch: Batch) -> None:
        _where_sound(self._batch_list, candidate, batch)
        package = self._refer(candidate, Kind.PACKAGE, batch.spec.package, ("spec", "package"))
        if isinstance(package, Package):
            for rule in (self._download, self._batch_group, self._source_versions):
                _where_sound(rule, candidate, batch, package)

    def _batch_list(self, candidate: Candidate, batch: Batch) -> None:
        if batch.spec.target.devices_from is not None:
            at = ("spec", "target", "devicesFrom", "file")
            self._roster(candidate, batch.spec.target.devices_from.file, rosters.Shape.NAMES, at)

    def _source_versions(self, candidate: Candidate, batch: Batch, package: Package) -> None:
        target = batch.spec.target
        versions = target.source_versions
        if package.spec.source_version is not None and target.how in {resources.How.ALL, resources.How.GRAY}:
            self._from_the_source(candidate, versions, package)
            return
        written = candidate.document.data["spec"]["target"]["sourceVersions"] if versions else ()
        for index, version in enumerate(written):
            at = ("spec", "target", "sourceVersions", index)
            if version == package.spec.version:
                message = f"`{version}` is the version to upgrade to, so no device needs to come from it"
                self._refuse(candidate, Code.SAME_VERSION, message, at, help="remove it")
            else:
                self._in_format(candidate, self._product_of(package), version, at)

    def _product_of(self, package: Package) -> Product:
        """A valid package's."""
        return cast("Product", self._candidates[Key(Kind.PRODUCT, package.spec.product)].resource)

    def _batch_group(self, candidate: Candidate, batch: Batch, package: Package) -> None:
        """A batch that was accepted needs its group no more: a missing or broken one is the plan's matter."""
        name = batch.spec.target.group
        if name is None:
            return
        at: Location = ("spec", "target", "group")
        group = self._candidates.get(Key(Kind.DEVICE_GROUP, name))
        if group is None:
            if Key(Kind.DEVICE_GROUP, name) not in self.broken:
                message = (
                    f"there is no DeviceGroup `{name}`: only a batch that was accepted before can do without"
                )
                more = {"severity": Severity.WARNING, **self._meant(Kind.DEVICE_GROUP, name)}
                self.diagnostics.append(candidate.subject.report(Code.REFERENCE, message, at, **more))
            return
        assert isinstance(group.resource, DeviceGroup)
        related = (Related(group.place(("metadata", "name")), f"{group.key} is declared here"),)
        of_product = group.resource.spec.product
        if _is_dynamic(group.resource) != (batch.spec.strategy is resources.Strategy.DYNAMIC):
            message = (
                f"`{name}` is a {'dynamic' if _is_dynamic(group.resource) else 'static'} group, and this is "
                f"a {batch.spec.strategy.lower()} batch"
            )
            remedy = "a static batch is for a static group (a list), a dynamic batch for a dynamic one (a selector)"
            self._refuse(candidate, Code.COMBINATION, message, at, related=related, help=remedy)
        elif of_product not in {None, package.spec.product}:
            message = f"`{name}` is of product `{of_product}`, and the package of `{package.spec.product}`"
            self._refuse(candidate, Code.REFERENCE, message, at, related=related, help="choose another group")

    def _from_the_source(self, candidate: Candidate, versions: Sequence[str], package: Package) -> None:
        """A delta fits one version. Its batches say so: none is taken for one that upgrades the other devices, too."""
        source = package.spec.source_version
        if list(versions) == [source]:
            return
        holder = self._candidates[Key(Kind.PACKAGE, package.metadata.name)]
        related = (Related(holder.place(("spec", "sourceVersion")), f"{holder.key} starts from it"),)
        message = f"the package is a delta from `{source}`, which is the only source version that its batches can have"
        at = ("spec", "target", "sourceVersions") if versions else ("spec", "target")
        remedy = f'write `sourceVersions: ["{source}"]`'
        self._refuse(candidate, Code.COMBINATION, message, at, related=related, help=remedy)

    def _download(self, candidate: Candidate, batch: Batch, package: Package) -> None:
        key, at = Key(Kind.PACKAGE, package.metadata.name), ("spec", "download")
        remedy = "write `download: Auto`"
        sizes = [file.size or 0 for file in self._files[key]]
        why = downloads.unspoken(batch.spec.download, self._product_of(package).spec.protocol)
        if why:
            self._refuse(candidate, Code.COMBINATION, why, at, help=remedy)
        elif batch.spec.download is resources.Download.MQTT and None in [f.size for f in self._files[key]]:
            message = (
                "a download over MQTT is of a small file, and the package doesn't say how large its file is"
            )
            self._refuse(candidate, Code.COMBINATION, message, at, help="add its `size` to the package")
        elif why := downloads.unfit(batch.spec.download, sizes, self._limits.mqtt_file_bytes):
            related = (Related(self._candidates[key].place(("spec", "files")), "what is downloaded"),)
            self._refuse(candidate, Code.COMBINATION, why, at, related=related, help=remedy)

    def _roster(
        self,
        candidate: Candidate,
        source: str,
        shape: rosters.Shape,
        location: Location,
        limits: Limits | None = None,
    ) -> None:
        """Checks a CSV file. Its flaws are reported once, however many objects use it."""
        path = self._resolve(candidate, source, location)
        if path is None:
            return
        try:
            checked = self._facts.roster(self._tree, path, shape, limits or self._limits)
        except UnreadableError as problem:
            self._refuse(candidate, Code.NO_FILE, problem.message, location)
            return
        if checked.ref is not None:
            self._rosters[candidate.key] = checked.ref
            return
        related = (Related(candidate.place(location), f"used by {candidate.key}"),)
        self.broken.setdefault(candidate.key, []).append(str(_flaw(checked.flaws[0], path, related)))
        for flaw in checked.flaws:
            if (path, flaw) not in self._flawed:
                self._flawed.add((path, flaw))
                self.diagnostics.append(_flaw(flaw, path, related))

    def _devices_twice(self) -> None:
        """A device belongs to one inventory: its tags would be anybody's guess otherwise."""
        for name, first, second in self._lists.repeats(self._valid(Kind.DEVICE_INVENTORY)):
            (one, its_place), (other, place) = first, second
            message = f"device `{name}` is declared by {one.key} and by {other.key}"
            related = (Related(its_place, f"{one.key} declares it here"),)
            remedy = "neither counts: remove it from one"
            self._report(other, Code.DEVICE_TWICE, message, place, related=related, help=remedy)
            self.broken.setdefault(one.key, []).append(f"{its_place}: {message}")

    def _report(self, candidate: Candidate, code: Code, message: str, place: Place, **more: Any) -> None:
        """Reports a finding about an object that stands at some place of a list, and keeps the object out."""
        self.diagnostics.append(Diagnostic(code, message, place, object=str(candidate.key), **more))
        self.broken.setdefault(candidate.key, []).append(f"{place}: {message}")


def _where_sound(rule: Callable[..., _T], *about: Any) -> _T | None:
    """What a rule gives; None where it asks for something that isn't sound, which is reported already."""
    try:
        return rule(*about)
    except Unsound:
        return None


def _is_dynamic(group: Resource | Partial) -> bool:
    return isinstance(group, DeviceGroup) and group.spec.selector is not None


def _flaw(flaw: rosters.Flaw, path: str, related: tuple[Related, ...]) -> Diagnostic:
    first = () if flaw.first_line is None else (Related(Place(path, flaw.first_line, 1), "first here"),)
    place = Place(path, flaw.line, 1 if flaw.line else 0)
    return Diagnostic(flaw.code, flaw.message, place, help=flaw.help, related=(*first, *related))
