"""One version of one module of one product: its files, their digests, its trial (platform rules §3)."""

from __future__ import annotations

import enum
import hashlib
import posixpath
import re
from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from reconciler.domain import foreign
from reconciler.domain import limits as limit
from reconciler.domain.diagnostics import Code
from reconciler.domain.resources import base, clauses
from reconciler.domain.resources.product import DEFAULT_MODULE

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCHEMES = frozenset({"https", "s3", "file"})
_URL = {"required": ["source"], "properties": {"source": {"pattern": f"^{_SCHEME.pattern}"}}}
MOST_FILES = 20
"""In one package (platform rules §3)."""
_TITLE_SIGNS = frozenset("-_.() ")


class PackageType(enum.StrEnum):
    """A whole image, or the difference from one source version."""

    FULL = "Full"
    DELTA = "Delta"


class SignMethod(enum.StrEnum):
    """The digest that devices check a file with."""

    MD5 = "MD5"
    SHA256 = "SHA256"


def title_problem(title: str) -> str:
    """Why this is no package title; empty when it is one."""
    if not 1 <= len(title) <= 40:
        return f"a title has 1 to 40 characters, this has {len(title)}"
    if not (title[0].isalpha() or title[0] in "0123456789"):
        return "a title starts with a letter or a digit"
    if title.endswith(" "):
        return "a title ends with no space"
    strange = [sign for sign in title if not (sign.isalpha() or sign in "0123456789" or sign in _TITLE_SIGNS)]
    return f"`{strange[0]}` cannot be in a title" if strange else ""


def is_path(source: str) -> bool:
    """True when a file's source is a path in the repository, not a URL."""
    return _SCHEME.match(source) is None


def has_format(source: str, formats: tuple[str, ...]) -> bool:
    """True when a file's name ends in one of the formats, ignoring case."""
    name = posixpath.basename(source if is_path(source) else re.split(r"[?#]", source, maxsplit=1)[0])
    return any(len(name) > len(ending) and name.lower().endswith(ending) for ending in formats)


class PackageFile(base.Model):
    """One file of a package."""

    model_config = clauses.rules(clauses.when(_URL, clauses.given("sha256")))

    name: Annotated[
        str,
        base.Text(
            "a file's name",
            32,
            re.compile(r'[^/\\"{}\[\]\x00-\x1f\x7f]+'),
            "no slashes, quotes, braces and brackets: they mislead devices that search a message's text",
            sent=True,
        ),
    ] = Field(
        description="The name that devices see; 1 to 32 characters, unique in the package.",
        examples=["app.bin"],
    )
    source: Annotated[str, base.Text("a source", 4096)] = Field(
        description="A path in the repository relative to this manifest, or a URL: https://, s3://, file://.",
        examples=["../artifacts/app-1.4.0.bin", "https://files.example.com/app-1.4.0.bin"],
    )
    size: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="The size in bytes; checked.",
        examples=[432945],
        json_schema_extra={"maximum": limit.DEFAULT.file_bytes},
    )
    sha256: (
        Annotated[str, base.Text("a SHA-256", 64, re.compile("[0-9A-Fa-f]+"), "64 hex digits", 64)] | None
    ) = Field(
        default=None,
        description="The SHA-256 in hex, as `sha256sum` prints it; checked. Required unless source is a path.",
        examples=[hashlib.sha256(b"").hexdigest()],
    )
    md5: Annotated[str, base.Text("an MD5", 32, re.compile("[0-9A-Fa-f]+"), "32 hex digits", 32)] | None = (
        Field(
            default=None,
            description="The MD5 in hex; checked too, where it is given.",
            examples=["d41d8cd98f00b204e9800998ecf8427e"],
        )
    )

    @pydantic.field_validator("source")
    @classmethod
    def _source_readable(cls, source: str, info: pydantic.ValidationInfo) -> str:
        scheme = _SCHEME.match(source)
        if scheme is not None and scheme[1].lower() not in _SCHEMES:
            raise base.problem(
                Code.MALFORMED,
                f"files cannot come from `{scheme[0]}`",
                remedy="use a path in the repository, https://, s3:// or file://",
            )
        complaint = foreign.problem(source) if scheme is not None else ""
        if complaint:
            raise base.problem(Code.MALFORMED, complaint, remedy="correct the source")
        if scheme is None and (source.startswith("/") or "\\" in source):
            raise base.problem(
                Code.MALFORMED,
                f"`{source}` is not a path relative to this manifest",
                remedy="write it like ../artifacts/app-1.4.0.bin",
            )
        formats = limit.of_context(info.context).file_formats
        if not has_format(source, formats):
            raise base.problem(
                Code.FILE,
                f"`{source}` has no format that packages may have",
                remedy=f"use one of {' '.join(formats)}",
            )
        return source

    @pydantic.field_validator("size")
    @classmethod
    def _size_allowed(cls, size: int, info: pydantic.ValidationInfo) -> int:
        most = limit.of_context(info.context).file_bytes
        if size > most:
            raise base.problem(Code.RANGE, f"a file has at most {most:,} bytes, this has {size:,}")
        return size

    @pydantic.field_validator("sha256", "md5")
    @classmethod
    def _lower_case(cls, digest: str) -> str:
        return digest.lower()

    @pydantic.model_validator(mode="after")
    def _digest_of_foreign_files(self) -> Self:
        if self.sha256 is None and not is_path(self.source):
            raise base.problem(
                Code.REQUIRED,
                "a file from outside the repository needs its `sha256`",
                remedy="add `sha256:` with what `sha256sum` prints",
            )
        return self


