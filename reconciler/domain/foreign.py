"""URLs of files that are not in the repository: which of them make sense, and how they are shown.

Asked by `source.references` about manifests, by the fetchers, and by who writes about a fetch.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_STRANGE = re.compile(r"[\x00-\x20\x7f]")


class Place(NamedTuple):
    """Where a file is: a host and a path with its query, a bucket and a key, or a path on the daemon's machine."""

    scheme: str
    host: str
    """With the port, where one is written."""
    path: str


def problem(source: str) -> str:
    """Why nothing can be fetched from a URL, whatever is there; empty when that is not known before it is tried."""
    if strange := _STRANGE.search(source):
        return f"a URL holds no {strange[0]!r}; write %{ord(strange[0]):02X}"
    try:
        parts = urlsplit(source)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"this is no URL: {error}"
    if parts.username is not None or parts.password is not None:
        return "a URL in a manifest holds no user or password: Git is no place for secrets"
    if parts.scheme != "https" and ("?" in source or "#" in source):
        return f"{parts.scheme}:// takes no query and no fragment; write %3F and %23 for signs of a name"
    problems = {"https": _https, "s3": _s3, "file": _file}
    return problems[parts.scheme](host or "", port, unquote(parts.path))


def _https(host: str, _port: int | None, _path: str) -> str:
    return "" if host else "the URL names no host"


def _s3(host: str, port: int | None, path: str) -> str:
    if not _BUCKET.fullmatch(host) or port is not None:
        return "write s3://BUCKET/KEY"
    if any(part in {".", ".."} for part in path.split("/")):
        return "the key of an s3:// URL is without `.` and `..`: what is between us and the store may follow them"
    return "" if path.strip("/") else "the URL names no key: write s3://BUCKET/KEY"


def _file(host: str, _port: int | None, path: str) -> str:
    if host not in {"", "localhost"}:
        return "a file:// URL has three slashes: file:///srv/firmware/app.bin"
    if "\0" in path or any(part in {"", ".", ".."} for part in path.split("/")[1:]):
        return "the path of a file:// URL is absolute, without `.`, `..` and empty parts"
    return ""


def place(source: str) -> Place:
    """Where a URL without a problem leads. A fragment is not part of it."""
    parts = urlsplit(source)
    if parts.scheme == "https":
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Place(parts.scheme, parts.netloc, path)
    return Place(parts.scheme, parts.netloc, unquote(parts.path))


def shown(source: str) -> str:
    """A URL as messages and logs have it: without its query, which may hold a key."""
    return re.split(r"[?#]", source, maxsplit=1)[0]
