"""Warnings about a fleet whose every manifest is valid: what is allowed, and is hardly what its author wants.

Called by `validate` with what `references` found valid. Two things are looked for: batches that are for devices on a
higher version than their package's, which are left out (platform rules §4, "at acceptance"); and batches that are for
the same devices, where a device's second task fails as a conflict (§4, "conflict"). Only what is sure from the
manifests alone is said: who reports which version, and which batch has ended, is known to `plan`. So the batches of
past releases, which stay in Git beside the next release's, are nothing to warn about: see `_contend`.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping

from reconciler.domain import targeting
from reconciler.domain.desired import Declaration, Key
from reconciler.domain.diagnostics import Code, Diagnostic, Related, Severity
from reconciler.domain.limits import Limits
from reconciler.domain.resources import (
    Batch,
    BatchSpec,
    Conflict,
    DeviceGroup,
    How,
    Kind,
    Location,
    Package,
    State,
    Strategy,
)
from reconciler.source import rosters
from reconciler.source.candidates import Candidate
from reconciler.source.tree import Tree

_COMPARED = 10
"""With how many batches before it a batch is compared, for one version or device: so that thousands are compared
in good time. They are counted by what they are: see `_Seen`."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Order:
    """An active batch and its package."""

    candidate: Candidate
    batch: Batch
    package: Package
    module: str
    version: str
    plain: bool
    """It is one release among others, as far as it says itself: see `_contend`."""

    @property
    def spec(self) -> BatchSpec:
        return self.batch.spec


def advise(
    declarations: Mapping[Key, Declaration], candidates: Mapping[Key, Candidate], tree: Tree, limits: Limits
) -> list[Diagnostic]:
    """The warnings about the valid objects of a tree.

    Args:
        declarations: the valid objects.
        candidates: the manifests, by what they declare; the valid ones are among them.
        tree: where the lists of devices are.
        limits: the operator's numbers.
    """
    by_product: dict[str, list[_Order]] = {}
    for order in _orders(declarations, candidates):
        by_product.setdefault(order.package.spec.product, []).append(order)
    found = [warning for orders in by_product.values() for order in orders for warning in _downgrades(order)]
    for orders in by_product.values():
        if len(orders) > 1:
            found += _Overlaps(declarations, tree, limits).find(orders)
            found += _rivals(orders)
    return found


def _orders(declarations: Mapping[Key, Declaration], candidates: Mapping[Key, Candidate]) -> Iterator[_Order]:
    """The batches that are to run, in the order of their files."""
    valid = [declaration for key, declaration in declarations.items() if key.kind is Kind.BATCH]
    for declaration in sorted(valid, key=lambda one: (one.path, one.line)):
        candidate = candidates[declaration.key]
        batch = candidate.resource
        assert isinstance(batch, Batch)
        package = declarations[Key(Kind.PACKAGE, batch.spec.package)].resource
        assert isinstance(package, Package)
        spec = batch.spec
        if spec.state is State.ACTIVE:
            plain = spec.strategy is Strategy.STATIC and spec.schedule is None and not spec.allow_downgrade
            yield _Order(candidate, batch, package, package.spec.module, package.spec.version, plain)


def _downgrades(order: _Order) -> Iterator[Diagnostic]:
    """Source versions that are higher than the package's: devices on them are left out."""
    if order.spec.allow_downgrade:
        return
    target, asked = order.version, order.spec.target.source_versions
    if not any(
        targeting.is_downgrade(version, target)
        for version in (*asked, order.package.spec.source_version or "")
    ):
        return  # nearly always: where the versions stand is looked up for the others only
    written = order.candidate.document.data["spec"]["target"].get("sourceVersions", [])
    places: list[tuple[str, Location]] = [
        (version, ("spec", "target", "sourceVersions", index)) for index, version in enumerate(written)
    ]
    if order.package.spec.source_version is not None and not written:
        places = [(order.package.spec.source_version, ("spec", "package"))]
    for version, at in places:
        if targeting.is_downgrade(version, target):
            yield order.candidate.subject.report(
                Code.DOWNGRADE,
                f"`{version}` is higher than the package's `{target}`: devices on it are left out",
                at,
                severity=Severity.WARNING,
                help="write `allowDowngrade: true` if they are to go down, or remove the version",
            )


