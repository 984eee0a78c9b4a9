"""What operators order: tasks confirmed, cancelled and upgraded again, batches suspended and resumed; and refusals."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
import rows
from rows import BATCH, EPOCH, HOUR, MINUTE, NOW, PACKAGE, Rows, counted
from sqlalchemy import select

from reconciler.domain.downloads import Ways
from reconciler.services import operate
from reconciler.store import commands, devices, events, tables

SETTLE = timedelta(seconds=10)
PRESENCE = devices.Presence(EPOCH, SETTLE)
WAYS = Ways()


@dataclasses.dataclass
class Desk:
    """A database in a situation, where orders are given and carried out at once."""

    database: object
    ways: Ways = WAYS

    def set(self, make):
        """Puts rows into the database."""
        with self.database.writing() as connection:
            made = Rows(connection)
            made.world()
            return make(made)

    def give(self, order, *, now=NOW, chunk=1000, **arguments):
        """Who orders is alice, because. What comes of it in one transaction."""
        with self.database.writing() as connection:
            number = commands.submit(connection, order, arguments, who="alice", why="because", now=now)
        with self.database.writing() as connection:
            operate.carry_out_all(connection, PRESENCE, now, self.ways, chunk=chunk)
        with self.database.reading() as connection:
            return commands.get(connection, number)

    def refused(self, order, **arguments):
        """The words of a refusal, which changed no task and no run."""
        before = self.everything()
        done = self.give(order, **arguments)
        assert done.ok is False, done.result
        assert self.everything() == before
        return done.result

    def done(self, order, **arguments):
        done = self.give(order, **arguments)
        assert done.ok, done.result
        return done.result

    def everything(self):
        with self.database.reading() as connection:
            return [
                connection.execute(select(table)).all()
                for table in (tables.task, tables.run, tables.task_count)
            ]

    def task(self, task_id):
        with self.database.reading() as connection:
            return rows.row(connection, tables.task, task_id)

    def run(self, run_id):
        with self.database.reading() as connection:
            counted(connection, run_id)
            return rows.row(connection, tables.run, run_id)

    def jobs(self):
        with self.database.reading() as connection:
            found = connection.execute(select(tables.job)).all()
        return [(job.run_id, job.type, job.arguments["statuses"]) for job in found]

    def log(self, device=None):
        with self.database.reading() as connection:
            lines = events.read(connection, events.Filter(device=device), 100)
        return [
            (line.from_status, line.to_status, line.reason, line.message)
            for line in lines
            if line.type == "task"
        ]


@pytest.fixture
def desk(database):
    return Desk(database)


# ----------------------------------------------------------------------------------------------- confirm


def asking(made, *, names=("dev-1", "dev-2"), online=(), **run):
    """A batch that asks for a confirmation, with a task in CONFIRM for each device."""
    run_id = made.run(confirm=True, **run)
    return run_id, [
        made.task(run_id, made.device(name, "1.3.0", online=name in online), "CONFIRM") for name in names
    ]


def test_a_confirmed_task_is_queued_and_pushed_at_once_when_its_device_is_there(desk):
    run_id, (one, two) = desk.set(lambda made: asking(made, online=["dev-1"]))
    assert desk.done("confirm", batch=BATCH, devices=["dev-1"]) == "confirmed 1 task"
    assert (desk.task(one).status, desk.task(one).push_due_at) == ("QUEUED", NOW)
    assert desk.task(two).status == "CONFIRM"
    assert desk.log() == [("CONFIRM", "QUEUED", None, "confirmed by alice: because")]
    assert desk.run(run_id).phase == "IN_PROGRESS"


def test_a_confirmed_task_of_a_device_that_is_away_waits_for_it(desk):
    _, (one, _) = desk.set(asking)
    desk.done("confirm", batch=BATCH, devices=["dev-1"])
    assert (desk.task(one).status, desk.task(one).push_due_at) == ("QUEUED", None)


def test_a_device_that_an_earlier_daemon_knew_to_be_there_is_not_pushed(desk):
    def make(made):
        return made.task(
            made.run(confirm=True), made.device("dev-1", online=True, online_epoch=EPOCH - 1), "CONFIRM"
        )

    task = desk.set(make)
    desk.done("confirm", batch=BATCH, tasks=True)
    assert desk.task(task).push_due_at is None


def test_a_device_that_came_just_now_is_heard_before_it_is_pushed(desk):
    def make(made):
        device = made.device("dev-1", "1.3.0", online=True, online_since=NOW - timedelta(seconds=4))
        return made.task(made.run(confirm=True), device, "CONFIRM")

    task = desk.set(make)
    desk.done("confirm", batch=BATCH, devices=["dev-1"])
    assert desk.task(task).push_due_at == NOW + timedelta(seconds=6)


def test_a_batch_with_delivery_pull_is_confirmed_and_never_pushed(desk):
    _, (one, _) = desk.set(lambda made: asking(made, online=["dev-1"], push_delivery=False))
    desk.done("confirm", batch=BATCH, tasks=True)
    assert (desk.task(one).status, desk.task(one).push_due_at) == ("QUEUED", None)


def test_all_tasks_of_a_batch_are_confirmed_in_as_many_transactions_as_it_takes(desk):
    names = [f"dev-{number}" for number in range(7)]
    run_id, tasks = desk.set(lambda made: asking(made, names=names, online=["dev-3"]))
    first = desk.give("confirm", batch=BATCH, tasks=True, chunk=3)
    assert first.done_at is None
    assert [desk.task(task).status for task in tasks] == ["QUEUED"] * 3 + ["CONFIRM"] * 4
    desk.run(run_id)
    with desk.database.writing() as connection:
        while operate.carry_out_all(connection, PRESENCE, NOW, WAYS, chunk=3):
            pass
    with desk.database.reading() as connection:
        done = commands.get(connection, first.id)
        assert counted(connection, run_id) == {"QUEUED": 7}
    assert (done.ok, done.result) == (True, "confirmed 7 tasks")
    assert [task for task in tasks if desk.task(task).push_due_at == NOW] == [tasks[3]]
    assert desk.log() == [("CONFIRM", "QUEUED", None, "confirmed by alice: because")] * 7


def test_what_is_confirmed_part_by_part_is_of_the_run_that_it_began_with(desk):
    """The batch was deleted and is back meanwhile: nobody has confirmed its new run."""
    names = [f"dev-{number}" for number in range(4)]
    run_id, tasks = desk.set(lambda made: asking(made, names=names))
    first = desk.give("confirm", batch=BATCH, tasks=True, chunk=2)
    with desk.database.writing() as connection:
        made = rows.Rows(connection)
        newer = made.run(number=2, confirm=True)
        asked = [made.task(newer, made.device(f"new-{number}", "1.3.0"), "CONFIRM") for number in range(2)]
        operate.carry_out_all(connection, PRESENCE, NOW, WAYS, chunk=2)
    assert [desk.task(task).status for task in tasks + asked] == ["QUEUED"] * 2 + ["CONFIRM"] * 4
    desk.run(run_id)
    with desk.database.reading() as connection:
        done = commands.get(connection, first.id)
    assert done.ok is False
    assert done.result.startswith(f"confirmed 2 tasks, then run 2 of batch {BATCH} began")


def test_the_tasks_between_those_that_are_confirmed_are_not_touched(desk):
    """They may be as many as there are devices."""

    def make(made):
        run_id = made.run(confirm=True)
        return [
            made.task(run_id, made.device(f"dev-{number}", "1.3.0", online=True), status)
            for number, status in enumerate(["CONFIRM", "QUEUED", "CONFIRM"])
        ]

    tasks = desk.set(make)
    desk.done("confirm", batch=BATCH, tasks=True)
    assert [desk.task(task).push_due_at for task in tasks] == [NOW, None, NOW]


def test_confirming_leaves_other_batches_and_other_tasks_alone(desk):
    def make(made):
        _, mine = asking(made, names=["dev-1"])
        other = made.run("other", confirm=True)
        theirs = made.task(other, made.device("dev-2", "1.3.0"), "CONFIRM")
        ended = made.task(1, made.device("dev-3", "1.3.0"), "FAILED", reason="timeout")
        return mine[0], theirs, ended

    mine, theirs, ended = desk.set(make)
    assert desk.done("confirm", batch=BATCH, tasks=True) == "confirmed 1 task"
    assert [desk.task(task).status for task in (mine, theirs, ended)] == ["QUEUED", "CONFIRM", "FAILED"]


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"phase": "PLANNED", "started_at": None, "start_at": NOW + HOUR}, "starts at 2026-11-01 13:00:00Z"),
        ({"phase": "PLANNED", "started_at": None}, "it is starting"),
        ({"end_at": NOW}, "the schedule of batch eu-to-1.4.0 ended 2026-11-01 12:00:00Z"),
        ({"schedule_ended": True}, "the schedule of batch eu-to-1.4.0 ended already"),
        (
            {"phase": "COMPLETED", "started_at": None, "end_at": NOW},
            "the schedule of batch eu-to-1.4.0 ended",
        ),
        ({"phase": "COMPLETED", "started_at": None}, "batch eu-to-1.4.0 was over before it started"),
    ],
)
@pytest.mark.parametrize("which", [{"devices": ["dev-1"]}, {"tasks": True}])
def test_a_confirmation_outside_of_the_schedule_is_refused(desk, run, said, which):
    desk.set(lambda made: asking(made, **run))
    assert said in desk.refused("confirm", batch=BATCH, **which)


def test_a_confirmation_before_the_verification_passed_is_refused_with_what_it_waits_for(desk):
    def make(made):
        package = made.package("firmware-1.5.0", "1.5.0", verification="verifying")
        return asking(made, phase="PLANNED", started_at=None, start_at=NOW + HOUR, package_id=package)

    desk.set(make)
    said = desk.refused("confirm", batch=BATCH, tasks=True)
    assert "when the verification of firmware-1.5.0 has passed (it is verifying)" in said
    assert "after 2026-11-01 13:00:00Z" in said


def two_lives(made, earlier, newest):
    """A batch with a task in CONFIRM of its earlier life, and a newer life."""
    _, (task,) = asking(made, names=["dev-1"], phase="CANCELED", canceled_by="git", **earlier)
    made.run(number=2, confirm=True, **newest)
    return task


def test_what_an_earlier_life_left_is_confirmed_inside_of_its_own_schedule(desk):
    later = {"phase": "PLANNED", "started_at": None, "start_at": NOW + HOUR}
    task = desk.set(lambda made: two_lives(made, {}, later))
    assert desk.done("confirm", batch=BATCH, devices=["dev-1"]) == "confirmed 1 task"
    assert desk.task(task).status == "QUEUED"


@pytest.mark.parametrize(
    ("earlier", "said"),
    [
        ({"started_at": None, "start_at": NOW + HOUR}, "has not started: it starts at 2026-11-01 13:00:00Z"),
        ({"end_at": NOW}, "ended 2026-11-01 12:00:00Z"),
    ],
)
def test_what_an_earlier_life_left_is_not_confirmed_outside_of_its_own_schedule(desk, earlier, said):
    desk.set(lambda made: two_lives(made, earlier, {}))
    refusal = desk.refused("confirm", batch=BATCH, devices=["dev-1"])
    assert "run 1 of batch eu-to-1.4.0 " in refusal
    assert said in refusal


def test_a_confirmation_just_before_the_end_of_the_schedule_counts(desk):
    desk.set(lambda made: asking(made, end_at=NOW + timedelta(milliseconds=1)))
    assert desk.done("confirm", batch=BATCH, tasks=True) == "confirmed 2 tasks"


def test_nothing_is_confirmed_when_one_of_the_named_devices_can_not_be(desk):
    def make(made):
        run_id, _ = asking(made, names=["dev-1"])
        made.task(run_id, made.device("dev-2", "1.3.0"), "NOTIFIED")
        made.task(run_id, made.device("dev-3", "1.3.0"), "QUEUED", hold="behind")
        made.device("dev-4", "1.3.0")

    desk.set(make)
    said = desk.refused("confirm", batch=BATCH, devices=["dev-1", "dev-2", "dev-3", "dev-4"])
    assert "the task of dev-2 is NOTIFIED" in said
    assert "the task of dev-3 is QUEUED, behind another task" in said
    assert "has no task for dev-4" in said
    assert "has no device dev-9" in desk.refused("confirm", batch=BATCH, devices=["dev-9"])


def test_nothing_to_confirm_is_said(desk):
    desk.set(lambda made: asking(made, names=[]))
    assert (
        desk.refused("confirm", batch=BATCH, tasks=True)
        == "no task of batch eu-to-1.4.0 waits for a confirmation"
    )
    assert desk.refused("confirm", batch="nobody", tasks=True) == "there is no batch nobody with a run"


def test_who_confirms_while_tasks_are_being_made_is_told_to_come_again(desk):
    def make(made):
        run_id, _ = asking(made)
        made.add(tables.job, run_id=run_id, type="create", arguments={})

    desk.set(make)
    assert desk.done("confirm", batch=BATCH, tasks=True).endswith(
        "still being made: confirm again for the others"
    )


# ------------------------------------------------------------------------------------------------ cancel


@pytest.mark.parametrize("status", ["CONFIRM", "QUEUED", "NOTIFIED", "IN_PROGRESS"])
def test_one_devices_task_is_cancelled_and_the_batch_goes_on(desk, status):
    def make(made):
        run_id = made.run()
        made.task(run_id, made.device("dev-2", "1.3.0"))
        return run_id, made.task(run_id, made.device("dev-1", "1.3.0"), status)

    run_id, task = desk.set(make)
    assert desk.done("cancel", batch=BATCH, device="dev-1") == "cancelled the task of dev-1"
    found = desk.task(task)
    assert (found.status, found.reason, found.holds) == ("CANCELED", "canceled", False)
    assert desk.log() == [(status, "CANCELED", "canceled", "cancelled by alice: because")]
    assert desk.run(run_id).phase == "IN_PROGRESS"


def test_the_last_task_that_is_cancelled_completes_its_batch(desk):
    def make(made):
        run_id = made.run()
        made.task(run_id, made.device("dev-1", "1.3.0"))
        return run_id

    run_id = desk.set(make)
    desk.done("cancel", batch=BATCH, device="dev-1")
    assert desk.run(run_id).phase == "COMPLETED"


def test_what_waits_behind_a_cancelled_task_has_its_turn(desk):
    def make(made):
        device = made.device("dev-1", "1.3.0", online=True)
        made.task(made.run(), device, "NOTIFIED")
        return made.task(made.run("next", conflict="Wait"), device, "QUEUED", hold="behind")

    waiting = desk.set(make)
    desk.done("cancel", batch=BATCH, device="dev-1")
    found = desk.task(waiting)
    assert (found.status, found.hold, found.holds, found.push_due_at) == ("QUEUED", "none", True, NOW)


def test_a_task_of_an_earlier_life_of_the_batch_is_cancelled_too(desk):
    def make(made):
        device = made.device("dev-1", "1.3.0")
        old = made.run(phase="CANCELED", canceled_by="git", ended_at=NOW)
        first = made.task(old, device, "IN_PROGRESS")
        new = made.run(number=2, object_id=rows.row(made.connection, tables.run, old).object_id)
        return first, made.task(new, device, "QUEUED", hold="behind")

    assert {desk.task(task).status for task in desk.set(make)} == {"IN_PROGRESS", "QUEUED"}
    desk.done("cancel", batch=BATCH, device="dev-1")
    with desk.database.reading() as connection:
        assert set(connection.execute(select(tables.task.c.status)).scalars()) == {"CANCELED"}


def test_there_must_be_something_to_cancel(desk):
    def make(made):
        made.task(made.run(), made.device("dev-1", "1.4.0"), "SUCCEEDED")
        made.device("dev-2", "1.3.0")

    desk.set(make)
    assert "the task of dev-1 is SUCCEEDED" in desk.refused("cancel", batch=BATCH, device="dev-1")
    assert "`reconciler trace dev-2` says why" in desk.refused("cancel", batch=BATCH, device="dev-2")


def test_a_verification_is_cancelled_whole_and_has_failed_then(desk):
    def make(made):
        run_id = made.run(PACKAGE, type="Verify")
        for name, status in (("dev-1", "QUEUED"), ("dev-2", "IN_PROGRESS")):
            made.task(run_id, made.device(name, "1.3.0"), status)
        return run_id

    run_id = desk.set(make)
    assert desk.done("cancel", package=PACKAGE) == "cancelled: 2 tasks end, 0 go on"
    assert (desk.run(run_id).phase, desk.run(run_id).canceled_by) == ("CANCELED", "alice")
    assert desk.jobs() == [(run_id, "cancel", ["CONFIRM", "QUEUED", "NOTIFIED", "IN_PROGRESS"])]
    with desk.database.reading() as connection:
        assert rows.row(connection, tables.package, 1).verification == "failed"


@pytest.mark.parametrize(
    ("run", "said", "statuses"),
    [
        ({}, "cancelled: 2 tasks end, 1 goes on", ["CONFIRM", "QUEUED"]),
        ({"spec": {"onCancel": ["InProgress"]}}, "cancelled: 1 task ends, 2 go on", ["IN_PROGRESS"]),
        (
            {"phase": "PLANNED", "started_at": None, "spec": {"onCancel": ["Scheduled"]}},
            "cancelled: 3 tasks end, 0 go on",
            ["CONFIRM", "QUEUED", "NOTIFIED", "IN_PROGRESS"],
        ),
    ],
)
def test_a_batch_is_cancelled_by_its_own_scopes(desk, run, said, statuses):
    def make(made):
        run_id = made.run(**run)
        for name, status in (("dev-1", "QUEUED"), ("dev-2", "IN_PROGRESS"), ("dev-3", "CONFIRM")):
            made.task(run_id, made.device(name, "1.3.0"), status)
        return run_id

    run_id = desk.set(make)
    assert desk.done("cancel", batch=BATCH) == said
    assert desk.jobs() == [(run_id, "cancel", statuses)]
    assert "is CANCELED already" in desk.refused("cancel", batch=BATCH)


# ------------------------------------------------------------------------------------------------- retry


def ended(made, status="FAILED", *, version="1.3.0", online=False, task=None, **run):
    """A batch with a device whose task ended badly."""
    run_id = made.run(**run)
    device = made.device("dev-1", version, online=online)
    past = {"reason": "timeout", "attempt": 2, "step": 40, "step_description": "half", "late_success": True}
    stamps = {"started_at": NOW - MINUTE, "first_pushed_at": NOW - HOUR, "last_pushed_at": NOW - HOUR}
    return run_id, device, made.task(run_id, device, status, **past | stamps | (task or {}))


@pytest.mark.parametrize("status", ["FAILED", "CANCELED"])
def test_a_task_that_ended_badly_is_upgraded_again_without_its_past(desk, status):
    run_id, _, task = desk.set(lambda made: ended(made, status, version="1.3.1", online=True))
    assert desk.done("retry", batch=BATCH, device="dev-1") == "the task of dev-1 is QUEUED again"
    found = desk.task(task)
    assert (found.status, found.hold, found.holds, found.push_due_at) == ("QUEUED", "none", True, NOW)
    assert (found.reason, found.step, found.attempt, found.started_at, found.first_pushed_at, found.ended_at) == (
        None, None, 0, None, None, None,
    )  # fmt: skip
    assert (found.source_version, found.late_success) == ("1.3.1", False)
    assert desk.log() == [(status, "QUEUED", None, "upgraded again by alice: because")]
    assert desk.run(run_id).phase == "IN_PROGRESS"


def test_a_task_that_was_pushed_a_moment_ago_is_pushed_again_a_minute_later(desk):
    pushed = {"last_pushed_at": NOW - timedelta(seconds=20)}
    _, _, task = desk.set(lambda made: ended(made, online=True, task=pushed))
    desk.done("retry", batch=BATCH, device="dev-1")
    assert desk.task(task).push_due_at == NOW + timedelta(seconds=40)


def test_a_batch_that_asks_for_confirmations_asks_again(desk):
    _, _, task = desk.set(lambda made: ended(made, online=True, confirm=True))
    assert desk.done("retry", batch=BATCH, device="dev-1") == "the task of dev-1 is CONFIRM again"
    assert (desk.task(task).status, desk.task(task).push_due_at) == ("CONFIRM", None)


@pytest.mark.parametrize(("started_at", "phase"), [(NOW - HOUR, "IN_PROGRESS"), (None, "PLANNED")])
def test_a_completed_batch_opens_again_and_one_that_never_started_is_to_start(desk, started_at, phase):
    over = {"phase": "COMPLETED", "started_at": started_at, "ended_at": NOW - MINUTE}
    run_id, _, _ = desk.set(lambda made: ended(made, **over))
    desk.done("retry", batch=BATCH, device="dev-1")
    found = desk.run(run_id)
    assert (found.phase, found.ended_at) == (phase, None)


def test_a_batch_whose_files_were_collected_stays_closed(desk):
    def make(made):
        ended(made, phase="COMPLETED", ended_at=NOW - MINUTE)
        made.connection.execute(tables.blob.update().values(stored=False))

    desk.set(make)
    assert "files of" in desk.refused("retry", batch=BATCH, device="dev-1")


@pytest.mark.parametrize("phase", ["COMPLETED", "IN_PROGRESS"])
def test_a_batch_stays_closed_whose_devices_could_not_download_in_its_way_any_more(desk, phase):
    _, _, task = desk.set(lambda made: ended(made, phase=phase, download="HTTPS"))
    said = desk.refused("retry", batch=BATCH, device="dev-1")
    assert said == (
        "batch eu-to-1.4.0 asks for downloads over HTTPS, and devices reach this server over HTTP only: give "
        "--public-url an https:// URL too, after a comma"
    )
    desk.ways = Ways(https=True)
    desk.done("retry", batch=BATCH, device="dev-1")
    assert desk.task(task).status == "QUEUED"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"removed": True}, "has left Git"), ({"spec": {"state": "Canceled"}}, "is cancelled in Git")],
)
def test_a_completed_batch_that_git_wants_no_more_stays_closed(desk, changes, said):
    def make(made):
        run_id, _, _ = ended(made, phase="COMPLETED", ended_at=NOW - MINUTE)
        object_id = rows.row(made.connection, tables.run, run_id).object_id
        mine = tables.object_.c.id == object_id
        made.connection.execute(tables.object_.update().where(mine).values(**changes))

    desk.set(make)
    assert said in desk.refused("retry", batch=BATCH, device="dev-1")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phase": "CANCELED", "canceled_by": "git", "ended_at": NOW}, "is CANCELED"),
        ({"end_at": NOW}, "the schedule of batch eu-to-1.4.0 ended at 2026-11-01 12:00:00Z"),
        ({"schedule_ended": True}, "the schedule of batch eu-to-1.4.0 ended"),
        ({"version": "1.4.0"}, "dev-1 is on 1.4.0: that is the target already"),
        ({"version": "1.5.0"}, "dev-1 is on 1.5.0: the target is lower"),
        ({"source_versions": ["1.2.0"]}, "dev-1 is on 1.3.0: the batch is for other source versions"),
        ({"version": None, "source_versions": ["1.2.0"]}, "dev-1 is on no known version"),
        ({"status": "SUCCEEDED"}, "the task of dev-1 is SUCCEEDED (timeout): only what FAILED"),
        ({"status": "NOTIFIED"}, "the task of dev-1 is NOTIFIED"),
    ],
)
def test_a_second_chance_is_refused(desk, changes, said):
    def make(made):
        return ended(made, changes.pop("status", "FAILED"), **changes)

    desk.set(make)
    assert said in desk.refused("retry", batch=BATCH, device="dev-1")


def test_a_device_that_is_declared_no_more_gets_no_second_chance(desk):
    def make(made):
        run_id = made.run()
        made.task(run_id, made.device("dev-1", "1.3.0", state="removed"), "FAILED", reason="timeout")

    desk.set(make)
    assert "declared no more" in desk.refused("retry", batch=BATCH, device="dev-1")


def test_only_the_newest_task_of_the_device_in_the_batch_counts(desk):
    def make(made):
        run_id, device, first = ended(made, type="Dynamic")
        return first, made.task(run_id, device, "FAILED", reason="conflict", match_no=1)

    first, second = desk.set(make)
    desk.done("retry", batch=BATCH, device="dev-1")
    assert (desk.task(first).status, desk.task(second).status) == ("FAILED", "QUEUED")


def busy(made, status="NOTIFIED", *, conflict="Keep", multi=False, other=None):
    """A task that failed as conflict, and the task that has its device."""
    _, device, mine = ended(made, task={"reason": "conflict"}, conflict=conflict, multi_module=multi)
    values = {"module": "default"} | (other or {})
    return mine, made.task(made.run("other"), device, status, **values)


@pytest.mark.parametrize(
    ("conflict", "status"),
    [("Keep", "NOTIFIED"), ("Keep", "CONFIRM"), ("Keep", "IN_PROGRESS"), ("Overwrite", "IN_PROGRESS")],
)
def test_a_busy_device_keeps_its_task_and_the_refusal_names_the_batch(desk, conflict, status):
    mine, _ = desk.set(lambda made: busy(made, status, conflict=conflict))
    said = desk.refused("retry", batch=BATCH, device="dev-1")
    assert f"its task of batch other is {status}" in said
    assert "`reconciler cancel other --device dev-1`" in said
    assert desk.task(mine).reason == "conflict"


@pytest.mark.parametrize("status", ["CONFIRM", "QUEUED", "NOTIFIED"])
def test_overwrite_cancels_the_other_task(desk, status):
    mine, other = desk.set(lambda made: busy(made, status, conflict="Overwrite"))
    assert desk.done("retry", batch=BATCH, device="dev-1").endswith("1 other task overwritten")
    assert (desk.task(mine).status, desk.task(mine).holds) == ("QUEUED", True)
    found = desk.task(other)
    assert (found.status, found.reason, found.holds) == ("CANCELED", "overwritten", False)
    assert (status, "CANCELED", "overwritten", f"overwritten by {BATCH}") in desk.log()


def test_who_waits_behind_the_overwritten_task_goes_on_waiting(desk):
    def make(made):
        mine, _ = busy(made, conflict="Overwrite")
        return mine, made.task(made.run("third", conflict="Wait"), 1, "QUEUED", hold="behind")

    mine, third = desk.set(make)
    desk.done("retry", batch=BATCH, device="dev-1")
    assert desk.task(mine).holds
    assert (desk.task(third).hold, desk.task(third).holds) == ("behind", False)


def test_a_trial_behind_the_overwritten_task_is_let_in_when_what_overwrote_waits_for_that_very_trial(desk):
    def make(made):
        package = made.package("firmware-1.5.0", "1.5.0", verification="verifying")
        waits = {"package_id": package, "phase": "PLANNED", "started_at": None}
        _, device, mine = ended(made, conflict="Overwrite", **waits)
        made.task(made.run("other"), device, "NOTIFIED")
        trial = made.run("firmware-1.5.0", type="Verify", conflict="Wait", package_id=package)
        return mine, made.task(trial, device, "QUEUED", hold="behind")

    mine, trial = desk.set(make)
    said = desk.done("retry", batch=BATCH, device="dev-1")
    assert said.endswith("is QUEUED again, behind the task that has the device; 1 other task overwritten")
    assert (desk.task(trial).status, desk.task(trial).hold) == ("QUEUED", "none")
    assert (desk.task(mine).hold, desk.task(mine).holds) == ("behind", False)


@pytest.mark.parametrize("status", ["NOTIFIED", "IN_PROGRESS"])
def test_wait_queues_behind(desk, status):
    mine, other = desk.set(lambda made: busy(made, status, conflict="Wait"))
    assert "behind the task that has the device" in desk.done("retry", batch=BATCH, device="dev-1")
    found = desk.task(mine)
    assert (found.status, found.hold, found.holds, found.push_due_at) == ("QUEUED", "behind", False, None)
    assert desk.task(other).status == status


def test_a_task_of_another_module_is_no_conflict_for_a_multi_module_batch(desk):
    other = {"module": "mcu", "multi": True}
    mine, _ = desk.set(lambda made: busy(made, multi=True, other=other))
    desk.done("retry", batch=BATCH, device="dev-1")
    assert desk.task(mine).status == "QUEUED"


@pytest.mark.parametrize("multi", [True, False])
def test_an_exclusive_task_is_in_the_way_of_every_module(desk, multi):
    other = {"module": "mcu", "multi": not multi}
    desk.set(lambda made: busy(made, multi=multi, other=other))
    assert "dev-1 is busy" in desk.refused("retry", batch=BATCH, device="dev-1")


def test_an_earlier_life_of_the_batch_is_waited_for_whatever_its_conflict_rule_says(desk):
    def make(made):
        old = made.run(phase="CANCELED", canceled_by="git", ended_at=NOW)
        device = made.device("dev-1", "1.3.0")
        made.task(old, device, "IN_PROGRESS")
        new = made.run(number=2, object_id=rows.row(made.connection, tables.run, old).object_id)
        return made.task(new, device, "CANCELED", reason="canceled")

    task = desk.set(make)
    desk.done("retry", batch=BATCH, device="dev-1")
    assert (desk.task(task).status, desk.task(task).hold) == ("QUEUED", "behind")


def test_a_verification_is_tried_again_as_a_whole(desk):
    desk.set(lambda made: made.run(PACKAGE, type="Verify"))
    assert "raise `verification.attempt`" in desk.refused("retry", package=PACKAGE, device="dev-1")


# ---------------------------------------------------------------------------------------- suspend, resume


def test_an_operator_suspends_a_batch_and_resumes_it(desk):
    def make(made):
        run_id = made.run()
        made.task(run_id, made.device("dev-1", "1.3.0"))
        return run_id

    run_id = desk.set(make)
    assert desk.done("suspend", batch=BATCH) == "suspended; 1 unfinished task"
    found = desk.run(run_id)
    assert (found.suspended_by, found.suspended_at, found.suspended) == ("alice", NOW, False)
    assert "by alice since 2026-11-01 12:00:00Z already" in desk.refused("suspend", batch=BATCH)
    assert desk.done("resume", batch=BATCH) == "resumed"
    assert (desk.run(run_id).suspended_by, desk.run(run_id).suspended_at) == (None, None)


def test_who_resumes_is_told_when_git_suspends_it_still(desk):
    run_id = desk.set(lambda made: made.run(suspended=True, suspended_by="bob", suspended_at=NOW))
    said = desk.done("resume", batch=BATCH)
    assert said.startswith("the suspension by bob is over, but Git suspends it")
    assert "eu-to-1.4.0.yaml" in said
    assert desk.run(run_id).suspended
    assert "set `suspend: false`" in desk.refused("resume", batch=BATCH)


def test_what_is_over_is_not_suspended_and_what_is_not_suspended_not_resumed(desk):
    run_id = desk.set(lambda made: made.run(phase="COMPLETED", ended_at=NOW))
    assert "is COMPLETED already" in desk.refused("suspend", batch=BATCH)
    assert "is not suspended" in desk.refused("resume", batch=BATCH)
    assert desk.run(run_id).suspended_by is None


def test_a_suspension_is_of_every_life_that_has_unfinished_tasks_and_a_cancellation_says_what_they_have(desk):
    def make(made):
        done, earlier = made.run(phase="COMPLETED"), made.run(number=2, phase="CANCELED")
        for name in ("dev-1", "dev-2"):
            made.task(earlier, made.device(name, "1.3.0"), "NOTIFIED")
        return done, earlier, made.run(number=3)

    lives = desk.set(make)
    assert desk.done("suspend", batch=BATCH) == "suspended; 2 unfinished tasks"
    assert [desk.run(life).suspended_by for life in lives] == [None, "alice", "alice"]
    assert desk.done("resume", batch=BATCH) == "resumed"
    assert [desk.run(life).suspended_by for life in lives] == [None, None, None]
    said = desk.done("cancel", batch=BATCH)
    assert said == "cancelled: 0 tasks end, 0 go on; 2 of earlier runs go on"


def test_a_cancelled_batch_can_be_suspended_while_tasks_drain(desk):
    def make(made):
        run_id = made.run(phase="CANCELED", canceled_by="git", ended_at=NOW)
        made.task(run_id, made.device("dev-1", "1.3.0"), "NOTIFIED")

    desk.set(make)
    assert desk.done("suspend", batch=BATCH) == "suspended; 1 unfinished task"


def test_every_order_is_in_the_log_with_who_and_why(desk):
    desk.set(lambda made: made.run())
    desk.give("suspend", batch=BATCH)
    with desk.database.reading() as connection:
        found = [(line.type, line.message) for line in events.read(connection, events.Filter(batch=BATCH), 9)]
    assert found == [("command", "suspend by alice: suspended; 0 unfinished tasks (because)")]


def test_a_command_that_this_program_does_not_know_is_refused(desk):
    desk.set(lambda made: None)
    assert "knows no command dance" in desk.refused("dance")
