"""The devices behind a broker: keeps one connection to it, and offers what devices say to the intake.

Decides when to connect, what to subscribe to, which messages are for us, and what to tell of the broker's
health. Built by the composition root when a broker's URL is configured. It must not look into payloads, and
must not acknowledge a message of a device before it is told to: the broker keeps it for us (a persistent
session under a stable client id), also through a crash of ours.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import pathlib
import random
import ssl
from collections.abc import Callable, Mapping

from reconciler import errors
from reconciler.protocol import broker_url, messages, topics
from reconciler.protocol.mqtt311 import packets
from reconciler.transport.base import Delivery, Health, Intake, Message, PresenceKind
from reconciler.transport.broker_link import ClosingSocket, Link, LinkOptions

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class MqttOptions:
    """Settings of the broker's client. Times are in seconds, sizes in bytes."""

    client_id: str = "reconciler"
    """Names our session at the broker. Two daemons must not share it: each would cut the other off."""
    ca_file: pathlib.Path | None = None
    """Certificates to trust with mqtts://, instead of the system's."""
    certificate: pathlib.Path | None = None
    key: pathlib.Path | None = None
    """The client certificate's key; None when it is in the certificate's file."""
    password: str | None = dataclasses.field(default=None, repr=False)
    """Instead of the one in the URL, which others may see."""
    keepalive: int = 30
    max_inflight: int = 100
    max_queued: int = 1000
    publish_timeout: float = 30.0
    payload_limit: int = 256 * 1024
    retry_min: float = 0.5
    retry_max: float = 30.0
    steady_after: float = 10.0
    """A connection that lasted so long was a good one: the next failure starts again at `retry_min`."""

    def link(self) -> LinkOptions:
        """What of it concerns a single connection."""
        return LinkOptions(
            client_id=self.client_id,
            keepalive=self.keepalive,
            max_inflight=self.max_inflight,
            max_queued=self.max_queued,
            publish_timeout=self.publish_timeout,
        )


@dataclasses.dataclass(slots=True)
class MqttStats:
    """Counts since the start, for metrics."""

    connects: int = 0
    connection_failures: int = 0
    received: int = 0
    foreign: int = 0
    """On topics that are none of ours, or of products that are not served."""
    malformed: int = 0
    """With a product key or device name that can't be one."""
    retained: int = 0
    """Kept by the broker from some earlier time, so no longer true: device messages are never retained."""
    oversized: int = 0
    confirmed: int = 0
    offline: int = 0
    timed_out: int = 0
    busy: int = 0


