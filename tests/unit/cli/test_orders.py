"""`cancel`, `confirm`, `retry`, `suspend` and `resume`: orders that the daemon carries out, with who and why."""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta

import pytest
from rows import BATCH, EPOCH, PACKAGE, PRODUCT, SHA, Rows
from sqlalchemy import select

from reconciler.cli.looking import now
from reconciler.domain.downloads import Ways
from reconciler.domain.plan import Reason
from reconciler.services import operate
from reconciler.store import commands, devices, objects, status, tables

PRESENCE = devices.Presence(EPOCH, timedelta(0))


@pytest.fixture
def fleet(database):
    """A batch under way, and a verification of a package; no daemon."""
    with database.writing() as connection:
        made = Rows(connection)
        made.world()
        run_id = made.run()
        for name, task in (("dev-1", "IN_PROGRESS"), ("dev-2", "QUEUED"), ("dev-3", "QUEUED")):
            made.task(run_id, made.device(name, "1.3.0"), task)
        made.run(PACKAGE, type="Verify")
    return database


@contextlib.contextmanager
def daemon(database):
    """What the daemon does with orders, without the rest of it."""
    stop = threading.Event()
    with database.writing() as connection:
        objects.beat(connection, now())

    def work():
        while not stop.wait(0.02):
            with database.writing() as connection:
                operate.carry_out_all(connection, PRESENCE, now(), Ways())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def orders(database):
    with database.reading() as connection:
        return [(c.type, dict(c.arguments), c.who, c.why) for c in commands.waiting(connection)]


def phase(database):
    with database.reading() as connection:
        return status.objects(connection, "Batch", BATCH)[0].run.phase


@pytest.mark.parametrize("words", [[BATCH], ["batch", BATCH], [f"batch/{BATCH}"], ["batches", BATCH]])
def test_a_batch_is_canceled_by_the_daemon_and_its_answer_is_shown(fleet, reconciler, words):
    with daemon(fleet):
        ran = reconciler("cancel", *words, "--why", "wrong file", "--who", "alice", "--wait", "1m")
    assert (ran.code, ran.out) == (0, "cancelled: 2 tasks end, 1 goes on\n")
    assert phase(fleet) == "CANCELED"
    log = reconciler("events", "--batch", BATCH).out
    assert "cancel by alice" in log
    assert "wrong file" in log


def test_an_order_waits_for_the_daemon_and_says_so(fleet, reconciler):
    ran = reconciler("cancel", BATCH, "--why", "wrong file", "--who", "alice")
    assert ran.code == 0
    assert "no daemon is running" in ran.out
    assert "will be carried out by the daemon, or by the next `reconciler apply`" in ran.out
    assert orders(fleet) == [("cancel", {"batch": BATCH}, "alice", "wrong file")]
    assert phase(fleet) == "IN_PROGRESS"


def test_patience_with_a_daemon_that_does_not_answer_ends(fleet, reconciler):
    with fleet.writing() as connection:
        objects.beat(connection, now())
    ran = reconciler("cancel", BATCH, "--why", "x", "--wait", "0s")
    assert ran.code == 0
    assert "has not answered yet" in ran.out


def test_what_the_daemon_refuses_fails(fleet, reconciler):
    with daemon(fleet):
        reconciler("cancel", BATCH, "--why", "once")
        ran = reconciler("cancel", BATCH, "--why", "twice", "--wait", "1m")
    assert ran.code == 1
    assert "refused" in ran.err
    assert "CANCELED already" in ran.err


def test_who_is_taken_from_the_environment_or_from_the_user(fleet, reconciler, monkeypatch):
    reconciler("cancel", BATCH, "--why", "x")
    monkeypatch.setenv("RECONCILER_WHO", "the night shift")
    ran = reconciler("cancel", BATCH, "--why", "x")
    assert "is not a setting" not in ran.err
    (_, _, user, _), (_, _, shift, _) = orders(fleet)
    assert "@" in user
    assert shift == "the night shift"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["eu-to-1.4.1", "--why", "x"], 1, f"Did you mean {BATCH}?"),
        (["package", "firmware-1.4.1", "--why", "x"], 1, f"Did you mean {PACKAGE}?"),
        (["batch", PACKAGE, "--why", "x"], 1, "there is no batch"),
        ([BATCH, "--device", "dev-9", "--why", "x"], 1, "there is no device 'dev-9'"),
        (["device", "dev-1", "--why", "x"], 2, "one batch"),
        (["batch", "a", "b", "--why", "x"], 2, "one batch"),
        (["batch/", "--why", "x"], 2, "one batch"),
        ([BATCH], 2, "--why"),
        ([BATCH, "--why", "x", "--wait", "soon"], 2, "not a duration"),
    ],
)
def test_a_cancellation_that_makes_no_sense_is_not_recorded(fleet, reconciler, arguments, code, said):
    ran = reconciler("cancel", *arguments)
    assert ran.code == code
    assert said in ran.err
    assert orders(fleet) == []


