"""What becomes of a package's trial when its manifest is new, changed, back or gone (platform rules §3)."""

from __future__ import annotations

import pytest
from plans import (
    BATCH,
    PACKAGE,
    TRIAL,
    actual,
    base,
    batch,
    desired,
    diff,
    fleet,
    inventory,
    package,
    product,
    run,
    said,
    trial,
)

from reconciler.domain import plan
from reconciler.domain.actual import Held, Phase, RunType, Verification
from reconciler.domain.lifecycle import UNFINISHED
from reconciler.domain.plan import Reason

TRIED = package(verification=TRIAL)
FAILED = trial(Phase.COMPLETED, Verification.FAILED)


def with_trial(*more, one=TRIED):
    return desired(product(), one, inventory(), *more)


def having(one=TRIED, *more, **state):
    return actual(product(), one, inventory(), *more, state={PACKAGE: state or trial()})


def test_a_new_package_with_a_verification_is_tried_out():
    planned = diff(with_trial(), actual(product(), inventory()))
    (action,) = planned.actions
    assert (action.verb, action.starts_run, action.cancels_run) == ("create", True, False)
    assert action.why == "new in Git; its verification starts"


def test_a_package_without_one_is_not():
    (action,) = diff(desired(*base()), actual(product(), inventory())).actions
    assert (action.starts_run, action.why) == (False, "new in Git")


@pytest.mark.parametrize("state", [trial(), trial(Phase.COMPLETED, Verification.VERIFIED), FAILED])
def test_a_trial_under_way_or_over_stays_so_while_its_verification_stays(state):
    have = having(**state)
    assert diff(with_trial(), have) == plan.Plan()
    (action,) = diff(with_trial(one=package(verification=TRIAL, title="Two")), have).actions
    assert (action.changed, action.starts_run, action.cancels_run) == (("title",), False, False)


@pytest.mark.parametrize(
    "changed",
    [
        {"devices": ["dev-1", "dev-2"]},
        {**TRIAL, "sourceVersions": ["1"]},
        {**TRIAL, "timeout": "30m"},
        {**TRIAL, "attempt": 2},
    ],
)
@pytest.mark.parametrize("state", [trial(QUEUED=1), FAILED])
def test_another_verification_is_another_trial_and_ends_the_one_under_way(changed, state):
    planned = diff(with_trial(one=package(verification=changed)), having(**state))
    (action,) = planned.actions
    assert (action.verb, action.starts_run) == ("change", True)
    assert action.why == "changed in Git; its verification starts again"
    assert action.cancels_run == (state is not FAILED)
    assert action.statuses == (UNFINISHED if action.cancels_run else ())


@pytest.mark.parametrize(
    ("state", "warned"),
    [(FAILED, True), (trial(), False), (trial(Phase.COMPLETED, Verification.VERIFIED), False)],
)
def test_taking_the_verification_away_ends_it_and_is_said_to_bypass_a_failed_one(state, warned):
    (action,) = diff(desired(*base()), having(**state)).actions
    assert (action.verb, action.starts_run) == ("change", False)
    assert action.cancels_run == (state["run"].phase is Phase.IN_PROGRESS)
    assert action.warnings == (
        ("its verification failed, and without `verification` its batches start all the same",)
        if warned
        else ()
    )


@pytest.mark.parametrize("run_", [None, run(Phase.COMPLETED, kind=RunType.VERIFY)])
def test_a_verification_that_is_added_later_starts(run_):
    have = having(package(), run=run_)
    (action,) = diff(with_trial(), have).actions
    assert (action.verb, action.starts_run, action.cancels_run) == ("change", True, False)


@pytest.mark.parametrize(
    ("before", "starts"),
    [
        (TRIED, False),
        (package(), True),
        (package(verification={**TRIAL, "attempt": 2}), True),
    ],
)
def test_a_package_that_is_back_is_tried_out_when_its_verification_is_another(before, starts):
    have = having(before, removed=True, **FAILED)
    (action,) = diff(with_trial(), have).actions
    assert (action.verb, action.starts_run) == ("create", starts)


