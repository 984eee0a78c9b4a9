"""Runs: when they start, end and complete, what is cancelled with them, and what a trial decides."""

from __future__ import annotations

from datetime import timedelta

import pytest
import seed
from fleet import FLEET, WAIT, Fleet
from seed import NOW
from sqlalchemy import select

from reconciler.domain import actual, lifecycle
from reconciler.domain.lifecycle import Status
from reconciler.store import joblist, runs, tables

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def fleet(database):
    made = Fleet(database)
    yield made
    made.check()


def jobs_of(fleet, run_id):
    with fleet.database.reading() as connection:
        return set(
            connection.execute(select(tables.job.c.type).where(tables.job.c.run_id == run_id)).scalars()
        )


# ----------------------------------------------------------------------------------------------- start


def test_a_batch_without_schedule_and_trial_goes_on_from_its_creation(fleet):
    run = fleet.run(fleet.batch(work=False))
    assert (run.phase, run.started_at) == ("IN_PROGRESS", NOW)
    assert jobs_of(fleet, run.id) == {"create"}


@pytest.mark.parametrize(
    ("start", "phase"), [(-MINUTE, "IN_PROGRESS"), (0 * MINUTE, "IN_PROGRESS"), (MINUTE, "PLANNED")]
)
def test_a_start_that_is_past_is_now(fleet, start, phase):
    assert fleet.run(fleet.batch(start_at=NOW + start, work=False)).phase == phase


def test_a_scheduled_batch_has_its_tasks_at_once_and_starts_at_its_time(fleet):
    run_id = fleet.batch(start_at=NOW + HOUR)
    assert fleet.tasks(run_id) == dict.fromkeys(FLEET, "QUEUED")
    fleet.work(NOW + HOUR - MINUTE)
    assert fleet.run(run_id).started_at is None
    fleet.work(NOW + HOUR)
    assert (fleet.run(run_id).phase, fleet.run(run_id).started_at) == ("IN_PROGRESS", NOW + HOUR)


def test_a_batch_starts_only_when_its_tasks_are_made(fleet):
    run_id = fleet.batch(start_at=NOW + HOUR, work=False)
    with fleet.database.writing() as connection:
        assert not runs.start_due(connection, NOW + HOUR)
    fleet.work(NOW + HOUR)
    assert fleet.run(run_id).phase == "IN_PROGRESS"


def test_at_its_start_a_batch_is_filtered_again(fleet):
    fleet.says(dict.fromkeys(FLEET, "1.3.0"))
    run_id = fleet.batch(start_at=NOW + HOUR, source_versions=["1.3.0", "1.5.0"])
    fleet.says({"dev-0": "1.4.0", "dev-1": "1.2.0", "dev-2": "1.5.0"})
    fleet.move("dev-3", Status.CONFIRM)
    fleet.says({"dev-3": "1.2.0", "dev-4": "1.2.0"})
    fleet.move("dev-4", Status.IN_PROGRESS)
    fleet.work(NOW + HOUR)
    assert fleet.tasks(run_id) == {
        "dev-0": "SUCCEEDED",
        "dev-1": ("FAILED", "unexpected-version"),
        "dev-2": ("CANCELED", "downgrade"),
        "dev-3": ("FAILED", "unexpected-version"),
        "dev-4": "IN_PROGRESS",
        **dict.fromkeys(FLEET[5:], "QUEUED"),
    }


def test_what_waits_for_its_device_is_judged_when_its_turn_comes_and_not_when_its_batch_starts(fleet):
    fleet.says({"dev-0": "1.3.0"})
    with fleet.database.writing() as connection:
        seed.package(connection, "1.3.5")
    fleet.batch("bridge", names=["dev-0"], version="1.3.5")
    run_id = fleet.batch(
        start_at=NOW + HOUR, names=["dev-0"], conflict=WAIT, source_versions=["1.3.0", "1.3.5"]
    )
    fleet.move("dev-0", Status.NOTIFIED, batch="bridge")
    fleet.says({"dev-0": "1.3.4"})
    fleet.work(NOW + HOUR)
    assert (fleet.run(run_id).phase, fleet.tasks(run_id)) == ("IN_PROGRESS", {"dev-0": ("QUEUED", "behind")})
    fleet.says({"dev-0": "1.3.5"})
    fleet.end("dev-0", lifecycle.Trigger.REPORTED_TARGET, batch="bridge")
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED"}


