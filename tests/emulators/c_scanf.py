"""How the firmware of small devices reads a push for a download over MQTT: with one `sscanf` over all of it.

Its format is a push as its author saw one, so the fields must come in just this order, with an MD5. A conversion takes
up to so many characters that are no space, quotes included: a version of 26 characters is read as it is, a shorter one
with what follows it, which such firmware cuts off or never looks at.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FORMAT = re.compile(
    r'\{"code":"1000","data":\{"size":(\d+),"streamId":(\d+),(?:"module":"GATEWAY",)?"sign":"\S{32}",'
    r'"dProtocol":"mqtt","version":"(\S{1,26})'
)


class NotScanned(Exception):  # noqa: N818 - what the firmware sees
    """Fewer values than asked for were found."""


class Scanned(NamedTuple):
    """What the firmware knows then."""

    size: int
    stream: int
    version: str


def read(payload: bytes) -> Scanned:
    """The three values that are scanned for."""
    found = _FORMAT.match(payload.decode())
    if found is None:
        raise NotScanned
    return Scanned(int(found[1]), int(found[2]), found[3].partition('"')[0])
