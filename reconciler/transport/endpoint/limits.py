"""What the device endpoint allows, and what it counted. Values only."""

from __future__ import annotations

import collections
import dataclasses
import enum
import ssl
from collections.abc import Mapping
from typing import Self

from reconciler.domain.limits import DEFAULT, Limits


@dataclasses.dataclass(frozen=True, slots=True)
class Bind:
    """Where to listen.

    Args:
        host: an address or name of this machine; an IPv6 address is written without brackets.
        port: 0 lets the system choose; see `Endpoint.bound_ports`.
        tls: a server's context, or None for plain TCP.
    """

    host: str = "127.0.0.1"
    port: int = 1883
    tls: ssl.SSLContext | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class EndpointLimits:
    """How much one client, and all of them together, may take."""

    packet_bytes: int = DEFAULT.endpoint_packet_bytes
    """The largest packet of a device that has logged in."""
    write_buffer_bytes: int = DEFAULT.endpoint_buffer_bytes
    """How much may wait for a client that doesn't read, beyond what the kernel holds, before it is cut."""
    connect_seconds: float = DEFAULT.endpoint_connect_time.total_seconds()
    """From the first byte of a connection to the last of its CONNECT, TLS included."""
    keepalive_factor: float = DEFAULT.endpoint_keepalive_percent / 100
    """A device that is silent for so many of its own keepalives is gone."""
    idle_seconds: float = DEFAULT.endpoint_idle_time.total_seconds()
    """The same for a device that asked for no keepalive."""
    puback_seconds: float = DEFAULT.endpoint_push_time.total_seconds()
    """How long a push waits for its acknowledgement."""
    pushes: int = DEFAULT.endpoint_pushes
    """How many pushes to one device may wait for that."""
    packets_per_second: float = DEFAULT.endpoint_messages_per_second
    """What one client may send in the long run; who sends more is read more slowly. 0 is no limit."""
    packets_at_once: int = DEFAULT.endpoint_messages_at_once
    """What it may send at a time before that begins."""
    logins_per_second: float = DEFAULT.endpoint_logins_per_second
    """How many clients are let in; the others wait. 0 is no limit."""
    logins_at_once: int = DEFAULT.endpoint_logins_at_once
    """How many passwords are looked at at the same time."""
    connections: int = DEFAULT.endpoint_connections
    """Further ones are closed as they come. 0: `most_connections` decides."""

    @classmethod
    def of(cls, limits: Limits) -> Self:
        """Those of the operator."""
        return cls(
            packet_bytes=limits.endpoint_packet_bytes,
            write_buffer_bytes=limits.endpoint_buffer_bytes,
            connect_seconds=limits.endpoint_connect_time.total_seconds(),
            keepalive_factor=limits.endpoint_keepalive_percent / 100,
            idle_seconds=limits.endpoint_idle_time.total_seconds(),
            puback_seconds=limits.endpoint_push_time.total_seconds(),
            pushes=limits.endpoint_pushes,
            packets_per_second=limits.endpoint_messages_per_second,
            packets_at_once=limits.endpoint_messages_at_once,
            logins_per_second=limits.endpoint_logins_per_second,
            logins_at_once=limits.endpoint_logins_at_once,
            connections=limits.endpoint_connections,
        )

    def most_connections(self, descriptors: int) -> int:
        """How many clients may be connected to a process that may have so many files and sockets open.

        Where nobody says it, an eighth of them, and at least 256, is left to downloads, the database and Git.
        """
        return self.connections or max(descriptors - max(descriptors // 8, 256), descriptors // 2)


class Cut(enum.StrEnum):
    """Why the endpoint ended a connection, or never let it in."""

    PROTOCOL = "protocol"
    TLS = "tls"
    CREDENTIALS = "credentials"
    PRODUCT = "product"
    WILL = "will"
    UNAVAILABLE = "unavailable"
    CONNECT_TIMEOUT = "connect-timeout"
    CROWDED = "crowded"
    SILENT = "silent"
    SLOW_READER = "slow-reader"
    REPLACED = "replaced"


@dataclasses.dataclass(frozen=True, slots=True)
class EndpointStats:
    """What was counted since the endpoint was made, and what is there now. For metrics: never a device."""

    connections: int
    """Clients that are connected now, logged in or not."""
    devices: int
    """Devices that are logged in now."""
    admitted: int
    """Logins that succeeded."""
    messages: int
    """Messages that went into the intake."""
    foreign: int
    """Messages on topics that are not the device's own."""
    dropped: int
    """Messages on own topics that the platform does not listen to, or with the retain flag."""
    malformed: int
    """Connections that ended because the client broke MQTT, or TLS."""
    refused: Mapping[str, int]
    """Connections that the endpoint ended, by `Cut`."""


@dataclasses.dataclass(slots=True)
class Tally:
    """What `EndpointStats` is made of, while it grows."""

    admitted: int = 0
    messages: int = 0
    foreign: int = 0
    dropped: int = 0
    cuts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def snapshot(self, *, connections: int, devices: int) -> EndpointStats:
        """A frozen copy."""
        return EndpointStats(
            connections=connections,
            devices=devices,
            admitted=self.admitted,
            messages=self.messages,
            foreign=self.foreign,
            dropped=self.dropped,
            malformed=self.cuts[Cut.PROTOCOL] + self.cuts[Cut.TLS],
            refused=dict(self.cuts),
        )
