"""What was found wrong with a manifest: one frozen value for each finding, and the table of codes.

Made by `source.validate`, stored on an object's status, rendered by the CLI. It holds facts and plain words;
colours, carets and file formats are the renderers' business. A code never changes its meaning.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, Self


class Severity(enum.StrEnum):
    """An error keeps its object out; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


class Code(enum.StrEnum):
    """The stable codes. 0xx: bytes and YAML; 1xx: one document; 2xx: several; 3xx: files beside them."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """A member is its code, and carries its meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    UNREADABLE = "OTA001", "a file cannot be read"
    ENCODING = "OTA002", "a file is not UTF-8 text"
    SYNTAX = "OTA003", "a file is not YAML"
    DUPLICATE_KEY = "OTA004", "a mapping has the same key twice"
    TOO_COMPLEX = "OTA005", "a document is nested too deeply or is too large"
    BAD_KEY = "OTA006", "a key or a tag that manifests do not use"

    API_VERSION = "OTA101", "apiVersion is missing or unknown"
    KIND = "OTA102", "kind is missing or unknown"
    NOT_A_MANIFEST = "OTA103", "a document is not a mapping"
    REQUIRED = "OTA110", "a required field is missing"
    TYPE = "OTA111", "a value is of the wrong type"
    CHOICE = "OTA112", "a value is none of those possible"
    UNKNOWN_FIELD = "OTA113", "a field is unknown"
    MALFORMED = "OTA114", "a value is malformed"
    RANGE = "OTA115", "a value is out of range"
    COMBINATION = "OTA116", "fields contradict each other"
    REPEATED = "OTA117", "a list names something twice"
    IGNORE = "OTA118", "an ignore that ignores nothing"
    UNSUPPORTED = "OTA119", "not supported yet"
    SCHEMA = "OTA120", "a document does not fit the given schema"

    REFERENCE = "OTA201", "a reference leads nowhere"
    DUPLICATE_OBJECT = "OTA202", "two documents declare the same object"
    TAKEN = "OTA203", "a key, title or version that must be unique is taken"
    SAME_VERSION = "OTA204", "a source version is the target version"
    VERSION_FORMAT = "OTA205", "a version is not in the product's format"
    MODULE = "OTA206", "the product has no such module"
    OVERLAP = "OTA207", "two batches are for the same devices"
    DEVICE_TWICE = "OTA208", "a device is declared by two inventories"
    TOO_MANY = "OTA209", "there are more objects than allowed"
    DOWNGRADE = "OTA210", "a batch is for devices on a higher version"

    NO_FILE = "OTA301", "a file is missing"
    SIZE = "OTA302", "a file has another size"
    DIGEST = "OTA303", "a file has another digest"
    FILE = "OTA304", "a file cannot be a package's file"
    ROSTER = "OTA310", "a line of a device list is malformed"
    ROSTER_REPEATED = "OTA311", "a device list names a device twice"
    ROSTER_TOO_LARGE = "OTA312", "a device list is too large"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands. Lines and columns count from 1; line 0 means the file as a whole."""

    path: str
    line: int = 0
    column: int = 0
    end_column: int | None = None

    def __str__(self) -> str:
        """`batches/one.yaml:4:29`."""
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path


@dataclasses.dataclass(frozen=True, slots=True)
class Related:
    """Another place that a finding is about, and what is there (`first declared here`)."""

    place: Place
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding.

    Attributes:
        message: what is wrong, as a sentence without a full stop.
        place: the file, line and columns it is about.
        label: what stands under the caret: the cause in a few words.
        object: `Kind/name` when the document's name could be read, else empty.
        field: the path of the field (`spec.target.devices[2]`), else empty.
        help: the remedy, or empty.
        related: the other places it is about.
    """

    code: Code
    message: str
    place: Place
    severity: Severity = Severity.ERROR
    label: str = ""
    object: str = ""
    field: str = ""
    help: str = ""
    related: tuple[Related, ...] = ()

    def __str__(self) -> str:
        """The place, what is wrong and the remedy in one line, as the status of an object says it."""
        remedy = f" ({self.help})" if self.help else ""
        return f"{self.place}: {self.message}{remedy}"

    @property
    def path(self) -> str:
        """The file."""
        return self.place.path

    @property
    def line(self) -> int:
        """The line, from 1; 0 for the file as a whole."""
        return self.place.line

    @property
    def column(self) -> int:
        """The column in characters, from 1; 0 for the file as a whole."""
        return self.place.column

    @property
    def end_column(self) -> int | None:
        """The column after the last character, when the thing ends on its line."""
        return self.place.end_column


def plain(found: Diagnostic, shown: Callable[[str], str] = str) -> dict[str, Any]:
    """A finding as JSON data; `shown` gives the name that a path is shown by."""
    return {
        "code": str(found.code),
        "severity": str(found.severity),
        "message": _clean(found.message),
        **_plain_place(found.place, shown),
        "label": _clean(found.label),
        "object": _clean(found.object),
        "field": _clean(found.field),
        "help": _clean(found.help),
        "related": [
            {**_plain_place(other.place, shown), "message": _clean(other.message)} for other in found.related
        ],
    }


def _clean(value: str) -> str:
    """The text as it is, but for bytes of a file's name that are no text: JSON has no way to carry them."""
    return value.encode(errors="replace").decode()


def _plain_place(place: Place, shown: Callable[[str], str]) -> dict[str, Any]:
    return {
        "path": _clean(shown(place.path)),
        "line": place.line,
        "column": place.column,
        "endColumn": place.end_column,
    }


def in_order(diagnostics: list[Diagnostic]) -> tuple[Diagnostic, ...]:
    """By file, line and column, as they are shown; each finding once."""
    return tuple(sorted(dict.fromkeys(diagnostics), key=_order))


def _order(diagnostic: Diagnostic) -> tuple[str, int, int, str, str]:
    return (diagnostic.path, diagnostic.line, diagnostic.column, diagnostic.code, diagnostic.message)
