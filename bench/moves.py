"""What is done to a thousand tasks, or to a chunk of them, must not cost more when there are more: 10⁴, 10⁵, 10⁶.

    python bench/moves.py

Picking and marking 1,000 due tasks, expiring 1,000 deadlines, cancelling a batch (the first answer, then chunk after
chunk), and matching 500 reports of versions against 50 dynamic batches. At each size a fleet has a batch with a task
for each of its devices. The references are the bare statements, run in turns with ours on a copy of the same database.
"""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import batches
import orjson
import processes
import seeding
from figures import Figure, median, show

from reconciler.domain import lifecycle
from reconciler.store import deadlines, devices, jobs, matching, pushes, runs
from reconciler.store.database import Connection, Database

BOUND, FLAT = 3.0, 2.0
"""The issue's bound against the bare statements; and how much the largest size may cost more than the smallest."""
RUN = 1
BATCHES = 50
_CLAIMANT = pushes.Claimant(seeding.EPOCH, batches.PRESENCE)
_CHUNK = jobs.CHUNK
_CHUNKS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    tasks: int
    moved: int = 1000
    reports: int = 500
    rounds: int = 4


def _seconds(database: Database, work: Callable[..., object], *args: object, **kwargs: object) -> float:
    """One transaction, with its commit."""
    began = time.perf_counter()
    with database.writing() as connection:
        work(connection, *args, **kwargs)
    return time.perf_counter() - began


def _now() -> int:
    return int(time.time() * 1000)


# -- the bare statements ------------------------------------------------------------------------------------

_PICK = """
SELECT t.id, t.pushes, d.name FROM task t JOIN device d ON d.id = t.device_id
WHERE t.run_id = 1 AND t.push_due_at <= ? ORDER BY t.push_due_at LIMIT ?
"""
_LISTED = "IN (SELECT value FROM json_each(?))"
_MARK = f"""
UPDATE task SET status = 'NOTIFIED', push_due_at = NULL, claim_epoch = 1, pushes = pushes + 1, first_pushed_at = ?,
    last_pushed_at = ? WHERE id {_LISTED}
"""
_LOG = """
INSERT INTO event (at, type, run_id, task_id, device_id, revision_id, from_status, to_status, reason, message)
SELECT ?, 'task', run_id, id, device_id, revision_id, status, ?, ?, ? FROM task WHERE
"""
_COUNT = """
INSERT INTO task_count VALUES (1, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count
"""
_END = """
UPDATE task SET status = ?, reason = ?, holds = 0, ended_at = ?, push_due_at = NULL, deadline_at = NULL,
    claim_epoch = NULL WHERE
"""
_MATCH = f"""
INSERT INTO task (run_id, device_id, module, match_no, revision_id, status, holds, source_version, push_due_at,
    created_at)
SELECT r.id, d.id, 'default', 1, r.revision_id, 'QUEUED', 1, v.version, ?, ?
FROM device d JOIN device_version v ON v.device_id = d.id AND v.module = 'default'
JOIN run r ON r.product_id = d.product_id AND r.type = 'Dynamic' AND r.phase = 'IN_PROGRESS'
    AND EXISTS (SELECT 1 FROM json_each(r.source_versions) s WHERE s.value = v.version)
WHERE d.id {_LISTED} AND NOT EXISTS (SELECT 1 FROM task o WHERE o.device_id = d.id AND o.holds)
"""


def _bare_claim(connection: Connection, count: int) -> None:
    """Pick and mark, and nothing else: no log, no counters, no rate."""
    now = _now()
    picked = connection.exec_driver_sql(_PICK, (now, count)).fetchall()
    ids = orjson.dumps([row[0] for row in picked]).decode()
    connection.exec_driver_sql(_MARK, (now, now, ids))


def _bare_end(connection: Connection, which: str, given: tuple[Any, ...], to: tuple[str, str]) -> None:
    """Ends tasks: the log, the rows, the counter."""
    now = _now()
    connection.exec_driver_sql(_LOG + which, (now, *to, "", *given))
    ended = connection.exec_driver_sql(_END + which, (*to, now, *given)).rowcount
    connection.exec_driver_sql(_COUNT, (*to, ended))


def _bare_expire(connection: Connection, count: int) -> None:
    which = "id IN (SELECT id FROM task WHERE deadline_at <= ? AND status = 'IN_PROGRESS' LIMIT ?)"
    _bare_end(connection, which, (_now(), count), ("FAILED", "timeout"))


# -- ours beside them ---------------------------------------------------------------------------------------


def _claims(ours: Database, bare: Database, size: Size) -> Iterator[tuple[float, float]]:
    for _ in range(size.rounds):
        yield (
            _seconds(ours, pushes.claim, RUN, _CLAIMANT, batches.now(), size.moved),
            _seconds(bare, _bare_claim, size.moved),
        )


