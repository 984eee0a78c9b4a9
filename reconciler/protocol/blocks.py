"""Decides what a question for a block of a file, and the answer, look like (device protocol §2, block download).

`services.blocks` reads and answers with it. It knows bytes and values only: nothing of tasks, files or who may
read what. Whatever bytes come in, the parser returns a value or raises `messages.Malformed`, and nothing else.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import orjson

from reconciler.domain import limits
from reconciler.protocol.messages import Malformed, read_id, read_object, read_part

MAX_BLOCK = limits.LARGEST_BLOCK
"""Bytes of the largest block: what the platform that these devices were made for allows."""

_MAX_TOKEN = 128  # characters; the C SDK has no room for more
_MAX_NUMBER = 2**53  # JSON carries no greater whole number for sure
_WHOLE = re.compile(r"-?[0-9]{1,18}")
# A string (to its end, or to the text's: so that no text is looked at twice), or a comma before a closing bracket.
_STRING_OR_TRAILING = re.compile(rb'("(?:[^"\\]|\\.)*+"?)|,(?=\s*[}\]])', re.DOTALL)
_MAYBE_TRAILING = re.compile(rb",\s*[}\]]")  # or in a string; most questions have none
_FACTOR = 0x8003  # x**15 + x + 1
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A device asks for a block. Whether there is one is not looked at here: numbers may be anything."""

    id: int | str
    """To be echoed as it came. Empty when the device sent none."""
    stream_id: int
    file_id: int
    size: int
    """Bytes."""
    offset: int
    """Bytes from the file's beginning."""
    file_token: str | None = None
    """To be echoed when the device sent one."""


def parse_request(payload: bytes) -> Request:
    """A question for a block; numbers as numbers or strings, also with a comma too much (traps 9 and 10).

    Raises:
        Malformed: the payload is no such question.
    """
    if _MAYBE_TRAILING.search(payload):
        payload = _STRING_OR_TRAILING.sub(rb"\1", payload)
    document = read_object(payload)
    params = read_part(document, "params")
    file, block = read_part(params, "fileInfo"), read_part(params, "fileBlock")
    token = params.get("fileToken")
    if token is not None and not (isinstance(token, str) and len(token) <= _MAX_TOKEN):
        raise Malformed(f"fileToken is no string of at most {_MAX_TOKEN} characters")
    return Request(
        id=read_id(document),
        stream_id=_number(file, "streamId"),
        file_id=_number(file, "fileId"),
        size=_number(block, "size"),
        offset=_number(block, "offset"),
        file_token=token,
    )


def reply(request: Request, file_length: int, content: bytes) -> bytes:
    """The answer with a block.

    Args:
        request: what was asked.
        file_length: bytes of the whole file.
        content: the file's bytes from `request.offset` on, `request.size` or as many as there are.
    """
    return _packed(request, 200, "success", file_length, content)


def error(request: Request, code: int, message: str) -> bytes:
    """The answer to a request that can't be met; `code` is not 200."""
    return _packed(request, code, message, 0, b"")


def crc16(content: bytes) -> bytes:
    """CRC-16/ARC, low byte first.

    The remainder of the content, as a polynomial over two elements and times x**16, by x**16 + x**15 + x**2 + 1. That
    is (x + 1) * (x**15 + x + 1), and each of the two remainders takes a few operations on one large integer, where a
    loop over the bytes takes twenty times as long: by x + 1 it is whether the count of ones is odd; and, as
    squaring keeps a sum a sum, x**(15 * n) is x**n + 1 for every power of two n, so that everything from there on is
    added further down at once.
    """
    rest = int.from_bytes(content.translate(_MIRRORED), "big") << 16  # a byte's lowest bit is sent first
    odd = rest.bit_count() % 2
    while (bits := rest.bit_length()) > 15:
        n = 1 << ((bits // 16).bit_length() - 1)
        high = rest >> (15 * n)
        rest ^= high << (15 * n) ^ high << n ^ high
    if rest.bit_count() % 2 != odd:
        rest ^= _FACTOR
    return rest.to_bytes(2, "big").translate(_MIRRORED)


def _packed(request: Request, code: int, message: str, file_length: int, content: bytes) -> bytes:
    """Length of the JSON, the JSON with its keys in this order, the content, its CRC."""
    data: dict[str, Any] = {"bOffset": request.offset, "fileLength": file_length, "bSize": len(content)}
    if request.file_token is not None:
        data["fileToken"] = request.file_token
    head = orjson.dumps({"code": code, "data": data, "id": request.id, "message": message})
    return b"".join((len(head).to_bytes(2, "big"), head, content, crc16(content)))


def _number(part: dict[str, Any], name: str) -> int:
    found = part.get(name)
    if isinstance(found, str) and _WHOLE.fullmatch(found):
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int) or not -_MAX_NUMBER < found < _MAX_NUMBER:
        raise Malformed(f"{name} is {'missing' if found is None else 'not a whole number'}")
    return found
