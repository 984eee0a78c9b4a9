"""The devices, in memory: the transport for tests, with the same promises as the real ones.

A test plays the devices: it connects them, lets them send, and looks at what they were pushed. Presence is
exact. Nothing here knows a socket; everything happens at once, except what waits for room in the intake.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping

from reconciler.protocol import topics
from reconciler.transport.base import Delivery, Health, Intake, Message, Presence, PresenceKind


@dataclasses.dataclass(frozen=True, slots=True)
class Push:
    """What was published to a device."""

    address: topics.Address
    topic: str
    payload: bytes


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """A message as the test sent it. Kept until it is acknowledged."""

    topic: str
    payload: bytes


class MemoryTransport:
    """Devices that exist in a test only.

    Args:
        on_push: called with each push that reached its device; may answer with `send`.
    """

    presence = PresenceKind.EXACT

    def __init__(self, on_push: Callable[[Push], None] | None = None) -> None:
        self.on_push = on_push
        self.published: list[Push] = []
        """What reached a device, in order; also what it did not acknowledge."""
        self.delivery = Delivery.CONFIRMED
        """How pushes to connected devices end: set it to TIMED_OUT and they are no longer acknowledged."""
        self.foreign = 0
        self._products: frozenset[str] = frozenset()
        self._sessions: dict[topics.Address, int] = {}
        self._last_session = 0
        self._unacknowledged: dict[topics.Address, list[Sent]] = collections.defaultdict(list)
        self._backlog: collections.deque[Message | Presence] = collections.deque()
        self._waiting = False
        self._intake: Intake | None = None
        self._served_since: float | None = None

    # What a test does in the place of devices

    def connect(self, address: topics.Address) -> int:
        """A device comes; returns its session. It sends again, in order, what was not acknowledged.

        Raises:
            ValueError: its product is not served, so no real transport would let it in.
        """
        if address.product_key not in self._products:
            raise ValueError(f"{address} is of a product that is not served; see set_products")
        self._last_session += 1
        self._sessions[address] = self._last_session
        self._offer(Presence(address, online=True, session=self._last_session))
        for sent in list(self._unacknowledged[address]):
            self._deliver(address, sent, duplicate=True)
        return self._last_session

    def disconnect(self, address: topics.Address) -> None:
        """A device goes."""
        self._offer(Presence(address, online=False, session=self._sessions.pop(address)))

    def is_connected(self, address: topics.Address) -> bool:
        """Whether a device is there."""
        return address in self._sessions

    def send(self, address: topics.Address, topic: str, payload: bytes, *, duplicate: bool = False) -> None:
        """A connected device sends at QoS 1. A topic that is none of ours is counted and acknowledged."""
        if address not in self._sessions:
            raise ValueError(f"{address} is not connected")
        if topics.parse(topic) is None:
            self.foreign += 1
            return
        sent = Sent(topic, payload)
        self._unacknowledged[address].append(sent)
        self._deliver(address, sent, duplicate=duplicate)

    def unacknowledged(self, address: topics.Address) -> list[Sent]:
        """What a device sent and would send again if it connected now."""
        return list(self._unacknowledged[address])

    # The port

    async def serve(self, intake: Intake) -> None:
        """Hands over what devices sent, until cancelled."""
        self._intake = intake
        self._served_since = asyncio.get_running_loop().time()
        try:
            self._drain()
            await asyncio.get_running_loop().create_future()
        finally:
            self._intake = None
            self._served_since = None

    def set_products(self, product_keys: frozenset[str]) -> None:
        """Which products' devices may connect; those of others are gone."""
        self._products = product_keys
        for address in [each for each in self._sessions if each.product_key not in product_keys]:
            self.disconnect(address)

    async def publish(self, address: topics.Address, topic: str, payload: bytes) -> Delivery:
        """Reaches a connected device at once."""
        await asyncio.sleep(0)
        if address not in self._sessions or self._intake is None:
            return Delivery.OFFLINE
        if self.delivery is Delivery.BUSY:
            return Delivery.BUSY
        push = Push(address, topic, payload)
        self.published.append(push)
        if self.on_push is not None:
            self.on_push(push)
        return self.delivery

    def health(self) -> Health:
        """Fine while it is served."""
        served = self._served_since is not None
        return Health(ok=served, message="in memory" if served else "not started")

    def connected_for(self) -> float:
        """Seconds since `serve` began."""
        return 0.0 if self._served_since is None else asyncio.get_running_loop().time() - self._served_since

    def counts(self) -> Mapping[str, int]:
        """Foreign topics."""
        return {"foreign": self.foreign}

    # Inside

    def _deliver(self, address: topics.Address, sent: Sent, *, duplicate: bool) -> None:
        found = topics.parse(sent.topic)
        assert found is not None, "send lets nothing else in"
        acknowledge = functools.partial(self._acknowledged, address, sent)
        self._offer(Message(found[1], found[0], sent.payload, duplicate, acknowledge))

    def _acknowledged(self, address: topics.Address, sent: Sent) -> None:
        if sent in self._unacknowledged[address]:
            self._unacknowledged[address].remove(sent)

    def _offer(self, item: Message | Presence) -> None:
        self._backlog.append(item)
        self._drain()

    def _drain(self) -> None:
        """Moves what waits into the intake, as far as it has room; the rest when it has some again."""
        intake = self._intake
        if intake is None:
            return
        while self._backlog and not intake.full:
            intake.offer(self._backlog.popleft())
        if self._backlog and not self._waiting:
            self._waiting = True
            intake.when_room(self._room)

    def _room(self) -> None:
        self._waiting = False
        self._drain()
