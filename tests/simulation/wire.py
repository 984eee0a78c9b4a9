"""The way to the devices, in memory: a lean sibling of `transport.memory` that counts pushes and loses some.

It keeps the port's promises (in order; what was not acknowledged comes again, with DUP, when its device is back), knows
nothing of sockets, and writes down each push that left it: what the rates are checked by.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from reconciler.protocol import urls
from reconciler.protocol.topics import Address, Route
from reconciler.transport.base import Delivery, Health, Intake, Message, Presence, PresenceKind

from .faults import Faults

KEY = b"k" * 32
"""Signs the URLs; each names the task that it was made for."""


@dataclasses.dataclass(slots=True)
class Pushed:
    """One push, or one answer with a package, that left the transport."""

    at: datetime
    address: Address
    task_id: int
    asked: bool
    """It answers `firmware/get`."""
    delivery: Delivery
    settled: bool = False
    """The engine has written down how it ended."""


class SteadyIntake(Intake):
    """Its messages are as old as the simulated second: none waits from one moment to the next."""

    def age(self) -> float:
        """None is old: a moment hears everything before it looks at the clock."""
        return 0.0


class Wire:
    """Devices that exist in the simulation only.

    Args:
        faults: what becomes of a push.
        now: the simulation's clock.
        reached: called with the device and the payload of each push or answer that it acts on.
    """

    presence = PresenceKind.EXACT

    def __init__(
        self, faults: Faults, now: Callable[[], datetime], reached: Callable[[Address, bytes], None]
    ) -> None:
        self._faults = faults
        self._now = now
        self._reached = reached
        self._sessions: dict[Address, int] = {}
        self._numbers = itertools.count(1)
        self._unacknowledged: dict[Address, dict[int, tuple[Route, bytes]]] = {}
        self.intake: Intake | None = None
        self.pushed: list[Pushed] = []
        """What left since somebody last looked."""
        self.fresh: list[Pushed] = []
        """Those that the engine has not yet written down."""
        self.messages = 0

    # Devices

    def connect(self, address: Address) -> None:
        """A device comes, and says again what was not acknowledged."""
        assert self.intake is not None, "nobody connects to an engine that is down"
        session = self._sessions[address] = next(self._numbers)
        self.intake.offer(Presence(address, online=True, session=session))
        for number, (route, payload) in list(self._unacknowledged.get(address, {}).items()):
            self._offer(address, number, route, payload, again=True)

    def disconnect(self, address: Address) -> None:
        """A device goes."""
        assert self.intake is not None
        self.intake.offer(Presence(address, online=False, session=self._sessions.pop(address)))

    def is_connected(self, address: Address) -> bool:
        """Whether a device is there."""
        return address in self._sessions

    def send(self, address: Address, route: Route, payload: bytes, *, redelivered: bool = False) -> None:
        """A device that is there says something at QoS 1."""
        number = next(self._numbers)
        self._unacknowledged.setdefault(address, {})[number] = route, payload
        self._offer(address, number, route, payload)
        if redelivered:
            self._offer(address, number, route, payload, again=True)

    def _offer(
        self, address: Address, number: int, route: Route, payload: bytes, *, again: bool = False
    ) -> None:
        assert self.intake is not None
        self.messages += 1
        acknowledge = functools.partial(self._acknowledged, address, number)
        self.intake.offer(Message(address, route, payload, again, acknowledge))

    def _acknowledged(self, address: Address, number: int) -> None:
        self._unacknowledged[address].pop(number, None)

    # The engine's life

    def cut(self) -> None:
        """The engine died: every connection broke, and nobody is left to hear of it."""
        self.intake = None
        self._sessions.clear()
        self.fresh = []

    def settled(self, pushes: Sequence[Pushed]) -> None:
        """The engine wrote down what became of these."""
        for push in pushes:
            push.settled = True

    # The port

    async def serve(self, intake: Intake) -> None:
        """Hands over what devices say."""
        self.intake = intake

    def set_products(self, product_keys: frozenset[str]) -> None:
        """There is one product, and it is served."""

    async def publish(self, address: Address, topic: str, payload: bytes) -> Delivery:
        """Reaches a device that is there, unless something goes wrong."""
        await asyncio.sleep(0)
        if address not in self._sessions:
            return Delivery.OFFLINE
        asked, offered = topic.endswith("get_reply"), b'"url"' in payload
        delivery, acts = self._faults.of_push()
        if offered and delivery is not Delivery.BUSY:
            push = Pushed(self._now(), address, _task(payload, self._now()), asked, delivery)
            self.pushed.append(push)
            self.fresh.append(push)
        if acts:
            self._reached(address, payload)
        return delivery

    def health(self) -> Health:
        """Always fine."""
        return Health(ok=True, message="in memory")

    def connected_for(self) -> float:
        """Long enough: what was said before a start is heard before the clock is looked at."""
        return 3600.0

    def counts(self) -> Mapping[str, int]:
        """Nothing."""
        return {}


def _task(payload: bytes, now: datetime) -> int:
    """Whom a push is for: its URL says so."""
    token = payload.split(b'"url":"', 1)[1].split(b'"', 1)[0].decode().split("/")[-2]
    return urls.verify(KEY, token, int(now.timestamp())).task_id
