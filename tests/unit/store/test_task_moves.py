"""Tasks as a burst reads and writes them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rows import HOUR, MINUTE, NOW, Rows, counted
from rows import row as row_of
from sqlalchemy import select, update

from reconciler.domain import lifecycle
from reconciler.domain.lifecycle import Hold, Reason, Status
from reconciler.store import events, tables, tasks

SECOND = timedelta(seconds=1)


@pytest.fixture
def rows(database):
    """A product, its package and two devices; a writing transaction for the whole test."""
    with database.writing() as connection:
        made = Rows(connection)
        made.world()
        for name in ("dev-1", "dev-2"):
            made.device(name, "1.3.0", online=True)
        yield made


def task(rows, number=1):
    return row_of(rows.connection, tables.task, number)


def active(rows, device_id=1, now=NOW):
    return tasks.active(rows.connection, [device_id], now).get(device_id, [])


def send(rows, *happened, device_id=1, now=NOW):
    (before,) = active(rows, device_id)
    after = before
    for event in happened:
        after = lifecycle.step(after, event, now).task
    tasks.save(rows.connection, [tasks.Change(before, after, ())], now)


def run_row(rows, number=1):
    return row_of(rows.connection, tables.run, number)


# --- reading ---


def test_a_task_is_read_as_it_is_with_what_its_batch_says(rows):
    run = rows.run(
        source_versions=["1.3.0"], allow_downgrade=True, timeout=HOUR, no_response=2 * HOUR, confirm=True,
        delta=True, push_delivery=False, retry_interval=MINUTE, retry_limit=2,
    )  # fmt: skip
    moments = {
        name: NOW + number * SECOND
        for number, name in enumerate(
            ("started_at", "deadline_at", "first_pushed_at", "last_pushed_at", "push_due_at", "retry_at")
        )
    }
    rows.task(
        run, 1, "IN_PROGRESS", hold="retry", attempt=1, failure_mark=b"\x00\xffmark", step=40,
        step_description="x", **moments,
    )  # fmt: skip
    (found,) = active(rows)
    assert found == lifecycle.Task(
        id=1, run_id=run, device_id=1, module="default", status=Status.IN_PROGRESS, target_version="1.4.0",
        hold=Hold.RETRY, source_version="1.3.0", source_versions=("1.3.0",), allow_downgrade=True, timeout=HOUR,
        no_response=2 * HOUR, retry=lifecycle.Retry(MINUTE, 2), confirm=True, delta=True, push_delivery=False,
        attempt=1, failure_mark=b"\x00\xffmark", step=40, step_description="x", **moments,
    )  # fmt: skip


def test_every_unfinished_task_of_a_device_is_read_the_oldest_first(rows):
    runs = [rows.run(name) for name in ("a", "b", "c", "d")]
    rows.task(runs[0], 1, "FAILED", reason="timeout")
    rows.task(runs[1], 1, "QUEUED", hold="behind")
    rows.task(runs[2], 1, "NOTIFIED")
    rows.task(runs[3], 1, "QUEUED", hold="behind")
    rows.task(runs[3], 2, "CONFIRM")
    found = tasks.active(rows.connection, [1, 2, 3], NOW)
    assert {device: [each.id for each in several] for device, several in found.items()} == {
        1: [2, 3, 4],
        2: [5],
    }
    assert [each.holds for each in found[1]] == [False, True, False]


def test_nobody_has_nothing(rows):
    assert tasks.active(rows.connection, []) == {}
    assert tasks.latest_ended(rows.connection, []) == {}


@pytest.mark.parametrize(
    ("run", "withheld"),
    [
        ({}, False),
        ({"suspended": True}, True),
        ({"suspended_by": "alice"}, True),
        ({"started_at": None, "phase": "PLANNED"}, True),
        ({"end_at": NOW}, True),
        ({"end_at": NOW + SECOND}, False),
        ({"phase": "CANCELED"}, False),
    ],
)
def test_a_task_is_withheld_while_its_run_pushes_nothing(rows, run, withheld):
    rows.task(rows.run(**run), 1)
    (found,) = active(rows)
    assert found.withheld is withheld


@pytest.mark.parametrize(
    ("kind", "withheld"), [("cancel", True), ("start", True), ("end", True), ("scan", False)]
)
def test_a_task_is_withheld_while_a_job_may_end_it(rows, kind, withheld):
    run = rows.run()
    rows.task(run, 1)
    rows.add(tables.job, run_id=run, type=kind, arguments={})
    assert active(rows)[0].withheld is withheld


def test_the_end_of_the_schedule_withholds_only_what_was_not_notified(rows):
    rows.task(rows.run(end_at=NOW), 1, "NOTIFIED")
    assert not active(rows)[0].withheld


def test_the_newest_ended_task_of_a_module_is_what_late_messages_are_about(rows):
    runs = [rows.run(name) for name in ("a", "b", "c", "d", "e")]
    rows.task(runs[0], 1, "SUCCEEDED")
    rows.task(runs[1], 1, "FAILED", reason="timeout", late_at=NOW, late_success=True)
    rows.task(runs[2], 1, "FAILED", reason="conflict")
    rows.task(runs[3], 1, "QUEUED", hold="behind")
    rows.task(runs[4], 1, "SUCCEEDED", module="mcu")
    found = tasks.latest_ended(rows.connection, [(1, "default"), (1, "mcu"), (2, "default")])
    assert {place: each.id for place, each in found.items()} == {(1, "default"): 2, (1, "mcu"): 5}
    late = found[1, "default"]
    assert (late.reason, late.late_at, late.late_success) == (Reason.TIMEOUT, NOW, True)


def test_an_older_task_that_was_upgraded_again_is_the_newest_when_it_ended_last(rows):
    for name, ago in (("a", 1), ("b", 2)):
        rows.task(rows.run(name), 1, "FAILED", reason="timeout", ended_at=NOW - ago * timedelta(minutes=1))
    assert tasks.latest_ended(rows.connection, [(1, "default")])[1, "default"].id == 1


def test_a_device_s_history_is_not_read_whole(rows):
    for number in range(30):
        rows.task(rows.run(f"b{number}"), 1, "SUCCEEDED")
    plan = " ".join(
        row[3]
        for query in (tasks._active, tasks._latest_ended)
        for row in rows.connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN "
            + str(query.compile(rows.connection, compile_kwargs={"render_postcompile": True})),
            tuple("[]" for _ in query.compile(rows.connection).positiontup),
        )
    )
    for index in ("ix_task_slot", "ix_task_behind", "ix_task_device"):
        assert index in plan
    assert "SCAN task" not in plan
    assert "USE TEMP B-TREE" not in plan


# --- writing ---


def test_whatever_the_table_does_to_a_task_is_read_again_as_it_was_written(rows):
    run = rows.run(retry_interval=MINUTE, retry_limit=1, timeout=HOUR, no_response=HOUR)
    rows.task(run, 1, "NOTIFIED")
    mark = b"\x00\x01"
    for event in (
        lifecycle.progressed(-2, "no route", mark),
        lifecycle.Event(lifecycle.Trigger.FETCHED),
        lifecycle.progressed(7, "again", b"2"),
        lifecycle.progressed(-1, "no", b"3"),
        lifecycle.Event(lifecycle.Trigger.REPORTED_TARGET, version="1.4.0"),
    ):
        before = next(iter(active(rows)), None)
        if before is None:
            before = tasks.latest_ended(rows.connection, [(1, "default")])[1, "default"]
        after = lifecycle.step(before, event, NOW).task
        tasks.save(rows.connection, [tasks.Change(before, after, ())], NOW)
        read = active(rows) or list(tasks.latest_ended(rows.connection, [(1, "default")]).values())
        assert read == [after]
        assert task(rows).holds is after.holds
    assert counted(rows.connection, run) == {"FAILED": 1}


def test_a_task_moves_with_its_counter(rows):
    run = rows.run()
    for device_id in (1, 2):
        rows.task(run, device_id)
    send(rows, lifecycle.progressed(10, ""))
    send(rows, lifecycle.progressed(-2, "no route"), device_id=2)
    assert counted(rows.connection, run) == {"IN_PROGRESS": 1, "FAILED": 1}


def test_progress_changes_what_is_shown_and_nothing_else(rows):
    rows.task(rows.run(timeout=HOUR), 1)
    send(rows, lifecycle.progressed(10, ""))
    before = task(rows)
    send(rows, lifecycle.progressed(60, "half"), now=NOW + SECOND)
    changed = {name for name, value in task(rows)._mapping.items() if value != before._mapping[name]}
    assert changed == {"step", "step_description"}
    assert task(rows).step_description == "half"


def test_many_changes_are_written_at_once(rows):
    run = rows.run()
    for number in range(40):
        rows.task(run, rows.device(f"more-{number}", "1.3.0"))
    everybody = [device for (device,) in rows.connection.execute(select(tables.task.c.device_id))]
    changes = []
    for (before,) in tasks.active(rows.connection, everybody, NOW).values():
        event = lifecycle.progressed(before.id, "") if before.id % 2 else lifecycle.progressed(-1, "")
        changes.append(tasks.Change(before, lifecycle.step(before, event, NOW).task, ()))
    tasks.save(rows.connection, changes, NOW)
    assert counted(rows.connection, run) == {"IN_PROGRESS": 20, "FAILED": 20}
    assert (task(rows, 1).step, task(rows, 39).step) == (1, 39)


def test_a_change_that_somebody_was_faster_than_is_not_written(rows):
    rows.task(rows.run(), 1, "IN_PROGRESS", step=5)
    (stale,) = active(rows)
    send(rows, lifecycle.Event(lifecycle.Trigger.REPORTED_TARGET, version="1.4.0"))
    tasks.save(rows.connection, [tasks.Change(stale, stale._replace(step=7), ())], NOW)
    assert (task(rows).status, task(rows).step) == ("SUCCEEDED", 5)


@pytest.mark.parametrize(
    ("event", "keeps"),
    [
        (lifecycle.progressed(10, ""), False),
        (lifecycle.progressed(-1, "", b"m"), False),
        (lifecycle.Event(lifecycle.Trigger.FETCHED), False),
        (lifecycle.Event(lifecycle.Trigger.REPORTED_SOURCE, version="1.3.0"), True),
    ],
)
def test_what_a_device_says_is_as_good_as_the_acknowledgement_of_its_push(rows, event, keeps):
    run = rows.run(retry_interval=MINUTE, retry_limit=1)
    rows.task(run, 1, "NOTIFIED", claim_epoch=7, last_pushed_at=NOW)
    send(rows, event)
    assert (task(rows).claim_epoch == 7) is keeps


def test_a_failure_s_mark_is_kept_and_forgotten(rows):
    rows.task(rows.run(retry_interval=MINUTE, retry_limit=2), 1, "NOTIFIED")
    send(rows, lifecycle.progressed(-1, "", b"\x00mark"))
    assert task(rows).failure_mark == b"\x00mark"
    send(rows, lifecycle.progressed(50, "", b"other"))
    assert task(rows).failure_mark is None


def test_late_messages_are_recorded_on_what_has_ended(rows):
    run = rows.run()
    rows.task(run, 1, "FAILED", reason="timeout")
    before = tasks.latest_ended(rows.connection, [(1, "default")])[1, "default"]
    late = lifecycle.step(before, lifecycle.reported(before, "1.4.0"), NOW)
    line = events.Event(type=events.Type.LATE, task_id=1, message=late.note or "")
    tasks.save(rows.connection, [tasks.Change(before, late.task, (line,))], NOW)
    assert (task(rows).status, task(rows).late_success, task(rows).late_at) == ("FAILED", True, NOW)
    assert counted(rows.connection, run) == {"FAILED": 1}
    assert [line.message for line in events.read(rows.connection, events.Filter(), 9)] == ["late success"]


def test_a_run_completes_with_its_last_task(rows):
    run = rows.run()
    for device_id in (1, 2):
        rows.task(run, device_id)
    target = lifecycle.Event(lifecycle.Trigger.REPORTED_TARGET, version="1.4.0")
    send(rows, target)
    assert run_row(rows).phase == "IN_PROGRESS"
    send(rows, target, device_id=2, now=NOW + SECOND)
    assert (run_row(rows).phase, run_row(rows).ended_at) == ("COMPLETED", NOW + SECOND)


def test_a_changed_timeout_counts_for_tasks_that_start_later(rows):
    run = rows.run(timeout=HOUR)
    for device_id in (1, 2):
        rows.task(run, device_id)
    send(rows, lifecycle.progressed(10, ""))
    rows.connection.execute(update(tables.run).values(timeout=2 * HOUR))
    send(rows, lifecycle.progressed(10, ""), device_id=2)
    assert [task(rows, number).deadline_at for number in (1, 2)] == [NOW + HOUR, NOW + 2 * HOUR]


def test_a_burst_about_nobody_writes_nothing(rows):
    rows.task(rows.run(), 1)
    before = task(rows)
    tasks.save(rows.connection, [], NOW)
    assert task(rows) == before
