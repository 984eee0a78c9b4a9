"""How the C SDK finds a value in a message: it looks for the text `"key":` and parses nothing (traps 3 and 4)."""

from __future__ import annotations

QUOTE, COMMA = ord('"'), ord(",")
OPEN = {ord("{"): ord("}"), ord("["): ord("]")}
ENDS = {COMMA, ord("]"), ord("}")}


class NotFound(Exception):  # noqa: N818 - what the SDK calls it
    """The SDK finds nothing there."""


def value(text: bytes, key: str) -> bytes:
    """What stands behind the first `"key"`.

    That is taken for the key even where it is a value or stands in an inner object; when no colon follows at once,
    the search is over. A string ends at the next quote, also at an escaped one. An object or array ends where as many
    brackets of its kind were closed as were opened, those in strings included. Anything else ends at `,`, `]` or `}`.
    """
    wanted = key.encode()
    for at in range(1, len(text) - len(wanted)):
        behind = at + len(wanted)
        if text[at - 1] == QUOTE and text[at:behind] == wanted and text[behind] == QUOTE:
            if behind + 3 > len(text) or text[behind + 1] != ord(":"):
                raise NotFound(f"no colon behind {key}")
            return _value_at(text, behind + 2)
    raise NotFound(key)


def _value_at(text: bytes, start: int) -> bytes:
    if text[start] == QUOTE:
        end = text.find(b'"', start + 1)
        if end < 0:
            raise NotFound("a string without end")
        return text[start + 1 : end]
    closing = OPEN.get(text[start])
    depth = 0
    for at in range(start, len(text)):
        if closing is None:
            if text[at] in ENDS:
                return text[start:at]
        elif text[at] == text[start]:
            depth += 1
        elif text[at] == closing:
            depth -= 1
            if depth == 0:
                return text[start : at + 1]
    raise NotFound("a value without end")


def number(text: bytes, key: str) -> int:
    """A whole number below 2**32; of anything else the SDK makes nothing."""
    digits = value(text, key)
    if not digits.isdigit() or len(digits) > 10 or int(digits) >= 2**32:
        raise NotFound(f"{key} is no number: {digits!r}")
    return int(digits)


def optional(text: bytes, key: str) -> bytes | None:
    """A value, or None when the SDK finds none."""
    try:
        return value(text, key)
    except NotFound:
        return None
