"""How the C SDK 4.2 downloads over MQTT: its invalid questions (trap 9), and how it takes an answer apart."""

from __future__ import annotations

from emulators import c_json
from emulators.c_push import Stream

TOKEN_BYTES = 128
_POLYNOMIAL = 0x8005


class AsksAgain(Exception):  # noqa: N818 - what the SDK does
    """The SDK throws the answer away and asks for the block again, at most three times."""


def checksum(content: bytes) -> int:
    """CRC-16/ARC by its definition: bits from the lowest on, into a register that is read mirrored at the end."""
    register = 0
    for byte in content:
        for bit in range(8):
            high = register >> 15 ^ (byte >> bit & 1)
            register = register << 1 & 0xFFFF
            if high:
                register ^= _POLYNOMIAL
    return int(f"{register:016b}"[::-1], 2)


class Download:
    """One file, block after block.

    Args:
        stream: as pushed.
        size: as pushed.
        block: bytes that it asks for at a time.
    """

    def __init__(self, stream: Stream, size: int, block: int = 5120) -> None:
        self._stream = stream
        self._size = size
        self._block = block
        self._id = 0
        self.content = b""

    @property
    def is_done(self) -> bool:
        """Whether all of it is here."""
        return len(self.content) == self._size

    def question(self) -> bytes:
        """What it asks next: with a comma too much, and an `id` that is a string."""
        self._id += 1
        size = min(self._block, self._size - len(self.content))
        text = (
            '{"id":"%d","version":"1.0","params":{"fileToken":"default","fileInfo":{"streamId":%d,"fileId":%d,},'
            '"fileBlock":{"size":%d,"offset":%d}}}'
        )
        return (text % (self._id, *self._stream, size, len(self.content))).encode()

    def take(self, reply: bytes) -> None:
        """Takes an answer; one for another place is left unheard, as after a question that was asked twice."""
        length = reply[0] << 8 | reply[1]
        head = reply[2 : 2 + length]
        try:
            code, data = c_json.number(head, "code"), c_json.value(head, "data")
            size, offset = c_json.number(data, "bSize"), c_json.number(data, "bOffset")
            c_json.number(data, "fileLength")
        except c_json.NotFound as missing:
            raise AsksAgain(str(missing)) from None
        if len(c_json.optional(data, "fileToken") or b"") >= TOKEN_BYTES:
            raise OverflowError("the token is written over the stack")
        content = reply[2 + length : -2]
        if code != 200:
            raise AsksAgain(f"code {code}")
        if len(content) != size:
            raise AsksAgain(f"{len(content)} bytes, not {size}")
        if reply[-2] | reply[-1] << 8 != checksum(content):
            raise AsksAgain("wrong checksum")
        if offset == len(self.content):
            self.content += content
