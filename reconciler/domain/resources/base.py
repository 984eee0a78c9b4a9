"""What all manifests share: the frozen model, the metadata, and the kinds of text, list and time in them.

Used by the models beside it. A rule that is broken raises `problem(…)`, which pydantic collects with the
others; `source.validate` turns them into diagnostics. Numbers that settings may change come from the
validation context (`limits.of_context`). Nothing here looks at a second document or at a file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from reconciler.domain import limits as limit
from reconciler.domain.diagnostics import Code
from reconciler.domain.resources import clauses

API_VERSION = "ota/v1"
VERSION = re.compile(r"[A-Za-z0-9._-]{1,64}")
NUMERIC_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
DEVICE_NAME = re.compile(r"[A-Za-z0-9_.:@-]+")
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = re.compile(rf"({_DNS_LABEL}(\.{_DNS_LABEL})*/)?{_LABEL_NAME}")
_LABEL_VALUE = re.compile(rf"({_LABEL_NAME})?")
_DURATION = re.compile(r"(?=.)(?:([0-9]{1,7})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,7})s)?")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

Location = tuple[int | str, ...]


def problem(
    code: Code, message: str, *, remedy: str = "", at: Location = (), at_key: bool = False, label: str = ""
) -> PydanticCustomError:
    """A broken rule, for a validator to raise.

    Args:
        code: the diagnostic's code.
        message: what is wrong, in plain words.
        remedy: what to write instead.
        at: where below the validated value the problem stands.
        at_key: whether it is the key there that is wrong, not its value.
        label: the cause in a few words, for under the caret.
    """
    details = {"code": code, "message": message, "remedy": remedy, "at": at, "at_key": at_key, "label": label}
    return PydanticCustomError("rule", "{message}", details)


def refuse(problems: Iterable[PydanticCustomError]) -> None:
    """All of them at once, for a validator that looks for several; nothing where there is none.

    Raises:
        pydantic.ValidationError: with all; pydantic takes them over as if each had been raised.
    """
    found = [InitErrorDetails(type=each, loc=(), input=None) for each in problems]
    if found:
        raise pydantic.ValidationError.from_exception_data("rules", found)


class Model(pydantic.BaseModel):
    """A part of a manifest: frozen, camelCase in YAML, unknown fields refused, no silent conversions."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        defer_build=True,
    )

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _no_empty_values(cls, value: Any) -> Any:
        """A key without a value is a slip, not a way to ask for the default."""
        if value is None:
            remedy = "write one (`{}` for an empty mapping), or remove the key"
            raise problem(Code.TYPE, "this key has no value", remedy=remedy)
        return value


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """The rule of a text field.

    Attributes:
        what: what the text is, with its article: `a version`.
        longest: characters at most.
        pattern: what it consists of; None: anything.
        rule: the pattern in words.
        shortest: characters at least.
        sent: whether devices get it by itself: it is no field of the device protocol then (§1, trap 4).
    """

    what: str
    longest: int
    pattern: re.Pattern[str] | None = None
    rule: str = ""
    shortest: int = 1
    sent: bool = False

    def check(self, value: str) -> str:
        """The value itself, when it keeps the rule."""
        size = len(value)
        if size > self.longest or size < self.shortest:
            bound = f"at most {self.longest}" if size > self.longest else f"at least {self.shortest}"
            plural = "" if bound.endswith(" 1") else "s"
            message = f"{self.what} has {bound} character{plural}, this has {size:,}"
            raise problem(Code.RANGE, message, remedy="shorten it" if size > self.longest else "")
        if self.pattern is not None and not self.pattern.fullmatch(value):
            raise problem(Code.MALFORMED, f"`{value}` is not {self.what}", remedy=self.rule)
        if self.sent and value in PROTOCOL_KEYS:
            raise problem(
                Code.MALFORMED,
                f"`{value}` is a field of the device protocol, and cannot be {self.what}",
                remedy="devices find fields by their name alone, and would take it for one: choose another",
            )
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        said: dict[str, Any] = {**handler(schema), "minLength": self.shortest, "maxLength": self.longest}
        if self.pattern is not None:
            said["pattern"] = f"^({self.pattern.pattern})$"
        if self.pattern is not None and self.rule:
            said["patternErrorMessage"] = self.rule
        return said | (clauses.not_among(PROTOCOL_KEYS) if self.sent else {})


