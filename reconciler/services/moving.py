"""What a commit's inventories do to devices: they bring new ones, change some, bring removed ones back, remove others.

Called by `preview`. It reads each list that is new or changed once, whoever asks; in a commit that leaves its
inventories alone it reads nothing. Decides nothing: whom of all these a run takes is asked of `census`, but for new
devices, of which no database knows.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from reconciler.domain import limits, plan, resources, targeting
from reconciler.domain.desired import Declaration, Key
from reconciler.domain.resources import Kind
from reconciler.services import lists
from reconciler.services.observe import Commit, Seen
from reconciler.services.takers import Taker
from reconciler.store import census, devices, inventories, products
from reconciler.store.database import Connection


@dataclasses.dataclass(frozen=True, slots=True)
class New:
    """How many of the devices that an inventory brings a run is for."""

    targeted: int = 0
    free: int = 0
    """They fit, and nobody takes them before."""
    busy: int = 0
    """They fit, and a run has them that comes first."""
    kept: int = 0
    """The same, and that keeps them in any case: a newer dynamic one."""

    def __add__(self, other: New) -> New:
        return New(
            self.targeted + other.targeted,
            self.free + other.free,
            self.busy + other.busy,
            self.kept + other.kept,
        )


@dataclasses.dataclass(slots=True)
class _Moved:
    """What is found about the devices of a product."""

    changed: list[int] = dataclasses.field(default_factory=list)
    back: list[int] = dataclasses.field(default_factory=list)
    gone: list[int] = dataclasses.field(default_factory=list)


class Moving:
    """Reads the inventories that the plan puts, or that are not complete yet.

    Args:
        connection: a reading transaction.
        commit: what is planned.
        seen: the plan.
        allowed: the operator's numbers.
        takers: who may take new devices, in the order in which they do.
    """

    def __init__(
        self,
        connection: Connection,
        commit: Commit,
        seen: Seen,
        allowed: limits.Limits,
        takers: Sequence[Taker],
    ) -> None:
        self._connection = connection
        self._commit = commit
        self._allowed = allowed
        self._takers = takers
        self._names = {taker.key: taker.names for taker in takers}
        self._moved: dict[int, _Moved] = collections.defaultdict(_Moved)
        self._new: dict[tuple[Key, Key], New] = collections.defaultdict(New)
        self._ids: dict[tuple[Key, Key], list[int]] = collections.defaultdict(list)
        acted = {
            action.key: action for action in seen.plan.actions if action.key.kind is Kind.DEVICE_INVENTORY
        }
        self.due = list(self._due(acted))
        """The inventories that are read."""
        removed = [key.name for key, action in acted.items() if action.verb is plan.Verb.REMOVE]
        if self.due or removed:
            named = {declaration.key: self._read(declaration) for declaration in self.due}
            self._leave(removed, named)

    def changed(self, product_id: int) -> tuple[int, ...]:
        """Known devices that come with other tags, from another inventory, or back."""
        return tuple(self._moved[product_id].changed)

    def back(self, product_id: int) -> tuple[int, ...]:
        """Of these: who had been removed."""
        return tuple(self._moved[product_id].back)

    def gone(self, product_id: int) -> tuple[int, ...]:
        """Devices that are named no more."""
        return tuple(self._moved[product_id].gone)

    def new(self, taker: Taker) -> New:
        """New devices that a run is for."""
        return sum((self.new_of(declaration.key, taker) for declaration in self.due), New())

    def new_of(self, inventory: Key, taker: Taker) -> New:
        """Those of one inventory."""
        return self._new.get((inventory, taker.key), New())

    def changed_of(self, inventory: Key, taker: Taker) -> tuple[int, ...]:
        """The changed devices of one inventory that a dynamic run may be for."""
        return tuple(self._ids.get((inventory, taker.key), ()))

    def _due(self, acted: Mapping[Key, plan.Action]) -> Iterator[Declaration]:
        complete = census.complete_inventories(self._connection)
        for declaration, _ in self._commit.desired.of(resources.DeviceInventory):
            if declaration.key in acted or declaration.name not in complete:
                yield declaration

    def _read(self, declaration: Declaration) -> set[str]:
        """Looks at an inventory's names, and returns them."""
        product = _product(declaration)
        product_id = products.product_id(self._connection, product) or 0
        takers = [taker for taker in self._takers if taker.product == product]
        names: set[str] = set()
        for chunk in lists.chunks(lists.entries(self._commit.files, declaration, self._allowed)):
            tags = {name: given or {} for name, given in chunk}
            names.update(tags)
            known = inventories.listed(self._connection, product_id, tags)
            for name in tags.keys() - known.keys():
                self._count(declaration.key, name, tags[name], takers)
            moved = {
                name: device
                for name, device in known.items()
                if device.tags != tags[name] or device.inventory != declaration.name
            }
            self._moved[product_id].changed += [device.id for device in moved.values()]
            self._moved[product_id].back += [device.id for device in moved.values() if device.removed]
            dynamic = [taker for taker in takers if taker.wanted.is_dynamic]
            if dynamic:
                self._match(
                    declaration.key, {device.id: tags[name] for name, device in moved.items()}, dynamic
                )
        return names

    def _count(self, inventory: Key, name: str, tags: Mapping[str, str], takers: Iterable[Taker]) -> None:
        """One new device goes to the first that takes it; the others of its slot meet it busy."""
        holders: list[census.Wanted] = []
        for taker in takers:
            chosen, wanted = self._names[taker.key], taker.wanted
            if wanted.nobody or (chosen is not None and name not in chosen):
                continue
            if wanted.selector is not None and not targeting.selects(
                wanted.selector, taker.product, tags, {}
            ):
                continue
            met = [holder for holder in holders if _excludes(holder, wanted)]
            kept = any(holder.is_dynamic and wanted.is_dynamic for holder in met)
            new = New(1, int(not met), int(bool(met) and not kept), int(kept)) if taker.fits(None) else New(1)
            self._new[inventory, taker.key] += new
            takes = new.free or (new.busy and wanted.conflict is resources.Conflict.OVERWRITE)
            if takes and wanted.gray is None and not (wanted.is_dynamic and taker.is_awaiting):
                holders = [*(holder for holder in holders if holder not in met), wanted]

    def _match(self, inventory: Key, moved: Mapping[int, Mapping[str, str]], takers: Iterable[Taker]) -> None:
        """Who of the changed devices a dynamic run may be for; what they report is looked at where it is counted."""
        versions: dict[int, dict[str, str]] = collections.defaultdict(dict)
        for (device_id, module), version in devices.versions(self._connection, moved).items():
            versions[device_id][module] = version
        for taker in takers:
            selector = taker.wanted.selector
            self._ids[inventory, taker.key] += [
                device_id
                for device_id, tags in moved.items()
                if selector is None or targeting.selects(selector, taker.product, tags, versions[device_id])
            ]

    def _leave(self, removed: Iterable[str], named: Mapping[Key, set[str]]) -> None:
        """Devices of inventories that are read or removed, and that none of them names."""
        listed: dict[int | None, set[str]] = collections.defaultdict(set)
        for declaration in self.due:
            listed[products.product_id(self._connection, _product(declaration))] |= named[declaration.key]
        looked = [*removed, *(key.name for key in named)]
        for product_id, device_id, name in inventories.of_inventories(self._connection, looked):
            if name not in listed[product_id]:
                self._moved[product_id].gone.append(device_id)


def _product(declaration: Declaration) -> str:
    """The product of an inventory's devices."""
    assert isinstance(declaration.resource, resources.DeviceInventory)
    return declaration.resource.spec.product


def _excludes(one: census.Wanted, other: census.Wanted) -> bool:
    """Whether a device is in a task of one of them only."""
    apart = one.multi_module and other.multi_module
    return not apart or one.conditions.module == other.conditions.module