def test_what_a_device_began_before_the_start_is_not_judged_again(fleet):
    fleet.says({"dev-0": "1.3.0"})
    run_id = fleet.batch(start_at=NOW + HOUR, names=["dev-0"], source_versions=["1.3.0"])
    fleet.move("dev-0", Status.QUEUED, hold="retry")
    fleet.says({"dev-0": "1.2.0"})
    fleet.work(NOW + HOUR)
    assert fleet.tasks(run_id) == {"dev-0": ("QUEUED", "retry")}


def test_who_the_filter_frees_goes_on_with_what_waits(fleet):
    fleet.batch("planned", start_at=NOW + HOUR, names=["dev-1"])
    run_id = fleet.batch(names=["dev-1"], conflict=WAIT, version="1.4.0")
    fleet.says({"dev-1": "1.4.0"})
    fleet.work(NOW + HOUR)
    assert fleet.tasks(run_id) == {"dev-1": "SUCCEEDED"}


def test_a_planned_batch_whose_tasks_all_ended_completes_when_it_starts(fleet):
    run_id = fleet.batch(start_at=NOW + HOUR, names=["dev-1"])
    fleet.end("dev-1")
    assert fleet.run(run_id).phase == "PLANNED"
    fleet.work(NOW + HOUR)
    assert fleet.run(run_id).phase == "COMPLETED"


def test_nothing_that_is_due_costs_no_write(fleet):
    fleet.batch(start_at=NOW + HOUR, end_at=NOW + 2 * HOUR)
    with fleet.database.writing() as connection:
        assert not runs.start_due(connection, NOW)
        assert not runs.end_due(connection, NOW)


# ------------------------------------------------------------------------------------------------- end


def test_at_its_end_what_was_not_notified_ends_and_the_rest_goes_on(fleet):
    fleet.batch("older", names=["dev-4"])
    run_id = fleet.batch(start_at=NOW, end_at=NOW + HOUR, conflict=WAIT)
    for name, status, hold in [
        ("dev-0", "CONFIRM", "none"), ("dev-1", "QUEUED", "retry"), ("dev-2", "NOTIFIED", "none"),
        ("dev-3", "IN_PROGRESS", "retry"),
    ]:  # fmt: skip
        fleet.move(name, Status(status), hold=hold)
    fleet.work(NOW + HOUR)
    ended = ("CANCELED", "schedule-ended")
    assert fleet.tasks(run_id) == {
        **dict.fromkeys(FLEET, ended), "dev-2": "NOTIFIED", "dev-3": ("IN_PROGRESS", "retry"),
    }  # fmt: skip
    assert fleet.run(run_id).phase == "IN_PROGRESS"


def test_a_new_batch_whose_end_has_passed_creates_no_task_and_is_over(fleet):
    run_id = fleet.batch(start_at=NOW - HOUR, end_at=NOW)
    assert (fleet.run(run_id).phase, fleet.tasks(run_id)) == ("COMPLETED", {})


def test_a_batch_whose_end_comes_while_its_tasks_are_made_makes_no_more(fleet):
    run_id = fleet.batch(start_at=NOW, end_at=NOW + HOUR, work=False)
    with fleet.database.writing() as connection:
        from fleet import CHUNK, PRESENCE

        from reconciler.store import jobs

        jobs.work(connection, PRESENCE, NOW, CHUNK)
    fleet.work(NOW + HOUR)
    assert fleet.tasks(run_id) == dict.fromkeys(FLEET[:3], ("CANCELED", "schedule-ended"))
    assert fleet.run(run_id).phase == "COMPLETED"


