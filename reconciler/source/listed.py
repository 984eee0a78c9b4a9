"""Devices that inventories and static groups list, in manifests or in files beside them: which are listed too often.

Called by `references` with the valid ones. There may be a million, so a place is looked up for those alone that are
told of.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping

from reconciler.domain.desired import Key, RosterRef
from reconciler.domain.diagnostics import Place
from reconciler.domain.limits import Limits
from reconciler.domain.resources import DeviceGroup, DeviceInventory, Kind, Location
from reconciler.source import rosters
from reconciler.source.candidates import Candidate
from reconciler.source.tree import Tree

Listed = tuple[Candidate, Place]
"""Who lists a device, and where."""


class Lists:
    """The lists of one tree.

    Args:
        tree: where the files are.
        limits: the operator's numbers.
        files: the objects' files of devices, which may still be filled in.
    """

    def __init__(self, tree: Tree, limits: Limits, files: Mapping[Key, RosterRef]) -> None:
        self._tree = tree
        self._limits = limits
        self._files = files

    def repeats(self, inventories: list[Candidate]) -> Iterator[tuple[str, Listed, Listed]]:
        """The first devices that two inventories of a product declare, and where both do."""
        for alike in _by_product(inventories):
            if len(alike) > 1:
                found = rosters.repeats(functools.partial(self._places, alike), rosters.FLAWS)
                for name, first, second in found:
                    yield name, _placed(*first), _placed(*second)

    def crowded(self, groups: list[Candidate], most: int) -> Iterator[tuple[str, Listed]]:
        """The first devices that more than so many groups of a product list, each with the one that is too many."""
        for alike in _by_product(groups):
            if len(alike) > most:
                found = rosters.crowded(functools.partial(self._places, alike), most, rosters.FLAWS)
                for name, listed in found:
                    yield name, _placed(*listed)

    def _places(
        self, candidates: list[Candidate]
    ) -> Iterator[tuple[str, tuple[Candidate, Place | Location]]]:
        for candidate in candidates:
            for name, at in self._devices(candidate):
                yield name, (candidate, at)

    def _devices(self, candidate: Candidate) -> Iterator[tuple[str, Place | Location]]:
        roster, tagged = self._files.get(candidate.key), candidate.key.kind is Kind.DEVICE_INVENTORY
        if roster is not None:
            shape = rosters.Shape.TAGGED if tagged else rosters.Shape.NAMES
            for entry in rosters.iter_entries(self._tree, roster.path, shape, self._limits):
                yield entry.name, Place(roster.path, entry.line, 1, len(entry.name) + 1)
            return
        for index, device in enumerate(candidate.document.data["spec"]["devices"]):
            at: Location = ("spec", "devices", index)
            yield (device["name"], (*at, "name")) if tagged else (device, at)


def _placed(candidate: Candidate, at: Place | Location) -> Listed:
    return candidate, at if isinstance(at, Place) else candidate.place(at)


def _by_product(candidates: list[Candidate]) -> Iterable[list[Candidate]]:
    """Inventories or static groups, those of one product together."""
    found: dict[str | None, list[Candidate]] = {}
    for candidate in candidates:
        if isinstance(candidate.resource, DeviceInventory | DeviceGroup):
            found.setdefault(candidate.resource.spec.product, []).append(candidate)
    return found.values()
