"""Pushes: taken once, counted, settled, and due again when nobody knows whether they were published."""

from __future__ import annotations

from datetime import timedelta

import pytest
import seed
from seed import NOW, SECOND

from reconciler.domain import lifecycle
from reconciler.store import counts, rates, runs, tasks
from reconciler.store.tasks import Claimant, Outcome

MINUTE = 60 * SECOND
FLEET = ["dev-1", "dev-2", "dev-3"]
OURS = Claimant(1, 1, seed.SETTLE)


@pytest.fixture
def run_id(database):
    """Three devices that are there, and a batch for them."""
    made = seed.world(database, FLEET)
    with database.writing() as connection:
        seed.online(connection, FLEET)
    return made


def claim(database, run_id, *, now=NOW, limit=10, by=OURS):
    with database.writing() as connection:
        return tasks.claim(connection, run_id, by, now, limit)


def settle(database, claims, outcome, *, epoch=1, back=NOW):
    with database.writing() as connection:
        tasks.settle_pushes(connection, epoch, [(claim, outcome) for claim in claims], back)


def row(database, name):
    with database.reading() as connection:
        return seed.task(connection, name)


def names(claims):
    return sorted(claim.address.device_name for claim in claims)


def test_a_run_is_due_only_while_a_push_of_it_is(database, run_id):
    with database.reading() as connection:
        assert tasks.runs_due(connection, NOW - SECOND) == []
        assert tasks.runs_due(connection, NOW) == [tasks.Due(run_id, 600)]
    claim(database, run_id)
    with database.reading() as connection:
        assert tasks.runs_due(connection, NOW) == []


def test_each_due_push_is_taken_once(database, run_id):
    first = claim(database, run_id, limit=2)
    second = claim(database, run_id)
    assert names(first + second) == FLEET
    assert claim(database, run_id) == []


def test_a_claim_notifies_the_task_and_counts_against_the_rate(database, run_id):
    claim(database, run_id)
    task = row(database, "dev-1")
    assert (task.status, task.pushes, task.first_pushed_at, task.last_pushed_at, task.push_due_at) == (
        "NOTIFIED", 1, NOW, NOW, None,
    )  # fmt: skip
    with database.reading() as connection:
        assert counts.read(connection, [run_id]) == {run_id: {lifecycle.Status.NOTIFIED: 3}}
        assert rates.recent(connection, run_id, int(NOW.timestamp())) == {int(NOW.timestamp()): 3}


def test_a_confirmed_push_is_not_due_again(database, run_id):
    settle(database, claim(database, run_id), Outcome.CONFIRMED)
    task = row(database, "dev-1")
    assert (task.claim_epoch, task.push_due_at) == (None, None)
    with database.writing() as connection:
        assert tasks.recover_claims(connection, 2, NOW) == 0


def test_an_unacknowledged_push_is_due_again_after_a_minute(database, run_id):
    settle(database, claim(database, run_id), Outcome.LATER)
    assert claim(database, run_id, now=NOW + MINUTE - SECOND) == []
    assert names(claim(database, run_id, now=NOW + MINUTE)) == FLEET
    assert row(database, "dev-1").pushes == 2
    assert row(database, "dev-1").first_pushed_at == NOW


def test_a_push_to_a_device_that_is_gone_is_due_as_soon_as_it_comes_back(database, run_id):
    settle(database, claim(database, run_id), Outcome.GONE)
    assert claim(database, run_id, now=NOW + SECOND) == []
    with database.writing() as connection:
        seed.online(connection, ["dev-2"], session=2, now=NOW + 2 * SECOND)
    assert names(claim(database, run_id, now=NOW + 2 * SECOND)) == ["dev-2"]


def test_a_device_that_came_back_before_its_lost_push_was_settled_does_not_wait_a_minute(database, run_id):
    claims = claim(database, run_id)
    with database.writing() as connection:
        seed.online(connection, ["dev-2"], session=2, now=NOW + SECOND)
    assert row(database, "dev-2").push_due_at == NOW + MINUTE
    settle(database, claims, Outcome.GONE, back=NOW + 5 * SECOND)
    assert row(database, "dev-2").push_due_at == NOW + 5 * SECOND
    assert row(database, "dev-1").push_due_at is None


