"""Decides what a download URL looks like, and whether a token is ours (device protocol §1, trap 8).

Dispatch makes URLs, `web.downloads` checks them. A URL names a blob and the task that it is for, expires,
and cannot be altered; the file name at its end is for the device only and is not looked at again. It is never
longer than 199 characters. Nothing here knows a clock or where the key is kept.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import re
import struct
import urllib.parse

from reconciler import errors
from reconciler.domain import downloads

MAX_URL_LENGTH = 199
"""Characters: old devices keep host and path in buffers of 256 bytes, together with other things."""
MAX_NAME_LENGTH = 32
"""Characters of a file name, as platform rules §3 allow; longer ones are cut in the middle."""
PREFIX = "/d/"

_FIELDS = struct.Struct(">QQI")
_DIGEST_BYTES = 16
_TOKEN_LENGTH = (_FIELDS.size + _DIGEST_BYTES) * 4 // 3  # a multiple of three bytes: no padding, one spelling
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{_TOKEN_LENGTH}}}")
_PURPOSE = (
    b"reconciler download url 1\0"  # a digest made for anything else with the same key does not fit here
)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

MAX_BASE_LENGTH = MAX_URL_LENGTH - len(PREFIX) - _TOKEN_LENGTH - len("/") - MAX_NAME_LENGTH
"""Characters of the longest public URL whose download URLs all fit."""


class Forbidden(Exception):  # noqa: N818 - the word of HTTP; an answer, not an error of ours
    """A token that opens nothing. The reason is for our log: whoever asked hears 'forbidden' and no more.

    Args:
        reason: `not a token`, `wrong signature` or `expired`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """What a token opens."""

    blob_id: int
    task_id: int
    expires: int
    """Seconds since 1970; the last second in which it opens."""


def sign(key: bytes, blob_id: int, task_id: int, expires: int) -> str:
    """A token of 48 URL-safe characters.

    Args:
        key: the secret that the deployment signs with.
        blob_id: the file, 0..2**64-1.
        task_id: whom it is for, 0..2**64-1.
        expires: the last second, since 1970, in which it opens; 0..2**32-1.
    """
    fields = _FIELDS.pack(blob_id, task_id, expires)
    return base64.urlsafe_b64encode(fields + _digest(key, fields)).decode()


def verify(key: bytes, token: str, now: int) -> Grant:
    """What the token opens at `now`, in seconds since 1970. Compares in constant time.

    Raises:
        Forbidden: it opens nothing.
    """
    if not _TOKEN.fullmatch(token):
        raise Forbidden("not a token")
    raw = base64.urlsafe_b64decode(token)
    fields = raw[: _FIELDS.size]
    if not hmac.compare_digest(raw[_FIELDS.size :], _digest(key, fields)):
        raise Forbidden("wrong signature")
    grant = Grant(*_FIELDS.unpack(fields))
    if now > grant.expires:
        raise Forbidden("expired")
    return grant


def check_base(public_url: str) -> str:
    """The public URL as download URLs begin with it: without a slash at the end. Check it at start, too.

    Raises:
        UsageError: no http(s) URL, more than host, port and path, or longer than `MAX_BASE_LENGTH`.
    """
    remedy = f"use http://HOST or https://HOST/PATH, at most {MAX_BASE_LENGTH} characters"
    base = public_url.rstrip("/")
    try:
        parts = urllib.parse.urlsplit(base)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError as problem:
        raise errors.UsageError(
            f"the public URL {public_url!r} cannot be read: {problem}", remedy=remedy
        ) from None
    is_plain = not (
        parts.query or parts.fragment or "@" in parts.netloc or re.search(r"[^!-~]|[\"<>\\;]", base)
    )
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_fine or not is_plain:
        raise errors.UsageError(
            f"the public URL {public_url!r} is not one that devices can use", remedy=remedy
        )
    if len(base) > MAX_BASE_LENGTH:
        raise errors.UsageError(
            f"the public URL has {len(base)} characters, which is too long", remedy=remedy
        )
    return base


@dataclasses.dataclass(frozen=True, slots=True)
class PublicUrls:
    """Where devices reach the downloads: over HTTPS, HTTP, or both. Made by `check_bases`."""

    https: str | None = None
    http: str | None = None

    @property
    def ways(self) -> downloads.Ways:
        """What batches may ask for."""
        return downloads.Ways(https=self.https is not None, http=self.http is not None)


def check_bases(public_url: str) -> PublicUrls:
    """The URLs of the setting: one, or one https:// and one http:// with a comma between.

    Raises:
        UsageError: one of them is wrong (`check_base`), or two have the same scheme.
    """
    found: dict[str, str] = {}
    for each in public_url.split(","):
        base = check_base(each.strip())
        scheme = urllib.parse.urlsplit(base).scheme
        if scheme in found:
            raise errors.UsageError(
                f"the public URLs {found[scheme]} and {base} are both {scheme}://",
                remedy="give one URL, or one https:// and one http:// with a comma between",
            )
        found[scheme] = base
    return PublicUrls(**found)


def download_url(public_url: str, token: str, file_name: str) -> str:
    """The URL that a device is told: never longer than 199 characters, ASCII, without a query.

    Raises:
        UsageError: as `check_base`.
    """
    return f"{check_base(public_url)}{PREFIX}{token}/{_safe_name(file_name)}"


def _digest(key: bytes, fields: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + fields, hashlib.sha256)[:_DIGEST_BYTES]


def _safe_name(file_name: str) -> str:
    """The name without what a URL would escape or a device trip over; the extension stays when it is cut."""
    name = _UNSAFE.sub("_", file_name).lstrip(".") or "file"
    tail = MAX_NAME_LENGTH // 2
    return name if len(name) <= MAX_NAME_LENGTH else name[:tail] + name[-tail:]
