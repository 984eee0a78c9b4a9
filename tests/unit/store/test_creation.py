"""How tasks begin: free, as a conflict, behind another; for whom; and who is left out."""

from __future__ import annotations

from datetime import timedelta

import pytest
import seed
from fleet import CHUNK, FLEET, KEEP, OVERWRITE, PRESENCE, WAIT, Fleet
from seed import NOW
from sqlalchemy import select

from reconciler.domain import lifecycle, targeting
from reconciler.domain.lifecycle import Status
from reconciler.store import events, jobs, static, tables

MINUTE = timedelta(minutes=1)


@pytest.fixture
def fleet(database):
    made = Fleet(database)
    yield made
    made.check()


def test_keep_fails_at_once_where_the_device_is_busy(fleet):
    fleet.batch("older", names=["dev-1"])
    run_id = fleet.batch(names=["dev-1", "dev-2"], conflict=KEEP)
    assert fleet.tasks(run_id) == {"dev-1": ("FAILED", "conflict"), "dev-2": "QUEUED"}


def test_wait_queues_behind_and_enters_when_the_device_is_free(fleet):
    older = fleet.batch("older", names=["dev-1"])
    run_id = fleet.batch(names=["dev-1", "dev-2"], conflict=WAIT)
    assert fleet.tasks(run_id) == {"dev-1": ("QUEUED", "behind"), "dev-2": "QUEUED"}
    fleet.cancel(older, Status.QUEUED)
    assert fleet.tasks(run_id) == {"dev-1": "QUEUED", "dev-2": "QUEUED"}


@pytest.mark.parametrize(
    ("status", "hold"),
    [
        ("CONFIRM", "none"),
        ("QUEUED", "none"),
        ("QUEUED", "retry"),
        ("NOTIFIED", "none"),
        ("NOTIFIED", "retry"),
    ],
)
def test_overwrite_cancels_the_older_task_unless_it_is_in_progress(fleet, status, hold):
    older = fleet.batch("older", names=["dev-1"])
    fleet.move("dev-1", Status(status), hold=hold)
    run_id = fleet.batch(names=["dev-1"], conflict=OVERWRITE)
    assert fleet.tasks(older) == {"dev-1": ("CANCELED", "overwritten")}
    assert fleet.tasks(run_id) == {"dev-1": "QUEUED"}
    assert fleet.run(older).phase == "COMPLETED"


@pytest.mark.parametrize("hold", ["none", "retry"])
def test_overwrite_of_a_task_in_progress_is_a_conflict(fleet, hold):
    older = fleet.batch("older", names=["dev-1"])
    fleet.move("dev-1", Status.IN_PROGRESS, hold=hold)
    run_id = fleet.batch(names=["dev-1"], conflict=OVERWRITE)
    assert fleet.tasks(run_id) == {"dev-1": ("FAILED", "conflict")}
    assert fleet.history(older)["dev-1"] in (["IN_PROGRESS"], [("IN_PROGRESS", "retry")])


def test_what_waits_for_a_device_goes_on_waiting_behind_the_task_that_overwrites(fleet):
    fleet.batch("older", names=["dev-1"])
    waiting = fleet.batch("waiting", names=["dev-1"], conflict=WAIT)
    newest = fleet.batch(names=["dev-1"], conflict=OVERWRITE)
    assert fleet.tasks(waiting) == {"dev-1": ("QUEUED", "behind")}
    fleet.cancel(newest, Status.QUEUED)
    assert fleet.tasks(waiting) == {"dev-1": "QUEUED"}


def test_the_log_says_by_which_batch_a_task_was_overwritten(fleet):
    fleet.batch("older", names=["dev-1"])
    fleet.batch("newer", names=["dev-1"], conflict=OVERWRITE)
    with fleet.database.reading() as connection:
        line = events.read(connection, events.Filter(device="dev-1"), 1)[0]
    assert (line.batch, line.to_status, line.reason, line.message) == (
        "older", "CANCELED", "overwritten", "by batch newer",
    )  # fmt: skip


