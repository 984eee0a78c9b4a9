"""The process's configuration: one model, filled from flags, environment and file, in this order.

Every setting is a flag of `run` and `demo`, and an environment variable `RECONCILER_…`; secrets also as
`RECONCILER_…_FILE`. Wrong values are refused with the setting's name; unknown variables are warned about.
What is wrong with a setting is a `UsageError`, in our words: nobody has to know pydantic.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic
from pydantic import Field
from pydantic_core import PydanticCustomError

from reconciler import errors
from reconciler.domain import resources
from reconciler.domain.limits import DEFAULT, Limits

PREFIX = "RECONCILER_"
SECRETS = frozenset({"secret_key", "mqtt_password", "sagoo_secret_key"})
"""Settings that may be read from a file named by `RECONCILER_…_FILE`."""
_ELSEWHERE = frozenset(
    {"config", "color", "output", "log_level", "log_format", "who", "server", "token", "token_file"}
)
"""Variables of the command line that are no settings of the daemon."""


_NEAR = 0.75
"""How alike names must be for the one to be meant by the other."""


_NO_TIME = "{given} is not a time: write 30s, 5m, or a number of seconds"
_NO_NUMBER = "{given} is not a whole number"
_NO_BOOLEAN = "{given} is neither true nor false"
_WORDS = {
    "greater_than_equal": "it is at least {ge:g}",
    "less_than_equal": "it is at most {le:g}",
    "enum": "{given} is none of {choices}",
    "float_parsing": _NO_TIME,
    "float_type": _NO_TIME,
    "int_parsing": _NO_NUMBER,
    "int_type": _NO_NUMBER,
    "int_from_float": _NO_NUMBER,
    "bool_parsing": _NO_BOOLEAN,
    "bool_type": _NO_BOOLEAN,
    "string_too_short": "it can't be empty",
    "limits": "{said}",
}
"""What pydantic's complaints mean."""


class Bootstrap(enum.StrEnum):
    """What happens to batches that an empty database finds in Git."""

    HOLD = "hold"
    START = "start"


def _seconds(value: object) -> object:
    """A duration as manifests write it, in seconds; anything else as it is."""
    span = resources.duration(value) if isinstance(value, str) else None
    return value if span is None else span.total_seconds()


Seconds = Annotated[float, pydantic.BeforeValidator(_seconds)]
"""A time span: written `30s` or `5m`, or as a number of seconds."""

_BYTES = re.compile(r"([0-9]{1,15})\s*(?:([kMGT]?)B)?")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def _bytes(value: object) -> object:
    """A size as people write it, in bytes; a number as it is."""
    found = _BYTES.fullmatch(value.strip()) if isinstance(value, str) else None
    if isinstance(value, str) and found is None:
        raise _wrong_limit(f"{value!r} is no size: write 500kB, 20MB, or a number of bytes")
    return int(found[1]) * _UNITS[found[2] or ""] if found else value


Bytes = Annotated[int, pydantic.BeforeValidator(_bytes)]
"""A number of bytes: written `20MB`, or as a number."""


def _paths(value: object) -> object:
    """Folders: as flags and files have them, one by one; as the environment has them, with colons."""
    return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value


def _limits(value: object) -> Limits:
    """The platform rules' limits with some of them changed: `packages=600,groups=2000`, or a table of a file."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        given: Mapping[Any, Any] = {name.strip(): text.strip() for name, _, text in pairs}
    elif isinstance(value, Mapping):
        given = value
    else:
        raise _wrong_limit("write NAME=VALUE, with commas between several")
    changed = dataclasses.replace(DEFAULT, **dict(_limit(str(name), said) for name, said in given.items()))
    complaint = changed.problem()
    if complaint:
        raise _wrong_limit(complaint)
    return changed


def _limit(name: str, said: object) -> tuple[str, Any]:
    """One limit's field and value: a number, a duration, or words with spaces between, as its default is."""
    field = name.replace("-", "_")
    names = [each.name for each in dataclasses.fields(Limits)]
    if field not in names:
        nearest = _nearest(field, names).replace("_", "-")
        raise _wrong_limit(f"there is no limit {name}" + (f", did you mean {nearest}?" if nearest else ""))
    default: object = getattr(DEFAULT, field)
    value: Any
    text = " ".join(map(str, said)) if isinstance(said, list) else str(said)
    if isinstance(default, timedelta):
        value, kind = resources.duration(text), "a time such as 90s, 10m or 168h"
    elif isinstance(default, tuple):
        value, kind = tuple(text.lower().split()) or None, "words with spaces between"
    else:
        value, kind = int(text) if text.isdecimal() else None, "a whole number"
    if value is None:
        raise _wrong_limit(f"{name} is {kind}, not {text!r}")
    return field, value