class MqttTransport:
    """A broker as the way to the devices, for any MQTT 3.1.1 broker.

    Args:
        url: `mqtt://[user[:password]@]host[:port]`, or `mqtts://`.
        options: see there.
        jitter: a number in [0, 1), drawn for each wait before a reconnect.

    Raises:
        UserError: the URL or a certificate file can't be used.
    """

    presence = PresenceKind.ASSUMED

    def __init__(
        self,
        url: str,
        options: MqttOptions | None = None,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.stats = MqttStats()
        self._options = options or MqttOptions()
        self._url = broker_url.parse(url)
        if self._options.password is not None:
            self._url = dataclasses.replace(self._url, password=self._options.password)
        self._jitter = jitter
        self._products: frozenset[str] = frozenset()
        self._stale: set[str] = set()
        self._intake: Intake | None = None
        self._link: Link | None = None
        self._trouble = "not started"
        self._tls_context()  # a wrong file is said at the start, not at the first connection

    # The port

    async def serve(self, intake: Intake) -> None:
        """Keeps the connection until cancelled: reconnects with growing, jittered waits."""
        self._intake = intake
        failures = 0
        while True:
            await _room(intake)
            try:
                await self._live()
            except _BrokenError as broken:
                failures = 0 if broken.lasted >= self._options.steady_after else failures + 1
                await self._wait_before_retry(broken.cause, failures)

    def set_products(self, product_keys: frozenset[str]) -> None:
        """Which products are heard from now on."""
        added, removed = product_keys - self._products, self._products - product_keys
        self._products = product_keys
        if self._link is not None:
            self._link.subscribe(_filters(added))
            self._link.unsubscribe(_filters(removed))

    async def publish(self, address: topics.Address, topic: str, payload: bytes) -> Delivery:
        """Sends at QoS 1. CONFIRMED: the broker has it, and hands it to the device if that subscribed."""
        del address
        delivery = Delivery.OFFLINE if self._link is None else await self._link.publish(topic, payload)
        setattr(self.stats, delivery.value, getattr(self.stats, delivery.value) + 1)
        return delivery

    def health(self) -> Health:
        """Whether the broker carries our messages; if not, why, what to do, and when the next try is."""
        link = self._link
        if link is None:
            return Health(ok=False, message=self._trouble)
        if link.refused:
            named = ", ".join(sorted(link.refused)[:3])
            return Health(
                ok=False, message=f"{self._url} refuses these subscriptions: {named}; mend its access rules"
            )
        if link.flowing_since is None:
            return Health(ok=False, message=f"{self._url} has not confirmed the subscriptions yet")
        return Health(ok=True, message=f"connected to {self._url} as {self._options.client_id}")

    def connected_for(self) -> float:
        """Seconds since the broker confirmed the subscriptions of this connection; 0.0 without one."""
        if self._link is None or self._link.flowing_since is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._link.flowing_since

    def counts(self) -> Mapping[str, int]:
        """`MqttStats`, by name."""
        return dataclasses.asdict(self.stats)

    # One connection after the other

    async def _live(self) -> None:
        """One connection from its beginning to its end, which is always a `_BrokenError`."""
        now = asyncio.get_running_loop().time
        connected_at = now()
        link: Link | None = None
        try:
            link = Link(
                self._url,
                self._options.link(),
                self._tls_context(),
                connected=self._connected,
                received=self._received,
            )
            await link.open()
            connected_at = now()
            raise errors.TransientError(f"connection to {self._url} lost: {await link.ended()}")
        except errors.ReconcilerError as cause:
            raise _BrokenError(cause, now() - connected_at) from cause
        finally:
            self._link = None
            if link is not None:
                link.close()

    def _connected(self, link: Link) -> None:
        self.stats.connects += 1
        self._link = link
        self._stale.clear()
        link.subscribe(_filters(self._products))
        _log.info("connected to %s as %s", self._url, self._options.client_id)

    async def _wait_before_retry(self, cause: errors.ReconcilerError, failures: int) -> None:
        self.stats.connection_failures += 1
        options = self._options
        longest = min(options.retry_max, options.retry_min * 2.0 ** min(failures, 30))
        if not isinstance(cause, errors.TransientError):
            longest = options.retry_max
        delay = longest * (0.5 + self._jitter() / 2)
        remedy = f" ({cause.remedy})" if cause.remedy else ""
        self._trouble = f"{cause.message}{remedy}; next try within {delay:.1f} s"
        _log.warning("%s", self._trouble)
        await asyncio.sleep(delay)

    def _tls_context(self) -> ssl.SSLContext | None:
        """Made anew for each connection, so that renewed certificate files are picked up."""
        if not self._url.tls:
            return None
        options = self._options
        try:
            context = ssl.create_default_context(cafile=options.ca_file)
            context.sslsocket_class = ClosingSocket
            if options.certificate is not None:
                context.load_cert_chain(options.certificate, options.key)
        except OSError as error:  # an SSLError is one too
            files = ", ".join(str(f) for f in (options.ca_file, options.certificate, options.key) if f)
            raise errors.UserError(
                f"the certificates for {self._url} can't be used: {error}",
                remedy=f"give readable PEM files (given: {files or 'none'})",
            ) from error
        return context

    # What comes in

    def _received(self, link: Link, message: packets.Publish) -> None:
        """Offers a device's message; counts and acknowledges what is none (or it would come for ever)."""
        self.stats.received += 1
        acknowledge = functools.partial(link.acknowledge, message.packet_id) if message.qos else _nothing
        found = self._for_us(link, message)
        if found is None or self._intake is None:
            acknowledge()
            return
        route, address = found
        self._intake.offer(
            Message(address, route, messages.bounded(message.payload), message.duplicate, acknowledge)
        )
        if self._intake.full:
            link.pause()
            self._intake.when_room(link.resume)

    def _for_us(self, link: Link, message: packets.Publish) -> tuple[topics.Route, topics.Address] | None:
        found = topics.parse(message.topic)
        if found is None:
            self.stats.foreign += 1
        elif found[1].product_key not in self._products:
            self.stats.foreign += 1
            self._forget(link, found[1].product_key)
        elif not topics.is_well_formed(found[1]):
            self.stats.malformed += 1
        elif message.retain:
            self.stats.retained += 1
        elif len(message.payload) > self._options.payload_limit:
            self.stats.oversized += 1
        else:
            return found
        return None

    def _forget(self, link: Link, product_key: str) -> None:
        """Ends what the broker remembers of a product that an earlier process of ours served; asked once."""
        if product_key not in self._stale and topics.PRODUCT_KEY.fullmatch(product_key):
            self._stale.add(product_key)
            link.unsubscribe(topics.uplinks(product_key))


class _BrokenError(Exception):
    """A connection ended: why, and after how many seconds."""

    def __init__(self, cause: errors.ReconcilerError, lasted: float) -> None:
        super().__init__(cause.message)
        self.cause = cause
        self.lasted = lasted


async def _room(intake: Intake) -> None:
    """Waits until the intake has room: a new connection brings everything unacknowledged once more."""
    if intake.full:
        room = asyncio.Event()
        intake.when_room(room.set)
        await room.wait()


def _filters(product_keys: frozenset[str]) -> list[str]:
    return [each for product_key in sorted(product_keys) for each in topics.uplinks(product_key)]


def _nothing() -> None:
    """The acknowledgement of a QoS 0 message."""
