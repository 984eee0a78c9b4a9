"""What moves tasks and runs: messages, cancellations, the clock."""

from __future__ import annotations

from datetime import timedelta

import pytest
import seed
from seed import BATCH, NOW, SECOND
from sqlalchemy import func, select

from reconciler.domain import lifecycle
from reconciler.domain.lifecycle import Reason, Status
from reconciler.store import counts, events, runs, status, tables, tasks

FLEET = ["dev-1", "dev-2", "dev-3", "dev-4"]
HOUR = timedelta(hours=1)


def run_of(database):
    with database.reading() as connection:
        return status.objects(connection, "Batch", BATCH)[0].run


def send(database, name, *happened, now=NOW):
    with database.writing() as connection:
        seed.send(connection, name, *happened, now=now)


def reported(version):
    trigger = lifecycle.Trigger.REPORTED_TARGET if version == "1.4.0" else lifecycle.Trigger.REPORTED_OTHER
    return lifecycle.Event(trigger, version=version)


def row(database, name):
    with database.reading() as connection:
        return seed.task(connection, name)


def test_a_task_moves_with_its_counter(database):
    run_id = seed.world(database, FLEET)
    send(database, "dev-1", lifecycle.progressed(10, ""))
    send(database, "dev-2", lifecycle.progressed(-2, "no route"))
    with database.reading() as connection:
        found = counts.read(connection, [run_id, 999])
        assert found == {run_id: {Status.QUEUED: 2, Status.IN_PROGRESS: 1, Status.FAILED: 1}}
        assert counts.unfinished(found[run_id]) == {Status.QUEUED: 2, Status.IN_PROGRESS: 1}
        assert counts.failures(connection, run_id) == {"download-failed": 1}


def test_progress_changes_what_is_shown_and_nothing_else(database):
    seed.world(database, FLEET, timeout=HOUR)
    send(database, "dev-1", lifecycle.progressed(10, ""))
    before = row(database, "dev-1")
    send(database, "dev-1", lifecycle.progressed(60, "half"), now=NOW + SECOND)
    after = row(database, "dev-1")
    assert (after.step, after.step_description) == (60, "half")
    assert after.deadline_at == before.deadline_at == NOW + HOUR


def test_a_change_that_somebody_was_faster_than_is_not_written(database):
    seed.world(database, FLEET)
    with database.writing() as connection:
        stale = tasks.active(connection, [1])[1]
    send(database, "dev-1", lifecycle.progressed(10, ""))
    after = lifecycle.step(stale, lifecycle.Event(lifecycle.Trigger.CLAIMED), NOW).task
    with database.writing() as connection:
        changes = [tasks.Change(stale, after, ())]
        try:
            tasks.save(connection, changes, NOW)
        finally:
            assert seed.task(connection, "dev-1").status == "IN_PROGRESS"


def test_an_ended_task_frees_its_device_and_is_found_by_late_messages(database):
    seed.world(database, FLEET)
    send(database, "dev-1", lifecycle.progressed(-1, ""))
    with database.writing() as connection:
        assert tasks.active(connection, [1, 2]).keys() == {2}
        found = tasks.latest_ended(connection, [1, 2])
        assert {place: task.status for place, task in found.items()} == {(1, "default"): Status.FAILED}
        late = lifecycle.step(found[1, "default"], reported("1.4.0"), NOW + SECOND)
        line = events.Event(type=events.Type.LATE, task_id=late.task.id, message=late.note or "")
        tasks.save(connection, [tasks.Change(found[1, "default"], late.task, (line,))], NOW + SECOND)
        task = seed.task(connection, "dev-1")
    assert (task.status, task.late_success, task.late_at) == ("FAILED", True, NOW + SECOND)
    assert run_of(database).counts == {"FAILED": 1, "QUEUED": 3}


def test_a_run_completes_with_its_last_task_and_says_so_once(database):
    seed.world(database, FLEET)
    for name in FLEET:
        assert run_of(database).phase == "IN_PROGRESS"
        send(database, name, reported("1.4.0"), now=NOW + SECOND)
    run = run_of(database)
    assert (run.phase, run.ended_at, run.counts) == ("COMPLETED", NOW + SECOND, {"SUCCEEDED": 4})
    with database.writing() as connection:
        runs.finish(connection, [run.id], NOW + 2 * SECOND)
        lines = events.read(connection, events.Filter(batch=BATCH), 100)
    assert [line.type for line in lines].count("completed") == 1


def test_a_cancellation_ends_the_tasks_it_names_and_leaves_the_others(database):
    run_id = seed.world(database, FLEET)
    send(database, "dev-1", lifecycle.progressed(10, ""))
    cancellation = runs.Cancellation("alice", (Status.QUEUED,), "wrong file")
    with database.writing() as connection:
        runs.cancel(connection, run_id, cancellation, NOW)
    seed.settle(database)
    run = run_of(database)
    assert (run.phase, run.canceled_by) == ("CANCELED", "alice")
    assert run.counts == {"CANCELED": 3, "IN_PROGRESS": 1}
    task = row(database, "dev-2")
    assert (task.reason, task.holds, task.ended_at) == ("canceled", False, NOW)
    send(database, "dev-1", reported("1.4.0"))
    assert run_of(database).counts == {"CANCELED": 3, "SUCCEEDED": 1}
    assert run_of(database).phase == "CANCELED"


