"""How long a message waits, from the intake to its acknowledgement, while a million tasks are being created.

    python bench/latency.py

Devices in the middle of an upgrade say something 500 times a second, on a fleet of a million; the real ingest commits
it through the writer that creates a batch for everybody at the same time, chunk after chunk. The time of a message
counts from the moment when it should have been sent, so that a late sender hides nothing.
"""

from __future__ import annotations

import asyncio
import pathlib
import time
from collections.abc import Callable

import batches
import hosting
import processes
import seeding
import senders
from figures import Figure, median, percentile, show

from reconciler.protocol import topics
from reconciler.store.database import Database
from reconciler.transport import base
from reconciler.transport.memory import MemoryTransport

BOUND = 200.0
"""Milliseconds."""
RATE = 500
DEVICES = 10_000


class Traffic:
    """Messages at a rate, and how long each of them waited, in milliseconds."""

    def __init__(self, intake: base.Intake, numbers: range) -> None:
        self.waited: list[float] = []
        self._intake, self._numbers, self._said = intake, numbers, 0

    def _message(self, due: float) -> base.Message:
        turn, place = divmod(self._said, len(self._numbers))
        self._said += 1
        step = 1 + turn % (senders.STEPS - 1)
        address = seeding.address(self._numbers[place])
        waited = self.waited
        return base.Message(
            address,
            topics.Route.PROGRESS,
            senders.payload(step),
            acknowledge=lambda: waited.append(1000 * (time.perf_counter() - due)),
        )

    async def until(self, over: Callable[[], bool]) -> list[float]:
        """Says something RATE times a second until it is over; how long each of these messages waited."""
        self.waited = []
        began, sent = time.perf_counter(), 0
        while not over():
            while (due := began + sent / RATE) <= time.perf_counter():
                self._intake.offer(self._message(due))
                sent += 1
            await asyncio.sleep(1 / RATE)
        async with asyncio.timeout(60):
            while len(self.waited) < sent:  # noqa: ASYNC110 - nobody is told of it, and it is not measured
                await asyncio.sleep(0.01)
        return self.waited


def _after(seconds: float) -> Callable[[], bool]:
    ends = time.perf_counter() + seconds
    return lambda: time.perf_counter() > ends


async def _live(database: Database, numbers: range, calm: float) -> tuple[list[float], list[float], float]:
    intake = base.Intake()
    ingesting = asyncio.create_task(hosting.ingest_of(database, MemoryTransport()).run(intake))
    traffic = Traffic(intake, numbers)
    alone = await traffic.until(_after(calm))
    with database.writing() as connection:
        batches.declare(connection, 2)
    began = time.perf_counter()
    creating = asyncio.create_task(batches.work_off(database))
    beside = await traffic.until(creating.done)
    took = time.perf_counter() - began
    await creating
    ingesting.cancel()
    return alone, beside, took


def latencies(path: pathlib.Path, numbers: range, calm: float) -> tuple[list[float], list[float], float]:
    """Milliseconds of each message without and beside the creation, and the seconds of that."""
    with batches.opened(path) as database:
        return asyncio.run(_live(database, numbers, calm))


def measure(folder: pathlib.Path, count: int, calm: float) -> list[Figure]:
    """The p99 without and beside a creation."""
    path = seeding.fleet(folder, count, "latency")
    numbers = seeding.fleets(count, 1, min(DEVICES, count // 10))[0]
    seeding.upgrading(path, numbers)
    alone, beside, took = processes.apart(latencies, path, numbers, calm)
    seeding.remove(path)
    against = "without it"
    return [
        Figure(
            f"p99 of {len(beside):,} messages", percentile(beside, 0.99), "ms", percentile(alone, 0.99), against,
            at_most=BOUND,
        ),
        Figure("median", median(beside), "ms", median(alone), against),
        Figure("the longest", max(beside), "ms", max(alone), against),
        Figure("the creation", took, "s"),
    ]  # fmt: skip


def main() -> None:
    """The table."""
    given = seeding.arguments(__doc__).parse_args()
    with seeding.shared_folder() as folder:
        count, calm = (seeding.QUICK[-1], 0.3) if given.quick else (seeding.SIZES[-1], 5.0)
        figures = measure(folder, count, calm)
        title = f"Intake to acknowledgement, {RATE} messages/s, while {count:,} tasks are created"
        show(f"{title}; {seeding.machine(folder)}", figures)


if __name__ == "__main__":
    main()