# ------------------------------------------------------------------------------------- several modules


def test_multi_module_tasks_of_two_modules_go_beside_each_other(fleet):
    one = fleet.batch("one", names=["dev-1"], multi_module=True)
    two = fleet.batch("two", names=["dev-1"], multi_module=True, module="mcu")
    same = fleet.batch("same", names=["dev-1"], multi_module=True, module="mcu")
    assert fleet.tasks(one) == fleet.tasks(two) == {"dev-1": "QUEUED"}
    assert fleet.tasks(same) == {"dev-1": ("FAILED", "conflict")}


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (False, False)])
def test_an_exclusive_task_and_any_other_exclude_each_other(fleet, first, second):
    fleet.batch("one", names=["dev-1"], multi_module=first, module="mcu")
    run_id = fleet.batch("two", names=["dev-1"], multi_module=second)
    assert fleet.tasks(run_id) == {"dev-1": ("FAILED", "conflict")}


def test_overwrite_takes_the_place_of_every_multi_module_task_or_of_none(fleet):
    two = ["dev-1", "dev-2"]
    kept = [
        fleet.batch(f"of-{module}", names=two, multi_module=True, module=module)
        for module in ("default", "mcu")
    ]
    fleet.move("dev-2", Status.IN_PROGRESS, batch="of-mcu")
    run_id = fleet.batch("newest", names=two, conflict=OVERWRITE)
    assert fleet.tasks(run_id) == {"dev-1": "QUEUED", "dev-2": ("FAILED", "conflict")}
    assert [fleet.tasks(each)["dev-2"] for each in kept] == ["QUEUED", "IN_PROGRESS"]
    assert [fleet.tasks(each)["dev-1"] for each in kept] == [("CANCELED", "overwritten")] * 2


def test_an_exclusive_task_that_waits_enters_when_the_last_module_is_free(fleet):
    for module in ("default", "mcu"):
        fleet.batch(f"of-{module}", names=["dev-1"], multi_module=True, module=module)
    run_id = fleet.batch("waits", names=["dev-1"], conflict=WAIT)
    fleet.end("dev-1", batch="of-mcu")
    assert fleet.tasks(run_id) == {"dev-1": ("QUEUED", "behind")}
    fleet.end("dev-1", batch="of-default")
    assert fleet.tasks(run_id) == {"dev-1": "QUEUED"}


def test_several_modules_that_wait_enter_together(fleet):
    fleet.batch("exclusive", names=["dev-1"])
    waiting = [
        fleet.batch(f"of-{module}", names=["dev-1"], multi_module=True, module=module, conflict=WAIT)
        for module in ("default", "mcu", "mcu")
    ]
    fleet.end("dev-1", batch="exclusive")
    assert [fleet.tasks(run_id)["dev-1"] for run_id in waiting[:2]] == ["QUEUED", "QUEUED"]


# ------------------------------------------------------------------------------- an earlier life of it


@pytest.mark.parametrize("conflict", [KEEP, OVERWRITE, WAIT])
def test_a_new_run_waits_behind_the_earlier_run_of_its_batch_whatever_conflict_says(fleet, conflict):
    first = fleet.batch(names=["dev-1", "dev-2"])
    fleet.move("dev-1", Status.NOTIFIED)
    fleet.cancel(first, Status.QUEUED)
    again = fleet.batch(names=["dev-1", "dev-2"], conflict=conflict)
    assert fleet.tasks(first) == {"dev-1": "NOTIFIED", "dev-2": ("CANCELED", "canceled")}
    assert fleet.tasks(again) == {"dev-1": ("QUEUED", "behind"), "dev-2": "QUEUED"}
    fleet.end("dev-1", batch="batch", trigger=lifecycle.Trigger.NO_RESPONSE)
    assert fleet.tasks(again)["dev-1"] == "QUEUED"


def test_another_batch_of_the_same_time_meets_the_conflict_rule_all_the_same(fleet):
    first = fleet.batch(names=["dev-1"])
    fleet.move("dev-1", Status.NOTIFIED)
    fleet.cancel(first)
    assert fleet.tasks(fleet.batch("another", names=["dev-1"])) == {"dev-1": ("FAILED", "conflict")}