class Verification(base.Model):
    """A package's trial on a few named devices."""

    devices: Annotated[tuple[base.DeviceName, ...], Field(strict=False), base.Unique("device", 1, 10)] = (
        Field(description="The test devices; 1 to 10.", examples=[["lab-01", "lab-02"]])
    )
    source_versions: Annotated[
        tuple[base.Version, ...], Field(strict=False), base.Unique("version", 0, 10)
    ] = Field(
        default=(),
        description="Only those of the devices that report one of these versions. Empty: any. Quote them.",
        examples=[["1.3.0", "1.3.1"]],
    )
    timeout: base.Minutes | None = Field(
        default=None,
        description="How long a test device may stay silent after its push, and may then take from its first progress "
        "report; 1m to 24h. Default: the operator's, 24h.",
    )
    attempt: Annotated[int, Field(ge=1)] = Field(
        default=1, description="Raise it to try a failed trial again.", examples=[2]
    )


class PackageSpec(base.Model):
    """What a package is."""

    model_config = clauses.rules(
        clauses.when(clauses.given(type="Delta"), clauses.given("sourceVersion")),
        clauses.when(clauses.given("sourceVersion"), clauses.given(type="Delta")),
    )

    product: base.Name = Field(description="The name of the product that it is for.", examples=["thermostat"])
    module: base.ModuleName = Field(
        default=DEFAULT_MODULE, description="The module that it upgrades.", examples=["mcu"]
    )
    title: str | None = Field(
        default=None,
        description="What people call it; 1 to 40 characters, unique. Default: metadata.name.",
        examples=["Thermostat 1.4.0"],
        json_schema_extra={"minLength": 1, "maxLength": 40},
    )
    type: Annotated[PackageType, Field(strict=False)] = Field(
        default=PackageType.FULL,
        description="Full: the whole image. Delta: the difference from `sourceVersion`.",
    )
    version: base.SentVersion = Field(
        description="The version that devices report afterwards. Quote it.", examples=["1.4.0"]
    )
    source_version: base.Version | None = Field(
        default=None,
        description="Delta only: the one version that it starts from. Quote it.",
        examples=["1.3.0"],
    )
    sign_method: Annotated[SignMethod, Field(strict=False)] = Field(
        default=SignMethod.SHA256, description="The digest that devices check. Android deltas need MD5."
    )
    files: Annotated[tuple[PackageFile, ...], Field(strict=False)] = Field(
        description=f"The files; 1 to {MOST_FILES}.",
        json_schema_extra={"minItems": 1, "maxItems": MOST_FILES},
    )
    verification: Verification | None = Field(
        default=None, description="A trial on a few devices that must pass first. Absent: none is needed."
    )
    custom_info: Annotated[str, base.Text("custom info", 4096, shortest=0)] = Field(
        default="",
        description="Text that devices get with the package; at most 4,096 characters.",
        examples=['{"notice":"restarts at night"}'],
    )
    description: base.Description = Field(
        default="",
        description="What is new; at most 100 characters.",
        examples=["Fixes the night schedule"],
    )

    @pydantic.field_validator("title")
    @classmethod
    def _title_fits(cls, title: str) -> str:
        complaint = title_problem(title)
        if complaint:
            raise base.problem(
                Code.MALFORMED,
                complaint,
                remedy="letters, digits, `-`, `_`, `.`, `(`, `)` and spaces inside",
            )
        return title

    @pydantic.field_validator("files")
    @classmethod
    def _files_countable(cls, files: tuple[PackageFile, ...]) -> tuple[PackageFile, ...]:
        if not 1 <= len(files) <= MOST_FILES:
            raise base.problem(Code.RANGE, f"a package has 1 to {MOST_FILES} files, this has {len(files)}")
        return files

    @pydantic.field_validator("custom_info")
    @classmethod
    def _braces_balanced(cls, text: str) -> str:
        if not base.is_balanced(text):
            raise base.problem(Code.MALFORMED, "the braces of custom info do not pair up", remedy=base.BRACES)
        if base.looks_like_a_field(text):
            raise base.problem(
                Code.MALFORMED,
                "custom info ends like a field of the device protocol",
                remedy="devices find fields by their name alone and would take it for one: end it with another sign",
            )
        return text

    @pydantic.model_validator(mode="after")
    def _files_unique(self) -> Self:
        seen: dict[str, int] = {}
        base.refuse(
            base.problem(
                Code.REPEATED,
                f"another file of this package is named `{file.name}`",
                at=("files", place, "name"),
            )
            for place, file in enumerate(self.files)
            if seen.setdefault(file.name, place) != place
        )
        return self

    @pydantic.model_validator(mode="after")
    def _delta_has_a_source(self) -> Self:
        if self.type is PackageType.FULL and self.source_version is not None:
            raise base.problem(
                Code.COMBINATION,
                "only a delta package has a `sourceVersion`",
                remedy="remove it, or write `type: Delta`",
                at=("sourceVersion",),
            )
        if self.type is PackageType.DELTA and self.source_version is None:
            raise base.problem(
                Code.REQUIRED,
                "a delta package needs its `sourceVersion`",
                remedy="add `sourceVersion:`, the one version that it starts from, or write `type: Full`",
                at=("type",),
                label="needs sourceVersion",
            )
        return self

    @pydantic.model_validator(mode="after")
    def _delta_changes_something(self) -> Self:
        if self.type is PackageType.DELTA and self.source_version == self.version:
            raise base.problem(
                Code.SAME_VERSION,
                "the source version is the version of the package itself",
                remedy="write the version that devices have before",
                at=("sourceVersion",),
            )
        return self


class Package(base.Manifest):
    """One version of one module of one product."""

    model_config = clauses.rules(clauses.without("title", "spec", clauses.name_of(1, 40)))

    kind: Literal["Package"] = Field(description="What the document declares.")
    spec: PackageSpec = Field(description="What the package is.")

    @pydantic.model_validator(mode="after")
    def _name_fits(self) -> Self:
        """The name is the default of the title, so one of the two must be a title."""
        if self.spec.title is None and title_problem(self.metadata.name):
            raise base.problem(
                Code.REQUIRED,
                "the name is too long to be the title too",
                remedy="add a `title` (at most 40 characters)",
                at=("spec",),
            )
        return self

    @property
    def title(self) -> str:
        """What people call the package."""
        return self.spec.title or self.metadata.name
