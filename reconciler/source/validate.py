"""A tree of files to a checked `DesiredState`: the one judgement that `validate`, `plan` and the daemon share.

`check` reads every manifest, lets each be judged by itself (`reading`) and all of them together (`references`, then
`advice` on what is valid), and puts what is wrong into diagnostics, less what a comment says to ignore (`ignores`).
It never raises for what a file holds, and never takes a broken file for an absent one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from reconciler.domain.desired import DesiredState, Key
from reconciler.domain.diagnostics import Code, Diagnostic, Place, Related, Severity, in_order
from reconciler.domain.limits import DEFAULT, Limits
from reconciler.source import advice, beside, ignores, loader, reading
from reconciler.source.candidates import Candidate
from reconciler.source.explain import Subject
from reconciler.source.references import Judge
from reconciler.source.tree import Tree, UnreadableError


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """Sizes of a judgement: files with manifests, manifests, those that are valid, findings."""

    files: int
    manifests: int
    valid: int
    errors: int
    warnings: int


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """The judgement on a tree; the diagnostics are sorted by file and line.

    Attributes:
        kept_out: of objects that only a finding about another keeps out, what is wrong; the finding itself is among
            the diagnostics, so this is for who looks at a part of the tree.
    """

    desired: DesiredState
    diagnostics: tuple[Diagnostic, ...]
    counts: Counts
    kept_out: tuple[Diagnostic, ...] = ()


class Cache:
    """What was read of contents before, by their ids. Holds the contents of the last tree only."""

    def __init__(self) -> None:
        self.facts = beside.Facts()
        self._files: dict[tuple[str, Limits], reading.File] = {}

    def prepare(self, tree: Tree, paths: Sequence[str], limits: Limits) -> None:
        """Told what is about to be read. Nothing is to be done for that here."""

    def read(self, tree: Tree, path: str, limits: Limits) -> reading.File:
        """The manifests of a file.

        Raises:
            UnreadableError: the file cannot be read, or is too large for manifests.
        """
        oid = tree.oid(path)
        if oid is None:
            return reading.read(tree.read(path, loader.FILE_BYTES), limits)
        key = (oid, limits)
        if key not in self._files:
            self._files[key] = reading.read(tree.read(path, loader.FILE_BYTES), limits)
        return self._files[key]

    def keep(self, oids: set[str]) -> None:
        """Forgets what no file of the tree holds any more."""
        self._files = {key: file for key, file in self._files.items() if key[0] in oids}
        self.facts.keep(oids)


def is_manifest(path: str) -> bool:
    """Whether a path is looked at: YAML files that are not hidden; `-` is standard input."""
    if path == "-":
        return True
    hidden = any(part.startswith(".") for part in path.split("/"))
    return not hidden and path.lower().endswith((".yaml", ".yml"))


def check(tree: Tree, limits: Limits = DEFAULT, cache: Cache | None = None) -> Checked:
    """Judges every manifest of a tree, alone and together.

    Args:
        tree: the files.
        limits: the operator's numbers.
        cache: kept by the caller between commits; None reads everything.
    """
    memory = cache or Cache()
    survey = _Survey()
    paths, unread = list(tree.paths()), list(tree.unread())
    survey.broken_paths.update(unread)
    manifests = sorted(filter(is_manifest, {*paths, *unread}))
    memory.prepare(tree, manifests, limits)
    for path in manifests:
        try:
            survey.add(path, memory.read(tree, path, limits))
        except UnreadableError as problem:
            survey.unreadable(path, problem)
    candidates = survey.unique()
    judge = Judge(tree, limits, memory.facts)
    judge.broken.update(survey.broken)
    declarations = judge.judge(candidates, survey.flawed())
    if cache is not None:
        cache.keep({oid for path in paths if (oid := tree.oid(path))})
    advised = advice.advise(declarations, candidates, tree, limits)
    everything = [*survey.diagnostics, *judge.diagnostics, *advised]
    diagnostics = in_order(ignores.apply(everything, survey.ignores))
    broken = {key: tuple(dict.fromkeys(notes)) for key, notes in judge.broken.items()}
    errors = sum(found.severity is Severity.ERROR for found in diagnostics)
    return Checked(
        DesiredState(declarations, broken, frozenset(survey.broken_paths), frozenset(survey.unnamed)),
        diagnostics,
        Counts(survey.files, survey.manifests, len(declarations), errors, len(diagnostics) - errors),
        tuple(survey.kept_out(broken, diagnostics)),
    )


class _Survey:
    """Gathers the files of one tree, before they are judged together."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.broken: dict[Key, list[str]] = {}
        self.broken_paths: set[str] = set()
        self.unnamed: set[str] = set()
        self.ignores: dict[str, tuple[ignores.Ignore, ...]] = {}
        self.files = 0
        self.manifests = 0
        self._places: dict[Key, list[tuple[str, reading.Reading]]] = {}

    def unreadable(self, path: str, problem: UnreadableError) -> None:
        """A file of which nothing is known."""
        remedy = problem.remedy or "put the file itself there, or remove it, if it is no manifest"
        self.diagnostics.append(Diagnostic(Code.UNREADABLE, problem.message, Place(path), help=remedy))
        self.broken_paths.add(path)
        self.unnamed.add(path)

    def add(self, path: str, file: reading.File) -> None:
        """A file's manifests and findings."""
        between = self._report(path, file.diagnostics)
        for key in file.named:
            self.broken.setdefault(key, []).append(str(between[0]))
        self.files += bool(file.readings)
        if file.ignores:
            self.ignores[path] = file.ignores
        for found in file.readings:
            self.manifests += 1
            wrong = self._report(path, found.diagnostics)
            if found.key is None:
                continue
            self._places.setdefault(found.key, []).append((path, found))
            if wrong:
                self.broken.setdefault(found.key, []).extend(map(str, wrong))
        if file.is_broken:
            self.broken_paths.add(path)
        if file.unnamed:
            self.unnamed.add(path)

    def _report(self, path: str, diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
        """Takes findings over, with the file's path in their places; returns them."""
        placed = [
            dataclasses.replace(
                found,
                place=dataclasses.replace(found.place, path=path),
                related=tuple(
                    Related(dataclasses.replace(other.place, path=path), other.message)
                    for other in found.related
                ),
            )
            for found in diagnostics
        ]
        self.diagnostics += placed
        return placed

    def unique(self) -> dict[Key, Candidate]:
        """The manifests that are valid by themselves and that nobody else declares too."""
        for key, places in self._places.items():
            if len(places) > 1:
                self._duplicate(key, places)
        return {
            key: Candidate(key, places[0][1].resource, places[0][1].document, places[0][0])
            for key, places in self._places.items()
            if key not in self.broken and places[0][1].resource is not None
        }

    def flawed(self) -> list[Candidate]:
        """What is sound of the manifests that are not valid by themselves, and that nobody else declares too."""
        alone = ((key, *places[0]) for key, places in self._places.items() if len(places) == 1)
        return [
            Candidate(key, found.sound, found.document, path)
            for key, path, found in alone
            if found.sound is not None
        ]

    def kept_out(
        self, broken: Mapping[Key, Sequence[str]], diagnostics: Iterable[Diagnostic]
    ) -> Iterator[Diagnostic]:
        """For each manifest that isn't valid and that no finding in its file is about, why that is."""
        told = {(one.path, one.object) for one in diagnostics if one.severity is Severity.ERROR}
        for key in broken.keys() & self._places.keys():
            for path, found in self._places[key]:
                if told.isdisjoint({(path, str(key)), (path, "")}):
                    about = Subject(found.document, path, str(key))
                    message = f"{key} is not valid: {broken[key][0]}"
                    yield about.report(Code.REFERENCE, message, ("metadata", "name"))

    def _duplicate(self, key: Key, places: list[tuple[str, reading.Reading]]) -> None:
        """Both places are reported and neither wins: which one was meant is not ours to guess."""
        at = ("metadata", "name")
        first_path, first = places[0]
        first_place = Subject(first.document, first_path).place(at)
        related = (Related(first_place, "first declared here"),)
        for path, found in places[1:]:
            subject, remedy = Subject(found.document, path, str(key)), "neither counts: remove or rename one"
            again = subject.report(
                Code.DUPLICATE_OBJECT, f"{key} is declared twice", at, related=related, help=remedy
            )
            self.diagnostics.append(again)
            note = f"{again.place}: declared twice, first in {first_place} ({remedy})"
            self.broken.setdefault(key, []).append(note)