# ------------------------------------------------------------------------------------- how they begin


def test_tasks_begin_in_confirm_where_the_batch_asks_and_no_push_is_due(fleet):
    fleet.come(FLEET)
    fleet.batch("older", names=["dev-1"])
    run_id = fleet.batch(confirm=True, conflict=WAIT, names=["dev-1", "dev-2"])
    assert fleet.tasks(run_id) == {"dev-1": ("QUEUED", "behind"), "dev-2": "CONFIRM"}
    fleet.end("dev-1", batch="older")
    assert fleet.tasks(run_id) == {"dev-1": "CONFIRM", "dev-2": "CONFIRM"}
    assert due(fleet, run_id) == {"dev-1": None, "dev-2": None}


def test_pushes_are_due_for_who_is_there_but_never_of_a_pull_batch_or_of_what_waits(fleet):
    fleet.come(FLEET[:2])
    assert due(fleet, fleet.batch("push", names=FLEET[:3])) == {"dev-0": NOW, "dev-1": NOW, "dev-2": None}
    assert due(fleet, fleet.batch("behind", names=FLEET[:1], conflict=WAIT)) == {"dev-0": None}
    fleet.end("dev-0", batch="push")
    fleet.end("dev-1", batch="push")
    assert due(fleet, fleet.batch("pull", names=FLEET[1:2], push_delivery=False)) == {"dev-1": None}
    assert due(fleet, 2) == {"dev-0": NOW}


def test_a_run_that_has_not_started_has_its_pushes_due_already(fleet):
    """The claim leaves them alone until it starts."""
    fleet.come(FLEET[:1])
    run_id = fleet.batch(start_at=NOW + MINUTE, names=FLEET[:1])
    assert (fleet.run(run_id).phase, due(fleet, run_id)) == ("PLANNED", {"dev-0": NOW})


def due(fleet, run_id):
    task, device = tables.task, tables.device
    query = select(device.c.name, task.c.push_due_at).join(device, device.c.id == task.c.device_id)
    with fleet.database.reading() as connection:
        return {row.name: row.push_due_at for row in connection.execute(query.where(task.c.run_id == run_id))}


# ------------------------------------------------------------------------------------------- left out


def left_out(fleet, run_id):
    query = select(tables.left_out).where(tables.left_out.c.run_id == run_id)
    names = {number: name for name, number in fleet.ids().items()}
    with fleet.database.reading() as connection:
        return {names[row.device_id]: (row.reason, row.version) for row in connection.execute(query)}


def test_a_delta_leaves_out_and_lists_devices_on_other_versions_than_its_source(fleet):
    fleet.says({"dev-0": "1.3.0", "dev-1": "1.2.0", "dev-2": "1.4.0", "dev-3": "2.0.0"})
    run_id = fleet.batch(delta=True, source_versions=["1.3.0"], names=FLEET[:5])
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED"}
    assert left_out(fleet, run_id) == {
        "dev-1": ("source-version", "1.2.0"),
        "dev-2": ("already-on-target", "1.4.0"),
        "dev-3": ("source-version", "2.0.0"),
        "dev-4": ("source-version", None),
    }


def test_other_source_versions_are_not_listed_where_the_batch_chose_them(fleet):
    fleet.says({"dev-0": "1.3.0", "dev-1": "1.2.0", "dev-2": "1.4.0"})
    run_id = fleet.batch(source_versions=["1.3.0"])
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED"}
    assert left_out(fleet, run_id) == {"dev-2": ("already-on-target", "1.4.0")}


# ----------------------------------------------------------------------------------------------- gray


