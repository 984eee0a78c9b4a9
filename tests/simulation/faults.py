"""What goes wrong, and when: the wire, the devices, and the engine's own death at a transaction's edge.

Every dice of the simulation is thrown from one `random.Random`, in one order, so a seed is a whole history.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import random

from reconciler.transport.base import Delivery


class Crash(BaseException):
    """The process is dead: nothing above may catch it and go on, as nothing would."""


class Edge(enum.Enum):
    """At which edge of a transaction the process dies."""

    BEFORE = "before its commit"
    AFTER = "after its commit, before anybody hears of it"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """How likely each fault is, for one message, push or transaction."""

    lost: float = 0.01
    """A message that a device says never leaves it."""
    twice: float = 0.02
    """A device repeats itself: the same id and payload, as another message."""
    redelivered: float = 0.02
    """The same message comes once more with DUP: its acknowledgement was lost."""
    late: float = 0.02
    """A message is overtaken by those that follow it."""
    push_ignored: float = 0.02
    """A push is acknowledged, and then forgotten by the device."""
    push_unacknowledged: float = 0.02
    """A push arrives, but its acknowledgement does not."""
    push_missed: float = 0.02
    """A push does not arrive, and is not acknowledged."""
    push_refused: float = 0.01
    """Too many are on their way to that device: nothing is sent."""
    crash: float = 0.0008
    """The engine dies at the edge of a transaction."""


CALM = Odds(**dict.fromkeys((field.name for field in dataclasses.fields(Odds)), 0.0))
"""Nothing goes wrong."""


class Faults:
    """The dice.

    Args:
        dice: the simulation's.
        odds: of what.
    """

    def __init__(self, dice: random.Random, odds: Odds) -> None:
        self._dice = dice
        self.odds = odds
        self.counted: collections.Counter[str] = collections.Counter()

    def happens(self, what: str) -> bool:
        """Whether this one is hit by a fault of that name."""
        hit: bool = self._dice.random() < getattr(self.odds, what)
        if hit:
            self.counted[what] += 1
        return hit

    def death(self) -> Edge | None:
        """Whether the engine dies at this transaction, and at which edge."""
        if not self.happens("crash"):
            return None
        return self._dice.choice((Edge.BEFORE, Edge.AFTER))

    def of_push(self) -> tuple[Delivery, bool]:
        """How a push to a device that is there ends, and whether the device acts on it."""
        if self.happens("push_refused"):
            return Delivery.BUSY, False
        if self.happens("push_missed"):
            return Delivery.TIMED_OUT, False
        if self.happens("push_unacknowledged"):
            return Delivery.TIMED_OUT, True
        return Delivery.CONFIRMED, not self.happens("push_ignored")