def test_a_batch_that_never_started_is_over_at_its_end(fleet):
    unverified(fleet)
    run_id = fleet.batch(start_at=NOW + MINUTE, end_at=NOW + HOUR)
    fleet.work(NOW + HOUR)
    assert fleet.tasks(run_id) == dict.fromkeys(FLEET, ("CANCELED", "schedule-ended"))
    assert (fleet.run(run_id).phase, fleet.run(run_id).started_at) == ("COMPLETED", None)


def test_an_end_that_is_put_off_opens_the_schedule_again(fleet):
    run_id = fleet.batch(start_at=NOW, end_at=NOW + HOUR, names=["dev-1", "dev-2"])
    fleet.move("dev-1", Status.NOTIFIED)
    fleet.work(NOW + HOUR)
    assert fleet.run(run_id).schedule_ended
    change(fleet, run_id, end_at=NOW + 3 * HOUR, now=NOW + 2 * HOUR)
    assert not fleet.run(run_id).schedule_ended
    fleet.move("dev-1", Status.QUEUED)
    fleet.work(NOW + 3 * HOUR)
    assert fleet.tasks(run_id) == dict.fromkeys(["dev-1", "dev-2"], ("CANCELED", "schedule-ended"))


def change(fleet, run_id, *, now=NOW, **changes):
    values = {
        "push_rate": 600, "timeout": None, "retry": None, "tags": {}, "end_at": None, "suspended": False,
        "source_versions": (),
    }  # fmt: skip
    with fleet.database.writing() as connection:
        runs.change(connection, run_id, runs.Changes(**values | changes), now)


def test_suspended_since_is_when_the_first_of_the_two_said_so(fleet):
    run_id = fleet.batch()
    since = []
    for minute, suspended in enumerate([True, True, False, True]):
        change(fleet, run_id, suspended=suspended, now=NOW + minute * MINUTE)
        since.append(fleet.run(run_id).suspended_at)
    assert since == [NOW, NOW, None, NOW + 3 * MINUTE]


# ---------------------------------------------------------------------------------------------- cancel


def test_a_cancellation_ends_the_statuses_that_it_names_and_says_how_many(fleet):
    run_id = fleet.batch(names=FLEET[:4])
    fleet.move("dev-1", Status.NOTIFIED)
    fleet.move("dev-2", Status.IN_PROGRESS)
    assert fleet.cancel(run_id, Status.CONFIRM, Status.QUEUED, Status.IN_PROGRESS) == 3
    canceled = ("CANCELED", "canceled")
    assert fleet.tasks(run_id) == {
        "dev-0": canceled, "dev-1": "NOTIFIED", "dev-2": canceled, "dev-3": canceled,
    }  # fmt: skip
    assert fleet.run(run_id).phase == "CANCELED"
    assert fleet.cancel(run_id, Status.NOTIFIED) == 1
    assert fleet.tasks(run_id)["dev-1"] == canceled
    assert fleet.cancel(run_id, Status.NOTIFIED) == 0


def test_a_canceled_run_makes_no_more_tasks(fleet):
    run_id = fleet.batch(work=False)
    assert fleet.cancel(run_id) == 0
    assert fleet.tasks(run_id) == {}


def test_what_a_canceled_batch_has_left_starts_at_its_time(fleet):
    run_id = fleet.batch(start_at=NOW + HOUR, names=["dev-1", "dev-2"])
    fleet.cancel(run_id)
    fleet.says({"dev-1": "1.4.0"})
    fleet.work(NOW + HOUR)
    assert (fleet.run(run_id).phase, fleet.run(run_id).started_at) == ("CANCELED", NOW + HOUR)
    assert fleet.tasks(run_id) == {"dev-1": "SUCCEEDED", "dev-2": "QUEUED"}


def test_a_canceled_batch_with_nothing_left_never_starts(fleet):
    run_id = fleet.batch(start_at=NOW + HOUR, names=["dev-1"])
    fleet.cancel(run_id, *lifecycle.UNFINISHED)
    fleet.work(NOW + HOUR)
    assert fleet.run(run_id).started_at is None


