"""How stored facts read as phase, sync, health and conditions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.domain import conditions
from reconciler.domain.actual import Phase
from reconciler.domain.conditions import Facts, Health, Sync, Work
from reconciler.domain.lifecycle import Status
from reconciler.domain.plan import Reason

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
END = START + timedelta(hours=1)


def facts(**changes):
    values = {"in_force": True, "synced": True, "reason": "", "message": "", "changed_at": START}
    return Facts(**{**values, **changes})


def batch(phase, *, ended=False, **changes):
    counts = changes.pop("counts", {})
    work = Work(phase=phase, counts=counts, created_at=START, ended_at=END if ended else None, **changes)
    return facts(work=work)


def found(given):
    return {
        condition.type: (condition.status, condition.reason) for condition in conditions.conditions(given)
    }


def test_an_applied_object_is_ready_and_at_rest():
    assert found(facts()) == {
        "Ready": (True, "Applied"),
        "Reconciling": (False, "Idle"),
        "Stalled": (False, "NotStalled"),
    }
    assert (conditions.sync(facts()), conditions.health(facts())) == (Sync.SYNCED, Health.HEALTHY)


def test_a_refused_change_stalls_the_object_but_leaves_its_health():
    refused = facts(synced=False, reason=Reason.IMMUTABLE, message="write a new Batch")
    assert found(refused)["Ready"] == (False, "Immutable")
    assert found(refused)["Stalled"] == (True, "Immutable")
    assert conditions.conditions(refused)[2].message == "write a new Batch"
    assert (conditions.sync(refused), conditions.health(refused)) == (Sync.OUT_OF_SYNC, Health.HEALTHY)


def test_nobody_knows_whether_an_object_of_an_unreadable_file_is_in_sync():
    assert conditions.sync(facts(synced=False, reason=Reason.UNREADABLE)) is Sync.UNKNOWN


def test_an_object_that_was_never_accepted_is_degraded_and_a_held_one_is_suspended():
    assert (
        conditions.health(facts(in_force=False, synced=False, reason=Reason.UNKNOWN_DEVICES))
        is Health.DEGRADED
    )
    held = facts(in_force=False, synced=False, reason=Reason.FIRST_SIGHT)
    assert conditions.health(held) is Health.SUSPENDED
    assert (conditions.phase(held), conditions.stage(held)) == (None, "Held")


def test_an_inventory_whose_names_become_devices_is_progressing():
    given = facts(materializing=True)
    assert found(given)["Ready"][0] is False
    assert found(given)["Reconciling"] == (True, "Materializing")
    assert conditions.health(given) is Health.PROGRESSING


def test_a_batch_that_was_canceled_from_the_start_never_had_a_run():
    assert conditions.phase(facts()) == "CANCELED"


def test_a_running_batch_says_how_far_it_is():
    given = batch(Phase.IN_PROGRESS, counts={Status.QUEUED: 1, Status.IN_PROGRESS: 1, Status.SUCCEEDED: 2})
    ready, reconciling, _ = conditions.conditions(given)
    assert (ready.status, ready.reason, ready.message) == (
        False,
        "Progressing",
        "2 of 4 tasks have ended",
    )
    assert (reconciling.status, reconciling.message, reconciling.since) == (
        True,
        "2 tasks are on their way",
        START,
    )
    assert (conditions.phase(given), conditions.health(given)) == ("IN_PROGRESS", Health.PROGRESSING)


def test_a_batch_whose_tasks_are_being_made_says_so():
    assert found(batch(Phase.IN_PROGRESS, materializing=True))["Reconciling"] == (True, "Materializing")


def test_a_batch_is_ready_when_all_of_its_devices_are_upgraded():
    given = batch(Phase.COMPLETED, ended=True, counts={Status.SUCCEEDED: 3})
    ready, reconciling, _ = conditions.conditions(given)
    assert (ready.status, ready.reason, ready.since) == (True, "Completed", END)
    assert (reconciling.status, reconciling.since) == (False, END)
    assert conditions.health(given) is Health.HEALTHY


def test_a_batch_that_fitted_nobody_says_so():
    assert found(batch(Phase.COMPLETED, ended=True))["Ready"] == (True, "NoDevices")


def test_a_batch_with_failed_tasks_is_degraded_also_while_it_runs():
    ended = batch(Phase.COMPLETED, ended=True, counts={Status.SUCCEEDED: 2, Status.FAILED: 1})
    assert found(ended)["Ready"] == (False, "TasksFailed")
    assert conditions.health(ended) is Health.DEGRADED
    running = batch(Phase.IN_PROGRESS, counts={Status.QUEUED: 2, Status.FAILED: 1})
    assert conditions.health(running) is Health.DEGRADED


def test_a_canceled_batch_drains_before_it_is_at_rest():
    draining = batch(
        Phase.CANCELED, ended=True, canceled_by="git", counts={Status.NOTIFIED: 2, Status.CANCELED: 5}
    )
    assert (conditions.phase(draining), conditions.draining(draining)) == ("CANCELED", 2)
    assert conditions.stage(draining) == "CANCELED, 2 draining"
    assert found(draining)["Ready"] == (False, "Draining")
    assert found(draining)["Reconciling"] == (True, "Progressing")
    drained = batch(Phase.CANCELED, ended=True, canceled_by="git", counts={Status.CANCELED: 7})
    assert (conditions.stage(drained), conditions.draining(drained)) == ("CANCELED", 0)
    assert found(drained)["Ready"] == (True, "Canceled")


@pytest.mark.parametrize("who", ["alice", "somebody@there"])
def test_a_batch_that_an_operator_canceled_is_not_what_git_asks_for(who):
    ready = conditions.conditions(batch(Phase.CANCELED, ended=True, canceled_by=who))[0]
    assert (ready.status, ready.reason) == (False, "CanceledByOperator")
    assert who in ready.message
