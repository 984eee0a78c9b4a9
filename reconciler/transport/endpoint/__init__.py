"""The device endpoint: an MQTT 3.1.1 server for devices and the platform only, not a broker (`engine.md` §1).

    limits       what it allows, and what it counted
    sessions     one client's connection: bytes, back-pressure, its end
    hall         everybody who is connected: identities, takeover, presence, the one writer
    admission    who is let in, at what pace
    server       listening, and the transport's port

What is said on the wire, and what each packet means, is `protocol.mqtt311`'s business; here is only what needs a
socket, a clock or somebody to wait for.
"""

from __future__ import annotations

from reconciler.transport.endpoint.limits import Bind, Cut, EndpointLimits, EndpointStats
from reconciler.transport.endpoint.server import Endpoint

__all__ = ["Bind", "Cut", "Endpoint", "EndpointLimits", "EndpointStats"]
