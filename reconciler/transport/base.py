"""The port to the devices: what every transport takes in, gives out and promises.

Two real implementations stand behind it (`endpoint`: devices connect to us; `mqtt`: a broker, through paho) and
an in-memory sibling for tests (`memory`). One suite of tests holds all of them to the same promises:

- messages of one device enter the intake in the order in which they arrived;
- a QoS 1 message is acknowledged on the wire only when `Message.acknowledge` is called, so a message that was
  not committed comes again;
- `publish` resolves when the device's (or broker's) PUBACK came, or says why it never will;
- a full intake slows the senders down; it never drops a message and never grows past its bound by more than
  what one connection had already sent.

Everything here runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import enum
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from reconciler.protocol import login as logins
from reconciler.protocol.topics import Address, Route


def _nothing() -> None:
    """The acknowledgement of a QoS 0 message."""


class Message(NamedTuple):
    """One message of a device, as it came in."""

    address: Address
    route: Route
    payload: bytes
    duplicate: bool = False
    """The DUP flag: the sender says that it may have sent this before."""
    acknowledge: Callable[[], None] = _nothing
    """To be called on the event loop, once, after what the message changed is committed."""
    answer: Callable[[bytes], None] | None = None
    """Takes the answer to a question that did not come over the transport, before it is acknowledged. Whoever has one
    is not taken to be connected."""


@dataclasses.dataclass(frozen=True, slots=True)
class Presence:
    """A device came or went. Only transports whose presence is EXACT say this."""

    address: Address
    online: bool
    session: int
    """The connection's number, growing within the process: a late 'gone' of an older connection is told apart."""


class PresenceKind(enum.Enum):
    """What a transport knows about who is there."""

    EXACT = "exact"
    """It holds the devices' connections."""
    ASSUMED = "assumed"
    """It only hears messages: whoever was heard once is taken to be reachable."""


class Delivery(enum.Enum):
    """How a publish ended."""

    CONFIRMED = "confirmed"
    OFFLINE = "offline"
    """Not connected, or gone before it acknowledged. It is pushed again when it comes back."""
    TIMED_OUT = "timed_out"
    """Connected, but no acknowledgement within the transport's limit."""
    BUSY = "busy"
    """Too many unacknowledged pushes on this connection already; nothing was sent."""


class Intake:
    """The bounded queue between a transport and ingest: in order, in bursts, with back-pressure.

    Args:
        capacity: how many items may wait before senders are slowed down.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self.capacity = capacity
        self._items: collections.deque[tuple[float, Message | Presence]] = collections.deque()
        self._taken_since: float | None = None
        self._filled = asyncio.Event()
        self._waiting_for_room: list[Callable[[], None]] = []

    def offer(self, item: Message | Presence) -> None:
        """Takes an item, always. A transport looks at `full` afterwards and stops reading its peer."""
        self._items.append((time.monotonic(), item))
        self._filled.set()

    @property
    def full(self) -> bool:
        """True when a transport should stop reading until `when_room` calls it back."""
        return len(self._items) >= self.capacity

    def when_room(self, callback: Callable[[], None]) -> None:
        """Calls back once, when the queue is below half of its capacity."""
        if len(self._items) * 2 < self.capacity:
            callback()
        else:
            self._waiting_for_room.append(callback)

    async def take(self, limit: int) -> list[Message | Presence]:
        """The oldest items, at least one, at most `limit`; waits until there is one.

        They count as waiting until `committed` is called.
        """
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        self._taken_since = self._items[0][0]
        burst = [self._items.popleft()[1] for _ in range(min(limit, len(self._items)))]
        if self._waiting_for_room and len(self._items) * 2 < self.capacity:
            callbacks, self._waiting_for_room = self._waiting_for_room, []
            for callback in callbacks:
                callback()
        return burst

    def committed(self) -> None:
        """What was taken is in the database."""
        self._taken_since = None

    def __len__(self) -> int:
        """How many items wait to be taken."""
        return len(self._items)

    def age(self) -> float:
        """Seconds since the oldest item came in that is not committed; 0.0 when there is none."""
        if self._taken_since is not None:
            return time.monotonic() - self._taken_since
        return time.monotonic() - self._items[0][0] if self._items else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """What `/readyz` and the log say of a transport."""

    ok: bool
    message: str


class Authenticator(Protocol):
    """Who may log in. Given to the endpoint by the composition root."""

    async def authenticate(self, login: logins.Login) -> bool:
        """True when the password proves the identity. Never raises for a wrong one; unknown is False."""
        ...


class Transport(Protocol):
    """The way to the devices."""

    presence: PresenceKind

    async def serve(self, intake: Intake) -> None:
        """Moves messages until cancelled. Loses and regains its peer by itself; raises only when it can't go on."""
        ...

    def set_products(self, product_keys: frozenset[str]) -> None:
        """Which products are served; a broker client (un)subscribes, the endpoint lets only these in."""
        ...

    async def publish(self, address: Address, topic: str, payload: bytes) -> Delivery:
        """Sends at QoS 1 and waits for the acknowledgement."""
        ...

    def health(self) -> Health:
        """Whether devices can be reached right now."""
        ...

    def connected_for(self) -> float:
        """Seconds since messages flow without interruption; 0.0 while they don't."""
        ...

    def counts(self) -> Mapping[str, int]:
        """What was counted since the start, by event, for the metrics: few names, never a device."""
        ...
