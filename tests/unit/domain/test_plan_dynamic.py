"""Which dynamic batches may run beside each other (platform rules §4, "Dynamic batches")."""

from __future__ import annotations

import pytest
from plans import actual, base, batch, by_tag, desired, diff, dynamic, package, run, said

from reconciler.domain.actual import Phase, RunType
from reconciler.domain.desired import Key
from reconciler.domain.plan import Reason
from reconciler.domain.resources import Kind


def running(*batches, phase=Phase.IN_PROGRESS, **unfinished):
    """What the database holds when these dynamic batches run."""
    packages = [
        package(name, version=name[-1:]) for name in ("lamp-3", "lamp-4", "lamp-5", "lamp-6", "lamp-7")
    ]
    state = {
        one.key: {"run": run(phase, kind=RunType.DYNAMIC, package=one.resource.spec.package, **unfinished)}
        for one in batches
    }
    return actual(*base(), *packages, by_tag(), by_tag("gamma"), *batches, state=state), packages


def after(have, packages, *batches):
    return diff(desired(*base(), *packages, by_tag(), by_tag("gamma"), *batches), have)


OLD = dynamic("old", "1", "0.9")


@pytest.mark.parametrize(
    ("new", "said_"),
    [
        (dynamic("new", "0.5"), None),
        (dynamic("new", "0.5", "1"), "Batch/old, another dynamic batch of lamp-2, is for the version 1 too"),
        (
            dynamic("new", "0.9", "1"),
            "Batch/old, another dynamic batch of lamp-2, is for the version 0.9, 1 too",
        ),
        (dynamic("new", "1", package="lamp-3"), None),
        (dynamic("new", group="beta"), "Batch/old, another dynamic batch of lamp-2, is for source versions"),
        (dynamic("new", group="beta", package="lamp-3"), None),
        (batch("new", target={"all": {}, "sourceVersions": ["1"]}), None),
    ],
)
def test_the_dynamic_batches_of_a_package_share_no_version_and_no_group(new, said_):
    have, packages = running(OLD)
    planned = after(have, packages, OLD, new)
    if said_ is None:
        assert said(planned) == (["create new"], {})
    else:
        assert said(planned) == ([], {"new": Reason.DYNAMIC_OVERLAP})
        assert planned.verdicts[0].message.startswith(said_)


def test_a_package_has_one_batch_for_a_group_and_none_beside_it():
    grouped = dynamic("old", group="beta")
    have, packages = running(grouped)
    for new in (dynamic("new", "1"), dynamic("new", group="beta"), dynamic("new", group="gamma")):
        planned = after(have, packages, grouped, new)
        assert said(planned) == ([], {"new": Reason.DYNAMIC_OVERLAP})
        assert "is for the group beta" in planned.verdicts[0].message
        assert planned.verdicts[0].message.endswith("cancel Batch/old first")


@pytest.mark.parametrize("phase", [Phase.CANCELED, Phase.COMPLETED])
def test_a_batch_that_does_not_run_is_in_nobody_s_way(phase):
    have, packages = running(OLD, phase=phase)
    assert said(after(have, packages, OLD, dynamic("new", "1"))) == (["create new"], {})


def test_a_batch_that_waits_for_its_verification_counts():
    have, packages = running(OLD, phase=Phase.PLANNED)
    assert said(after(have, packages, OLD, dynamic("new", "1")))[1] == {"new": Reason.DYNAMIC_OVERLAP}


def test_a_batch_that_the_same_commit_cancels_makes_room():
    have, packages = running(OLD)
    assert said(after(have, packages, dynamic("new", "1"))) == (["cancel old", "create new"], {})
    stopped = dynamic("old", "1", "0.9", state="Canceled")
    assert said(after(have, packages, stopped, dynamic("new", "1"))) == (["cancel old", "create new"], {})


def test_of_two_in_one_commit_the_first_by_name_goes_on():
    have, packages = running()
    planned = after(have, packages, dynamic("b", "1"), dynamic("a", "1"), dynamic("c", "1", "2.1"))
    assert said(planned) == (["create a"], {"b": Reason.DYNAMIC_OVERLAP, "c": Reason.DYNAMIC_OVERLAP})
    assert planned.verdicts[0].message.startswith("Batch/a, ")


