"""Downloads: throughput beside nginx, a file of 2 GB from its source to a device, what slow clients cost others.

    python bench/downloads.py

Everybody who serves or downloads is a process of its own, on the same cores; ours and the reference in turns, in the
same run. What comes over MQTT is compared with an endpoint that publishes as many bytes, and does nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import processes
import receivers
import seeding
import serving
from figures import Figure, median, percentile, show

from reconciler.artifacts.digests import Digests

MEGABYTE = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """Of everything."""

    file: int = 2_000 * MEGABYTE
    download: int = 1_000 * MEGABYTE
    """Bytes of all clients of a measurement together."""
    rounds: int = 5
    pushes: int = 1000
    pushes_a_second: int = 50
    slow: int = 500
    devices: int = 32
    blocks: int = 400


QUICK = Sizes(
    8 * MEGABYTE, 4 * MEGABYTE, rounds=1, pushes=20, pushes_a_second=200, slow=10, devices=4, blocks=20
)
SLOW_RATE = 5_000
BLOCK = 10 * 1024


def made(place: pathlib.Path, size: int) -> pathlib.Path:
    """A file of noise."""
    noise = os.urandom(4 * MEGABYTE)
    with place.open("wb") as file:
        for at in range(0, size, len(noise)):
            file.write(noise[: size - at])
        file.flush()
        os.fsync(file.fileno())
    return place


# -- throughput ---------------------------------------------------------------------------------------------


def throughput(folder: pathlib.Path, file: pathlib.Path, sizes: Sizes) -> list[Figure]:
    """A client, and 32, beside nginx; medians of rounds in turns."""
    found: dict[tuple[int, str], list[float]] = {}
    with serving.ours(file) as our_port, serving.nginx(file, folder) as their_port:
        for _ in range(sizes.rounds):
            for clients in (1, 32):
                each = sizes.download // clients
                for name, port, path in (
                    ("ours", our_port, serving.path()),
                    ("nginx", their_port, f"/{file.name}"),
                ):
                    rate = processes.apart(receivers.download, port, path, clients, each)
                    found.setdefault((clients, name), []).append(rate / MEGABYTE)
    return [
        Figure(
            f"MB downloaded, {clients} client{'s' * (clients > 1)}", median(found[clients, "ours"]), "/s",
            median(found[clients, "nginx"]), "nginx", times=0.5,
        )
        for clients in (1, 32)
    ]  # fmt: skip


# -- a file's way -------------------------------------------------------------------------------------------


def _digest(file: pathlib.Path, *, alone: bool) -> float:
    """Bytes a second of what a file goes through when it comes in (MD5, too), or when it is checked (SHA-256 alone)."""
    began = time.perf_counter()
    with file.open("rb", buffering=0) as opened:
        if alone:
            hashlib.file_digest(opened, "sha256")
        else:
            with Digests() as digests:
                while piece := opened.read(1 << 20):
                    digests.update(piece)
    return file.stat().st_size / (time.perf_counter() - began)


def _sha256sum(file: pathlib.Path) -> float:
    began = time.perf_counter()
    subprocess.run(["sha256sum", file], check=True, stdout=subprocess.DEVNULL)
    return file.stat().st_size / (time.perf_counter() - began)


def way(folder: pathlib.Path, file: pathlib.Path, sizes: Sizes) -> list[Figure]:
    """A large file: digested, stored, checked and downloaded by one process."""
    rates: dict[str, list[float]] = {"in": [], "check": [], "sum": []}
    for _ in range(min(sizes.rounds, 3)):
        rates["sum"].append(_sha256sum(file) / MEGABYTE)
        rates["in"].append(processes.apart(_digest, file, alone=False) / MEGABYTE)
        rates["check"].append(processes.apart(_digest, file, alone=True) / MEGABYTE)
    store = folder / "files"
    with serving.from_source(file, store) as whole:
        processes.apart(receivers.download, whole.port, serving.path(), 1, sizes.file)
    shutil.rmtree(store)
    reference, by = median(rates["sum"]), "sha256sum"
    return [
        Figure("MB digested on its way in, with MD5", median(rates["in"]), "/s", reference, by, times=0.7),
        Figure("MB digested to check it", median(rates["check"]), "/s", reference, by, times=0.7),
        Figure("MB stored, digested and durable", sizes.file / MEGABYTE / whole.seconds, "/s", reference, by),
        Figure("memory at the peak: stored, checked, downloaded", whole.peak, "MB", at_most=200),
    ]  # fmt: skip


# -- beside slow clients ------------------------------------------------------------------------------------


def _upgrade(folder: pathlib.Path, name: str, file: pathlib.Path, numbers: range) -> pathlib.Path:
    """A database with these devices in the middle of an upgrade to a file, pushed long ago."""
    path = seeding.fleet(folder, max(numbers), name)
    seeding.upgrading(path, numbers)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE run SET push_rate = 1000000")
        connection.execute("UPDATE blob SET sha256 = ?, size = ?", (str(file), file.stat().st_size))
        connection.commit()
    return path


def latency(folder: pathlib.Path, file: pathlib.Path, sizes: Sizes) -> list[Figure]:
    """Milliseconds from a device's coming to its push, without and beside slow downloads."""
    warm, each = sizes.pushes // 10, sizes.pushes
    path = _upgrade(folder, "latency-of-pushes", file, range(1, warm + 2 * each + 1))
    first, second, third = (
        range(1, 1 + warm),
        range(1 + warm, 1 + warm + each),
        range(1 + warm + each, 1 + warm + 2 * each),
    )
    with serving.daemon(path) as (mqtt_port, http_port):
        processes.apart(receivers.pushed, mqtt_port, first, sizes.pushes_a_second)  # to warm up
        alone = processes.apart(receivers.pushed, mqtt_port, second, sizes.pushes_a_second)
        role = (receivers.slow, http_port, serving.path(), sizes.slow, SLOW_RATE)
        with processes.playing(*role) as pipe:
            pipe.recv()
            beside = processes.apart(receivers.pushed, mqtt_port, third, sizes.pushes_a_second)
            pipe.send("stop")
            came = pipe.recv()
    seeding.remove(path)
    against = "without them"
    return [
        Figure(
            f"a push, beside {sizes.slow} slow clients: median", median(beside), "ms", median(alone), against, times=1.2
        ),
        Figure("the same: p99", percentile(beside, 0.99), "ms", percentile(alone, 0.99), against),
        Figure("bytes that these clients got, each", came / sizes.slow, "/s", SLOW_RATE, "wanted"),
    ]  # fmt: skip


