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


class _Known(validate.Cache):
    """What was read beforehand, by path."""

    def __init__(self, files: Mapping[str, reading.File]) -> None:
        super().__init__()
        self._known = files

    def read(self, tree: Tree, path: str, limits: Limits) -> reading.File:
        """As it was read; what could not be read is tried again, and says why."""
        found = self._known.get(path)
        return super().read(tree, path, limits) if found is None else found


def read(
    tree: Tree, limits: Limits, *, worth: int = WORTH, processors: int | None = None
) -> validate.Cache | None:
    """What the files of a tree say, for `validate.check`; None when it may as well read them by itself.

    Args:
        tree: the files.
        limits: the operator's numbers.
        worth: how many files are worth other processes.
        processors: how many processes; None: as many as there are processors.
    """
    paths = sorted(filter(validate.is_manifest, tree.paths()))
    processors = processors or os.cpu_count() or 1
    if len(paths) < worth or processors < 2 or "fork" not in multiprocessing.get_all_start_methods():
        return None
    parts = [paths[at : at + _PART] for at in range(0, len(paths), _PART)]
    pool = concurrent.futures.ProcessPoolExecutor(
        min(processors, len(parts)), multiprocessing.get_context("fork"), _begin, (tree, limits)
    )
    known: dict[str, reading.File] = {}
    try:
        with pool:
            for part in pool.map(_of, parts):
                known.update(part)
    except concurrent.futures.BrokenExecutor:  # one was killed: the memory is short, and one alone needs less
        return None
    return _Known(known)


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
