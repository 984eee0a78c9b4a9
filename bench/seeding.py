"""A fleet in a database, seeded by plain SQL, and what the measurements of one run share.

The schema comes from the migrations; the rows don't go through the store, which is what is measured. A fleet of a
size is made once in a run (`python -m bench` hands one folder to every script) and copied for whoever writes to it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator

import processes

from reconciler.protocol.topics import Address
from reconciler.store.database import Database

PRODUCT_KEY = "a1ThermoKey"
OLD, TARGET = "1.0.0", "2.0.0"
EPOCH = 1
"""Of the daemon that the devices are connected to: everybody is online."""
SIZES = (10_000, 100_000, 1_000_000)
QUICK = (1_000, 2_000)

_CATALOGUE = f"""
INSERT INTO daemon (id, epoch) VALUES (1, {EPOCH});
INSERT INTO revision (id, sha, ref, observed_at) VALUES (1, '{"a" * 40}', 'main', 0);
INSERT INTO object (id, kind, name, path, digest, spec, revision_id, sync, created_at, updated_at) VALUES
    (1, 'Product', 'thermostat', 'p.yaml', 'd', '{{}}', 1, 'Synced', 0, 0),
    (2, 'Package', 'thermostat-{TARGET}', 'k.yaml', 'd', '{{}}', 1, 'Synced', 0, 0);
INSERT INTO product (id, object_id, name, product_key, numeric_versions, auto_registration, modules)
    VALUES (1, 1, 'thermostat', '{PRODUCT_KEY}', 0, 0, '[]');
INSERT INTO blob (id, sha256, md5, size, created_at) VALUES (1, 's', 'm', 65536, 0);
INSERT INTO package (id, object_id, name, product_id, module, version, sign_method)
    VALUES (1, 2, 'thermostat-{TARGET}', 1, 'default', '{TARGET}', 'SHA256');
INSERT INTO package_file (package_id, number, name, blob_id) VALUES (1, 1, 'firmware.bin', 1);
"""
_BATCHES = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
INSERT INTO object (id, kind, name, path, digest, spec, revision_id, sync, created_at, updated_at)
SELECT 100 + i, 'Batch', 'batch-' || i, 'b.yaml', 'd', '{}', 1, 'Synced', 0, 0 FROM n
"""
_DEVICES = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO device (id, product_id, name, hash31, state, online_epoch, session, online_since, last_seen_at, created_at)
SELECT i, 1, printf('dev-%07d', i), (i * 2654435761) & 2147483647, 'declared', :epoch, 1, 0, :now, 0 FROM n
"""
_VERSIONS = """
INSERT INTO device_version (device_id, module, product_id, version, reported_at)
SELECT id, 'default', 1, :old, 0 FROM device
"""

# A batch in the middle of its work: each of the named devices was pushed, and has said nothing yet.
RUN = """
INSERT INTO run (id, object_id, batch, number, type, product_id, package_id, revision_id, phase, module,
    target_version, source_versions, allow_downgrade, push_rate, push_delivery, tags, created_at, started_at)
VALUES (1, 101, 'batch-1', 1, 'Static', 1, 1, 1, 'IN_PROGRESS', 'default', :target, '[]', 0, 600, 1, '{}', 0, 0)
"""
_UPGRADED = """
INSERT INTO task (run_id, device_id, module, revision_id, status, holds, source_version, pushes, first_pushed_at,
    last_pushed_at, created_at)
VALUES (1, ?, 'default', 1, 'NOTIFIED', 1, ?, 1, 0, 0, 0)
"""


def address(number: int) -> Address:
    """A device of the fleet, counted from 1; its number is its row's id, too."""
    return Address(PRODUCT_KEY, f"dev-{number:07d}")


def url(path: pathlib.Path) -> str:
    """Of a database file."""
    return f"sqlite:///{path}"


def _seed(path: pathlib.Path, count: int) -> None:
    Database.open(url(path), upgrade=True).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.executescript(_CATALOGUE)
        connection.execute(_BATCHES)
        devices(connection, count)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def devices(connection: sqlite3.Connection, count: int) -> None:
    """So many devices of the one product, which run version OLD and are online."""
    given = {"count": count, "epoch": EPOCH, "now": int(time.time() * 1000), "old": OLD}
    connection.execute(_DEVICES, given)
    connection.execute(_VERSIONS, given)


def fleet(folder: pathlib.Path, count: int, name: str) -> pathlib.Path:
    """A database of one's own with so many devices, which run version OLD and are online; no batch yet."""
    seeded = folder / f"fleet-{count}.db"
    if not seeded.exists():
        made = seeded.with_suffix(".making")
        _seed(made, count)
        made.rename(seeded)
    return copied(seeded, folder / f"{name}-{count}.db")


def fleets(count: int, blocks: int, size: int) -> list[range]:
    """Disjoint fleets of so many devices each, spread evenly over all of them."""
    stride = count // (blocks * size)
    return [range(1 + block * stride, count + 1, blocks * stride)[:size] for block in range(blocks)]


def upgrading(path: pathlib.Path, numbers: Iterable[int]) -> None:
    """Puts these devices into the middle of an upgrade, of run 1."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(RUN, {"target": TARGET})
        made = connection.executemany(_UPGRADED, ((number, OLD) for number in numbers)).rowcount
        connection.execute("INSERT INTO task_count VALUES (1, 'NOTIFIED', '', ?)", (made,))
        connection.commit()


def ask(path: pathlib.Path, query: str) -> int:
    """A number from a database."""
    with contextlib.closing(sqlite3.connect(path, timeout=15)) as connection:
        return int(connection.execute(query).fetchone()[0])


def copied(origin: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """A database that is not in use, once more; on the disk, so that nobody's commit waits for the copy."""
    shutil.copyfile(origin, target)
    with target.open("r+b") as file:
        os.fsync(file.fileno())
    return target


def remove(path: pathlib.Path) -> None:
    """A database and what SQLite put beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def shared_folder() -> Iterator[pathlib.Path]:
    """The run's folder: the one that `python -m bench` made, else one of our own."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # processes are measured, not their first imports
    given = os.environ.get(processes.FOLDER)
    if given:
        yield pathlib.Path(given)
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        yield pathlib.Path(made)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every script here understands."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works: no figures")
    return parser


def machine(folder: pathlib.Path) -> str:
    """What the figures were made on: cores, and what it takes to make one page durable."""
    times = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(20):
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return f"{os.cpu_count()} cores, {1000 * sorted(times)[10]:.1f} ms an fsync"