def test_the_outcome_of_an_older_push_does_not_touch_a_newer_one(database, run_id):
    older = claim(database, run_id)
    with database.writing() as connection:
        tasks.due_again(connection, [1, 2, 3], NOW + 2 * MINUTE)
    claim(database, run_id, now=NOW + 2 * MINUTE)
    settle(database, older, Outcome.CONFIRMED)
    assert row(database, "dev-1").claim_epoch == 1


def test_an_outcome_of_another_process_changes_nothing(database, run_id):
    settle(database, claim(database, run_id), Outcome.CONFIRMED, epoch=2)
    assert row(database, "dev-1").claim_epoch == 1


def test_after_a_restart_unsettled_claims_are_due_again_and_settled_ones_are_not(database, run_id):
    claims = claim(database, run_id)
    settle(database, claims[:1], Outcome.CONFIRMED)
    with database.writing() as connection:
        assert tasks.recover_claims(connection, 2, NOW + SECOND) == 2
        assert tasks.recover_claims(connection, 2, NOW + SECOND) == 0
    with database.writing() as connection:
        seed.online(connection, FLEET, epoch=2, now=NOW + SECOND)
    again = claim(database, run_id, now=NOW + SECOND, by=Claimant(2, 2, seed.SETTLE))
    assert names(again) == names(claims[1:])


def test_after_a_restart_nothing_is_pushed_to_devices_that_are_not_back(database, run_id):
    assert claim(database, run_id, by=Claimant(2, 2, seed.SETTLE)) == []
    with database.reading() as connection:
        assert tasks.runs_due(connection, NOW) == []


def test_stale_pushes_do_not_hide_those_of_devices_that_are_there(database, run_id):
    with database.writing() as connection:
        seed.online(connection, ["dev-3"], epoch=2)
    assert names(claim(database, run_id, limit=1, by=Claimant(2, 2, seed.SETTLE))) == ["dev-3"]


def test_a_device_is_pushed_at_most_once_a_minute_however_often_it_comes_back(database, run_id):
    settle(database, claim(database, run_id), Outcome.CONFIRMED)
    for second in (1, 30, 59):
        with database.writing() as connection:
            seed.online(connection, ["dev-1"], session=second, now=NOW + second * SECOND)
        assert claim(database, run_id, now=NOW + second * SECOND) == []
    assert names(claim(database, run_id, now=NOW + MINUTE)) == ["dev-1"]


def test_a_device_that_left_is_not_due(database, run_id):
    with database.writing() as connection:
        tasks.not_due(connection, [1, 3])
    assert names(claim(database, run_id)) == ["dev-2"]


def test_a_batch_with_delivery_pull_is_never_pushed(database):
    run_id = seed.world(database, ["dev-1"], push_delivery=False)
    with database.writing() as connection:
        seed.online(connection, ["dev-1"])
    assert claim(database, run_id) == []


def test_what_a_device_said_meanwhile_wins_over_the_outcome_of_its_push(database, run_id):
    claims = claim(database, run_id)
    with database.writing() as connection:
        seed.send(connection, "dev-1", lifecycle.progressed(-1, "no"))
    settle(database, claims, Outcome.LATER)
    task = row(database, "dev-1")
    assert (task.status, task.push_due_at, task.claim_epoch) == ("FAILED", None, None)


def test_a_push_that_was_canceled_meanwhile_is_not_due_again(database, run_id):
    claims = claim(database, run_id)
    cancellation = runs.Cancellation("git", lifecycle.UNFINISHED)
    with database.writing() as connection:
        runs.cancel(connection, run_id, cancellation, NOW)
    settle(database, claims, Outcome.LATER)
    assert claim(database, run_id, now=NOW + timedelta(days=1)) == []


def test_an_offered_package_counts_as_a_push(database, run_id):
    with database.writing() as connection:
        seed.send(connection, "dev-1", lifecycle.Event(lifecycle.Trigger.FETCHED))
    task = row(database, "dev-1")
    assert (task.status, task.last_pushed_at) == ("NOTIFIED", NOW)
    assert names(claim(database, run_id)) == ["dev-2", "dev-3"]
