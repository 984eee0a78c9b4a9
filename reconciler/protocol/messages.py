"""Decides what the payloads of inform, progress, firmware get and push look like (device protocol §1, §2).

Ingest parses with it, dispatch builds with it, and `blocks` reads its own message by the same rules. It knows
bytes and values only: nothing of tasks, addresses or the clock. Whatever bytes come in, a parser returns a value
or raises `Malformed`, and nothing else.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

MAX_PAYLOAD = 16 * 1024
"""Bytes of the longest payload that is looked at; what these messages may say fits into one."""
MAX_DESCRIPTION = 128
"""Characters of a progress report's `desc` that are kept (device protocol §4 allows no more)."""
DEFAULT_MODULE = "default"
STREAM_FILE = 1
"""The number of the one file of a stream."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STEP = re.compile(r"-?[0-9]{1,3}")
_LOWEST, _HIGHEST = -4, 100
_STEPS = {str(step): step for step in range(_LOWEST, _HIGHEST + 1)}
"""Nearly every device writes a step this way: a look-up is three times as fast as reading the digits."""
_STREAMED = (
    *("size", "streamId", "module", "sign", "dProtocol", "version", "signMethod", "streamFileId", "md5"),
    *("isDiff", "digestsign"),
)
"""The order of a push for a download over MQTT. Firmware of many small devices reads it with one `sscanf`, whose format
is a push as they saw it: other fields between these, or these in another order, and they find no package."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class Malformed(Exception):  # noqa: N818 - the word of the protocol's documents; it is counted, not an error of ours
    """A payload that means nothing. Counted, logged once a minute a device, without effect on the state.

    Args:
        reason: what is wrong with it: one short line without control characters.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Inform(NamedTuple):
    """A device says which version a module runs. Whether it is numeric enough is the product's business."""

    version: str
    module: str = DEFAULT_MODULE


class Progress(NamedTuple):
    """A device says how far it got: 0..100 %; -1 upgrade, -2 download, -3 checksum, -4 burning failed."""

    step: int
    desc: str = ""
    module: str = DEFAULT_MODULE
    strategy: str | None = None
    """The batch that a Sagoo device echoes (device protocol §4)."""


class FirmwareGet(NamedTuple):
    """A device asks for its package."""

    id: int | str
    """To be echoed as it came: a number stays a number. Empty when the device sent none."""
    module: str = DEFAULT_MODULE


class SignMethod(enum.StrEnum):
    """The digest that a device checks. Names as in manifests, values as devices want them (trap 2)."""

    MD5 = "Md5"
    SHA256 = "SHA256"


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """A file that a device reads over MQTT, block by block (`blocks`)."""

    id: int
    file_id: int = STREAM_FILE


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """What a device is told of a file of a package."""

    name: str
    """Told when it is one of several."""
    size: int
    """Bytes."""
    source: str | Stream
    """Where the device gets it: a URL, or a stream when it is the only one."""
    sha256: str
    md5: str
    signature: str | None = None
    """In base64, over the bytes of the digest that the device checks (secure upgrade); None: it is not signed."""

    def digest(self, method: SignMethod) -> str:
        """The digest that the device checks."""
        return self.md5 if method is SignMethod.MD5 else self.sha256


@dataclasses.dataclass(frozen=True, slots=True)
class PackageInfo:
    """What a device is told of a package."""

    version: str
    files: tuple[File, ...]
    """1 to 20, in the order of the manifest."""
    sign_method: SignMethod = SignMethod.SHA256
    module: str = DEFAULT_MODULE
    is_delta: bool = False
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    custom_info: str | None = None


def parse_inform(payload: bytes) -> Inform:
    """A report of a module's version (device protocol §2, trap 10).

    Raises:
        Malformed: the payload is no such report.
    """
    params = _params(payload)
    version = params.get("version")
    if not isinstance(version, str):
        raise Malformed(f"version is {_kind(version)}, not a string")
    if not _NAME.fullmatch(version):
        raise Malformed(f"version {_show(version)} is not 1 to 64 of letters, digits, '.', '_' and '-'")
    return Inform(version, read_module(params))


def parse_progress(payload: bytes) -> Progress:
    """A report of progress; `step` as number or string, `desc` cut to `MAX_DESCRIPTION` characters (trap 10).

    Control characters in `desc` become a space: they belong neither into a database's text nor on a terminal.

    Raises:
        Malformed: the payload is no such report, or its step is none of -4..100.
    """
    return read_progress(_params(payload))


def read_progress(params: dict[str, Any]) -> Progress:
    """The same, of a report's `params`.

    Raises:
        Malformed: as `parse_progress`.
    """
    return Progress(
        _step(params.get("step")), _description(params.get("desc")), read_module(params), _strategy(params)
    )


def parse_firmware_get(payload: bytes) -> FirmwareGet:
    """A device's question for its package. Without `params` or `module` it asks for the default module.

    Raises:
        Malformed: the payload is no such question.
    """
    document = read_object(payload)
    return FirmwareGet(read_id(document), read_module(read_part(document, "params")))


def push(package: PackageInfo, now_ms: int) -> bytes:
    """The push of a package (device protocol §2).

    Args:
        package: what to tell.
        now_ms: milliseconds since 1970; the message's id.
    """
    return orjson.dumps({"code": "1000", "data": package_data(package), "id": now_ms, "message": "success"})


def get_reply(request_id: int | str, package: PackageInfo | None) -> bytes:
    """The answer to `FirmwareGet`; without a package it says that there is nothing to do.

    Args:
        request_id: `FirmwareGet.id`, echoed with its type.
        package: what to tell, or None.
    """
    return orjson.dumps({"id": request_id, "code": 200, "data": package_data(package) if package else {}})