def test_unknown_test_devices_refuse_the_package_and_what_is_to_be_upgraded_to_it():
    have = actual(product(), inventory(), unknown_devices={PACKAGE: ("dev-1",)})
    planned = diff(with_trial(batch()), have)
    assert said(planned) == ([], {"lamp-2": Reason.UNKNOWN_DEVICES, "all": Reason.REFERENCE})
    assert planned.verdicts[0].message == "no device has the name dev-1: declare it or correct it"
    stays = actual(product(), package(), inventory(), unknown_devices={PACKAGE: ("dev-1",)})
    assert said(diff(with_trial(), stays)) == ([], {"lamp-2": Reason.UNKNOWN_DEVICES})


def test_more_unknown_devices_than_anybody_reads_are_counted():
    names = tuple(f"dev-{number}" for number in range(1002))
    planned = diff(with_trial(), actual(product(), inventory(), unknown_devices={PACKAGE: names}))
    details = planned.verdicts[0].details
    assert (len(details), details[-1]) == (1001, "2 more are unknown")


@pytest.mark.parametrize(
    ("state", "refused"),
    [
        (trial(), True),
        (trial(Phase.PLANNED), True),
        (trial(Phase.CANCELED, Verification.UNVERIFIED, NOTIFIED=1), True),
        (trial(Phase.CANCELED, Verification.UNVERIFIED), False),
        (FAILED, False),
        ({"run": None, "verification": Verification.NOT_REQUIRED}, False),
    ],
)
def test_a_package_is_not_removed_while_its_trial_is_unfinished(state, refused):
    planned = diff(desired(product(), inventory()), having(**state))
    assert said(planned) == (([], {"lamp-2": Reason.IN_USE}) if refused else (["remove lamp-2"], {}))
    if refused:
        assert "its verification is under way" in planned.verdicts[0].message


def test_a_trial_ends_by_taking_the_verification_away_and_then_the_package_can_go():
    planned = diff(desired(*base()), having(**trial(NOTIFIED=1)))
    assert said(planned)[0] == ["change lamp-2"]


def test_trials_do_not_count_for_the_guard_against_mass_cancellation():
    names = [f"lamp-{number}" for number in range(2, 8)]
    tried = [package(name, version=name[-1], verification=TRIAL) for name in names]
    have = actual(product(), inventory(), *tried, batch(), state={one.key: trial(QUEUED=1) for one in tried})
    plain = [package(name, version=name[-1]) for name in names]
    planned = diff(desired(product(), inventory(), *plain), have)
    assert planned.count(plan.Verb.CHANGE) == 6
    assert all(action.cancels_run for action in planned.actions)
    assert planned.held == ()


def test_trials_make_no_cancellation_of_most_batches_look_small():
    names = [f"lamp-{number}" for number in range(3, 9)]
    tried = [package(name, version=name[-1], verification=TRIAL) for name in names]
    many = [batch(f"b{number}") for number in range(4)]
    have = actual(*base(), *tried, *many, state={one.key: trial() for one in tried})
    planned = diff(desired(*base(), *tried, many[3]), have)
    assert len(planned.held) == 3
    assert "cancels 3 of 4 running batches" in planned.held[0].message


# --- first sight ---


def test_an_empty_database_holds_a_package_that_would_be_tried_out_and_its_batches():
    planned = diff(with_trial(batch()), actual(first_sight=True))
    assert said(planned) == (
        ["create lamp", "create berlin"],
        {"lamp-2": Reason.FIRST_SIGHT, "all": Reason.FIRST_SIGHT},
    )
    assert planned.verdicts[0].message.startswith("was in Git before this database followed it")


def test_a_held_package_starts_when_it_is_confirmed():
    held = {"digest": None, "spec": None, "run": None}
    waits = Held(Reason.FIRST_SIGHT, TRIED.digest)
    assert said(diff(with_trial(), having(**held, held=waits))) == ([], {"lamp-2": Reason.FIRST_SIGHT})
    confirmed = Held(Reason.FIRST_SIGHT, TRIED.digest, confirmed=True)
    (action,) = diff(with_trial(), having(**held, held=confirmed)).actions
    assert action.starts_run
    later = diff(with_trial(batch()), having(**held, held=waits))
    assert said(later) == ([], {"lamp-2": Reason.FIRST_SIGHT, "all": Reason.REFERENCE})
    assert later.verdicts[1].message.endswith("is not as Git says (FirstSight): confirm that first")


def test_batches_go_on_while_their_package_is_tried_out_again():
    have = actual(*fleet(), state={PACKAGE: FAILED})
    planned = diff(with_trial(batch()), have)
    assert said(planned) == (["change lamp-2"], {})
    assert BATCH in have.objects
