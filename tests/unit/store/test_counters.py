"""Whatever happens in whatever order: the counters are what counting gives, slots are kept, and nobody is forgotten."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import timedelta

import pytest
import seed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seed import NOW
from sqlalchemy import select

from reconciler.domain import actual, lifecycle
from reconciler.domain.lifecycle import Status
from reconciler.store import (
    deadlines,
    devices,
    groups,
    jobs,
    matching,
    pushes,
    queue,
    runs,
    tables,
    tasks,
)
from reconciler.store.database import Database

FLEET = ["dev-0", "dev-1", "dev-2", "dev-3", "dev-4"]
PRESENCE = devices.Presence(1, seed.SETTLE)
US = pushes.Claimant(1, PRESENCE)

names = st.sampled_from(FLEET)
happenings = st.sampled_from(
    [
        lifecycle.progressed(10, ""),
        lifecycle.progressed(-3, ""),
        lifecycle.Event(lifecycle.Trigger.FETCHED),
        lifecycle.Event(lifecycle.Trigger.CONFIRMED),
    ]
)
versions = st.sampled_from(["1.3.0", "1.3.1", "1.4.0", "0.1.0", "2.0.0"])
minutes = st.none() | st.integers(1, 5).map(lambda number: timedelta(minutes=number))
batches = st.fixed_dictionaries(
    {
        "conflict": st.sampled_from(["Keep", "Overwrite", "Wait"]),
        "module": st.sampled_from(["default", "mcu"]),
        "confirm": st.booleans(),
        "timeout": minutes,
        "no_response": minutes,
        "retry": st.none() | st.just(lifecycle.Retry(timedelta(0), 1)),
    },
    optional={
        "multi_module": st.sampled_from([True]),
        "source_versions": st.lists(versions.filter(lambda v: v != "1.4.0"), max_size=2, unique=True),
        "gray": st.integers(1, 100_000),
        "names": st.lists(names, min_size=1, unique=True),
        "start": minutes,
        "dynamic": st.sampled_from(["version", "group"]),
        "new_reports_only": st.booleans(),
        "again": st.sampled_from([True]),
    },
)
scopes = st.sets(st.sampled_from(lifecycle.UNFINISHED)).map(tuple)
operations = st.one_of(
    st.tuples(st.just("said"), names, happenings),
    st.tuples(st.just("reported"), names, st.sampled_from(["default", "mcu"]), versions),
    st.tuples(st.just("came"), names),
    st.tuples(st.just("pushed"), st.sampled_from(list(pushes.Outcome))),
    st.tuples(st.just("batch"), batches),
    st.tuples(st.just("chunk")),
    st.tuples(st.just("chunk")),
    st.tuples(st.just("tagged"), names, st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 3), scopes),
    st.tuples(st.just("time")),
)


class World:
    """A fleet, and what can happen to it."""

    def __init__(self, database):
        self.database = database
        self.batches = 0
        self.now = NOW

    def do(self, connection, what, *given):
        self.now += timedelta(seconds=30)
        getattr(self, what)(connection, *given)

    def came(self, connection, name):
        seed.online(connection, [name], now=self.now)

    def pushed(self, connection, outcome):
        for due in pushes.runs_due(connection, self.now):
            claims = pushes.claim(connection, due.run_id, US, self.now, 2).taken
            pushes.settle_pushes(connection, 1, [(claim, outcome) for claim in claims], self.now)

    def batch(self, connection, changes):
        changes = dict(changes)
        self.batches += not changes.pop("again", False)
        if start := changes.pop("start", None):
            changes |= {"start_at": self.now + start, "end_at": self.now + 2 * start}
        if kind := changes.pop("dynamic", None):
            changes |= {
                "type": actual.RunType.DYNAMIC,
                "gray": None,
                "names": None,
                "start_at": None,
                "end_at": None,
            }
            if kind == "group":
                changes |= {"group_id": 1}
            else:
                changes["source_versions"] = changes.get("source_versions") or ["1.3.0"]
        else:
            changes.pop("new_reports_only", None)
        seed.batch(connection, f"batch-{self.batches}", now=self.now, **changes)

    def chunk(self, connection):
        jobs.work(connection, PRESENCE, self.now, 2)

    def cancel(self, connection, back, statuses):
        newest = select(tables.run.c.id).order_by(tables.run.c.id.desc()).offset(back).limit(1)
        run_id = connection.execute(newest).scalar()
        if run_id is not None:
            runs.cancel(connection, run_id, runs.Cancellation("git", statuses), self.now)

    def time(self, connection):
        runs.end_due(connection, self.now)
        runs.start_due(connection, self.now)
        deadlines.expire(connection, PRESENCE, self.now, limit=2)

    def tagged(self, connection, name, beta):
        device = seed.find(connection, [name])[name]
        row = tables.device.update().where(tables.device.c.id == device.id)
        connection.execute(row.values(tags={"ring": "beta"} if beta else None))
        matching.arrived(connection, [device.id], PRESENCE, self.now)

    def said(self, connection, name, event):
        self.step(connection, name, lambda task: event)

    def reported(self, connection, name, module, version):
        """As a burst does it: the version, the tasks, who waits, what matches."""
        device = seed.find(connection, [name])[name]
        before = devices.versions(connection, [device.id]).get((device.id, module))
        changed = before != version
        if changed:
            report = devices.Report(device.id, device.product_id, module, version)
            devices.report(connection, [report], self.now)
        self.step(connection, name, lambda task: lifecycle.reported(task, version), module)
        said = matching.Reported(device.id, device.product_id, module, version, changed)
        matching.match(connection, [said], PRESENCE, self.now)

    def step(self, connection, name, happened, module="default"):
        device = seed.find(connection, [name])[name]
        changes = []
        for task in tasks.active(connection, [device.id]).get(device.id, []):
            after = lifecycle.step(task, happened(task), self.now).task
            if task.module == module and after != task:
                changes.append(tasks.Change(task, after, ()))
        if changes:
            tasks.save(connection, changes, self.now)
            queue.promote(connection, [device.id], PRESENCE, self.now)

    # -------------------------------------------------------------------------------------------- what holds

    def check(self, connection):
        task, count = tables.task, tables.task_count
        rows = connection.execute(select(task)).all()
        counted = Counter((row.run_id, row.status, row.reason or "") for row in rows)
        kept = connection.execute(select(count).where(count.c.count > 0))
        assert {(row.run_id, row.status, row.reason): row[3] for row in kept} == dict(counted)
        self.check_runs(connection, counted)
        by_device = {}
        for row in rows:
            by_device.setdefault(row.device_id, []).append(row)
        for mine in by_device.values():
            self.check_device(mine)

    def check_runs(self, connection, counted):
        """A static run is in progress exactly as long as it has something to do."""
        unfinished = {run for run, status, _ in counted if status in lifecycle.UNFINISHED}
        working = set(connection.execute(select(tables.job.c.run_id)).scalars())
        for run in connection.execute(select(tables.run)):
            if run.phase == "COMPLETED":
                assert run.id not in unfinished
            elif run.phase == "IN_PROGRESS" and run.type != actual.RunType.DYNAMIC:
                assert run.id in unfinished | working

    def check_device(self, mine):
        """Slots exclude each other, no run has a device twice at a time, and nobody waits for a free device."""
        unfinished = [row for row in mine if row.ended_at is None]
        assert len({(row.run_id, row.module) for row in unfinished}) == len(unfinished)
        for row in unfinished:
            assert row.holds == (row.hold != "behind")
            others = [
                o
                for o in unfinished
                if o is not row and (o.module == row.module or not (o.multi and row.multi))
            ]
            if row.holds:
                assert not [o for o in others if o.holds]
            else:
                assert [o for o in others if o.holds or o.id < row.id]
        for row in mine:
            if row.ended_at is not None:
                assert (row.hold, row.holds, row.push_due_at, row.deadline_at) == ("none", False, None, None)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A fleet in the middle of a batch, made once."""
    file = tmp_path_factory.mktemp("template") / "state.db"
    database = Database.open(f"sqlite:///{file}", upgrade=True)
    seed.world(database, FLEET, timeout=timedelta(minutes=1))
    with database.writing() as connection:
        connection.execute(tables.product.update().values(modules=["mcu"]))
        beta = groups.NewGroup(
            seed.declare(connection, "DeviceGroup", "beta"), "beta", 1, None, {"matchTags": {"ring": "beta"}}
        )
        groups.put(connection, beta, None, NOW)
        for name in FLEET[:2]:
            seed.send(connection, name, lifecycle.progressed(1, ""))
    database.close()
    return file


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(happened=st.lists(operations, min_size=10, max_size=60))
def test_counters_slots_and_queues_are_kept_whatever_happens(template, tmp_path, happened):
    file = tmp_path / "state.db"
    file.with_name("state.db-wal").unlink(missing_ok=True)
    shutil.copy(template, file)
    database = Database(f"sqlite:///{file}")
    try:
        world = World(database)
        for operation in happened:
            with database.writing() as connection:
                world.do(connection, *operation)
                world.check(connection)
    finally:
        database.close()


def test_a_counter_that_would_go_below_zero_is_refused(database):
    import sqlalchemy

    from reconciler.store import counts

    run_id = seed.world(database, FLEET)
    moves = counts.Moves()
    moves.move((run_id, Status.QUEUED, None), (run_id, Status.NOTIFIED, None), 6)
    with pytest.raises(sqlalchemy.exc.IntegrityError), database.writing() as connection:
        moves.write(connection)
