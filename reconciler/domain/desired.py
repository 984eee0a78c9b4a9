"""What a commit asks for: the objects it declares, and those it names but declares wrongly.

Built by `source.validate`, compared with the database by `plan`. The rule that matters most lives here: a
file that cannot be read or is not valid is never the same as an absent one (`DesiredState.is_gone`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

from reconciler.domain import resources
from reconciler.domain.resources import Kind, Resource


class Key(NamedTuple):
    """What an object is, wherever its manifest lies."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        """The form that people read: `Batch/thermostat-1.4.0-eu`."""
        return f"{self.kind}/{self.name}"


@dataclasses.dataclass(frozen=True, slots=True)
class FileFact:
    """A package's file as it was found in the tree; the digests are lower-case hex."""

    path: str
    size: int
    sha256: str
    md5: str


@dataclasses.dataclass(frozen=True, slots=True)
class ForeignFile:
    """A package's file that is somewhere else, as the manifest names it; the digest is lower-case hex."""

    source: str
    """Its URL."""
    size: int | None
    """Bytes; None when the manifest does not say."""
    sha256: str
    md5: str | None = None
    """None when the manifest does not say."""


File: TypeAlias = FileFact | ForeignFile


@dataclasses.dataclass(frozen=True, slots=True)
class RosterRef:
    """A CSV file of devices as it was found in the tree: `entries` devices, the digest in lower-case hex."""

    path: str
    size: int
    sha256: str
    entries: int


@dataclasses.dataclass(frozen=True, slots=True)
class Declaration:
    """One valid object. `digest` covers the normalised spec and the content of the files it refers to.

    Where those files lie is not part of the digest, so that moving a manifest or a file changes nothing.
    """

    kind: Kind
    name: str
    digest: str
    resource: Resource
    path: str
    line: int
    files: tuple[File, ...] = ()
    """A package's, in the order of its manifest."""
    roster: RosterRef | None = None

    @property
    def key(self) -> Key:
        """What the object is."""
        return Key(self.kind, self.name)

    @property
    def metadata(self) -> dict[str, dict[str, str]]:
        """Its labels and annotations, where it has any. They are not part of the digest."""
        given = self.resource.metadata
        said = {"labels": dict(given.labels), "annotations": dict(given.annotations)}
        return {name: values for name, values in said.items() if values}


def declare(
    resource: Resource, path: str, line: int, files: tuple[File, ...] = (), roster: RosterRef | None = None
) -> Declaration:
    """The declaration of a valid object, with its digest."""
    return Declaration(
        kind=Kind(resource.kind),
        name=resource.metadata.name,
        digest=resources.digest(content(resource, files, roster)),
        resource=resource,
        path=path,
        line=line,
        files=files,
        roster=roster,
    )


def content(
    resource: Resource, files: tuple[File, ...] = (), roster: RosterRef | None = None
) -> dict[str, Any]:
    """The normalised spec with the contents of files in place of their paths: what the digest covers."""
    spec = resources.normalised(resource)
    if files:
        said = zip(spec["files"], files, strict=True)
        spec["files"] = [{"name": written["name"], "sha256": file.sha256} for written, file in said]
    if roster is not None:
        holder = spec["target"] if resource.kind == "Batch" else spec
        holder["devicesFrom"] = {**holder["devicesFrom"], "file": roster.sha256}
    return spec


_R = TypeVar("_R", bound=Resource)


@dataclasses.dataclass(frozen=True, slots=True)
class DesiredState:
    """Everything that a tree says.

    Attributes:
        declarations: the valid objects.
        broken: objects that are named but not valid, or that refer to one that is not; with the reasons.
        broken_paths: files that cannot be read, or hold a document that is not valid; and what stands in the place
            of a file or a folder, and is neither.
        unnamed: those of them that hold something of which nobody can say what it is: it may be any object.
    """

    declarations: Mapping[Key, Declaration] = dataclasses.field(default_factory=dict)
    broken: Mapping[Key, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    broken_paths: frozenset[str] = frozenset()
    unnamed: frozenset[str] = frozenset()

    def is_gone(self, key: Key, last_path: str) -> bool:
        """True when Git no longer holds an object that was last declared in `last_path`.

        False when it is declared, when it is named by a document that is not valid, when the file that last
        declared it is broken, and when any file holds something that nobody can name: it may have moved there.
        """
        named = key in self.declarations or key in self.broken
        return not (named or self.unnamed or self.is_broken(last_path))

    def is_broken(self, path: str) -> bool:
        """Whether a file, or a folder above it, is broken."""
        above = itertools.accumulate(path.split("/"), "{}/{}".format)
        return not self.broken_paths.isdisjoint(above)

    def of(self, model: type[_R]) -> Iterator[tuple[Declaration, _R]]:
        """The declarations of one model, by name, each with its resource typed."""
        for key in sorted(self.declarations):
            declaration = self.declarations[key]
            if isinstance(declaration.resource, model):
                yield declaration, declaration.resource
