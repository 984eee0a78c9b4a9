"""What the Python SDK makes of a push (traps 2 and 12). It parses JSON as everybody does."""

from __future__ import annotations

import hashlib
import json
from typing import Any

NEEDED = ("url", "version", "size", "signMethod", "sign")
DIGESTS = {"Md5": hashlib.md5, "SHA256": hashlib.sha256}


class Ignored(Exception):  # noqa: N818 - what happens to the message
    """The SDK acts as if nothing had come."""


class Broken(Exception):  # noqa: N818 - what happens to the upgrade
    """The download was for nothing."""


def read(payload: bytes) -> dict[str, Any]:
    """What the firmware is given."""
    data = json.loads(payload)["data"]
    missing = [name for name in NEEDED if not data.get(name)]
    if missing:
        raise Ignored(f"no {', '.join(missing)}")
    return dict(data)


def check(data: dict[str, Any], content: bytes) -> None:
    """Checks what was downloaded."""
    if data["signMethod"] not in DIGESTS:
        raise Broken(f"no digest is called {data['signMethod']}")
    if len(content) != data["size"] or DIGESTS[data["signMethod"]](content).hexdigest() != data["sign"]:
        raise Broken("another file came")
