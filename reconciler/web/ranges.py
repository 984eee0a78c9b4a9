"""Decides which bytes of a file answer a request, and with which headers (RFC 9110 §14).

Called by `downloads`, which knows that the file may be downloaded. It reads nothing: an answer names the bytes.

Device protocol §1, trap 7: `Content-Length` is exact, several ranges included, so that nothing is ever chunked.
"""

from __future__ import annotations

import dataclasses
import re

from starlette.datastructures import Headers

Body = tuple[bytes | range, ...]
"""What is sent, in order: bytes as they are, and ranges of the file."""

MOST_RANGES = 32
"""In one request; who wants more hears the whole file."""

_RANGE = re.compile(r"(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.ASCII)
_TYPE = "application/octet-stream"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: dict[str, str]
    body: Body

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return sum(map(len, self.body))


def answer(headers: Headers, sha256: str, size: int) -> Answer:
    """What a request for a file hears: all of it, a part, several, or that there is no such part.

    Args:
        headers: the request's.
        sha256: the file's, which makes its ETag.
        size: the file's, in bytes.
    """
    etag = f'"{sha256}"'
    known = {"Accept-Ranges": "bytes", "ETag": etag}
    parts = _parts(headers.get("range", ""), size) if headers.get("if-range", etag) == etag else None
    if parts is None:
        return Answer(200, {"Content-Type": _TYPE} | known, (range(size),))
    if not parts:
        return Answer(416, known | {"Content-Range": f"bytes */{size}"}, ())
    if len(parts) == 1:
        place = {"Content-Range": _place(parts[0], size)}
        return Answer(206, {"Content-Type": _TYPE} | known | place, (parts[0],))
    boundary = sha256[:32]  # no file holds its own digest
    kind = {"Content-Type": f"multipart/byteranges; boundary={boundary}"}
    return Answer(206, kind | known, _several(parts, size, boundary))


def _several(parts: list[range], size: int, boundary: str) -> Body:
    """Parts, each under a head of its own."""
    body: list[bytes | range] = []
    for part in parts:
        start = "\r\n" if body else ""
        head = f"{start}--{boundary}\r\nContent-Type: {_TYPE}\r\nContent-Range: {_place(part, size)}\r\n\r\n"
        body += [head.encode(), part]
    return (*body, f"\r\n--{boundary}--\r\n".encode())


def _place(part: range, size: int) -> str:
    return f"bytes {part.start}-{part.stop - 1}/{size}"


def _parts(asked: str, size: int) -> list[range] | None:
    """The wanted parts that there are; None for all of the file, none when there is no such part.

    What nobody can mean, and what would cost more than the file itself, is answered with the whole.
    """
    unit, _, said = asked.strip().partition("=")
    pieces = [piece.strip() for piece in said.split(",") if piece.strip()]
    if unit.lower() != "bytes" or not 0 < len(pieces) <= MOST_RANGES:
        return None
    parts = []
    for piece in pieces:
        part = _part(piece, size)
        if part is None:
            return None
        if part:
            parts.append(part)
    return None if len(parts) > 1 and sum(map(len, parts)) > size else parts


def _part(piece: str, size: int) -> range | None:
    """One range, empty when it lies behind the end; None when it is none."""
    match = _RANGE.fullmatch(piece)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return range(max(size - int(suffix), 0), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)