@dataclasses.dataclass(frozen=True, slots=True)
class Unique:
    """The rule of a list that names each thing once, in an order that means nothing: it is kept sorted.

    Attributes:
        what: what one entry is, for messages: `device`.
        least: entries at least.
        most: entries at most; None: no rule.
        most_of: the name of the `Limits` field that says how many at most, instead of `most`.
    """

    what: str
    least: int = 0
    most: int | None = None
    most_of: str = ""

    def _most(self, limits: limit.Limits) -> int | None:
        return getattr(limits, self.most_of) if self.most_of else self.most

    def check(self, value: tuple[str, ...], info: core_schema.ValidationInfo) -> tuple[str, ...]:
        """The entries, sorted."""
        refuse(self._problems(value, info))
        return tuple(sorted(value))

    def _problems(
        self, value: tuple[str, ...], info: core_schema.ValidationInfo
    ) -> Iterator[PydanticCustomError]:
        most = self._most(limit.of_context(info.context))
        if most is not None and len(value) > most:
            message = f"at most {most:,} {self.what}s can be listed here, these are {len(value):,}"
            remedy = (
                "list them in a CSV file: `devicesFrom`" if self.most_of == "devices_per_manifest" else ""
            )
            yield problem(Code.RANGE, message, remedy=remedy)
        if len(value) < self.least:
            yield problem(Code.RANGE, f"at least {self.least} {self.what} must be listed here")
        seen: dict[str, int] = {}
        for place, entry in enumerate(value):
            if seen.setdefault(entry, place) != place:
                yield problem(Code.REPEATED, f"{self.what} `{entry}` is listed twice", at=(place,))

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.with_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        said: dict[str, Any] = {**handler(schema), "uniqueItems": True}
        if self.least:
            said["minItems"] = self.least
        if (most := self._most(limit.DEFAULT)) is not None:
            said["maxItems"] = most
        return said


def duration(text: str) -> timedelta | None:
    """`90s`, `10m`, `1h30m`, `24h` as a time span; None when the text is none."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def format_duration(span: timedelta) -> str:
    """The shortest way to write a span of whole seconds in a manifest."""
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if count]
    return "".join(parts) or "0s"


def _duration(value: object) -> object:
    span = duration(value) if isinstance(value, str) else None
    if span is None:
        raise problem(
            Code.MALFORMED, f"`{value}` is not a duration", remedy="write it like 90s, 10m, 1h30m or 24h"
        )
    return span


def _minutes(span: timedelta) -> timedelta:
    if span % timedelta(minutes=1) or not timedelta(minutes=1) <= span <= timedelta(days=1):
        raise problem(
            Code.RANGE,
            f"`{format_duration(span)}` is not between 1 and 1,440 whole minutes",
            remedy="write it like 60m",
        )
    return span


def _moment(value: object) -> object:
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise problem(
        Code.MALFORMED,
        f"`{value}` is not a time with a date and an offset",
        remedy="write it like 2026-12-01T02:00:00+01:00 or 2026-12-01T01:00:00Z",
    )


def _device_name(value: str, info: core_schema.ValidationInfo) -> str:
    complaint = device_name_problem(value, limit.of_context(info.context))
    if complaint:
        raise problem(Code.MALFORMED, complaint)
    return value


def device_name_problem(name: str, limits: limit.Limits) -> str:
    """Why this is no device name (platform rules §2); empty when it is one."""
    if DEVICE_NAME.fullmatch(name) and limits.device_name_shortest <= len(name) <= limits.device_name_longest:
        return ""
    return (
        f"`{name}` is not a device name: {limits.device_name_shortest} to {limits.device_name_longest} of "
        "letters, digits and _ . : @ -"
    )


PROTOCOL_KEYS = frozenset(
    {
        "code",
        "message",
        "id",
        "method",
        "params",
        "step",
        "desc",
        "data",
        "size",
        "version",
        "isDiff",
        "url",
        "md5",
        "sign",
        "signMethod",
        "digestsign",
        "module",
        "extData",
        "files",
        "fileSize",
        "fileName",
        "fileUrl",
        "fileMd5",
        "fileSign",
        "fileDigestsign",
        "dProtocol",
        "streamId",
        "streamFileId",
        "strategy",
    }
)
"""The wire's own field names (device protocol §2, §4). Devices find a field by its name alone (trap 4), so a
text that is one, a tag or a version, would be taken for it."""
BRACES = "some devices count braces to find the end of a message: close what is opened"


def looks_like_a_field(text: str) -> bool:
    """True when a device that searches for `"key"` finds one in this text: it is a key, or ends in a quote and one.

    (Device protocol §1, trap 4. A quote inside of a string is sent with a backslash before it, which such a device
    doesn't look at.)
    """
    return text.rpartition('"')[2] in PROTOCOL_KEYS


def is_balanced(text: str) -> bool:
    """True when the text's braces pair up; devices that count them stumble else (device protocol, trap 4)."""
    depth = 0
    for sign in text:
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            return False
    return depth == 0


_DURATION_SCHEMA = {
    "type": "string",
    "pattern": r"^([0-9]{1,7}h)?([0-9]{1,7}m)?([0-9]{1,7}s)?$",
    "patternErrorMessage": "write it like 90s, 10m, 1h30m or 24h",
    "minLength": 2,
    "examples": ["60m", "1h30m"],
}

Name = Annotated[
    str,
    Text(
        "a name",
        253,
        re.compile(rf"{_DNS_LABEL}(\.{_DNS_LABEL})*"),
        "lower-case letters, digits, `-` and `.`, starting and ending with a letter or digit",
    ),
]
_VERSION_RULE = "a version has letters, digits, `.`, `_` and `-` only"
_MODULE_RULE = "a module's name has letters, digits, `.`, `_` and `-` only"
Version = Annotated[str, Text("a version", 64, VERSION, _VERSION_RULE)]
"""One that devices report."""
SentVersion = Annotated[str, Text("a version", 64, VERSION, _VERSION_RULE, sent=True)]
"""One that devices are told to upgrade to."""
ModuleName = Annotated[str, Text("a module's name", 64, VERSION, _MODULE_RULE)]
"""One that refers to a module."""
SentModuleName = Annotated[str, Text("a module's name", 64, VERSION, _MODULE_RULE, sent=True)]
"""One that declares a module: only such a one is told to devices."""
DeviceName = Annotated[
    str,
    pydantic.AfterValidator(_device_name),
    pydantic.WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{DEVICE_NAME.pattern}$",
            "patternErrorMessage": "a device name has letters, digits and _ . : @ - only",
            "minLength": limit.DEFAULT.device_name_shortest,
            "maxLength": limit.DEFAULT.device_name_longest,
        }
    ),
]
Description = Annotated[str, Text("a description", 100, shortest=0)]
Duration = Annotated[
    timedelta,
    pydantic.BeforeValidator(_duration),
    pydantic.PlainSerializer(format_duration),
    pydantic.WithJsonSchema(_DURATION_SCHEMA),
]
Minutes = Annotated[Duration, pydantic.AfterValidator(_minutes), pydantic.WithJsonSchema(_DURATION_SCHEMA)]
Moment = Annotated[
    datetime,
    pydantic.BeforeValidator(_moment),
    pydantic.WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": f"^{_RFC3339.pattern}$",
            "patternErrorMessage": "write it like 2026-12-01T02:00:00+01:00 or 2026-12-01T01:00:00Z",
        }
    ),
]