# -- MQTT ---------------------------------------------------------------------------------------------------


def blocks(folder: pathlib.Path, file: pathlib.Path, sizes: Sizes) -> list[Figure]:
    """Blocks a second that devices get over MQTT, beside publishing as many bytes."""
    numbers, each = list(range(1, sizes.devices + 1)), sizes.blocks
    path = _upgrade(folder, "blocks", file, range(1, sizes.devices + 1))
    with serving.daemon(path) as (port, _):
        ours = _received(port, numbers, each, BLOCK)
    seeding.remove(path)
    with (
        serving.publisher(numbers, each, BLOCK + 120) as pipe,
        _receiving(pipe.recv(), numbers, each, 0) as there,
    ):
        there.send("begin")
        pipe.send("begin")
        bare = there.recv()
    return [
        Figure(
            f"blocks of {BLOCK // 1024} KiB to {sizes.devices} devices over MQTT",
            ours,
            "/s",
            bare,
            "publishing",
        )
    ]


@contextlib.contextmanager
def _receiving(port: int, numbers: list[int], each: int, size: int) -> Iterator[Connection]:
    """Devices that are there, and begin when they are told to."""
    with processes.playing(receivers.blocks, port, numbers, each, size) as pipe:
        pipe.recv()
        yield pipe


def _received(port: int, numbers: list[int], each: int, size: int) -> float:
    with _receiving(port, numbers, each, size) as pipe:
        pipe.send("begin")
        return float(pipe.recv())


def main() -> None:
    """The table."""
    given = seeding.arguments(__doc__).parse_args()
    sizes = QUICK if given.quick else Sizes()
    with seeding.shared_folder() as folder:
        file = made(folder / "large", sizes.file)
        figures = [*throughput(folder, file, sizes), *way(folder, file, sizes), *latency(folder, file, sizes)]
        figures += blocks(folder, file, sizes)
        file.unlink()
        show(f"Downloads, a file of {sizes.file // MEGABYTE:,} MB; {seeding.machine(folder)}", figures)


if __name__ == "__main__":
    main()
