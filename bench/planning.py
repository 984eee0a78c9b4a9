"""How long `reconciler plan` takes for one new batch over a fleet of a million: the whole command, from start to end.

    python bench/planning.py

Each batch is planned twice; the second time counts, when the fleet's pages are in the system's cache. The fleet reports
two versions, and everybody is online. *All at work* is the same with an earlier batch that has a task for each device,
so that each conflicts. The reference is the bare question over the same database, in SQLite itself: how many devices
report which version, and are online.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import sqlite3
import sys
import time
from typing import Any

import seeding
import validate
from figures import Figure, show

from reconciler.source.scratch import ScratchRepository

BOUND = 2.0
TARGETS: dict[str, tuple[dict[str, Any], float]] = {
    "all": ({"all": {}}, 1.0),
    "nine tenths, by version,": ({"all": {}, "sourceVersions": [seeding.OLD]}, 0.9),
    "a share of 12.5 %": ({"gray": {"percent": 12.5}}, 0.125),
}
"""What is measured: a batch's target, and the part of the fleet that it is about."""
_OTHERS = "UPDATE device_version SET version = '0.9.0' WHERE device_id % 10 = 0"
_BARE = """
SELECT v.version, d.online_epoch = 1, count(*) FROM device d
LEFT JOIN device_version v ON v.device_id = d.id AND v.module = 'default'
WHERE d.product_id = 1 AND d.state != 'removed' GROUP BY 1, 2
"""


def _write(folder: pathlib.Path, kind: str, name: str, spec: dict[str, Any]) -> None:
    data = {"apiVersion": "ota/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    (folder / f"{name}.yaml").write_text(json.dumps(data))


def fleet(folder: pathlib.Path, count: int) -> tuple[ScratchRepository, pathlib.Path]:
    """A repository that has been applied, and the data directory, in which its product has so many devices."""
    origin, data = ScratchRepository(folder / "planned"), folder / "data"
    (origin.folder / "app.bin").write_bytes(b"firmware")
    files = [{"name": "app.bin", "source": "app.bin"}]
    package = {"product": "thermostat", "version": seeding.TARGET, "files": files}
    product = {"productKey": seeding.PRODUCT_KEY, "registration": "Auto"}
    _write(origin.folder, "Product", "thermostat", product)
    _write(origin.folder, "Package", "next", package)
    origin.commit("A product and a package")
    _run("apply", origin, data)
    with contextlib.closing(sqlite3.connect(data / "state.db")) as connection:
        connection.execute("UPDATE daemon SET epoch = ?", (seeding.EPOCH,))
        seeding.devices(connection, count)
        connection.execute(_OTHERS)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return origin, data


def _run(command: str, origin: ScratchRepository, data: pathlib.Path, *options: str) -> str:
    place = ("--repo", str(origin.folder), "--data-dir", str(data))
    return validate.output(validate.program("reconciler"), command, *place, *options)


def planned(origin: ScratchRepository, data: pathlib.Path, target: dict[str, Any], count: int) -> float:
    """Seconds of the second of two plans for a new batch, which is about so many devices."""
    _write(origin.folder, "Batch", "new", {"package": "next", "target": target})
    origin.commit("A batch")
    (action,) = json.loads(_run("plan", origin, data, "-o", "json"))["actions"]
    reach = action["reach"]
    if reach["devices"] + reach["conflicts"] != count:
        sys.exit(f"{reach} is not about {count} devices: this measures nothing")
    began = time.perf_counter()
    _run("plan", origin, data)
    return time.perf_counter() - began


def bare(path: pathlib.Path) -> float:
    """Seconds of the bare question."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for _ in range(2):
            began = time.perf_counter()
            connection.execute(_BARE).fetchall()
    return time.perf_counter() - began


def measure(folder: pathlib.Path, count: int) -> list[Figure]:
    """A line for each way to say whom a batch is for."""
    origin, data = fleet(folder, count)
    least = bare(data / "state.db")
    figures = []
    for what, (target, share) in TARGETS.items():
        spent = planned(origin, data, target, int(count * share))
        line = f"plan for {what} of {count:,}"
        figures.append(Figure(line, spent, "s", least, "bare count", at_most=BOUND))
    (origin.folder / "new.yaml").rename(origin.folder / "left-out")
    _write(origin.folder, "Batch", "first", {"package": "next", "target": {"all": {}}})
    origin.commit("Everybody is upgraded")
    _run("apply", origin, data)
    spent = planned(origin, data, {"all": {}}, count)
    figures.append(Figure(f"plan for all of {count:,}, all at work", spent, "s", at_most=BOUND))
    shutil.rmtree(data)
    return figures


def main() -> None:
    """The table."""
    given = seeding.arguments(__doc__).parse_args()
    with seeding.shared_folder() as folder:
        count = seeding.QUICK[-1] if given.quick else seeding.SIZES[-1]
        figures = measure(folder, count)
        show(f"Plans; {seeding.machine(folder)}", figures)


if __name__ == "__main__":
    main()