def test_one_devices_task_is_canceled(fleet, reconciler):
    with daemon(fleet):
        ran = reconciler("cancel", BATCH, "--device", "dev-2", "--why", "it is broken", "--wait", "1m")
    assert (ran.code, ran.out) == (0, "cancelled the task of dev-2\n")
    assert "QUEUED → CANCELED" in reconciler("events", "--device", "dev-2").out


@pytest.mark.parametrize("words", [[PACKAGE], ["package", PACKAGE]])
def test_the_name_of_a_package_means_its_verification(fleet, reconciler, words):
    reconciler("cancel", *words, "--why", "x", "--who", "alice")
    assert orders(fleet) == [("cancel", {"package": PACKAGE}, "alice", "x")]


def test_a_batch_with_the_name_of_a_package_comes_first(fleet, reconciler):
    with fleet.writing() as connection:
        Rows(connection).run(PACKAGE)
    reconciler("cancel", PACKAGE, "--why", "x")
    reconciler("cancel", "package", PACKAGE, "--why", "x")
    assert [order[1] for order in orders(fleet)] == [{"batch": PACKAGE}, {"package": PACKAGE}]


def test_a_package_without_a_verification_has_nothing_to_cancel(fleet, reconciler):
    with fleet.writing() as connection:
        Rows(connection).package("firmware-1.5.0", "1.5.0")
    ran = reconciler("cancel", "package", "firmware-1.5.0", "--why", "x")
    assert (ran.code, orders(fleet)) == (1, [])
    assert "has no verification" in ran.err


@pytest.mark.parametrize(
    ("arguments", "order", "given"),
    [
        (["confirm", BATCH, "--tasks"], "confirm", {"batch": BATCH, "tasks": True}),
        (
            ["confirm", BATCH, "--device", "dev-1", "--device", "dev-2"],
            "confirm",
            {"batch": BATCH, "devices": ["dev-1", "dev-2"]},
        ),
        (["confirm", PACKAGE, "--tasks"], "confirm", {"package": PACKAGE, "tasks": True}),
        (["retry", BATCH, "--device", "dev-1", "--why", "x"], "retry", {"batch": BATCH, "device": "dev-1"}),
        (["suspend", BATCH, "--why", "x"], "suspend", {"batch": BATCH}),
        (["suspend", "package", PACKAGE, "--why", "x"], "suspend", {"package": PACKAGE}),
        (["resume", "batch", BATCH], "resume", {"batch": BATCH}),
        (["resume", PACKAGE], "resume", {"package": PACKAGE}),
    ],
)
def test_orders_about_tasks_and_batches_are_written_down(fleet, reconciler, arguments, order, given):
    assert reconciler(*arguments, "--who", "alice").code == 0
    assert [found[:3] for found in orders(fleet)] == [(order, given, "alice")]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["confirm", "--tasks"], 2, "say what is confirmed"),
        (["confirm", BATCH, "other", "--tasks"], 2, "say what is confirmed"),
        (["confirm", BATCH, "--tasks", "--device", "dev-1"], 2, "say what is confirmed"),
        (["confirm", BATCH, "--tasks", "--all"], 2, "say what is confirmed"),
        (["confirm", BATCH, "--device", "dev-9"], 1, "there is no device 'dev-9'"),
        (["retry", BATCH, "--why", "x"], 2, "--device"),
        (["retry", BATCH, "--device", "dev-1"], 2, "--why"),
        (["suspend", BATCH], 2, "--why"),
        (["suspend", "nobody", "--why", "x"], 1, "there is no batch 'nobody'"),
    ],
)
def test_an_order_that_makes_no_sense_is_not_recorded(fleet, reconciler, arguments, code, said):
    ran = reconciler(*arguments)
    assert ran.code == code
    assert said in ran.err
    assert orders(fleet) == []


