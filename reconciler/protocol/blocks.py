"""Decides what a question for a block of a file, and the answer, look like (device protocol §2, block download).

`services.blocks` reads and answers with it. It knows bytes and values only: nothing of tasks, files or who may
read what. Whatever bytes come in, the parser returns a value or raises `messages.Malformed`, and nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
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
_POLYNOMIAL = 0xA001  # 0x8005, reflected


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
    document = read_object(_STRING_OR_TRAILING.sub(rb"\1", payload))
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

    A loop over the bytes takes ten times as long. This one looks at the content as 16-bit words, the low and the
    high bytes of which are two texts: the first half of the words, advanced by the length of the second, is added
    to the second half, until one word is left. (The CRC is linear, and begins with 0, so that zeros before the
    content change nothing.)
    """
    steps = max((len(content) + 1) // 2 - 1, 0).bit_length()
    padded = content.rjust(2 << steps, b"\0")
    low, high = padded[::2], padded[1::2]
    for step in reversed(range(steps)):
        half = len(low) // 2
        ahead_low, ahead_high = _advanced(step, low[:half], high[:half])
        low, high = _sum(ahead_low, low[half:]), _sum(ahead_high, high[half:])
    return b"".join(_advanced(0, low, high))


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


def _sum(*texts: bytes) -> bytes:
    """The texts of one length, added without carry."""
    total = functools.reduce(int.__xor__, (int.from_bytes(text, "little") for text in texts))
    return total.to_bytes(len(texts[0]), "little")


def _advanced(step: int, low: bytes, high: bytes) -> tuple[bytes, bytes]:
    """Words, given as their low and their high bytes, as the CRC of each is after 2**step more words of zeros."""
    of_low, of_high = _tables(step)
    low_of_low, high_of_low = of_low
    low_of_high, high_of_high = of_high
    return (
        _sum(low.translate(low_of_low), high.translate(low_of_high)),
        _sum(low.translate(high_of_low), high.translate(high_of_high)),
    )


@functools.cache
def _tables(step: int) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    """What becomes of each low byte, and of each high byte: the low and the high byte of its word, advanced."""
    every, zeros = bytes(range(256)), bytes(256)
    if step == 0:
        words = [_shifted(byte) for byte in every], [_shifted(byte << 8) for byte in every]
        return _split(words[0]), _split(words[1])
    once = step - 1
    return (
        _advanced(once, *_advanced(once, every, zeros)),
        _advanced(once, *_advanced(once, zeros, every)),
    )


def _shifted(word: int) -> int:
    """A word after 16 zero bits."""
    for _ in range(16):
        word = (word >> 1) ^ (_POLYNOMIAL if word & 1 else 0)
    return word


def _split(words: list[int]) -> tuple[bytes, bytes]:
    return bytes(word & 0xFF for word in words), bytes(word >> 8 for word in words)