def package_data(package: PackageInfo) -> dict[str, Any]:
    """`data` of a push or a reply: scalars, then `extData`, then `files` (traps 4, 5); one file has its own form."""
    single = package.files[0] if len(package.files) == 1 else None
    data: dict[str, Any] = {"size": single.size} if single else {}
    data["version"] = package.version
    if package.is_delta:
        data["isDiff"] = 1
    if single:
        data |= _single(single, package.sign_method)
    data["signMethod"] = package.sign_method.value
    if single and single.signature is not None:
        data["digestsign"] = single.signature
    if package.module != DEFAULT_MODULE:
        data["module"] = package.module
    if "dProtocol" in data:
        data = {name: data[name] for name in _STREAMED if name in data}
    extra = dict(package.tags)
    if package.custom_info:
        extra["_package_udi"] = package.custom_info
    if extra:
        data["extData"] = extra
    if not single:
        data["files"] = [_one_of_several(file, package.sign_method) for file in package.files]
    return data


def _single(file: File, method: SignMethod) -> dict[str, Any]:
    """The fields of the only file; `dProtocol` with a stream only (trap 6)."""
    if isinstance(file.source, Stream):
        stream = file.source
        data: dict[str, Any] = {"dProtocol": "mqtt", "streamId": stream.id, "streamFileId": stream.file_id}
    else:
        data = {"url": file.source}
    if method is SignMethod.MD5:
        data["md5"] = file.md5
    return {**data, "sign": file.digest(method)}


def _one_of_several(file: File, method: SignMethod) -> dict[str, Any]:
    """An entry of `files`. All of its fields but `fileMd5` are asked for by the C SDK.

    The protocol's documents have no signature in this form. Each file has its own, under a name that begins like the
    others here, so that nobody takes it for the `digestsign` of a package of one file (trap 4).
    """
    assert isinstance(file.source, str), "a download over MQTT is of one file (device protocol §2)"
    data: dict[str, Any] = {"fileSize": file.size, "fileName": file.name, "fileUrl": file.source}
    if method is SignMethod.MD5:
        data["fileMd5"] = file.md5
    data["fileSign"] = file.digest(method)
    return {**data, "fileDigestsign": file.signature} if file.signature is not None else data


def bounded(payload: bytes) -> bytes:
    """A payload as it may have to wait, with thousands of others, for the database: too long stays too long."""
    return payload if len(payload) <= MAX_PAYLOAD else payload[: MAX_PAYLOAD + 1]


def read_object(payload: bytes) -> dict[str, Any]:
    """A payload's JSON object.

    Raises:
        Malformed: it is none, or longer than `MAX_PAYLOAD`.
    """
    if len(payload) > MAX_PAYLOAD:
        raise Malformed(f"more than {MAX_PAYLOAD} bytes")
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise Malformed("not JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise Malformed(f"{_kind(document)}, not an object")
    return document


def read_id(document: dict[str, Any]) -> int | str:
    """A question's `id`, to be echoed as it came; empty when it has none (trap 10).

    Raises:
        Malformed: it is neither a number nor a short string.
    """
    request_id = document.get("id")
    if request_id is None:
        return ""
    if isinstance(request_id, bool) or not isinstance(request_id, int | str):
        raise Malformed(f"id is {_kind(request_id)}, not a number or a string")
    if isinstance(request_id, str) and len(request_id) > 128:
        raise Malformed("id is longer than 128 characters")
    return request_id


def read_part(document: dict[str, Any], name: str) -> dict[str, Any]:
    """An object inside of another; empty when it is missing.

    Raises:
        Malformed: it is something else.
    """
    part = document.get(name)
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise Malformed(f"{name} is {_kind(part)}, not an object")
    return part


def _params(payload: bytes) -> dict[str, Any]:
    return read_part(read_object(payload), "params")


def read_module(params: Mapping[str, Any]) -> str:
    """The module that a message is about; `default` when it names none.

    Raises:
        Malformed: it can't be a module's name.
    """
    module = params.get("module")
    if module is None or module in (DEFAULT_MODULE, ""):
        return DEFAULT_MODULE
    if not isinstance(module, str):
        raise Malformed(f"module is {_kind(module)}, not a string")
    if not _NAME.fullmatch(module):
        raise Malformed(f"module {_show(module)} is not 1 to 64 of letters, digits, '.', '_' and '-'")
    return module


def _description(desc: object) -> str:
    if not isinstance(desc, str):
        return ""
    kept = desc[:MAX_DESCRIPTION]
    if not kept.isprintable():
        kept = _CONTROL.sub(" ", kept)
    return kept.strip()


def _step(step: object) -> int:
    if isinstance(step, str):
        if step in _STEPS:
            return _STEPS[step]
        if not _STEP.fullmatch(step):
            raise Malformed(f"step {_show(step)} is not a whole number")
        step = int(step)
    elif isinstance(step, bool) or not isinstance(step, int):
        raise Malformed(f"step is {_kind(step)}, not a whole number")
    if not _LOWEST <= step <= _HIGHEST:
        raise Malformed(f"step {step} is not within {_LOWEST}..{_HIGHEST}")
    return step


def _strategy(params: dict[str, Any]) -> str | None:
    """As it was pushed it is a number, but devices may echo it as they like (trap 10)."""
    strategy = params.get("strategy")
    if isinstance(strategy, int) and not isinstance(strategy, bool):
        strategy = str(strategy)
    return strategy if isinstance(strategy, str) and 0 < len(strategy) <= 128 else None


def _kind(value: object) -> str:
    """JSON's name of a value's type. The value itself may be too deep to be shown."""
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "true or false",
        type(None): "missing",
    }
    return names.get(type(value), "a number")


def _show(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}…"
