"""How stored facts read as phase, sync, health and conditions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.domain import conditions
from reconciler.domain.actual import Phase, Verification
from reconciler.domain.conditions import Facts, Health, Suspension, Sync, Trial, Unsigned, Work
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


def test_a_product_that_cannot_sign_is_not_ready_and_says_what_to_do():
    given = facts(unsigned=Unsigned("no key: put one there", END))
    assert found(given)["Ready"] == (False, "SigningKeyUnavailable")
    assert found(given)["Stalled"] == (True, "SigningKeyUnavailable")
    stalled = conditions.conditions(given)[2]
    assert (stalled.message, stalled.since) == ("no key: put one there", END)
    assert conditions.health(given) is Health.DEGRADED


def test_a_refused_change_is_said_before_a_missing_key():
    given = facts(synced=False, reason=Reason.IMMUTABLE, unsigned=Unsigned("no key", END))
    assert found(given)["Stalled"] == (True, "Immutable")


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
    ready, reconciling, *_ = conditions.conditions(given)
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
    ready, reconciling, *_ = conditions.conditions(given)
    assert (ready.status, ready.reason, ready.since) == (True, "Completed", END)
    assert (reconciling.status, reconciling.since) == (False, END)
    assert conditions.health(given) is Health.HEALTHY


def test_a_batch_that_fitted_nobody_says_so():
    assert found(batch(Phase.COMPLETED, ended=True))["Ready"] == (True, "NoDevices")


@pytest.mark.parametrize(
    ("counts", "reason", "said"),
    [
        (
            {},
            "ScheduleEnded",
            "its schedule ended before it had chosen all of its devices: write a new batch",
        ),
        (
            {Status.SUCCEEDED: 1, Status.CANCELED: 1},
            "ScheduleEnded",
            "1 of 2 succeeded; its schedule ended before",
        ),
        ({Status.FAILED: 1}, "TasksFailed", "0 of 1 succeeded"),
    ],
)
def test_a_batch_whose_schedule_ended_before_it_had_chosen_is_no_success(counts, reason, said):
    ready = conditions.conditions(batch(Phase.COMPLETED, ended=True, cut_off=True, counts=counts))[0]
    assert (ready.status, ready.reason) == (False, reason)
    assert ready.message.startswith(said)


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


def planned(**changes):
    return batch(Phase.PLANNED, **changes)


def test_a_batch_that_waits_for_its_time_says_when_it_starts():
    given = planned(start_at=END, counts={Status.QUEUED: 2})
    ready, reconciling, stalled, _ = conditions.conditions(given)
    assert (ready.status, ready.reason, ready.message) == (False, "Scheduled", "starts 2026-11-01 13:00:00Z")
    assert (reconciling.status, reconciling.reason, stalled.status) == (True, "Scheduled", False)
    assert conditions.stage(given) == "PLANNED, starts 2026-11-01 13:00:00Z"


def test_a_batch_whose_time_has_come_is_starting():
    assert found(planned())["Ready"] == (False, "Starting")
    assert conditions.stage(planned()) == "PLANNED, starting"


@pytest.mark.parametrize(
    ("waits", "health"),
    [
        ({"start_at": END}, Health.PROGRESSING),
        ({"verification": Verification.VERIFYING}, Health.PROGRESSING),
        ({"verification": Verification.FAILED}, Health.DEGRADED),
        ({"suspension": Suspension(by_git=True, by=None, since=END)}, Health.SUSPENDED),
    ],
)
def test_what_begins_by_itself_is_progressing_and_what_waits_for_a_word_is_suspended(waits, health):
    assert conditions.health(planned(**waits)) is health


@pytest.mark.parametrize("state", [Verification.UNVERIFIED, Verification.VERIFYING])
def test_a_batch_waits_for_the_verification_of_its_package(state):
    given = planned(package="fw-2", verification=state, start_at=END)
    assert found(given)["Ready"] == (False, "WaitsForVerification")
    assert found(given)["Reconciling"] == (True, "WaitsForVerification")
    assert conditions.conditions(given)[0].message == f"package fw-2 is {state}"
    assert conditions.stage(given) == "PLANNED, waits for verification"


def test_a_batch_whose_package_failed_its_verification_is_stalled_and_says_what_to_do():
    given = planned(package="fw-2", verification=Verification.FAILED)
    for kind, status in (("Ready", False), ("Reconciling", False), ("Stalled", True)):
        assert found(given)[kind] == (status, "VerificationFailed")
    stalled = conditions.conditions(given)[2]
    assert "`reconciler describe package fw-2`" in stalled.message
    assert "`verification.attempt`" in stalled.message
    assert stalled.since == START
    assert conditions.stage(given) == "PLANNED, verification failed"


def test_a_batch_that_started_is_not_stopped_by_a_verification_that_fails_later():
    given = batch(Phase.IN_PROGRESS, verification=Verification.FAILED, counts={Status.QUEUED: 1})
    assert found(given)["Stalled"] == (False, "NotStalled")


def test_a_refused_change_of_a_stalled_batch_is_what_is_said():
    work = Work(phase=Phase.PLANNED, counts={}, created_at=START, verification=Verification.FAILED)
    assert found(facts(synced=False, reason=Reason.IMMUTABLE, work=work))["Stalled"] == (True, "Immutable")


def test_a_dynamic_batch_whose_devices_have_ended_goes_on_matching():
    given = batch(Phase.IN_PROGRESS, dynamic=True, counts={Status.SUCCEEDED: 2})
    assert found(given)["Ready"] == (True, "Matching")
    assert found(given)["Reconciling"] == (False, "Idle")
    assert conditions.conditions(given)[0].message == "2 of 2 succeeded; it goes on matching"
    assert conditions.health(given) is Health.HEALTHY
    failed = batch(Phase.IN_PROGRESS, dynamic=True, counts={Status.FAILED: 1})
    assert (found(failed)["Ready"], conditions.health(failed)) == ((False, "TasksFailed"), Health.DEGRADED)


@pytest.mark.parametrize("changes", [{"counts": {Status.QUEUED: 1}}, {"materializing": True}])
def test_a_dynamic_batch_with_work_is_progressing(changes):
    given = batch(Phase.IN_PROGRESS, dynamic=True, **changes)
    assert found(given)["Ready"] == (False, "Progressing")
    assert conditions.health(given) is Health.PROGRESSING


@pytest.mark.parametrize(
    ("by_git", "by", "reason", "message"),
    [
        (True, None, "SuspendedInGit", "by `suspend` in Git"),
        (False, "alice", "SuspendedByOperator", "by alice, until `reconciler resume`"),
        (True, "alice", "SuspendedByOperator", "by `suspend` in Git and by alice, until `reconciler resume`"),
    ],
)
def test_a_suspended_batch_says_by_whom_and_since_when(by_git, by, reason, message):
    suspension = Suspension(by_git=by_git, by=by, since=END)
    given = batch(Phase.IN_PROGRESS, suspension=suspension, counts={Status.QUEUED: 1})
    said = conditions.conditions(given)[3]
    assert (said.type, said.status, said.reason, said.message, said.since) == (
        "Suspended", True, reason, message, END,
    )  # fmt: skip
    assert (conditions.phase(given), conditions.stage(given)) == ("IN_PROGRESS", "IN_PROGRESS, suspended")
    assert conditions.health(given) is Health.SUSPENDED


def test_suspension_is_said_beside_what_drains_and_not_of_what_is_over():
    suspension = Suspension(by_git=True, by=None, since=END)
    draining = batch(Phase.CANCELED, suspension=suspension, counts={Status.NOTIFIED: 1}, ended=True)
    assert conditions.stage(draining) == "CANCELED, 1 draining, suspended"
    waiting = planned(suspension=suspension, start_at=END)
    assert conditions.stage(waiting) == "PLANNED, starts 2026-11-01 13:00:00Z, suspended"
    over = batch(Phase.COMPLETED, suspension=suspension, counts={Status.SUCCEEDED: 1}, ended=True)
    assert conditions.stage(over) == "COMPLETED"
    assert found(over)["Suspended"] == (False, "NotSuspended")
    failed = batch(Phase.IN_PROGRESS, suspension=suspension, counts={Status.FAILED: 1})
    assert conditions.health(failed) is Health.DEGRADED


def package(state, **changes):
    return facts(trial=Trial(state=state, since=END, **changes))


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [
        (Verification.NOT_REQUIRED, True, "NotRequired"),
        (Verification.UNVERIFIED, False, "Unverified"),
        (Verification.VERIFYING, False, "Verifying"),
        (Verification.VERIFIED, True, "Verified"),
        (Verification.FAILED, False, "VerificationFailed"),
    ],
)
def test_a_package_says_whether_its_batches_may_start(state, status, reason):
    said = conditions.conditions(package(state))
    assert [given.type for given in said] == ["Ready", "Reconciling", "Stalled", "Verified"]
    assert (said[3].status, said[3].reason, said[3].since) == (status, reason, END)


def test_a_verification_says_how_many_of_its_devices_ended_well():
    given = package(Verification.VERIFYING, done=2, total=3)
    assert found(given)["Reconciling"] == (True, "Verifying")
    assert conditions.conditions(given)[1].message == "2 of 3 (66 %)"
    assert conditions.conditions(given)[1].since == END
    assert conditions.health(given) is Health.PROGRESSING
    failed = package(Verification.FAILED, done=1, total=2)
    assert conditions.conditions(failed)[3].message.startswith("1 of 2 (50 %): it is tried again when")
    assert conditions.health(failed) is Health.DEGRADED
    assert conditions.health(package(Verification.VERIFIED)) is Health.HEALTHY
    assert Trial(state=Verification.VERIFYING, since=END).share == ""


def test_a_verification_that_is_suspended_says_so_until_it_is_over():
    suspension = Suspension(by_git=False, by="alice", since=END)
    given = package(Verification.VERIFYING, suspension=suspension, total=2)
    assert found(given)["Suspended"] == (True, "SuspendedByOperator")
    assert conditions.health(given) is Health.SUSPENDED
    assert given.trial.stage == "verifying, suspended"
    over = package(Verification.VERIFIED, suspension=suspension)
    assert "Suspended" not in found(over)
    assert (over.trial.stage, conditions.health(over)) == ("verified", Health.HEALTHY)
