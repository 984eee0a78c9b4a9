"""Decides how a broker's address is written: `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS.

Called by whoever is given such an address (the broker transport, the simulator). It opens no connection and
knows no certificates: those are files, and given beside the address.
"""

from __future__ import annotations

import dataclasses
import urllib.parse

from reconciler import errors

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_REMEDY = "write mqtt://[user[:password]@]host[:port], or mqtts:// for TLS"


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerUrl:
    """Where a broker is, and who we are to it."""

    host: str
    port: int
    tls: bool
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)

    def __str__(self) -> str:
        """The address as logs may show it: without the password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{urllib.parse.quote(self.username, safe='')}@" if self.username is not None else ""
        return f"{'mqtts' if self.tls else 'mqtt'}://{user}{host}:{self.port}"


def parse(text: str) -> BrokerUrl:
    """The parts of a broker's address; user and password are percent-decoded.

    Raises:
        UsageError: it is no such address. The message never repeats the text, which may hold a password.
    """
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise errors.UsageError("the broker's address can't be read", remedy=_REMEDY) from error
    if parts.scheme not in _PORTS:
        raise errors.UsageError(
            "the broker's address does not start with mqtt:// or mqtts://", remedy=_REMEDY
        )
    if not parts.hostname:
        raise errors.UsageError("the broker's address names no host", remedy=_REMEDY)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise errors.UsageError("the broker's address goes on after host and port", remedy=_REMEDY)
    return BrokerUrl(
        host=parts.hostname,
        port=_PORTS[parts.scheme] if port is None else port,
        tls=parts.scheme == "mqtts",
        username=None if parts.username is None else urllib.parse.unquote(parts.username),
        password=None if parts.password is None else urllib.parse.unquote(parts.password),
    )