def _rivals(orders: list[_Order]) -> Iterator[Diagnostic]:
    """Dynamic batches of a package that cannot run beside each other (§4, "Dynamic batches")."""
    before: dict[str, collections.deque[_Order]] = {}
    for order in orders:
        if order.spec.strategy is not Strategy.DYNAMIC:
            continue
        others = before.setdefault(order.spec.package, collections.deque(maxlen=_COMPARED))
        rival = next((other for other in others if _exclude_each_other(order, other)), None)
        others.append(order)
        if rival is not None:
            what = f"is a dynamic batch of `{order.spec.package}` too, and only one can run"
            remedy = "set the older one to `state: Canceled`, or give them different source versions"
            yield _contending(order, rival, what, remedy)


def _exclude_each_other(one: _Order, other: _Order) -> bool:
    targets = one.spec.target, other.spec.target
    if any(target.group is not None for target in targets):
        return True
    return not set(targets[0].source_versions).isdisjoint(targets[1].source_versions)


class _Seen:
    """The last batches that were met: those to each version, and of each module the plain ones and the others."""

    def __init__(self) -> None:
        self._alike: dict[tuple[str, str], collections.deque[_Order]] = {}
        self._last: dict[tuple[str, bool], collections.deque[_Order]] = {}

    def add(self, order: _Order) -> None:
        for met in (
            self._alike.setdefault((order.module, order.version), collections.deque(maxlen=_COMPARED)),
            self._last.setdefault((order.module, order.plain), collections.deque(maxlen=_COMPARED)),
        ):
            met.append(order)

    def first(self, order: _Order, *, whole: bool = False) -> _Order | None:
        """One that collides with a batch; `whole`: one that is for all, not for a share."""
        for other in self._near(order):
            if not (whole and other.spec.target.how is not How.ALL) and _collide(other, order):
                return other
        return None

    def _near(self, order: _Order) -> Iterator[_Order]:
        """Without the plain releases of its module, which are nearly all, and never contend with a plain one."""
        yield from self._alike.get((order.module, order.version), ())
        for kind, last in self._last.items():
            if not (order.plain and kind == (order.module, True)):
                yield from last


class _Overlaps:
    """Finds batches of one product that are for the same devices, each with one that comes before it.

    Nothing is said of a pair when one of the two says what is to happen (`conflict: Wait` or `Overwrite`), or when
    one follows upon the other.
    """

    def __init__(self, declarations: Mapping[Key, Declaration], tree: Tree, limits: Limits) -> None:
        self._declarations = declarations
        self._tree = tree
        self._limits = limits
        self._everyone, self._some, self._named = _Seen(), _Seen(), _Seen()
        self._by_version: dict[str, _Seen] = {}
        self._by_name: dict[int, _Order] = {}
        self._told: set[Key] = set()

    def find(self, orders: list[_Order]) -> Iterator[Diagnostic]:
        """One warning at most for each batch: at the newer of the two, as it is the one that can still change."""
        for order in orders:
            if order.spec.conflict is not Conflict.KEEP:
                continue
            how = order.spec.target.how
            if how in {How.ALL, How.GRAY}:
                met = self._by_versions(order)
            elif order.spec.strategy is Strategy.DYNAMIC:
                continue  # whom a dynamic group holds is not known here
            else:
                met = self._listed(order)
            if met is None:
                continue
            older, newer = _by_age(met[0], order)
            if newer.candidate.key not in self._told:
                self._told.add(newer.candidate.key)
                yield _overlap(older, newer, met[1])

    def _by_versions(self, order: _Order) -> tuple[_Order, str] | None:
        """A share meets a list by chance only, and everybody meets all."""
        versions, gray = order.spec.target.source_versions, order.spec.target.how is How.GRAY
        met: tuple[_Order, str] | None = None
        if not versions:
            for others in (self._everyone, self._some, *(() if gray else (self._named,))):
                met = met or _said(others.first(order), "the same devices")
            self._everyone.add(order)
        else:
            met = _said(self._everyone.first(order), "the same devices")
            for version in versions:
                same = self._by_version.setdefault(version, _Seen())
                met = met or _said(same.first(order), f"devices on version `{version}`")
                same.add(order)
            self._some.add(order)
        return met

    def _listed(self, order: _Order) -> tuple[_Order, str] | None:
        """Hashes of the names are kept, not the names: there may be a million."""
        met = _said(self._everyone.first(order, whole=True), "the same devices")
        example, more, shared = "", 0, None
        for name in self._names(order):
            other = self._by_name.get(hash(name))
            self._by_name[hash(name)] = order
            if other is None or not _collide(other, order):
                continue
            if shared is None:
                example, shared = name, other
            else:
                more += 1
        self._named.add(order)
        if shared is None:
            return met
        others = f" and {more:,} more" if more else ""
        return shared, f"device `{example}`{others}"

    def _names(self, order: _Order) -> Iterator[str]:
        """The devices that a static batch names, itself or by its group."""
        target, holder = order.spec.target, self._declarations[order.candidate.key]
        devices = target.devices
        if target.group is not None:
            group = self._declarations.get(Key(Kind.DEVICE_GROUP, target.group))
            if group is None:
                return
            assert isinstance(group.resource, DeviceGroup)
            devices, holder = group.resource.spec.devices, group
        yield from devices or ()
        if holder.roster is not None:
            path, shape = holder.roster.path, rosters.Shape.NAMES
            for entry in rosters.iter_entries(self._tree, path, shape, self._limits):
                yield entry.name