def test_cancellations_come_before_creations_also_of_older_batches(fleet):
    older = fleet.batch("older", work=False)
    with fleet.database.writing() as connection:
        joblist.drop(connection, older, (joblist.Type.CREATE,))
    newer = fleet.batch("newer")
    with fleet.database.writing() as connection:
        joblist.add(connection, older, joblist.Type.CREATE)
        runs.cancel(connection, newer, runs.Cancellation("git", lifecycle.UNFINISHED), NOW)
    fleet.work()
    assert fleet.tasks(older) == dict.fromkeys(FLEET, "QUEUED")


def test_work_that_is_given_twice_starts_anew(fleet):
    run_id = fleet.batch()
    with fleet.database.writing() as connection:
        for _ in range(2):
            joblist.add(connection, run_id, joblist.Type.SCAN, {"a": 1})
        rows = connection.execute(select(tables.job)).all()
    assert [(row.type, row.cursor, row.arguments) for row in rows] == [("scan", "", {"a": 1})]


# ----------------------------------------------------------------------------------------------- trials


def unverified(fleet, state="unverified"):
    with fleet.database.writing() as connection:
        connection.execute(tables.package.update().values(verification=state))


def verification(fleet):
    with fleet.database.reading() as connection:
        return connection.execute(select(tables.package.c.verification)).scalar_one()


def trial(fleet, names, **changes):
    return fleet.batch("trial", type=actual.RunType.VERIFY, names=names, conflict=WAIT, **changes)


def test_batches_wait_until_the_trial_of_their_package_succeeded(fleet):
    unverified(fleet)
    waits = fleet.batch(names=FLEET[2:])
    trial(fleet, FLEET[:2])
    assert (verification(fleet), fleet.run(waits).phase) == ("verifying", "PLANNED")
    for name in FLEET[:2]:
        assert fleet.run(waits).phase == "PLANNED"
        fleet.end(name, lifecycle.Trigger.REPORTED_TARGET)
    assert (verification(fleet), fleet.run(waits).phase) == ("verified", "IN_PROGRESS")
    fleet.says({"dev-2": "1.4.0"})
    fleet.work()
    assert fleet.tasks(waits)["dev-2"] == "SUCCEEDED"


def test_a_trial_fails_with_one_of_its_devices(fleet):
    unverified(fleet)
    waits = fleet.batch(names=FLEET[2:])
    trial(fleet, FLEET[:2])
    fleet.end("dev-0", lifecycle.Trigger.REPORTED_TARGET)
    fleet.move("dev-1", Status.NOTIFIED)
    fleet.end("dev-1", lifecycle.Trigger.NO_RESPONSE)
    assert (verification(fleet), fleet.run(waits).phase) == ("failed", "PLANNED")


@pytest.mark.parametrize(("versions", "result"), [({"dev-0": "1.4.0"}, "verified"), ({}, "failed")])
def test_a_device_that_is_on_the_target_counts_and_a_trial_of_nobody_fails(fleet, versions, result):
    fleet.says(versions)
    unverified(fleet)
    trial(fleet, ["dev-0"], source_versions=["1.3.0"])
    assert verification(fleet) == result


def test_a_trial_that_is_canceled_has_failed(fleet):
    unverified(fleet)
    run_id = trial(fleet, ["dev-0"])
    fleet.cancel(run_id, *lifecycle.UNFINISHED)
    assert verification(fleet) == "failed"


@pytest.mark.parametrize("state", ["not-required", "verified"])
def test_a_package_that_needs_no_trial_any_more_lets_its_batches_start(fleet, state):
    unverified(fleet, "failed")
    run_id = fleet.batch()
    unverified(fleet, state)
    fleet.work()
    assert fleet.run(run_id).phase == "IN_PROGRESS"


