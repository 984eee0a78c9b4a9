"""Decides which pushes a device takes, as the SDKs in the field do (device protocol §1); the rest is dropped.

Called by the device model. It is as strict as the strictest SDK, so that a payload which one of them would
not understand fails here, too.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from reconciler.protocol import topics

METHODS = {"Md5": "md5", "SHA256": "sha256"}
"""The only spellings of `signMethod` that every SDK takes, with the name of the digest (trap 2)."""
_METHODS_OF_SAGOO = METHODS | {"MD5": "md5"}
"""Those of SagooIOT devices, which are told the number of a batch."""

MOST_FILES = 20
"""That the C SDK finds in a push; it takes no notice of more."""

_SCALARS = (
    "size", "version", "isDiff", "url", "dProtocol", "streamId", "streamFileId", "signMethod", "sign", "module"
)  # fmt: skip
_OF_SEVERAL = ("fileSize", "fileName", "fileUrl", "fileSign")
"""What the C SDK asks of each of several files."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """A file that is read over MQTT, block by block."""

    id: int
    file_id: int


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """A file to fetch and to check."""

    source: str | Stream
    """A URL, or a stream."""
    size: int
    method: str
    """`md5` or `sha256`."""
    sign: str
    """Its digest, in lower-case hex."""


@dataclasses.dataclass(frozen=True, slots=True)
class Push:
    """A package that a device was told to install."""

    version: str
    files: tuple[File, ...]
    module: str = "default"
    strategy: str | None = None
    """What a SagooIOT platform wants echoed in each progress report (device protocol §4)."""
    is_delta: bool = False


def parse(payload: bytes) -> Push | None:
    """The push, or the answer to `firmware/get`; None when an SDK would drop it.

    Dropped is what has no url, version, size, signMethod or sign (trap 12), what has an unknown signMethod
    (trap 2), and what the C SDK's textual search for keys reads differently from JSON (traps 3 and 4). In the place
    of the url there may be a stream, if all of it is there (trap 6). Several files are taken as the C SDK finds them
    (trap 5); the others know nothing of such pushes.
    """
    try:
        data = json.loads(payload)["data"]
        push = _read(data)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    found = all(_found_by_text(payload, key, data[key]) for key in _SCALARS if key in data)
    return push if found and _files_found_by_text(payload, data.get("files", [])) else None


def _read(data: dict[str, Any]) -> Push:
    strategy = data.get("extData", {}).get("strategy")
    method = (METHODS if strategy is None else _METHODS_OF_SAGOO)[data["signMethod"]]
    if "files" not in data:
        files = [_file(data["size"], _source(data), data["sign"], method)]
    else:
        listed = [tuple(file[key] for key in _OF_SEVERAL) for file in data["files"]]
        if "dProtocol" in data or not 2 <= len(listed) <= MOST_FILES:
            raise ValueError("not so many files")
        files = [_file(size, _text(url), sign, method) for size, name, url, sign in listed if _text(name)]
    return Push(
        version=_text(data["version"]),
        files=tuple(files),
        module=_text(data.get("module", "default")),
        strategy=None if strategy is None else str(strategy),
        is_delta=data.get("isDiff") == 1,
    )


def _file(size: object, source: str | Stream, sign: object, method: str) -> File:
    if type(size) is not int:
        raise ValueError("a size that is no number")
    return File(source, size, method, _text(sign).lower())


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("no text")
    return value


def _source(data: dict[str, Any]) -> str | Stream:
    if "dProtocol" not in data:
        return _text(data["url"])
    stream = Stream(data["streamId"], data["streamFileId"])
    if data["dProtocol"] != "mqtt" or type(stream.id) is not int or type(stream.file_id) is not int:
        raise ValueError("no stream")
    return stream


def _found_by_text(payload: bytes, key: str, value: str | int) -> bool:
    """Whether the first `"key":` in the text, without a space behind it, is the one that JSON means."""
    _, _, rest = payload.partition(b'"%s":' % key.encode())
    if isinstance(value, int):
        return rest.startswith(b"%d" % value)
    return rest.startswith((json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode()))


def _files_found_by_text(payload: bytes, files: list[dict[str, Any]]) -> bool:
    """Whether what stands between braces, from `"files":` to the end of all, is just these files (trap 5)."""
    _, _, rest = payload.partition(b'"files":')
    found = re.findall(rb"{[^{}]*}", rest)
    return len(found) == len(files) and all(
        _found_by_text(text, key, file[key])
        for text, file in zip(found, files, strict=True)
        for key in _OF_SEVERAL
    )


def is_push_topic(topic: str, address: topics.Address) -> bool:
    """Whether a package may come on this topic: pushed, or as the answer to `firmware/get`."""
    return topic in {topics.upgrade(address), topics.firmware_get_reply(address)}
