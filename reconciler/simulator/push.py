"""Decides which pushes a device takes, as the SDKs in the field do (device protocol §1); the rest is dropped.

Called by the device model. It is as strict as the strictest SDK, so that a payload which one of them would
not understand fails here, too.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from reconciler.protocol import topics

METHODS = {"Md5": "md5", "SHA256": "sha256"}
"""The only spellings of `signMethod` that every SDK takes, with the name of the digest (trap 2)."""

_SCALARS = (
    "size", "version", "isDiff", "url", "dProtocol", "streamId", "streamFileId", "signMethod", "sign", "module"
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """A file that is read over MQTT, block by block."""

    id: int
    file_id: int


@dataclasses.dataclass(frozen=True, slots=True)
class Push:
    """A package that a device was told to install."""

    version: str
    source: str | Stream
    """A URL, or a stream."""
    size: int
    method: str
    """`md5` or `sha256`."""
    sign: str
    """The file's digest, in lower-case hex."""
    module: str = "default"
    strategy: str | None = None
    """What a SagooIOT platform wants echoed in each progress report (device protocol §4)."""
    is_delta: bool = False


def parse(payload: bytes) -> Push | None:
    """The push, or the answer to `firmware/get`; None when an SDK would drop it.

    Dropped is what has no url, version, size, signMethod or sign (trap 12), what has an unknown signMethod
    (trap 2), and what the C SDK's textual search for keys reads differently from JSON (traps 3 and 4). In the place
    of the url there may be a stream, if all of it is there (trap 6).
    """
    try:
        data = json.loads(payload)["data"]
        push = _read(data)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return push if all(_found_by_text(payload, key, data[key]) for key in _SCALARS if key in data) else None


def _read(data: dict[str, Any]) -> Push:
    texts = {key: data[key] for key in ("version", "signMethod", "sign")}
    texts["module"] = data.get("module", "default")
    if not all(isinstance(text, str) and text for text in texts.values()) or type(data["size"]) is not int:
        raise ValueError("a field of the wrong type")
    return Push(
        version=texts["version"],
        source=_source(data),
        size=data["size"],
        method=METHODS[texts["signMethod"]],
        sign=texts["sign"].lower(),
        module=texts["module"],
        strategy=data.get("extData", {}).get("strategy"),
        is_delta=data.get("isDiff") == 1,
    )


def _source(data: dict[str, Any]) -> str | Stream:
    if "dProtocol" not in data:
        url = data["url"]
        if not isinstance(url, str) or not url:
            raise ValueError("no url")
        return url
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


def is_push_topic(topic: str, address: topics.Address) -> bool:
    """Whether a package may come on this topic: pushed, or as the answer to `firmware/get`."""
    return topic in {topics.upgrade(address), topics.firmware_get_reply(address)}