def _expiries(
    ours: Database, bare: Database, size: Size, first: int, stride: int
) -> Iterator[tuple[float, float]]:
    """Deadlines that passed long ago, of each so manieth device from one on."""
    for turn in range(size.rounds):
        start = first + turn * size.moved * stride
        for database in (ours, bare):
            with database.writing() as connection:
                _start(connection, range(start, start + size.moved * stride, stride))
        yield (
            _seconds(ours, deadlines.expire, batches.PRESENCE, batches.now()),
            _seconds(bare, _bare_expire, size.moved),
        )


def _start(connection: Connection, devices_of: Sequence[int]) -> None:
    """Tasks are in progress, and their time is over; the counters say so, too."""
    which = f"run_id = {RUN} AND device_id {_LISTED}"
    ids = orjson.dumps(list(devices_of)).decode()
    counted = connection.exec_driver_sql(
        f"SELECT status, count(*) FROM task WHERE {which} GROUP BY status", (ids,)
    ).fetchall()
    connection.exec_driver_sql(
        "UPDATE task SET status = 'IN_PROGRESS', push_due_at = NULL, started_at = 1, deadline_at = 2, step = 5 "
        f"WHERE {which}",
        (ids,),
    )
    for status, count in [*((status, -count) for status, count in counted), ("IN_PROGRESS", len(devices_of))]:
        connection.exec_driver_sql(
            f"UPDATE task_count SET count = count + ? WHERE run_id = {RUN} AND status = ?", (count, status)
        )
        if count > 0:
            connection.exec_driver_sql(
                f"INSERT OR IGNORE INTO task_count VALUES ({RUN}, ?, '', ?)", (status, count)
            )


def _cancellation(ours: Database) -> float:
    """How long who cancels waits: the batch is cancelled, its tasks end with what follows."""
    unfinished = tuple(lifecycle.UNFINISHED)
    return _seconds(ours, runs.cancel, RUN, runs.Cancellation("git", unfinished), batches.now())