def _said(other: _Order | None, what: str) -> tuple[_Order, str] | None:
    return None if other is None else (other, what)


def _collide(one: _Order, other: _Order) -> bool:
    """Whether a device that both are for can be in both at once, and in need of both; `one` is the earlier by path."""
    if not _contend(one, other):
        return False
    both = (one, other)
    if one.module != other.module and all(order.spec.multi_module for order in both):
        return False
    if all(order.spec.strategy is Strategy.DYNAMIC for order in both):
        return False  # the newest one alone matches a device; for those of one package see `_rivals`
    if any(_needs_none(order, after) for order, after in (both, both[::-1])):
        return False
    return not any(_ends_before(order, after) for order, after in (both, both[::-1]))


def _contend(one: _Order, other: _Order) -> bool:
    """Whether two batches are more than two releases of which one followed upon the other.

    Releases are batches to different versions of one module, written one after the other, while the older ones stay in
    Git. They contend when the older one never ends by itself (a dynamic batch), when the newer one goes down again, or
    when both start together or the older one's window ends after the newer one's start. Which one is the older is as
    `_by_age` says.
    """
    if one.module != other.module or one.version == other.version:
        return True
    if one.plain and other.plain:
        return False
    older, newer = _by_age(one, other)
    if older.spec.strategy is Strategy.DYNAMIC or targeting.is_downgrade(older.version, newer.version):
        return True
    first, second = older.spec.schedule, newer.spec.schedule
    if first is None or second is None:
        return False
    return first.start == second.start or (first.end is not None and first.end > second.start)


def _by_age(one: _Order, other: _Order) -> tuple[_Order, _Order]:
    """The older and the newer of two batches, as far as their manifests tell; `one` is the earlier by path.

    By their starts; else by their versions, where the lower one is newer if it alone allows downgrades; else by path.
    """
    first, second = one.spec.schedule, other.spec.schedule
    if first and second and first.start != second.start:
        return (one, other) if first.start < second.start else (other, one)
    for low, high in ((one, other), (other, one)):
        if one.module == other.module and targeting.is_downgrade(high.version, low.version):
            return (high, low) if _goes_back(low, high) else (low, high)
    return one, other


def _goes_back(low: _Order, high: _Order) -> bool:
    """Where every batch allows downgrades, out of habit, that says nothing."""
    versions = low.spec.target.source_versions
    alone = low.spec.allow_downgrade and not high.spec.allow_downgrade
    return alone and (not versions or high.version in versions)


def _needs_none(order: _Order, after: _Order) -> bool:
    """Whether all that a batch is for are already where another one brings them: one upgrade follows the other."""
    versions = order.spec.target.source_versions
    return bool(versions) and set(versions) == {after.package.spec.version}


def _ends_before(order: _Order, after: _Order) -> bool:
    first, second = order.spec.schedule, after.spec.schedule
    return bool(first and first.end and second and first.end <= second.start)


def _overlap(older: _Order, newer: _Order, what: str) -> Diagnostic:
    """What can't change once a batch was accepted (`conflict`) is asked of a new one only."""
    old, new = older.candidate.key, newer.candidate.key
    words = "`conflict: Wait`" if newer.spec.multi_module else "`conflict: Wait` or `Overwrite`"
    told = f"is for {what} too: while a device is busy in one of the two, it fails in the other"
    remedy = f"set {old} to `state: Canceled` if it is over, or write {words} in a new {new}"
    return _contending(newer, older, told, remedy)


def _contending(order: _Order, other: _Order, what: str, remedy: str) -> Diagnostic:
    """The finding at one of two batches that get into each other's way: what the other one is, and both places."""
    at: Location = ("spec", "target")
    first = other.candidate
    return order.candidate.subject.report(
        Code.OVERLAP,
        f"{first.key} {what}",
        at,
        at_key=True,
        severity=Severity.WARNING,
        related=(Related(first.place(at), f"{first.key} is for these"),),
        help=remedy,
    )