def _wrong_limit(said: str) -> PydanticCustomError:
    return PydanticCustomError("limits", "{said}", {"said": said})


class Settings(pydantic.BaseModel):
    """All settings, with their defaults. Durations are seconds."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    repo: str = Field("", description="The repository with the manifests: a folder or a URL.")
    ref: str = Field("main", description="The branch, tag or full ref to follow.")
    interval: Seconds = Field(
        30.0, ge=0.1, le=86400, description="Time between two looks at the repository: 30s, 5m, or seconds."
    )
    data_dir: Path = Field(Path("data"), description="Database, files, mirror and keys.")
    database: str = Field("", description="Database URL; default: SQLite in the data directory.")
    mqtt: str = Field(
        "embedded", description="embedded: devices connect to us; or a broker: mqtt:// or mqtts://."
    )
    mqtt_bind: str = Field("127.0.0.1:1883", description="Where devices connect; empty: nowhere without TLS.")
    mqtt_tls_bind: str = Field("", description="Where devices connect with TLS; needs certificate and key.")
    mqtt_certificate: Path | None = Field(
        None, description="Certificate (PEM): the endpoint's own, or ours for a broker."
    )
    mqtt_key: Path | None = Field(None, description="The certificate's private key (PEM).")
    mqtt_ca: Path | None = Field(None, description="CA certificates that a broker is checked with (PEM).")
    mqtt_client_id: str = Field(
        "reconciler", min_length=1, description="Our client id at a broker; one for each daemon."
    )
    mqtt_password: str = Field("", description="Password at a broker, instead of in its URL.")
    allow_anonymous_devices: bool = Field(
        default=False,
        description="Devices log in without a password. For demos only: anybody can be any device.",
    )
    http_bind: str = Field(
        "127.0.0.1:8080",
        description="Where downloads, health and metrics are: HOST:PORT, such as 0.0.0.0:8080.",
    )
    http_certificate: Path | None = Field(None, description="Certificate (PEM) for HTTPS.")
    http_key: Path | None = Field(None, description="The certificate's private key (PEM).")
    public_url: str = Field(
        "",
        description="Where devices reach the downloads; also https:// and http://, with a comma between. "
        "Default: the HTTP address.",
    )
    downloads_at_once: int = Field(
        0,
        ge=0,
        description="HTTP(S) downloads at a time; who comes then is told to come again (503). 0: no limit.",
    )
    batch_downloads_at_once: int = Field(0, ge=0, description="The same for each batch.")
    download_rate: Bytes = Field(
        0, ge=0, description="Bytes a second of all HTTP(S) downloads together, such as 20MB. 0: no limit."
    )
    batch_download_rate: Bytes = Field(0, ge=0, description="The same for each batch.")
    sagoo_http: bool = Field(
        default=False,
        description="SagooIOT devices ask for packages and report over HTTP, at the HTTP address.",
    )
    sagoo_access_key: str = Field(
        "",
        description="What those devices sign with (SagooIOT's AK). Without it whoever knows a name may ask.",
    )
    sagoo_secret_key: str = Field("", description="The key that belongs to it (SagooIOT's SK).")
    secret_key: str = Field("", description="Encrypts device secrets; default: a file in the data directory.")
    bootstrap: Bootstrap = Field(
        Bootstrap.HOLD, description="Batches that an empty database finds in Git: hold them, or start them."
    )
    settle_time: Seconds = Field(
        10.0,
        ge=0,
        le=3600,
        description="Time after a device came until it is pushed: its report is heard first. 10s, or seconds.",
    )
    file_root: Annotated[tuple[Path, ...], pydantic.BeforeValidator(_paths)] = Field(
        (), description="A folder whose files manifests may name as file:///…; several with a colon between."
    )
    source_ca: Path | None = Field(
        None, description="CA certificates that file servers are checked with, besides the system's (PEM)."
    )
    allow_private_redirects: bool = Field(
        default=False,
        description="Files are fetched from private addresses, too, where a server redirects there.",
    )
    s3_endpoint: str = Field("", description="The store that s3:// means: its URL; default: Amazon's.")
    s3_region: str = Field("", description="The region of that store; default: as AWS_DEFAULT_REGION says.")
    file_grace: Seconds = Field(
        604_800.0, ge=0, le=31_536_000, description="How long a file stays that nothing needs any more: 168h."
    )
    disk_reserve: Bytes = Field(
        256_000_000,
        ge=0,
        description="Bytes that package files leave free on the disk, for the database beside them: 256MB.",
    )
    limits: Annotated[Limits, pydantic.BeforeValidator(_limits)] = Field(
        "",
        validate_default=True,
        description="Limits that are not to be the rules' own, such as packages=600,groups=2000; in a file a table.",
    )

    @classmethod
    def load(cls, flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None) -> Self:
        """Settings by precedence: flags, then environment, then file, then defaults.

        Raises:
            UsageError: a value is wrong.
            UserError: a file can't be read.
        """
        values = {**_of_file(file), **_of_environment(environ, cls)}
        values.update({name: value for name, value in flags.items() if value is not None})
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            raise _complaint(
                error.errors()[0], file
            ) from None  # its text would hold the value, a secret maybe

    @property
    def database_url(self) -> str:
        """The database's URL, also when none is set."""
        return self.database or f"sqlite:///{(self.data_dir / 'state.db').absolute()}"


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that look like settings but are none, each with the nearest name (or nothing)."""
    known = {name.upper() for name in (*Settings.model_fields, *_ELSEWHERE)}
    known |= {f"{name.upper()}_FILE" for name in SECRETS}
    given = sorted(name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX))
    nearest = {name: _nearest(name, known) for name in given if name not in known}
    return {PREFIX + name: near and PREFIX + near for name, near in nearest.items()}


def _nearest(name: str, known: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, list(known), 1, _NEAR)), "")


def address(bind: str, setting: str) -> tuple[str, int]:
    """Host and port of a setting such as `127.0.0.1:1883` or `[::1]:1883`.

    Raises:
        UsageError: it is not of that form.
    """
    host, colon, port = bind.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise errors.UsageError(
            f"{flag(setting)} is wrong: {bind!r} is no address",
            remedy=f"Write HOST:PORT, such as {Settings.model_fields[setting].default or '0.0.0.0:8883'}.",
        )
    return host.strip("[]"), int(port)


def flag(name: str) -> str:
    """How a setting is called on the command line."""
    return f"--{name.replace('_', '-')}"


def _complaint(found: Any, file: Path | None) -> errors.UsageError:
    """What is wrong with a value, and how its setting is called."""
    name = str(found["loc"][0])
    if found["type"] == "extra_forbidden":
        nearest = _nearest(name, Settings.model_fields)
        hint = (
            f"Did you mean {nearest.replace('_', '-')}?" if nearest else "The reference lists all settings."
        )
        return errors.UsageError(f"{file}: there is no setting {name.replace('_', '-')}", remedy=hint)
    return errors.UsageError(
        f"{flag(name)} is wrong: {_wrong(found)}",
        remedy=f"It is also read from {PREFIX}{name.upper()}, and from the file of --config.",
    )


def _wrong(found: Any) -> str:
    """What is wrong with a value, in words. A text, which may hold a secret, is of none of these types."""
    said = _WORDS.get(
        found["type"], "it must be a text in quotes"
    )  # in a file, something else may stand there
    return said.format(given=repr(found["input"]), choices=", ".join(Bootstrap), **found.get("ctx", {}))


def _of_environment(environ: Mapping[str, str], model: type[Settings]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in model.model_fields:
        variable = PREFIX + name.upper()
        if environ.get(variable):
            values[name] = environ[variable]
        elif name in SECRETS and environ.get(f"{variable}_FILE"):
            values[name] = _read(Path(environ[f"{variable}_FILE"])).strip()
    return values


def _of_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        found = tomllib.loads(_read(file))
    except tomllib.TOMLDecodeError as error:
        raise errors.UserError(f"{file} is not valid TOML: {error}") from error
    return {name.replace("-", "_"): value for name, value in found.items()}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise errors.UserError(
            f"{path} can't be read: {why}", remedy="Mend the path or its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise errors.UserError(f"{path} can't be read: it is not UTF-8 text") from error