def _chunks(ours: Database, bare: Database, size: Size) -> Iterator[tuple[float, float]]:
    """Chunks of a cancellation that has begun: of its tasks by device, in both."""
    chunk = min(_CHUNK, size.tasks // 2)
    first = 0
    for _ in range(min(_CHUNKS, size.tasks // chunk)):
        which = f"run_id = {RUN} AND device_id > ? AND device_id <= ? AND ended_at IS NULL"
        given, first = (first, first + chunk), first + chunk
        yield (
            _seconds(ours, jobs.work, batches.PRESENCE, batches.now(), chunk=chunk),
            _seconds(bare, _bare_end, which, given, ("CANCELED", "canceled")),
        )


def _matches(ours: Database, bare: Database, size: Size) -> Iterator[tuple[float, float]]:
    """Reports of versions by devices that are free by now, ten a batch; what they report is written beforehand."""
    free = min(_CHUNK, size.tasks // 2)
    stride = free // (size.reports * size.rounds)
    for turn in range(size.rounds):
        first = turn * size.reports * stride
        numbers = range(first + 1, first + 1 + size.reports * stride, stride)
        said = {number: f"0.{number % BATCHES}.0" for number in numbers}
        for database in (ours, bare):
            with database.writing() as connection:
                reports = [devices.Report(n, 1, "default", version) for n, version in said.items()]
                devices.report(connection, reports, batches.now())
        reported = [matching.Reported(n, 1, "default", version, changed=True) for n, version in said.items()]
        ids = orjson.dumps(list(numbers)).decode()
        yield (
            _seconds(ours, matching.match, reported, batches.PRESENCE, batches.now()),
            _seconds(bare, Connection.exec_driver_sql, _MATCH, (_now(), _now(), ids)),
        )


def _declare_dynamic(database: Database) -> None:
    """Fifty batches, each for one version."""
    with database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM job")  # of the cancellation, which was looked at long enough
        for number in range(BATCHES):
            sources = (f"0.{number}.0",)
            batches.declare(connection, 10 + number, sources=sources, dynamic=True)


def _look_around(database: Database) -> float:
    """Seconds of the fifty batches' first looks at the fleet, which find nobody."""
    began, more = time.perf_counter(), True
    while more:
        with database.writing() as connection:
            more = jobs.work(connection, batches.PRESENCE, batches.now())
    return time.perf_counter() - began


def _count(database: Database, query: str) -> int:
    with database.reading() as connection:
        return int(connection.exec_driver_sql(query).scalar_one())


def _expect(database: Database, query: str, expected: int) -> None:
    found = _count(database, query)
    if found != expected:
        raise SystemExit(f"{query}: {found}, not {expected}: this measures nothing")


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of ours and of the bare statements, at one size."""

    claim: tuple[float, float]
    expire: tuple[float, float]
    """Of neighbours."""
    spread: tuple[float, float] | None
    """Of tasks that are spread over all of them: each is on a page of its own. None where there are too few."""
    cancel: float
    chunk: tuple[float, float]
    """A thousand tasks of it."""
    scan: float
    match: tuple[float, float]


def _middle(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The first pair finds nothing in any cache and no statement compiled."""
    some = pairs[1:] or pairs
    return 1000 * median([pair[0] for pair in some]), 1000 * median([pair[1] for pair in some])


def at_size(ours_at: pathlib.Path, bare_at: pathlib.Path, size: Size) -> Measured:
    """Everything at one size."""
    with batches.opened(ours_at) as ours, batches.opened(bare_at) as bare:
        claim = _middle(list(_claims(ours, bare, size)))
        moved = size.moved * size.rounds
        _expect(ours, "SELECT count(*) FROM task WHERE status = 'NOTIFIED'", moved)
        expire = _middle(list(_expiries(ours, bare, size, 1, 2)))
        _expect(ours, "SELECT count(*) FROM task WHERE status = 'FAILED'", moved)
        behind = 1 + 2 * moved
        stride = (size.tasks - behind) // moved
        spread = _middle(list(_expiries(ours, bare, size, behind, stride))) if stride > 1 else None
        cancel = 1000 * _cancellation(ours)
        chunk = _middle(list(_chunks(ours, bare, size)))
        per_thousand = 1000 / min(_CHUNK, size.tasks // 2)
        chunk = chunk[0] * per_thousand, chunk[1] * per_thousand
        _declare_dynamic(ours)
        scan = 1000 * _look_around(ours)
        _declare_dynamic(bare)
        match = _middle(list(_matches(ours, bare, size)))
        _expect(ours, f"SELECT count(*) FROM task WHERE run_id > {RUN}", size.reports * size.rounds)
    return Measured(claim, expire, spread, cancel, chunk, scan, match)


def _rows(sizes: Sequence[Size], measured: Sequence[Measured]) -> Iterator[Figure]:
    size = sizes[0]
    bare = "bare statements"
    pairs: dict[str, tuple[Callable[[Measured], tuple[float, float]], float | None]] = {
        f"pick and mark {size.moved:,} due tasks": (lambda m: m.claim, BOUND),
        f"expire {size.moved:,} deadlines": (lambda m: m.expire, None),
        "cancel, a thousand tasks of a chunk": (lambda m: m.chunk, None),
        f"match {size.reports} reports, {BATCHES} batches": (lambda m: m.match, None),
    }
    for what, (value, bound) in pairs.items():
        for each, found in zip(sizes, measured, strict=True):
            ours, reference = value(found)
            yield Figure(f"{what}, of {each.tasks:,}", ours, "ms", reference, bare, times=bound)
        yield _flat(what, sizes, [value(found)[0] for found in measured], FLAT)
    if measured[-1].spread is not None:
        what = f"expire {size.moved:,} deadlines, spread over {sizes[-1].tasks:,}"
        yield Figure(what, measured[-1].spread[0], "ms", measured[-1].spread[1], bare)
    answers = [found.cancel for found in measured]
    yield _flat("cancel, the first answer", sizes, answers, FLAT)
    yield _flat(f"{BATCHES} first looks at the fleet", sizes, [found.scan for found in measured], None)


def _flat(what: str, sizes: Sequence[Size], values: Sequence[float], bound: float | None) -> Figure:
    against = f"of {sizes[0].tasks:,}"
    return Figure(f"{what}: flat", values[-1], "ms", values[0], against, times=bound)


def measure(folder: pathlib.Path, sizes: Sequence[Size]) -> list[Figure]:
    """All sizes, each in a process of its own."""
    found = []
    for size in sizes:
        created = batches.created(folder, size.tasks)
        ours = seeding.copied(created, folder / "moves-ours.db")
        bare = seeding.copied(created, folder / "moves-bare.db")
        found.append(processes.apart(at_size, ours, bare, size))
        seeding.remove(ours)
        seeding.remove(bare)
    return list(_rows(sizes, found))


def main() -> None:
    """The table."""
    given = seeding.arguments(__doc__).parse_args()
    with seeding.shared_folder() as folder:
        quick = [Size(count, 100, 50, 2) for count in seeding.QUICK]
        sizes = quick if given.quick else [Size(count) for count in seeding.SIZES]
        figures = measure(folder, sizes)
        show(f"Moves, by the number of tasks; {seeding.machine(folder)}", figures)


if __name__ == "__main__":
    main()
