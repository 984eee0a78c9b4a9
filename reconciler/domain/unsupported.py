"""What manifests can say and the engine cannot do yet: one table, so that nothing is accepted and ignored.

`source.validate` asks `find` about the plain data of each document, valid or not. When the engine learns
something, its row goes; nothing else knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from reconciler.domain import resources
from reconciler.domain.resources import Kind, Location

OTHER_KINDS = frozenset({"Repository"})
"""Kinds of ours that have no model yet."""


class Row(NamedTuple):
    """A field, and what it must not say yet."""

    kind: Kind
    field: str
    refused: Callable[[Any], bool]
    what: str


def _given(value: object) -> bool:
    return value is not None


def _one_of(*values: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in values


def _several(value: object) -> bool:
    return isinstance(value, list) and len(value) > 1


def _foreign(files: object) -> bool:
    entries = files if isinstance(files, list) else []
    sources = [entry.get("source") for entry in entries if isinstance(entry, dict)]
    return any(isinstance(source, str) and not resources.is_path(source) for source in sources)


ROWS = (
    Row(Kind.PRODUCT, "protocol", _one_of("Sagoo"), "protocol Sagoo"),
    Row(Kind.PRODUCT, "signing", _given, "signing packages"),
    Row(Kind.PACKAGE, "files", _several, "more than one file in a package"),
    Row(Kind.PACKAGE, "files", _foreign, "a file from outside the repository"),
)


def find(kind: Kind, data: object) -> Iterator[tuple[Location, str]]:
    """Where a document asks for something that cannot be done yet, and what it is.

    Args:
        kind: the document's kind.
        data: the document as plain data; it may break any other rule.
    """
    for row in ROWS:
        location = ("spec", *row.field.split("."))
        if row.kind is kind and row.refused(_at(data, location)):
            yield location, row.what


def _at(data: object, location: tuple[str, ...]) -> object:
    for key in location:
        data = data.get(key) if isinstance(data, dict) else None
    return data
