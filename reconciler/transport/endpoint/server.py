"""Listening for devices, and the transport's port to them (`transport.base.Transport`).

Made by the composition root. What one client may do is decided in the modules below it.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import socket
from collections.abc import Mapping, Sequence

from reconciler import errors
from reconciler.protocol import broker_url
from reconciler.protocol.topics import Address
from reconciler.transport import base
from reconciler.transport.endpoint.admission import Admission
from reconciler.transport.endpoint.hall import Hall
from reconciler.transport.endpoint.limits import Bind, EndpointLimits, EndpointStats, Tally
from reconciler.transport.endpoint.sessions import Session

ACCEPTS_AT_ONCE = 64
"""Connections taken in one turn of the loop; the kernel keeps the rest."""
BACKLOG = 4096
GRACE_SECONDS = 1.0


class Endpoint:
    """Devices connect to us.

    Args:
        binds: where to listen.
        authenticator: who knows the devices' secrets.
        limits: how much is allowed.
        allow_anonymous: takes every client for whom its user name says it is, without a password. For demos.
    """

    presence = base.PresenceKind.EXACT

    def __init__(
        self,
        binds: Sequence[Bind],
        authenticator: base.Authenticator,
        *,
        limits: EndpointLimits | None = None,
        allow_anonymous: bool = False,
    ) -> None:
        self._binds = tuple(binds)
        self._authenticator = None if allow_anonymous else authenticator
        self._limits = limits or EndpointLimits()
        self._products: frozenset[str] | None = None
        self._tally = Tally()
        self._numbers = itertools.count(1)
        self._listening = asyncio.Event()
        self._since = 0.0
        self._ports: tuple[int, ...] = ()
        self._hall: Hall | None = None
        self._admission: Admission | None = None

    @property
    def bound_ports(self) -> tuple[int, ...]:
        """The ports in the order of the binds; empty while not listening."""
        return self._ports

    @property
    def bound_port(self) -> int:
        """The first bind's port; 0 while not listening."""
        return self._ports[0] if self._ports else 0

    @property
    def urls(self) -> tuple[str, ...]:
        """Where devices connect, in the order of the binds; empty while not listening."""
        return tuple(
            str(broker_url.BrokerUrl(bind.host, port, tls=bind.tls is not None))
            for bind, port in zip(self._binds, self._ports, strict=False)
        )

    @property
    def stats(self) -> EndpointStats:
        """What was counted so far, and who is there now."""
        connections, devices = self._hall.count() if self._hall else (0, 0)
        return self._tally.snapshot(connections=connections, devices=devices)

    async def listening(self) -> None:
        """Waits until devices can connect."""
        await self._listening.wait()

    async def serve(self, intake: base.Intake) -> None:
        """Serves devices until cancelled. May be called again afterwards.

        Raises:
            errors.UserError: an address can't be listened on.
        """
        sockets = self._open()
        hall = self._hall = Hall(intake, self._limits, self._tally, self._numbers)
        admission = self._admission = Admission(hall, self._authenticator)
        admission.products = self._products
        servers = []
        try:
            for bind, listener in zip(self._binds, sockets, strict=True):
                factory = functools.partial(Session, hall, bind.tls)
                server = await hall.loop.create_server(factory, sock=listener, backlog=ACCEPTS_AT_ONCE)
                servers.append(server)
                listener.listen(BACKLOG)
            self._ports = tuple(listener.getsockname()[1] for listener in sockets)
            self._since = hall.loop.time()
            self._listening.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(admission.run())
                group.create_task(hall.sweep())
        finally:
            self._listening.clear()
            self._hall = self._admission = None
            self._ports = ()
            for server in servers:
                server.close()
            for listener in sockets:
                listener.close()
            await hall.close(GRACE_SECONDS)

    def set_products(self, product_keys: frozenset[str]) -> None:
        """Lets in only devices of these products; others that are connected are closed.

        Until this was called once, devices are told to come again later.
        """
        self._products = product_keys
        if self._hall is not None and self._admission is not None:
            self._admission.products = product_keys
            self._hall.evict(product_keys)

    async def publish(self, address: Address, topic: str, payload: bytes) -> base.Delivery:
        """Sends at QoS 1 to the device's connection, subscribed or not (trap 1), and waits for the PUBACK."""
        session = self._hall.find(address) if self._hall is not None else None
        if session is None:
            return base.Delivery.OFFLINE
        waiter: asyncio.Future[base.Delivery] = asyncio.get_running_loop().create_future()
        packet_id = session.push(topic, payload, waiter)
        if packet_id is None:
            return base.Delivery.BUSY
        try:
            async with asyncio.timeout(self._limits.puback_seconds):
                return await waiter
        except TimeoutError:
            return base.Delivery.TIMED_OUT
        finally:
            session.withdraw(packet_id, waiter)

    def health(self) -> base.Health:
        """Ready while it listens."""
        if self._hall is None or not self._listening.is_set():
            return base.Health(ok=False, message="not listening for devices")
        _, devices = self._hall.count()
        where = ", ".join(f"{bind.host}:{port}" for bind, port in zip(self._binds, self._ports, strict=True))
        return base.Health(ok=True, message=f"listening on {where}, {devices} devices connected")

    def connected_for(self) -> float:
        """Seconds since it listens; 0.0 while it doesn't."""
        if self._hall is None or not self._listening.is_set():
            return 0.0
        return self._hall.loop.time() - self._since

    def counts(self) -> Mapping[str, int]:
        """`EndpointStats`, by name; connections that we ended, by why."""
        stats = self.stats
        counted = {
            name: getattr(stats, name) for name in ("admitted", "messages", "foreign", "dropped", "malformed")
        }
        return counted | {f"ended_{why}": count for why, count in stats.refused.items()}

    def _open(self) -> list[socket.socket]:
        """The listening sockets, all or none."""
        opened: list[socket.socket] = []
        for bind in self._binds:
            family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
            try:
                opened.append(socket.create_server((bind.host, bind.port), family=family, backlog=BACKLOG))
            except OSError as error:
                for listener in opened:
                    listener.close()
                why = (error.strerror or str(error)).partition(" (while")[0]  # it goes on with the address
                raise errors.UserError(
                    f"can't listen for devices on {bind.host}:{bind.port}: {why}",
                    remedy="free that port, or give another address (--mqtt-bind)",
                ) from error
        return opened
