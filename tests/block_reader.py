"""A device's reader of block replies, typed anew from the protocol's table: it shares nothing with the program."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple


class Block(NamedTuple):
    """A reply as a device sees it."""

    code: int
    id: str
    message: str
    offset: int
    file_length: int
    token: str | None
    content: bytes


_HEAD = re.compile(
    r'\{"code":(\d+),"data":\{"bOffset":(-?\d+),"fileLength":(\d+),"bSize":(\d+)(?:,"fileToken":"([^"]*)")?\},'
    r'"id":("[^"]*"|\d+),"message":"([^"]*)"\}'
)
"""Keys in the fixed order and not a space: devices in C don't parse JSON."""


def _bit_by_bit(register: int) -> int:
    for _ in range(8):
        lowest = register & 1
        register >>= 1
        if lowest:
            register ^= 0xA001
    return register


_TABLE = [_bit_by_bit(byte) for byte in range(256)]


def checksum(content: bytes) -> int:
    """CRC-16/ARC byte by byte, as its definition says."""
    register = 0
    for byte in content:
        register = register >> 8 ^ _TABLE[(register ^ byte) & 0xFF]
    return register


def read(reply: bytes) -> Block:
    """Takes a reply apart; fails when it is not what the table says."""
    (length,) = struct.unpack_from(">H", reply)
    head = _HEAD.fullmatch(reply[2 : 2 + length].decode())
    assert head is not None, reply[2 : 2 + length]
    code, offset, file_length, size, token, id_, message = head.groups()
    content, crc = reply[2 + length : -2], reply[-2:]
    assert len(content) == int(size)
    assert struct.unpack("<H", crc) == (checksum(content),)
    return Block(int(code), id_, message, int(offset), int(file_length), token, content)