@pytest.mark.parametrize("conflict", ["Keep", "Overwrite", "Wait"])
def test_the_batch_that_waits_for_a_trial_makes_way_for_it_and_comes_back(fleet, conflict):
    unverified(fleet, "failed")
    waits = fleet.batch(confirm=True, conflict=conflict, names=FLEET[:2])
    tried = trial(fleet, ["dev-0"])
    assert (fleet.tasks(waits), fleet.tasks(tried)) == (
        {"dev-0": ("QUEUED", "behind"), "dev-1": "CONFIRM"}, {"dev-0": "QUEUED"},
    )  # fmt: skip
    fleet.check()
    fleet.end("dev-0", lifecycle.Trigger.TIMEOUT, batch="trial")
    fleet.move("dev-0", Status.NOTIFIED, batch="trial")
    fleet.end("dev-0", lifecycle.Trigger.NO_RESPONSE, batch="trial")
    assert fleet.tasks(waits) == dict.fromkeys(FLEET[:2], "CONFIRM")


def test_what_makes_way_says_so(fleet):
    unverified(fleet, "failed")
    fleet.batch(names=["dev-0"])
    trial(fleet, ["dev-0"])
    with fleet.database.reading() as connection:
        lines = connection.execute(select(tables.event).where(tables.event.c.task_id.is_not(None))).all()
    assert [(line.from_status, line.to_status, line.message) for line in lines] == [
        ("QUEUED", "QUEUED", "makes way for a trial")
    ]


def test_what_waits_for_its_retry_makes_way_too_and_begins_anew_without_its_past(fleet):
    unverified(fleet, "failed")
    waits = fleet.batch(names=["dev-0"])
    fleet.move("dev-0", Status.QUEUED, hold="retry")
    past = {
        "attempt": 1,
        "retry_at": NOW,
        "failure_mark": b"said",
        "started_at": NOW,
        "deadline_at": NOW + HOUR,
    }
    with fleet.database.writing() as connection:
        connection.execute(tables.task.update().values(**past, step=-1, push_due_at=NOW))
    tried = trial(fleet, ["dev-0"])
    assert (fleet.tasks(waits), fleet.tasks(tried)) == ({"dev-0": ("QUEUED", "behind")}, {"dev-0": "QUEUED"})
    with fleet.database.reading() as connection:
        row = connection.execute(select(tables.task).where(tables.task.c.run_id == waits)).one()
    assert (row.attempt, row.retry_at, row.failure_mark, row.started_at, row.deadline_at) == (0, *[None] * 4)
    assert (row.step, row.push_due_at, row.holds) == (None, None, False)
    fleet.end("dev-0", batch="trial")
    assert fleet.tasks(waits) == {"dev-0": "QUEUED"}


def test_a_batch_that_has_started_keeps_its_device_and_a_trial_waits(fleet):
    started = fleet.batch(names=["dev-0"])
    tried = trial(fleet, ["dev-0"])
    assert (fleet.tasks(started), fleet.tasks(tried)) == (
        {"dev-0": "QUEUED"},
        {"dev-0": ("QUEUED", "behind")},
    )


def test_a_trial_goes_before_what_waits_longer_and_who_has_not_started_makes_way_when_its_turn_comes(fleet):
    first = fleet.batch("first", names=["dev-0"], multi_module=True, module="mcu")
    older = fleet.batch("older", names=["dev-0"], conflict=WAIT)
    tried = trial(fleet, ["dev-0"])
    planned = fleet.batch("planned", names=["dev-0"], multi_module=True, start_at=NOW + HOUR)
    assert [fleet.tasks(run_id)["dev-0"] for run_id in (first, older, tried, planned)] == [
        "QUEUED", ("QUEUED", "behind"), ("QUEUED", "behind"), "QUEUED",
    ]  # fmt: skip
    fleet.end("dev-0", batch="first")
    assert [fleet.tasks(run_id)["dev-0"] for run_id in (older, tried, planned)] == [
        ("QUEUED", "behind"), "QUEUED", ("QUEUED", "behind"),
    ]  # fmt: skip
    fleet.end("dev-0", batch="trial")
    assert [fleet.tasks(run_id)["dev-0"] for run_id in (older, planned)] == ["QUEUED", ("QUEUED", "behind")]