def test_tasks_are_confirmed_and_a_batch_is_suspended_by_the_daemon(fleet, reconciler):
    with fleet.writing() as connection:
        made = Rows(connection)
        made.task(made.run("careful", confirm=True), made.device("dev-4", "1.3.0"), "CONFIRM")
    assert "1 task waits for a confirmation: give --tasks" in reconciler("confirm", "careful").err
    with daemon(fleet):
        assert reconciler("confirm", "careful", "--tasks", "--wait", "1m").out == "confirmed 1 task\n"
        assert (
            reconciler("suspend", "careful", "--why", "x", "--wait", "1m").out
            == "suspended; 1 unfinished task\n"
        )
        assert "IN_PROGRESS, suspended" in reconciler("get", "batches").out
        assert reconciler("resume", "careful", "--wait", "1m").out == "resumed\n"


def test_the_help_of_confirm_tells_its_meanings_apart(reconciler):
    out = reconciler("confirm", "--help").out
    assert "confirm BATCH --tasks         all of its tasks that wait for this\n" in out
    assert "inside of their batch's schedule" in out


@pytest.fixture
def held(database):
    """Two batches that an empty database found in Git, and one that runs."""
    with database.writing() as connection:
        made = Rows(connection)
        made.world()
        made.run()
        for name in ("eu", "us"):
            unaccepted(made, "Batch", name, Reason.FIRST_SIGHT)
    return database


def unaccepted(made, kind, name, reason):
    never = {"digest": None, "spec": None, "sync": "OutOfSync", "reason": str(reason), "message": "because"}
    return made.object(kind, name, **never | {"held": str(reason)})


def released(database):
    object_ = tables.object_
    confirmed = select(object_.c.name).where(object_.c.confirmed_digest == object_.c.declared_digest)
    with database.reading() as connection:
        return sorted(connection.execute(confirmed).scalars())


def test_a_held_batch_is_released_by_its_name(held, reconciler):
    with daemon(held):
        ran = reconciler("confirm", "eu", "--wait", "1m")
    assert (ran.code, ran.out) == (0, "confirmed eu\n")
    assert released(held) == ["eu"]


def test_a_held_package_is_released_by_its_name_too(held, reconciler):
    with held.writing() as connection:
        unaccepted(Rows(connection), "Package", "tried", Reason.FIRST_SIGHT)
    with daemon(held):
        assert reconciler("confirm", "tried").code == 0
    assert released(held) == ["tried"]


def test_all_held_batches_are_released_together(held, reconciler):
    with daemon(held):
        assert reconciler("confirm", "--all", "--wait", "1m").code == 0
    assert released(held) == ["eu", "us"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "say what is confirmed"),
        (["eu", "--all"], 2, "say what is confirmed"),
        (["euu"], 1, "Did you mean eu?"),
        ([BATCH], 1, "Held are: eu, us."),
        (["--cancel", "1"], 1, "no cancellation is held"),
    ],
)
def test_a_confirmation_of_what_is_not_held_is_refused(held, reconciler, arguments, code, said):
    ran = reconciler("confirm", *arguments)
    assert ran.code == code
    assert said in ran.err
    assert orders(held) == []


def test_nothing_can_be_confirmed_where_nothing_is_held(fleet, reconciler):
    assert "no batch is held" in reconciler("confirm", "--all").err
    assert "No batch is held." in reconciler("confirm", BATCH).err


def test_the_cancellations_of_a_commit_are_confirmed_by_their_number(fleet, reconciler):
    with fleet.writing() as connection:
        held = {"reason": str(Reason.MASS_CANCEL), "sync": "OutOfSync"}
        connection.execute(tables.object_.update().where(tables.object_.c.name == BATCH).values(**held))
    wrong = reconciler("confirm", "--cancel", "2")
    assert wrong.code == 1
    assert f"main@sha1:{SHA} cancels 1 batches, not 2" in wrong.err
    with daemon(fleet):
        ran = reconciler("confirm", "--cancel", "1", "--wait", "1m")
    assert ran.code == 0
    with fleet.reading() as connection:
        assert connection.execute(select(tables.confirmation.c.sha, tables.confirmation.c.cancels)).all() == [
            (SHA, 1)
        ]


def test_a_commit_that_empties_everything_may_cancel_no_batch_and_still_be_confirmed(database, reconciler):
    with database.writing() as connection:
        Rows(connection).world()
        held = {"reason": str(Reason.MASS_CANCEL), "sync": "OutOfSync"}
        connection.execute(tables.object_.update().where(tables.object_.c.name == PRODUCT).values(**held))
    reconciler("confirm", "--cancel", "0")
    assert [order[:2] for order in orders(database)] == [("confirm", {"cancels": 0, "revision": SHA})]
