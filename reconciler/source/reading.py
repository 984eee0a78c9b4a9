"""One file to the objects in it: which documents are manifests, and what each of them says or gets wrong.

Called by `validate`, once for each content of a file: the result depends on the bytes and the limits alone, not on
the path (places carry an empty path until `validate` fills it in), so it can be kept by the content's id.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pydantic

from reconciler.domain import resources, unsupported
from reconciler.domain.desired import Key
from reconciler.domain.diagnostics import Code, Diagnostic
from reconciler.domain.limits import Limits
from reconciler.domain.resources import API_VERSION, Kind, Location, Resource, partial
from reconciler.domain.resources.partial import Partial
from reconciler.source import explain, ignores, loader
from reconciler.source.documents import Document, named

_KINDS = frozenset(str(kind) for kind in Kind)
_OURS = _KINDS | unsupported.OTHER_KINDS


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """One manifest.

    Attributes:
        document: its data and the places in it.
        key: what it declares; None when that cannot be read.
        resource: its model, when nothing is wrong with it.
        diagnostics: what is wrong with it.
        sound: what its model would take of it, where that is not all.
    """

    document: Document
    key: Key | None
    resource: Resource | None
    diagnostics: tuple[Diagnostic, ...] = ()
    sound: Partial | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """The manifests of a file, what is wrong between them, and the objects that its unreadable parts name.

    `ignores`: the comments that ask for findings to be ignored; none in a file without manifests.
    `unnamed`: something in it may be an object, and does not show which.
    """

    readings: tuple[Reading, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    named: tuple[Key, ...] = ()
    unnamed: bool = False
    ignores: tuple[ignores.Ignore, ...] = ()

    @property
    def is_broken(self) -> bool:
        """True when some document of it is not valid by itself."""
        return bool(self.diagnostics) or any(reading.diagnostics for reading in self.readings)


def read(content: bytes, limits: Limits) -> File:
    """Everything that a file's bytes say by themselves."""
    parsed = loader.load(content)
    readings = tuple(_reading(document, limits) for document in parsed.documents if _is_ours(document))
    return File(
        readings=readings,
        diagnostics=tuple(explain.yaml_problem(problem, "") for problem in parsed.problems),
        named=tuple(Key(Kind(kind), name) for kind, name in parsed.names if kind in _KINDS),
        unnamed=parsed.unnamed or any(map(_is_unnamed, readings)),
        ignores=ignores.find(content) if readings else (),
    )


def _is_ours(document: Document) -> bool:
    """Whether a document is a manifest of ours, or looks enough like one to be judged.

    Other YAML may live in the repository: mappings without any of our fields, and objects of another API.
    """
    data = document.data
    if isinstance(data, list):
        return any(isinstance(entry, dict) and _speaks_of_us(entry) for entry in data)
    if not isinstance(data, dict):
        return data is not None
    return _speaks_of_us(data)


def _speaks_of_us(data: dict[str, object]) -> bool:
    version, kind = data.get("apiVersion"), data.get("kind")
    if (isinstance(version, str) and version.startswith("ota/")) or (isinstance(kind, str) and kind in _OURS):
        return True
    return version is None and not data.keys().isdisjoint({"apiVersion", "kind", "spec"})


def _reading(document: Document, limits: Limits) -> Reading:
    data = document.data
    if not isinstance(data, dict):
        subject = explain.Subject(document, "")
        remedy = "a manifest has apiVersion, kind, metadata and spec; several are separated by `---`"
        message = f"this is {named(data)}, not a manifest"
        return Reading(document, None, None, (subject.report(Code.NOT_A_MANIFEST, message, help=remedy),))
    key = _key(data)
    subject = explain.Subject(document, "", str(key or ""))
    found = _of_the_yaml(document, subject.name)
    found += _envelope(data, subject)
    kind = _kind(data)
    if kind is None:
        return Reading(document, key, None, tuple(found))
    resource = sound = None
    try:
        resource = resources.parse(kind, data, limits)
    except pydantic.ValidationError as mistake:
        told = {problem.spot.line for problem in document.problems if problem.code is Code.BAD_KEY}
        listed: list[Any] = list(mistake.errors(include_url=False))
        sound = partial.of(resources.MODELS[kind], data, listed, limits)
        complaints = explain.model_problems([*listed, *sound.broken_rules()], kind, subject)
        found += [one for one in complaints if one.field != "apiVersion" and one.line not in told]
    whole = not document.problems
    return Reading(document, key, None if found else resource, tuple(found), sound if whole else None)


def _of_the_yaml(document: Document, name: str) -> list[Diagnostic]:
    """What is wrong with a document's YAML: the first problems, and how many more there are."""
    found = [explain.yaml_problem(problem, "", name) for problem in document.problems[: explain.LISTED]]
    more = len(document.problems) - len(found)
    if more:
        found[-1] = dataclasses.replace(found[-1], message=f"{found[-1].message}; {explain.not_listed(more)}")
    return found


def _is_unnamed(found: Reading) -> bool:
    data = found.document.data
    kind = data.get("kind") if isinstance(data, dict) else None
    return found.key is None and not (isinstance(kind, str) and kind in unsupported.OTHER_KINDS)


def _unsupported(what: str, location: Location, subject: explain.Subject) -> Diagnostic:
    """Something that manifests can say, and that is refused until the engine can do it."""
    remedy = "remove it; it comes in a later release"
    label = "not supported yet"
    return subject.report(
        Code.UNSUPPORTED, f"{what} is not supported yet", location, label=label, help=remedy
    )


def _key(data: dict[str, object]) -> Key | None:
    kind, metadata = _kind(data), data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return Key(kind, name) if kind is not None and isinstance(name, str) else None


def _kind(data: dict[str, object]) -> Kind | None:
    said = data.get("kind")
    return Kind(said) if isinstance(said, str) and said in _KINDS else None


def _envelope(data: dict[str, object], subject: explain.Subject) -> list[Diagnostic]:
    """What is wrong with apiVersion and kind."""
    found = []
    version, kind = data.get("apiVersion"), data.get("kind")
    if version != API_VERSION:
        said = (
            "apiVersion is missing" if version is None else f"apiVersion is `{version}`, not `{API_VERSION}`"
        )
        remedy = f"write `apiVersion: {API_VERSION}`"
        found.append(subject.report(Code.API_VERSION, said, ("apiVersion",), help=remedy))
    kinds = ", ".join(Kind)
    if kind is None:
        found.append(subject.report(Code.KIND, "kind is missing", ("kind",), help=f"kinds are {kinds}"))
    elif isinstance(kind, str) and kind in unsupported.OTHER_KINDS:
        found.append(_unsupported(f"kind {kind}", ("kind",), subject))
    elif _kind(data) is None:
        remedy = explain.nearest(str(kind), Kind) or f"kinds are {kinds}"
        found.append(subject.report(Code.KIND, f"there is no kind `{kind}`", ("kind",), help=remedy))
    return found