def test_each_canceled_task_has_a_line_in_the_log_and_the_run_has_one_with_who_and_why(database):
    run_id = seed.world(database, FLEET)
    with database.writing() as connection:
        runs.cancel(connection, run_id, runs.Cancellation("alice", (Status.QUEUED,), "wrong file"), NOW)
    seed.settle(database)
    with database.reading() as connection:
        lines = events.read(connection, events.Filter(batch=BATCH), 100)
    moved = [line.device for line in lines if (line.from_status, line.to_status) == ("QUEUED", "CANCELED")]
    assert sorted(moved) == FLEET
    said = [line.message for line in lines if line.type == "canceled"]
    assert len(said) == 1
    assert "alice" in said[0]
    assert "wrong file" in said[0]


def test_canceling_twice_changes_nothing(database):
    run_id = seed.world(database, FLEET)
    for _ in range(2):
        with database.writing() as connection:
            runs.cancel(connection, run_id, runs.Cancellation("git", (Status.QUEUED,)), NOW)
        seed.settle(database)
    with database.reading() as connection:
        lines = events.read(connection, events.Filter(batch=BATCH), 100)
    assert [line.type for line in lines].count("canceled") == 1
    assert run_of(database).counts == {"CANCELED": 4}


def test_tasks_that_outlive_their_timeout_fail_and_others_do_not(database):
    seed.world(database, FLEET, timeout=HOUR)
    send(database, "dev-1", lifecycle.progressed(10, ""))
    send(database, "dev-2", lifecycle.progressed(100, ""))
    send(database, "dev-3", lifecycle.progressed(10, ""), now=NOW + SECOND)
    with database.writing() as connection:
        assert tasks.expire(connection, NOW + HOUR - SECOND) == 0
        assert tasks.expire(connection, NOW + HOUR, limit=1) == 1
        assert tasks.expire(connection, NOW + HOUR) == 1
        assert tasks.expire(connection, NOW + HOUR) == 0
    assert run_of(database).counts == {"FAILED": 2, "IN_PROGRESS": 1, "QUEUED": 1}
    assert run_of(database).failures == {"timeout": 2}
    with database.reading() as connection:
        lines = events.read(connection, events.Filter(device="dev-2"), 100)
    assert [(line.reason, line.message) for line in lines][-1] == (
        Reason.TIMEOUT, "100 %, but no version was reported",
    )  # fmt: skip


def test_the_last_timeout_completes_the_run(database):
    seed.world(database, ["dev-1"], timeout=HOUR)
    send(database, "dev-1", lifecycle.progressed(10, ""))
    with database.writing() as connection:
        tasks.expire(connection, NOW + HOUR)
    assert run_of(database).phase == "COMPLETED"


def test_our_own_absence_is_given_back_to_every_running_clock(database):
    seed.world(database, FLEET, timeout=HOUR)
    send(database, "dev-1", lifecycle.progressed(10, ""))
    with database.writing() as connection:
        tasks.extend_deadlines(connection, timedelta(minutes=10))
    assert row(database, "dev-1").deadline_at == NOW + HOUR + timedelta(minutes=10)
    assert row(database, "dev-2").deadline_at is None


def test_a_changed_timeout_counts_for_tasks_that_start_later(database):
    run_id = seed.world(database, FLEET, timeout=HOUR)
    send(database, "dev-1", lifecycle.progressed(10, ""))
    with database.writing() as connection:
        runs.change(connection, run_id, push_rate=10, timeout=2 * HOUR, tags={"a": "b"})
    send(database, "dev-2", lifecycle.progressed(10, ""))
    assert row(database, "dev-1").deadline_at == NOW + HOUR
    assert row(database, "dev-2").deadline_at == NOW + 2 * HOUR


def test_runs_of_a_batch_are_numbered_and_the_newest_is_shown(database):
    seed.world(database, ["dev-1"])
    send(database, "dev-1", reported("1.4.0"))
    with database.writing() as connection:
        seed.batch(connection)
    seed.materialize(database)
    run = run_of(database)
    assert (run.number, run.total) == (2, 1)
    with database.reading() as connection:
        count = connection.execute(select(func.count()).select_from(tables.run)).scalar_one()
    assert count == 2


@pytest.mark.parametrize("silent", [[], ["dev-1"]])
def test_a_burst_about_nobody_writes_nothing(database, silent):
    seed.world(database, FLEET)
    with database.writing() as connection:
        assert tasks.latest_ended(connection, []) == {}
        tasks.save(connection, [], NOW)
    assert run_of(database).counts == {"QUEUED": 4}


def test_a_large_cancellation_goes_on_chunk_by_chunk_and_nothing_is_pushed_meanwhile(database, monkeypatch):
    fleet = [f"dev-{number}" for number in range(8)]
    run_id = seed.world(database, fleet)
    with database.writing() as connection:
        seed.online(connection, fleet)
    monkeypatch.setattr("reconciler.store.runs.continue_cancel", lambda *_: None)
    with database.writing() as connection:
        assert runs.cancel(connection, run_id, runs.Cancellation("git", (Status.QUEUED,)), NOW) == 8
        assert tasks.runs_due(connection, NOW) == []
        assert tasks.active(connection, [1])[1].withdrawn
    monkeypatch.undo()
    with database.writing() as connection:
        runs.continue_cancel(connection, NOW, chunk=3)
    assert run_of(database).counts == {"CANCELED": 3, "QUEUED": 5}
    assert seed.settle(database, chunk=3) == 3
    assert run_of(database).counts == {"CANCELED": 8}


def test_a_cancellation_that_ends_nothing_lets_every_task_go_on(database):
    run_id = seed.world(database, FLEET)
    with database.writing() as connection:
        seed.online(connection, FLEET)
        assert runs.cancel(connection, run_id, runs.Cancellation("git", ()), NOW) == 0
    seed.settle(database)
    with database.reading() as connection:
        assert tasks.runs_due(connection, NOW) == [tasks.Due(run_id, 600)]
    assert run_of(database).counts == {"QUEUED": 4}
