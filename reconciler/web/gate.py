"""Decides how many downloads run at a time and how fast they go: all together, and each batch's.

Part of `downloads`. Who finds the gate full is told to come again; who is inside waits for its turn, piece by piece, so
that a batch's devices share its rate evenly. A slow client uses of a rate what it takes, and no more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import TracebackType
from typing import Self

from reconciler import errors

_LARGEST_PIECE = 8 << 20
_SMALLEST_PIECE = 64 << 10
_SMALLEST_PACED_PIECE = 4 << 10
_ALL_PIECES = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What downloads may take; 0 is no limit."""

    at_once: int = 0
    batch_at_once: int = 0
    rate: int = 0
    """Bytes a second."""
    batch_rate: int = 0


class Gate:
    """What all downloads pass.

    Args:
        limits: the operator's.
        now: seconds, monotonic.
    """

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now
        self._all = _Lane(limits.at_once, limits.rate)
        self._batches: dict[str, _Lane] = {}

    @property
    def running(self) -> int:
        """How many are inside."""
        return self._all.running

    def enter(self, batch: str) -> Passage:
        """Lets a download of a batch in, until its passage is left.

        Raises:
            TransientError: there is no room.
        """
        lane = self._lane(batch)
        if self._all.is_full:
            raise errors.TransientError("too many at a time")
        if lane.is_full:
            raise errors.TransientError(f"too many of batch {batch} at a time")
        return Passage((self._all, lane), self._now)

    def _lane(self, batch: str) -> _Lane:
        """The batch's; what other batches used and need no more is forgotten."""
        now = self._now()
        self._batches = {name: lane for name, lane in self._batches.items() if lane.in_use(now)}
        return self._batches.setdefault(batch, _Lane(self._limits.batch_at_once, self._limits.batch_rate))


class Passage:
    """One download that was let in; a context."""

    def __init__(self, lanes: tuple[_Lane, ...], now: Callable[[], float]) -> None:
        self._lanes = lanes
        self._now = now
        for lane in lanes:
            lane.running += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        for lane in self._lanes:
            lane.running -= 1

    @property
    def piece(self) -> int:
        """Bytes that may go at once: many while few download, for speed; few while many do, who may all be slow.

        Under a rate everybody gets a piece about once a second.
        """
        return min(lane.piece for lane in self._lanes)

    def delay(self, count: int) -> float:
        """Takes a turn for so many bytes; the seconds until it comes."""
        now = self._now()
        return max(lane.delay(count, now) for lane in self._lanes)


class _Lane:
    """A number of places, and a rate."""

    def __init__(self, places: int, rate: int) -> None:
        self.running = 0
        self._places = places
        self._rate = rate
        self._free = 0.0  # when the turns that were taken are over

    @property
    def is_full(self) -> bool:
        return bool(self._places) and self.running >= self._places

    @property
    def piece(self) -> int:
        share = min(max(_ALL_PIECES // self.running, _SMALLEST_PIECE), _LARGEST_PIECE)
        return min(share, max(self._rate // self.running, _SMALLEST_PACED_PIECE)) if self._rate else share

    def delay(self, count: int, now: float) -> float:
        if not self._rate:
            return 0.0
        begins = max(self._free, now)
        self._free = begins + count / self._rate
        return begins - now

    def in_use(self, now: float) -> bool:
        return self.running > 0 or self._free > now
