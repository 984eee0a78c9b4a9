"""Where time comes from: the only module that asks the system for it; and whether somebody set the wall clock."""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

JUMP = timedelta(seconds=30)
"""A difference between wall clock and monotonic clock that is no drift."""


class Clock(Protocol):
    """Wall time for what is kept, monotonic time for how long something took."""

    def now(self) -> datetime:
        """This moment, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """This moment, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the one place

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """Both clocks at one moment."""

    now: datetime
    steady: float
    """Monotonic seconds."""
    jump: timedelta
    """By how much the wall clock was set since the last look that was noted; zero for what may be drift."""


class Jumps:
    """Notices that the wall clock was set (engine §5).

    Shared by sweep, which notes a jump, and by dispatch, which claims nothing before that. Any thread may look.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._noted = clock.now(), clock.monotonic()

    def look(self) -> Look:
        """This moment. A clock that is set while we look is noticed by the next one."""
        (wall, since), now, steady = self._noted, self._clock.now(), self._clock.monotonic()
        jump = (now - wall) - timedelta(seconds=steady - since)
        return Look(now, steady, jump if abs(jump) > JUMP else timedelta())

    def note(self, look: Look) -> None:
        """What follows from that look is written down: the next ones compare with it."""
        self._noted = look.now, look.steady
