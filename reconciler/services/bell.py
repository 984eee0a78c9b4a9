"""How one service wakes another. A ring is a hint that saves waiting, never information: state is in the database."""

from __future__ import annotations

import asyncio


class Bell:
    """Something to wait for, with a limit."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wakes the one who waits, now or at its next wait."""
        self._rung.set()

    async def wait(self, at_most: float) -> bool:
        """Waits for a ring, but no longer than `at_most` seconds; True when it rang."""
        try:
            # not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the ring
            async with asyncio.timeout(at_most):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True