def test_a_batch_that_is_refused_for_another_reason_is_in_nobody_s_way():
    have, packages = running()
    nowhere = dynamic("a", group="nowhere")
    planned = after(have, packages, nowhere, dynamic("b", "1"))
    assert said(planned) == (["create b"], {"a": Reason.REFERENCE})


@pytest.mark.parametrize(
    ("versions", "refused"), [(["1"], False), (["1", "0.8"], False), (["1", "0.5"], True)]
)
def test_versions_change_in_place_as_far_as_no_other_batch_has_them(versions, refused):
    other = dynamic("other", "0.5")
    have, packages = running(OLD, other)
    planned = after(have, packages, dynamic("old", *versions), other)
    if refused:
        assert said(planned) == ([], {"old": Reason.DYNAMIC_OVERLAP})
        assert "Batch/other" in planned.verdicts[0].message
    else:
        assert said(planned) == (["change old"], {})
        assert planned.actions[0].changed == ("target.sourceVersions",)


def test_versions_move_from_one_batch_to_another_in_one_commit():
    have, packages = running(OLD, dynamic("other", "0.5"))
    planned = after(have, packages, dynamic("old", "0.5"), dynamic("other", "1", "0.9"))
    assert said(planned) == (["change old", "change other"], {})
    planned = after(have, packages, dynamic("old", "1"), dynamic("other", "0.5"), dynamic("new", "0.9"))
    assert said(planned) == (["change old", "create new"], {})


def test_a_running_batch_gets_a_version_before_a_new_one_does():
    have, packages = running(OLD)
    planned = after(have, packages, dynamic("old", "0.9", "1", "5"), dynamic("a", "5"))
    assert said(planned) == (["change old"], {"a": Reason.DYNAMIC_OVERLAP})


def test_what_a_refused_change_keeps_is_not_given_to_another():
    have, packages = running(OLD, dynamic("other", "0.5"), dynamic("third", "0.1"))
    planned = after(
        have, packages, dynamic("old", "0.5", "0.1"), dynamic("other", "1"), dynamic("third", "0.1")
    )
    assert said(planned) == ([], {"old": Reason.DYNAMIC_OVERLAP, "other": Reason.DYNAMIC_OVERLAP})


def test_versions_of_a_batch_that_does_not_run_are_claimed_by_nobody():
    stopped = dynamic("old", "1", state="Canceled")
    have, packages = running(stopped, phase=Phase.CANCELED)
    changed = dynamic("old", "0.5", state="Canceled")
    assert said(after(have, packages, changed, dynamic("zeta", "0.5"))) == (["change old", "create zeta"], {})


@pytest.mark.parametrize(("there", "refused"), [(3, False), (4, False), (5, True)])
def test_a_group_has_batches_of_five_packages_at_most(there, refused):
    names = [f"lamp-{number}" for number in range(3, 8)]
    olds = [dynamic(f"b{name}", group="beta", package=name) for name in names[:there]]
    have, packages = running(*olds)
    planned = after(have, packages, *olds, dynamic("new", group="beta"))
    assert said(planned) == (([], {"new": Reason.DYNAMIC_OVERLAP}) if refused else (["create new"], {}))
    if refused:
        assert planned.verdicts[0].message == (
            "the group beta has dynamic batches of 5 packages already (lamp-3, lamp-4, lamp-5, lamp-6, lamp-7), "
            "at most 5 are allowed: cancel one first"
        )
        assert said(after(have, packages, *olds, dynamic("new", group="gamma"))) == (["create new"], {})


def test_the_operator_says_how_many_packages_a_group_has():
    have, packages = running(dynamic("old", group="beta", package="lamp-3"))
    want = desired(
        *base(), *packages, by_tag(), by_tag("gamma"), dynamic("old", group="beta", package="lamp-3"),
        dynamic("new", group="beta"),
    )  # fmt: skip
    assert said(diff(want, have, allowed={"dynamic_packages_per_group": 1}))[1] == {
        "new": Reason.DYNAMIC_OVERLAP
    }


def test_a_static_batch_never_minds():
    have, packages = running(OLD)
    assert Key(Kind.BATCH, "old") in have.objects
    assert said(after(have, packages, OLD, batch("new")))[0] == ["create new"]