def said_of(fleet, run_id):
    """What the log says of a trial as a whole."""
    with fleet.database.reading() as connection:
        mine = select(tables.event).where(tables.event.c.run_id == run_id, tables.event.c.task_id.is_(None))
        found = connection.execute(mine.order_by(tables.event.c.id)).all()
    assert {line.kind for line in found} == {"Package"}
    return found[-1].message


def test_a_test_device_that_is_left_out_as_a_downgrade_fails_the_trial(fleet):
    fleet.says({"dev-0": "1.4.0", "dev-1": "9.0.0"})
    run_id = trial(fleet, ["dev-0", "dev-1"])
    assert verification(fleet) == "failed"
    assert said_of(fleet, run_id) == "verification failed: 1 device left out (downgrade)"


def test_a_trial_that_passes_says_with_how_many_devices(fleet):
    fleet.says({"dev-0": "1.4.0"})
    run_id = trial(fleet, ["dev-0", "dev-1"])
    fleet.end("dev-1", lifecycle.Trigger.REPORTED_TARGET)
    assert said_of(fleet, run_id) == "verified: 2 of 2 devices"


def test_a_trial_that_fails_says_why(fleet):
    run_id = trial(fleet, FLEET[:3])
    fleet.end("dev-0", lifecycle.Trigger.REPORTED_TARGET)
    fleet.end("dev-1", lifecycle.Trigger.UNFIT)
    fleet.end("dev-2")
    assert said_of(fleet, run_id) == "verification failed: 1 device canceled, 1 device unexpected-version"


@pytest.mark.parametrize("trigger", [lifecycle.Trigger.REPORTED_DOWNGRADE, lifecycle.Trigger.WOULD_DOWNGRADE])
def test_a_test_device_that_gets_above_the_target_fails_the_trial(fleet, trigger):
    run_id = trial(fleet, FLEET[:2])
    fleet.end("dev-0", lifecycle.Trigger.REPORTED_TARGET)
    fleet.end("dev-1", trigger)
    assert fleet.tasks(run_id)["dev-1"] == ("CANCELED", "downgrade")
    assert said_of(fleet, run_id) == "verification failed: 1 device downgrade"
    assert verification(fleet) == "failed"


def test_a_trial_that_nobody_fits_says_so(fleet):
    run_id = trial(fleet, ["dev-0"], source_versions=["1.3.0"])
    assert said_of(fleet, run_id) == "verification failed: none of its devices fits"


def test_who_cancels_a_trial_fails_it(fleet):
    run_id = trial(fleet, ["dev-0"])
    fleet.cancel(run_id, *lifecycle.UNFINISHED)
    assert said_of(fleet, run_id) == "by git, 1 task ends: why; verification failed"


# ------------------------------------------------------------------------------------------------ order


def test_of_the_looks_at_the_fleet_the_newest_batchs_is_first_and_lists_go_in_their_order(fleet):
    older, newer = (
        fleet.batch("a", work=False, names=["dev-0"]),
        fleet.batch("b", work=False, names=["dev-0"]),
    )
    group = fleet.group()
    assert (fleet.tasks(older), fleet.tasks(newer)) == (
        {"dev-0": "QUEUED"},
        {"dev-0": ("FAILED", "conflict")},
    )
    looks = [fleet.dynamic(name, group_id=group, work=False) for name in ("c", "d")]
    fleet.work()
    assert [fleet.tasks(run_id)["dev-1"] for run_id in looks] == [("FAILED", "conflict"), "QUEUED"]


def test_git_suspends_what_earlier_runs_of_the_batch_have_left_too(fleet):
    earlier = fleet.batch(names=["dev-0"])
    fleet.move("dev-0", Status.NOTIFIED)
    fleet.cancel(earlier, Status.QUEUED)
    run_id = fleet.batch(names=["dev-1"])
    for suspended, since in ((True, NOW), (False, None)):
        change(fleet, run_id, suspended=suspended)
        found = [fleet.run(one) for one in (earlier, run_id)]
        assert [(run.suspended, run.suspended_at) for run in found] == [(suspended, since)] * 2
