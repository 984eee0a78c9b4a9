"""How long to wait before the next try: longer each time, and never all at once."""

from __future__ import annotations

import random


class Backoff:
    """Exponential waiting times with jitter.

    Args:
        first: seconds before the first retry.
        most: seconds at most.
    """

    def __init__(self, first: float = 1.0, most: float = 60.0) -> None:
        self._first = first
        self._most = most
        self._failures = 0

    def failed(self) -> float:
        """Counts a failure; seconds until the next try makes sense."""
        delay = min(self._most, self._first * 2.0**self._failures)
        self._failures = min(self._failures + 1, 30)
        return delay * random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries, guards nothing

    def succeeded(self) -> None:
        """Starts over."""
        self._failures = 0
