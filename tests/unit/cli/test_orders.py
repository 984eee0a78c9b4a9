"""`reconciler cancel` and `reconciler confirm`: orders that the daemon carries out, with who and why."""

from __future__ import annotations

import contextlib
import threading

import pytest
import seed
from seed import BATCH

from reconciler.cli.looking import now
from reconciler.domain import lifecycle
from reconciler.domain.plan import Reason
from reconciler.domain.resources import Kind
from reconciler.services import operate
from reconciler.store import commands, objects, status

FLEET = ["dev-1", "dev-2", "dev-3"]


@pytest.fixture
def fleet(database):
    """A batch under way; no daemon."""
    seed.world(database, FLEET)
    with database.writing() as connection:
        seed.send(connection, "dev-1", lifecycle.progressed(10, ""))
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
                operate.carry_out_all(connection, now())

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
    assert (ran.code, ran.out) == (0, "cancelled, 2 tasks ended, 1 goes on\n")
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
        (["thermostat-1.4.1", "--why", "x"], 1, f"Did you mean {BATCH}?"),
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


@pytest.fixture
def held(database):
    """Two batches that an empty database found in Git, and one that runs."""
    seed.world(database, FLEET)
    with database.writing() as connection:
        for name in ("eu", "us"):
            seed.refuse(connection, Kind.BATCH, name, Reason.FIRST_SIGHT)
    return database


def released(database):
    with database.reading() as connection:
        stored = objects.load(connection).objects
    return sorted(key.name for key, found in stored.items() if found.held and found.held.confirmed)


def test_a_held_batch_is_released_by_its_name(held, reconciler):
    with daemon(held):
        ran = reconciler("confirm", "eu", "--wait", "1m")
    assert (ran.code, ran.out) == (0, "confirmed eu\n")
    assert released(held) == ["eu"]


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
        seed.refuse(connection, Kind.BATCH, BATCH, Reason.MASS_CANCEL)
    wrong = reconciler("confirm", "--cancel", "2")
    assert wrong.code == 1
    assert f"main@sha1:{seed.SHA} cancels 1 batches, not 2" in wrong.err
    with daemon(fleet):
        ran = reconciler("confirm", "--cancel", "1", "--wait", "1m")
    assert ran.code == 0
    with fleet.reading() as connection:
        assert objects.load(connection, seed.SHA).confirmed_cancels == 1


def test_a_commit_that_empties_everything_may_cancel_no_batch_and_still_be_confirmed(database, reconciler):
    with database.writing() as connection:
        seed.product(connection)
        seed.refuse(connection, Kind.PRODUCT, seed.PRODUCT, Reason.MASS_CANCEL)
    reconciler("confirm", "--cancel", "0")
    assert [order[:2] for order in orders(database)] == [("confirm", {"cancels": 0, "revision": seed.SHA})]
