"""Messages a second from the wire into the database, and what a million of them that wait take.

    python bench/ingest.py

Devices of a fleet of a million that are being upgraded report progress, twenty messages each: durable
(synchronous=FULL), and acknowledged after the commit. Through the endpoint from real sockets, one message of a device
on its way at a time; and from Mosquitto, which holds a backlog of a million messages. The reference takes the same
messages from the same Mosquitto in the same run, decodes their JSON and acknowledges them, with paho. They take turns,
because a machine's speed may drift by more than they differ.
"""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence

import deployment
import hosting
import processes
import seeding
import senders
from figures import Figure, show

GROWTH = 100.0
"""Megabytes that waiting messages may add."""


def _rate(earlier: hosting.Look, later: hosting.Look) -> tuple[float, float]:
    """Messages a second, and microseconds of CPU a message."""
    messages = later.messages - earlier.messages
    return messages / (later.at - earlier.at), 1e6 * (later.cpu - earlier.cpu) / messages


def _check(path: pathlib.Path, numbers: Sequence[int]) -> None:
    listed = ", ".join(map(str, numbers))
    done = seeding.ask(
        path, f"SELECT count(*) FROM task WHERE status = 'SUCCEEDED' AND device_id IN ({listed})"
    )
    if done != len(numbers):
        sys.exit(
            f"{len(numbers) - done} of {len(numbers)} upgrades are not in the database: it measured nothing"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What one way into the database took."""

    rate: float
    """Messages a second."""
    cpu: float
    """Microseconds a message."""
    grown: float
    """Megabytes from the start of the process to its peak."""


def _mean(taken: Sequence[Taken]) -> Taken:
    return Taken(*(statistics.mean(values) for values in zip(*map(dataclasses.astuple, taken), strict=True)))


def endpoint(path: pathlib.Path, fleet: Sequence[int]) -> Taken:
    """Devices are connected, and upgrade themselves."""
    with hosting.daemon(path, limits=hosting.UNPACED) as daemon:
        calm = daemon.look()
        with processes.playing(senders.through_endpoint, daemon.port, fleet) as devices:
            devices.recv()
            before = daemon.look()
            devices.send("go")
            took: float = devices.recv()
            after = daemon.look()
    _check(path, fleet)
    return Taken(len(fleet) * senders.STEPS / took, _rate(before, after)[1], after.peak - calm.resident)


def flooded(path: pathlib.Path, crowd: Sequence[int], *, each: int, seconds: float) -> float:
    """Megabytes by which the daemon grows, with its usual limits, while devices send without waiting."""
    with hosting.daemon(path) as daemon:
        calm = daemon.look()
        processes.apart(senders.flood_endpoint, daemon.port, crowd, each, seconds)
        return daemon.look().peak - calm.resident


def behind_mosquitto(path: pathlib.Path, url: str, fleet: Sequence[int]) -> Taken:
    """One fleet's messages are taken from a backlog, which waits from the beginning."""
    expected = len(fleet) * senders.STEPS
    with hosting.daemon(path, broker=url) as daemon:
        calm = first = daemon.look()
        while not first.messages:
            time.sleep(0.005)
            first = daemon.look()
        last = first
        while last.messages < expected:
            time.sleep(0.02)
            last = daemon.look()
        # What the reference left unacknowledged comes once more, before this fleet's messages.
        while daemon.look().messages < expected * 1.2:
            time.sleep(0.02)
    _check(path, fleet)
    return Taken(*_rate(first, last), last.peak - calm.resident)


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    devices: int
    upgraded: int
    """Devices of a fleet that is upgraded at the same time."""
    fleets: int
    flood: float
    """Seconds."""
    rounds: int = 1
    """Everybody takes turns so many times."""


def measure(folder: pathlib.Path, size: Size) -> list[Figure]:
    """Everything, the references around what they are compared with."""
    fleets = seeding.fleets(size.devices, size.fleets, size.upgraded)
    path = seeding.fleet(folder, size.devices, "ingest")
    seeding.upgrading(path, [number for fleet in fleets for number in fleet])
    messages = size.upgraded * senders.STEPS
    bare: list[hosting.Bare | None] = []
    broker: list[Taken] = []
    here: list[Taken] = []
    with (
        tempfile.TemporaryDirectory(dir=folder) as state,
        deployment.mosquitto(pathlib.Path(state)) as (url, _),
    ):
        port = int(url.rpartition(":")[2])
        processes.apart(hosting.consume, port, 0)
        backlog = processes.apart(senders.into_broker, port, fleets)
        for number in range(size.rounds):
            bare.append(processes.apart(hosting.consume, port, messages))
            broker.append(behind_mosquitto(path, url, fleets[2 * number + 1]))
            here.append(endpoint(path, fleets[-1 - number]))
        bare.append(processes.apart(hosting.consume, port, messages))
    each = backlog // size.upgraded
    grown = flooded(path, fleets[0], each=each, seconds=size.flood)
    seeding.remove(path)
    rate = statistics.mean(one.rate for one in bare if one)
    cpu = statistics.mean(1e6 * one.cpu for one in bare if one)
    against, work = "bare paho consumer", "at work, few wait"
    return [
        Figure("messages through the endpoint", _mean(here).rate, "/s", rate, against, times=0.5),
        Figure("messages from Mosquitto, QoS 1", _mean(broker).rate, "/s", rate, against, times=0.5),
        Figure("CPU a message, endpoint", _mean(here).cpu, "µs", cpu, against),
        Figure("CPU a message, from Mosquitto", _mean(broker).cpu, "µs", cpu, against),
        Figure(
            f"memory grown, {each * size.upgraded:,} wait in devices", grown, "MB", _mean(here).grown, work,
            at_most=GROWTH,
        ),
        Figure(
            f"memory grown, {backlog:,} wait in Mosquitto", _mean(broker).grown, "MB", _mean(here).grown, work,
            at_most=GROWTH,
        ),
    ]  # fmt: skip


def main() -> None:
    """The table."""
    given = seeding.arguments(__doc__).parse_args()
    with seeding.shared_folder() as folder:
        # So many fleets that the broker still holds something when everybody had a turn, however late we looked.
        size = Size(2_000, 10, 30, 0.5) if given.quick else Size(1_000_000, 5_000, 10, 15.0, rounds=3)
        figures = measure(folder, size)
        show(f"Ingest on a fleet of {size.devices:,}; {seeding.machine(folder)}", figures)


if __name__ == "__main__":
    main()
