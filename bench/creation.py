"""Creating a batch of a million tasks, against the bare INSERT … SELECT of the same rows; and the memory that it takes.

    python bench/creation.py

Ours goes through jobs, chunk after chunk through the daemon's writer, with its conditions, conflicts, counters and
log. The bare statement inserts the same rows into the same table with the same indexes, in the same run, before and
after it. Each has a process of its own, with an empty page cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
import sqlite3
import sys
import time

import batches
import processes
import seeding
from figures import Figure, show

from reconciler.store import jobs

BOUND, GROWTH = 3.0, 100.0
CHUNK = jobs.CHUNK
# By ids, also where a chunk is small: never through the index of names.
_BARE = """
INSERT INTO task (run_id, device_id, module, revision_id, status, holds, source_version, push_due_at, created_at)
SELECT 1, d.id, 'default', 1, 'QUEUED', 1, v.version, :now, :now
FROM device d JOIN device_version v ON v.device_id = d.id AND v.module = 'default'
WHERE +d.product_id = 1 AND d.id > :after AND d.id <= :last
"""
_COLUMNS = """run_id, device_id, module, match_no, revision_id, status, hold, reason, holds, multi, source_version,
    push_due_at IS NULL, claim_epoch, pushes, first_pushed_at, deadline_at, attempt, retry_at, step, ended_at"""


@dataclasses.dataclass(frozen=True, slots=True)
class Spent:
    """What a creation took."""

    seconds: float
    cpu: float
    grown: float
    """Megabytes, from before it to its peak."""


def _spent(began: float, cpu: float, resident: float) -> Spent:
    return Spent(
        time.perf_counter() - began, time.process_time() - cpu, processes.megabytes("VmHWM") - resident
    )


def ours(path: pathlib.Path) -> Spent:
    """A batch for everybody is accepted, and worked off."""
    with batches.opened(path) as database:
        processes.forget_peak()
        resident, cpu, began = processes.megabytes(), time.process_time(), time.perf_counter()
        with database.writing() as connection:
            batches.declare(connection, 1)
        asyncio.run(batches.work_off(database))
        return _spent(began, cpu, resident)


def bare(path: pathlib.Path, count: int, chunk: int) -> Spent:
    """One statement a chunk, each in its transaction."""
    with batches.opened(path) as database:
        processes.forget_peak()
        resident, cpu, began = processes.megabytes(), time.process_time(), time.perf_counter()
        with database.writing() as connection:
            connection.exec_driver_sql(seeding.RUN, {"target": seeding.TARGET})
        for after in range(0, count, chunk):
            given = {"now": int(time.time() * 1000), "after": after, "last": after + chunk}
            with database.writing() as connection:
                connection.exec_driver_sql(_BARE, given)
        return _spent(began, cpu, resident)


def _bare(folder: pathlib.Path, count: int, chunk: int) -> tuple[Spent, pathlib.Path]:
    path = seeding.fleet(folder, count, "bare")
    return processes.apart(bare, path, count, chunk), path


def _check(one: pathlib.Path, other: pathlib.Path) -> None:
    """The rows are the same."""
    with contextlib.closing(sqlite3.connect(one)) as connection:
        connection.execute("ATTACH ? AS other", (str(other),))
        rows = [f"SELECT {_COLUMNS} FROM {place}.task" for place in ("main", "other")]
        different = connection.execute(f"SELECT count(*) FROM ({rows[0]} EXCEPT {rows[1]})").fetchone()[0]
        counts = [connection.execute(f"SELECT count(*) FROM ({each})").fetchone()[0] for each in rows]
    if different or counts[0] != counts[1]:
        sys.exit(f"{different} of {counts} tasks differ from the reference: this measures nothing")


def measure(folder: pathlib.Path, count: int) -> list[Figure]:
    """References around ours."""
    first, path = _bare(folder, count, count)
    seeding.remove(path)
    made = seeding.fleet(folder, count, "made")
    spent = processes.apart(ours, made)
    second, path = _bare(folder, count, count)
    _check(made, path)
    seeding.remove(path)
    chunked, path = _bare(folder, count, CHUNK)
    seeding.remove(path)
    made.rename(folder / f"created-{count}.db")  # for those who measure with it
    one, what = (first.seconds + second.seconds) / 2, f"a batch of {count:,} tasks"
    return [
        Figure(what, spent.seconds, "s", one, "bare, one statement", times=BOUND),
        Figure("the same", spent.seconds, "s", chunked.seconds, f"bare, {CHUNK:,} at a time"),
        Figure("CPU of it", spent.cpu, "s", (first.cpu + second.cpu) / 2, "bare, one statement"),
        Figure(
            "memory grown", spent.grown, "MB", chunked.grown, f"bare, {CHUNK:,} at a time", at_most=GROWTH
        ),
    ]


def main() -> None:
    """The table."""
    given = seeding.arguments(__doc__).parse_args()
    with seeding.shared_folder() as folder:
        count = seeding.QUICK[-1] if given.quick else seeding.SIZES[-1]
        figures = measure(folder, count)
        show(f"Creation; {seeding.machine(folder)}", figures)


if __name__ == "__main__":
    main()
