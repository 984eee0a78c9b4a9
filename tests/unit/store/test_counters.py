"""Whatever happens in whatever order, the kept counters are what counting the tasks gives."""

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

from reconciler.domain import lifecycle
from reconciler.domain.lifecycle import Status
from reconciler.store import materialization, runs, tables, tasks
from reconciler.store.database import Database

FLEET = ["dev-0", "dev-1", "dev-2", "dev-3", "dev-4"]
US = tasks.Claimant(1, 1, seed.SETTLE)
PRESENCE = devices.Presence(1, seed.SETTLE)

names = st.sampled_from(FLEET)
happenings = st.sampled_from(
    [
        lifecycle.progressed(10, ""),
        lifecycle.progressed(-3, ""),
        lifecycle.Event(lifecycle.Trigger.FETCHED),
        lifecycle.Event(lifecycle.Trigger.REPORTED_TARGET, version="1.4.0"),
        lifecycle.Event(lifecycle.Trigger.REPORTED_SOURCE, version="1.3.0"),
        lifecycle.Event(lifecycle.Trigger.REPORTED_OTHER, version="0.1.0"),
    ]
)
scopes = st.sets(st.sampled_from(lifecycle.UNFINISHED)).map(tuple)
operations = st.one_of(
    st.tuples(st.just("said"), names, happenings),
    st.tuples(st.just("came"), names),
    st.tuples(st.just("pushed"), st.sampled_from(list(tasks.Outcome))),
    st.tuples(st.just("batch")),
    st.tuples(st.just("chunk")),
    st.tuples(st.just("cancel"), scopes),
    st.tuples(st.just("cancel chunk")),
    st.tuples(st.just("expire")),
)


class World:
    """A fleet, and what can happen to it."""

    def __init__(self, database):
        self.database = database
        self.batches = 0
        self.now = NOW

    def do(self, connection, what, *given):
        self.now += timedelta(seconds=30)
        newest = connection.execute(
            select(tables.run.c.id).order_by(tables.run.c.id.desc()).limit(1)
        ).scalar()
        if what == "said":
            self.said(connection, *given)
        elif what == "came":
            seed.online(connection, given, now=self.now)
        elif what == "pushed":
            for due in tasks.runs_due(connection, self.now):
                claims = tasks.claim(connection, due.run_id, US, self.now, 2)
                tasks.settle_pushes(connection, 1, [(claim, given[0]) for claim in claims], self.now)
        elif what == "batch":
            self.batches += 1
            seed.batch(connection, f"batch-{self.batches}", timeout=timedelta(minutes=1))
        elif what == "chunk":
            jobs.work(connection, PRESENCE, self.now, 2)
        elif what == "cancel" and newest is not None:
            runs.cancel(connection, newest, runs.Cancellation("git", *given), self.now)
        elif what == "cancel chunk":
            runs.continue_cancel(connection, self.now, chunk=2)
        elif what == "expire":
            tasks.expire(connection, self.now, limit=2)

    def said(self, connection, name, event):
        device = seed.find(connection, [name])[name]
        if device.id in tasks.active(connection, [device.id]):
            seed.send(connection, name, event, now=self.now)

    def check(self, connection):
        task, count = tables.task, tables.task_count
        rows = connection.execute(select(task.c.run_id, task.c.status, task.c.reason))
        counted = Counter((row.run_id, row.status, row.reason or "") for row in rows)
        kept = connection.execute(select(count).where(count.c.count > 0))
        assert {(row.run_id, row.status, row.reason): row[3] for row in kept} == dict(counted)
        self.check_runs(connection, counted)

    def check_runs(self, connection, counted):
        """A run is in progress exactly as long as it has something to do."""
        unfinished = {run for run, status, _ in counted if status in lifecycle.UNFINISHED}
        for run in connection.execute(select(tables.run)):
            if run.phase == "COMPLETED":
                assert run.id not in unfinished
            elif run.phase == "IN_PROGRESS":
                assert run.id in unfinished or run.cursor is not None


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A fleet in the middle of a batch, made once."""
    file = tmp_path_factory.mktemp("template") / "state.db"
    database = Database.open(f"sqlite:///{file}", upgrade=True)
    seed.world(database, FLEET, timeout=timedelta(minutes=1))
    with database.writing() as connection:
        for name in FLEET[:2]:
            seed.send(connection, name, lifecycle.progressed(1, ""))
    database.close()
    return file


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(happened=st.lists(operations, min_size=10, max_size=40))
def test_counters_are_what_counting_gives(template, tmp_path, happened):
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
