"""What a commit's inventories do to devices: they bring new ones, change some, bring removed ones back, remove others.

Called by `preview`. It reads each list that is new or changed once, whoever asks; in a commit that leaves its
inventories alone it reads nothing. Decides nothing: whom of all these a run takes is asked of `census`, but for new
devices, of which no database knows.
"""

from __future__ import annotations

import array
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


def _ids() -> array.array[int]:
    return array.array("q")  # eight bytes each: a million devices may be looked at


@dataclasses.dataclass(slots=True)
class _Moved:
    """What is found about the devices of a product, as their ids."""

    named: array.array[int] = dataclasses.field(default_factory=_ids)
    """Whom the lists name, of those that are here."""
    changed: array.array[int] = dataclasses.field(default_factory=_ids)
    back: array.array[int] = dataclasses.field(default_factory=_ids)


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
        self._takers = [taker for taker in takers if not taker.wanted.nobody]
        self._names = {taker.key: taker.names for taker in takers}
        self._moved: dict[int, _Moved] = collections.defaultdict(_Moved)
        self._gone: dict[int, array.array[int]] = {}
        self._touched: dict[int, array.array[int]] = {}
        self._new: dict[tuple[Key, Key], New] = collections.defaultdict(New)
        self._changed: dict[Key, array.array[int]] = collections.defaultdict(_ids)
        self._selected: dict[tuple[Key, Key], array.array[int]] = collections.defaultdict(_ids)
        acted = {
            action.key: action for action in seen.plan.actions if action.key.kind is Kind.DEVICE_INVENTORY
        }
        put = list(self._put(acted))
        removed = [key.name for key, action in acted.items() if action.verb is plan.Verb.REMOVE]
        self._looked = [*removed, *(declaration.name for declaration in put)]
        asking = {taker.product for taker in self._takers}
        self.due = [declaration for declaration in put if _product(declaration) in asking]
        """The inventories that are read."""
        for declaration in self.due:
            self._read(declaration)

    def back(self, product_id: int) -> Sequence[int]:
        """Devices that had been removed, and are named again."""
        return self._moved[product_id].back

    def gone(self, product_id: int) -> array.array[int]:
        """Devices that are named no more; looked up when first asked for."""
        if product_id not in self._gone:
            named, looked = self._moved[product_id].named, self._looked
            left = inventories.left(self._connection, product_id, looked, named) if looked else ()
            self._gone[product_id] = array.array("q", left)
        return self._gone[product_id]

    def touched(self, product_id: int) -> Sequence[int]:
        """Devices that are gone or changed: whom no look at the fleet meets as it was."""
        if product_id not in self._touched:
            self._touched[product_id] = self.gone(product_id) + self._moved[product_id].changed
        return self._touched[product_id]

    def new(self, taker: Taker) -> New:
        """New devices that a run is for."""
        return sum((self.new_of(declaration.key, taker) for declaration in self.due), New())

    def new_of(self, inventory: Key, taker: Taker) -> New:
        """Those of one inventory."""
        return self._new.get((inventory, taker.key), New())

    def changed_of(self, inventory: Key, taker: Taker) -> Sequence[int]:
        """The changed devices of one inventory that a dynamic run may be for."""
        if taker.wanted.selector is not None:
            return self._selected.get((inventory, taker.key), ())
        mine = any(one.key == inventory and _product(one) == taker.product for one in self.due)
        return self._changed[inventory] if mine and not taker.wanted.nobody else ()

    def _put(self, acted: Mapping[Key, plan.Action]) -> Iterator[Declaration]:
        complete = census.complete_inventories(self._connection)
        for declaration, _ in self._commit.desired.of(resources.DeviceInventory):
            if declaration.key in acted or declaration.name not in complete:
                yield declaration

    def _read(self, declaration: Declaration) -> None:
        """Looks at an inventory's names, a chunk of them at a time."""
        product = _product(declaration)
        product_id = products.product_id(self._connection, product) or 0
        takers = [taker for taker in self._takers if taker.product == product]
        selecting = [taker for taker in takers if taker.wanted.selector is not None]
        found = self._moved[product_id]
        for chunk in lists.chunks(lists.entries(self._commit.files, declaration, self._allowed)):
            tags = dict(chunk)
            moved: dict[int, Mapping[str, str]] = {}
            for device in inventories.compared(self._connection, product_id, declaration.name, chunk):
                if device.id is None:
                    self._count(declaration.key, device.name, tags[device.name] or {}, takers)
                    continue
                found.named.append(device.id)
                if device.moved:
                    moved[device.id] = tags[device.name] or {}
                if device.back:
                    found.back.append(device.id)
            found.changed.extend(moved)
            self._changed[declaration.key].extend(moved)
            self._match(declaration.key, moved, selecting)

    def _count(self, inventory: Key, name: str, tags: Mapping[str, str], takers: Iterable[Taker]) -> None:
        """One new device goes to the first that takes it; the others of its slot meet it busy."""
        holders: list[census.Wanted] = []
        for taker in takers:
            chosen, wanted = self._names[taker.key], taker.wanted
            if wanted.again is not None and wanted.again.since is not None:
                continue  # it was never heard
            if chosen is not None and name not in chosen:
                continue
            if wanted.selector is not None and not targeting.selects(
                wanted.selector, taker.product, tags, {}
            ):
                continue
            met = [holder for holder in holders if holder.excludes(wanted)]
            kept = any(holder.is_dynamic and wanted.is_dynamic for holder in met)
            new = New(1, int(not met), int(bool(met) and not kept), int(kept)) if taker.fits(None) else New(1)
            self._new[inventory, taker.key] += new
            takes = new.free or (new.busy and wanted.conflict is resources.Conflict.OVERWRITE)
            if takes and wanted.gray is None and not (wanted.is_dynamic and taker.is_awaiting):
                holders = [*(holder for holder in holders if holder not in met), wanted]

    def _match(self, inventory: Key, moved: Mapping[int, Mapping[str, str]], takers: Iterable[Taker]) -> None:
        """Who of the changed devices a dynamic run may be for; what they report is looked at where it is counted."""
        versions: dict[int, dict[str, str]] = collections.defaultdict(dict)
        if any("module" in (taker.wanted.selector or ()) for taker in takers):
            for (device_id, module), version in devices.versions(self._connection, moved).items():
                versions[device_id][module] = version
        for taker in takers:
            self._selected[inventory, taker.key].extend(
                device_id
                for device_id, tags in moved.items()
                if targeting.selects(taker.wanted.selector or {}, taker.product, tags, versions[device_id])
            )


def _product(declaration: Declaration) -> str:
    """The product of an inventory's devices."""
    assert isinstance(declaration.resource, resources.DeviceInventory)
    return declaration.resource.spec.product
