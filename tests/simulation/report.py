"""One simulation from beginning to end, and what it says of itself."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import pathlib
import tempfile
import time
from collections.abc import Mapping

from . import checks, digest
from .world import Size, World


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What happened, and where it ended."""

    digest: str
    seconds: float
    """Of real time."""
    deaths: int
    faults: Mapping[str, int]
    counts: Mapping[str, int]
    tasks: tuple[tuple[str, str, int], ...]
    """Status, reason, how many."""
    refused: Mapping[str, str]

    def lines(self) -> list[str]:
        """A table."""
        rows: list[tuple[str, object]] = [*self.counts.items(), ("deaths of the engine", self.deaths)]
        rows += [(f"fault: {name.replace('_', ' ')}", count) for name, count in sorted(self.faults.items())]
        rows += [(f"{status} {reason}".rstrip(), count) for status, reason, count in self.tasks]
        rows += [(f"refused: {key}", why) for key, why in sorted(self.refused.items())]
        rows += [("real seconds", f"{self.seconds:.1f}"), ("digest", self.digest)]
        return [f"{name:<32} {value}" for name, value in rows]


def simulate(seed: int, size: Size) -> Report:
    """Runs one.

    Raises:
        AssertionError: something that must hold did not.
    """
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        world = World(pathlib.Path(folder), seed, size)
        usual = gc.get_threshold()
        gc.freeze()  # what is there stays: it need not be looked through again and again
        gc.set_threshold(50_000, *usual[1:])
        try:
            asyncio.run(world.run())
            tasks = tuple(world.engine.look(checks.summary))
            found = world.engine.look(digest.of, world.fleet)
        finally:
            gc.set_threshold(*usual)
            gc.unfreeze()
            world.engine.close()
        counts = {
            "moments": world.moments,
            "bursts": world.engine.bursts,
            "messages": world.wire.messages,
            "pushes": world.pushes,
            "orders carried out": sum(n for (_, ok), n in world.answers.items() if ok),
            "orders refused": sum(n for (_, ok), n in world.answers.items() if not ok),
            "looks of an hour": world.checks.looks,
        }
        return Report(
            digest=found,
            seconds=time.perf_counter() - began,
            deaths=world.deaths,
            faults=dict(world.faults.counted),
            counts=counts,
            tasks=tasks,
            refused=world.refused,
        )
