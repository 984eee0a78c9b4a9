"""What the C SDK 4.x makes of a push or of the answer to its question (traps 2, 3, 4, 5 and 6)."""

from __future__ import annotations

from typing import NamedTuple

from emulators import c_json

MOST_FILES = 20
DIGESTS = {b"Md5": 32, b"SHA256": 64, b"Sha256": 64}


class Dropped(Exception):  # noqa: N818 - what happens to the message
    """The SDK does not tell its firmware of this message, or not of all of it."""


class Stream(NamedTuple):
    """What is read over MQTT."""

    id: int
    file: int


class Wanted(NamedTuple):
    """One call of the firmware's function: download this."""

    version: bytes
    method: bytes
    size: int
    digest: bytes
    source: bytes | Stream
    module: bytes | None
    extra: bytes | None
    name: bytes | None


def read(payload: bytes) -> list[Wanted]:
    """What the firmware is told to download, in order. Empty `data` is nothing to do.

    Raises:
        Dropped: the firmware hears nothing of the message, or not of every file.
    """
    try:
        return _read(payload)
    except c_json.NotFound as missing:
        raise Dropped(str(missing)) from None


def _read(payload: bytes) -> list[Wanted]:
    data = c_json.value(payload, "data")
    if data == b"{}":
        return []
    version, method = c_json.value(data, "version"), c_json.value(data, "signMethod")
    # any `dProtocol` at all makes it ask for `streamId`; only this one makes it download over MQTT
    protocol = c_json.optional(data, "dProtocol")
    stream = None if protocol is None else c_json.number(data, "streamId")
    if method not in DIGESTS:
        raise Dropped(f"no such digest: {method!r}")
    module, extra = c_json.optional(data, "module"), c_json.optional(data, "extData")
    listed = c_json.optional(data, "files")
    parts = [data] if listed is None else _entries(data[data.index(listed) :])
    several = len(parts) > 1
    found = []
    for part in parts:
        source: bytes | Stream
        if stream is not None and protocol == b"mqtt":
            source = Stream(stream, c_json.number(part, "streamFileId"))
        else:
            source = c_json.value(part, "fileUrl" if several else "url")
        size, digest = c_json.number(part, "fileSize" if several else "size"), _digest(part, several=several)
        if len(digest) != DIGESTS[method]:
            raise Dropped(f"a digest of {len(digest)} characters is no {method!r}")
        name = c_json.value(part, "fileName") if several else None
        found.append(Wanted(version, method, size, digest, source, module, extra, name))
    return found


def _digest(part: bytes, *, several: bool) -> bytes:
    return c_json.value(part, "fileSign" if several else "sign")


def _entries(rest: bytes) -> list[bytes]:
    """The entries of `files`: every `{` begins one and the next `}` ends it, up to the end of `data`, not of the array.

    With one entry the firmware hears nothing: its fields are looked up by the names of the single-file form.
    """
    entries: list[bytes] = []
    start = None
    for at, sign in enumerate(rest[1:], 1):
        if len(entries) == MOST_FILES:
            break
        if sign == ord("{"):
            start = at
        elif sign == ord("}") and start is not None:
            entries.append(rest[start : at + 1])
            start = None
    if not entries:
        raise Dropped("no files")
    return entries
