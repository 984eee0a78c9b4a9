"""Reads the manifests of a large tree on all processors at once, for `validate`: reading them is most of its time.

A process that is forked knows the tree already, and gives back what its part of the files says. Not for the daemon,
whose threads a fork would leave behind in the middle of whatever they do; it reads only what changed.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Mapping, Sequence

from reconciler.domain.limits import Limits
from reconciler.source import loader, reading, validate
from reconciler.source.tree import Tree, UnreadableError

WORTH = 500
"""Files; fewer are read before other processes have begun."""
_PART = 50


class Abreast(validate.Cache):
    """Reads the files of a large tree beforehand; those of a small one when they are asked for.

    Args:
        worth: how many files are worth other processes.
        processors: how many processes; None: as many as there are processors.
    """

    def __init__(self, *, worth: int = WORTH, processors: int | None = None) -> None:
        super().__init__()
        self._worth = worth
        self._processors = processors or os.cpu_count() or 1
        self.beforehand: Mapping[str, reading.File] = {}
        """What was read by other processes, by path."""

    def prepare(self, tree: Tree, paths: Sequence[str], limits: Limits) -> None:
        """Reads them, where that is worth it."""
        forks = "fork" in multiprocessing.get_all_start_methods()
        if len(paths) < self._worth or self._processors < 2 or not forks:
            return
        parts = [paths[at : at + _PART] for at in range(0, len(paths), _PART)]
        pool = concurrent.futures.ProcessPoolExecutor(
            min(self._processors, len(parts)), multiprocessing.get_context("fork"), _begin, (tree, limits)
        )
        known: dict[str, reading.File] = {}
        try:
            with pool:
                for part in pool.map(_of, parts):
                    known.update(part)
        except (
            concurrent.futures.BrokenExecutor
        ):  # one was killed: the memory is short, and one alone needs less
            return
        self.beforehand = known

    def read(self, tree: Tree, path: str, limits: Limits) -> reading.File:
        """As it was read; what could not be read is tried again, and says why."""
        found = self.beforehand.get(path)
        return super().read(tree, path, limits) if found is None else found


_READS: list[tuple[Tree, Limits]] = []
"""What a process reads; filled in those alone that were forked to read it."""


def _begin(tree: Tree, limits: Limits) -> None:
    _READS.append((tree, limits))


def _of(paths: Sequence[str]) -> dict[str, reading.File]:
    ((tree, limits),) = _READS
    found = {}
    for path in paths:
        try:
            found[path] = reading.read(tree.read(path, loader.FILE_BYTES), limits)
        except UnreadableError:
            continue
    return found
