"""What the C SDKs make of a URL (trap 8)."""

from __future__ import annotations

import enum
from typing import NamedTuple

BUFFER = 256
PORTS = {"http": 80, "https": 443}


class Sdk(enum.Enum):
    """Which one."""

    C3 = "3.x"
    C41 = "4.1"
    C42 = "4.2"


class Unusable(Exception):  # noqa: N818 - what the SDK makes of the URL
    """The SDK can't download from there."""


class Target(NamedTuple):
    """Where the SDK connects, and what it asks for."""

    host: str
    port: int
    path: str


def split(url: str, sdk: Sdk) -> Target:
    """Host and path, each in a buffer of 256 bytes with a zero at its end.

    Up to 4.1 what stands before the path is a name to be resolved, a port included. 3.x knows two ports.
    """
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if not mark or not slash:
        raise Unusable("no host, or no path")
    path = f"/{path.partition('#')[0]}"
    if not url.isascii() or any(sign <= " " for sign in url):
        raise Unusable("what is no URL")
    if len(host) >= BUFFER or len(path) >= BUFFER:
        raise Unusable("too long for the buffers")
    name, colon, port = host.partition(":")
    if colon and sdk is not Sdk.C42:
        raise Unusable(f"no host is called {host}")
    return Target(name, int(port) if colon else PORTS[scheme], path)