TagKey = Annotated[
    str,
    Text(
        "a tag's key",
        64,
        re.compile(r"[A-Za-z0-9._-]+"),
        "a tag's key has letters, digits, `.`, `_` and `-` only",
    ),
]
"""A device's tag. It never goes over the wire, so it is freer than a batch's."""
TagValue = Annotated[str, Text("a tag's value", 1024)]


def _label_key(key: str) -> str:
    if len(key) > 253 or not _LABEL_KEY.fullmatch(key):
        raise problem(
            Code.MALFORMED,
            f"`{key}` is not a key of a label or annotation",
            remedy="up to 63 letters, digits, `-`, `_` and `.`, if you like after a domain and a slash",
        )
    return key


LabelKey = Annotated[
    str,
    pydantic.AfterValidator(_label_key),
    pydantic.WithJsonSchema({"type": "string", "pattern": f"^{_LABEL_KEY.pattern}$", "maxLength": 253}),
]
LabelValue = Annotated[
    str,
    Text("a label's value", 63, _LABEL_VALUE, "letters, digits, `-`, `_` and `.`, or nothing", shortest=0),
]


class Metadata(Model):
    """What every object is known by."""

    name: Name = Field(
        description="The object's name, unique per kind: a lower-case DNS subdomain.",
        examples=["thermostat-1.4.0-eu"],
    )
    labels: dict[LabelKey, LabelValue] = Field(
        default={},
        description="Short values to select objects by, as in Kubernetes.",
        examples=[{"team": "heating"}],
    )
    annotations: dict[LabelKey, Annotated[str, Text("an annotation", 65_536, shortest=0)]] = Field(
        default={},
        description="Any text for people and tools; it means nothing to the reconciler.",
        examples=[{"example.com/ticket": "FW-4711"}],
    )


class Manifest(Model):
    """What every document begins with."""

    api_version: Literal["ota/v1"] = Field(description="The version of the manifest format.")
    metadata: Metadata = Field(description="What the object is known by.")


class DevicesFrom(Model):
    """A CSV file beside the manifest that lists devices."""

    file: str = Field(
        min_length=1, description="The CSV file, relative to this manifest.", examples=["berlin.csv"]
    )