def test_a_share_is_rounded_down_of_those_that_fit_and_chosen_by_the_batchs_name(fleet):
    fleet.says({"dev-0": "1.4.0"})
    fleet.batch("busy", names=["dev-1"])
    run_id = fleet.batch("share", gray=45_000)  # 45 % of 7 is 3.15
    a, b = targeting.gray_parameters("share")
    ordered = sorted(
        FLEET[1:], key=lambda name: (targeting.gray_key(targeting.hash31(seed.KEY, name), a, b), name)
    )
    assert set(fleet.tasks(run_id)) == set(ordered[:3])
    assert left_out(fleet, run_id) == {"dev-0": ("already-on-target", "1.4.0")}


def test_the_same_name_chooses_the_same_devices_again_and_another_one_others(fleet):
    chosen = []
    for name in ("share", "share", "rehs"):
        run_id = fleet.batch(name, gray=40_000)
        chosen.append(set(fleet.tasks(run_id)))
        fleet.cancel(run_id, *lifecycle.UNFINISHED)
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize(
    ("thousandths", "count"), [(1, 1), (12_500, 1), (24_999, 1), (25_000, 2), (100_000, 8)]
)
def test_a_share_takes_at_least_one_device_and_no_more_than_it_says(fleet, thousandths, count):
    assert len(fleet.tasks(fleet.batch("share", gray=thousandths))) == count


def test_a_share_of_nobody_is_nobody(fleet):
    run_id = fleet.batch("share", gray=50_000, source_versions=["0.1"])
    assert fleet.tasks(run_id) == {}
    assert fleet.run(run_id).phase == "COMPLETED"


def test_a_reader_may_find_out_where_the_share_ends_before_the_first_chunk(fleet):
    run_id = fleet.batch("share", gray=50_000, work=False)
    with fleet.database.reading() as connection:
        beginning = jobs.unprepared(connection)
    with fleet.database.writing() as connection:
        jobs.begin(connection, beginning.job_id, beginning.arguments)
    with fleet.database.reading() as connection:
        assert jobs.unprepared(connection) is None
    fleet.declare([*FLEET, "dev-8", "dev-9"])  # too late for this batch
    assert len(fleet.tasks(run_id)) == 4


# ---------------------------------------------------------------------------------------------- chunks


@pytest.mark.parametrize("listed", [None, FLEET[1:]])
def test_a_chunk_that_a_crash_cut_off_is_done_again_as_a_whole(fleet, listed):
    run_id = fleet.batch(gray=None, names=listed, work=False)

    def chunk(*, crash):
        with fleet.database.writing() as connection:
            jobs.work(connection, PRESENCE, NOW, CHUNK)
            if crash:
                raise InterruptedError

    for _ in range(2):
        with pytest.raises(InterruptedError):
            chunk(crash=True)
        chunk(crash=False)
    fleet.work()
    assert set(fleet.tasks(run_id)) == set(listed or FLEET)


def test_a_list_with_a_few_names_costs_no_look_at_the_others(fleet):
    """The chunk goes along the list: one chunk, and one that finds the end."""
    fleet.batch(names=["dev-1", "nobody"], work=False)
    assert fleet.work() == 2


def test_the_log_counts_what_a_chunk_did(fleet):
    fleet.says({"dev-7": "1.4.0"})
    fleet.batch("older", names=["dev-1"])
    with fleet.database.writing() as connection:
        seed.batch(connection, "newer", conflict=WAIT)
        jobs.work(connection, PRESENCE, NOW)
        line = events.read(connection, events.Filter(kind="Batch", name="newer"), 1)[0]
    message = "7 tasks created (1 waits behind another), 0 failed at once as conflict, 1 device left out"
    assert line.message == message


def test_who_is_busy_and_what_waits_is_found_by_the_partial_indexes(fleet):
    statement = static.creation._insert(
        static._candidates(is_listed=False, is_gray=False), once=False, succeeding=False
    )
    with fleet.database.writing() as connection:
        compiled = str(statement.compile(connection))
        marks = [1] * compiled.count("?")
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", tuple(marks)).all()
    steps = [row[3] for row in plan]
    assert "SEARCH other USING INDEX ix_task_slot (device_id=?)" in steps
    assert not [
        step for step in steps if step.startswith("SCAN") and "entering" not in step and "anon" not in step
    ]
