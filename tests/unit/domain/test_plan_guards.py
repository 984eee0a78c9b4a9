"""What a plan refuses and holds, and what it promises whatever the commit."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from plans import (
    BATCH,
    FIRMWARE,
    INVENTORY,
    LIST,
    PACKAGE,
    PRODUCT,
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
)

from reconciler.domain import plan
from reconciler.domain.actual import Held, Phase
from reconciler.domain.desired import Key
from reconciler.domain.plan import Reason, Verb
from reconciler.domain.resources import Kind

# --- in use ---


def mcu(*modules, **spec):
    return product(modules=[{"name": name} for name in modules], **spec)


@pytest.mark.parametrize(
    ("before", "one", "after", "said_"),
    [
        (mcu("mcu"), package(module="mcu"), mcu(), "Package/lamp-2 is for its module mcu"),
        (mcu("mcu", "b"), package(module="mcu"), mcu("b"), "Package/lamp-2 is for its module mcu"),
        (mcu("mcu"), package(), mcu(), None),
        (mcu(), package(), mcu(versionFormat="Numeric"), "Package/lamp-2 has the version 2, not x.y.z"),
        (mcu(), package(version="2.0.0"), mcu(versionFormat="Numeric"), None),
    ],
)
def test_a_product_keeps_what_a_package_in_force_needs_of_it(before, one, after, said_):
    planned = diff(
        desired(after, inventory(), broken=[PACKAGE, BATCH]), actual(before, inventory(), one, batch())
    )
    if said_ is None:
        assert said(planned)[0] == ["change lamp"]
    else:
        assert said(planned) == ([], {"lamp": Reason.IN_USE, "lamp-2": Reason.INVALID, "all": Reason.INVALID})
        assert planned.verdicts[0].message == f"can't be changed: {said_}"


def test_the_protocol_of_a_product_is_fixed_but_what_md5_is_called_is_not():
    sagoo = {"protocol": "Sagoo", "versionFormat": "Numeric"}
    planned = diff(desired(product(**sagoo)), actual(product()))
    assert said(planned) == ([], {"lamp": Reason.IMMUTABLE})
    planned = diff(desired(product(**sagoo, md5Name="MD5")), actual(product(**sagoo)))
    assert said(planned) == (["change lamp"], {})


def test_a_product_that_several_packages_need_is_refused_once():
    two = (
        package("two", module="mcu", version="5"),
        package("one", module="mcu"),
        package("other", product="fan"),
    )
    have = actual(mcu("mcu"), product("fan"), two[2], *two[:2])
    planned = diff(desired(mcu(), product("fan"), two[2], broken=[one.key for one in two[:2]]), have)
    assert [verdict.key.name for verdict in planned.verdicts].count("lamp") == 1


def test_a_product_changes_with_the_packages_that_need_it_only_when_their_last_task_has_ended():
    have = actual(mcu("mcu"), inventory(), package(module="mcu"), batch(), product("fan"))
    want = desired(mcu(), inventory(), product("fan"))
    assert said(diff(want, have))[0] == ["cancel all", "change lamp", "remove lamp-2"]
    drains = actual(
        mcu("mcu"), inventory(), package(module="mcu"), batch(), state={BATCH: {"run": run(IN_PROGRESS=1)}}
    )
    planned = diff(desired(mcu(), inventory()), drains)
    assert said(planned) == (["cancel all"], {"lamp": Reason.IN_USE, "lamp-2": Reason.IN_USE})


@pytest.mark.parametrize("phase", [Phase.IN_PROGRESS, Phase.COMPLETED])
def test_a_package_that_a_batch_in_git_refers_to_is_not_removed(phase):
    have = actual(*fleet(), state={BATCH: {"run": run(phase)}})
    planned = diff(desired(product(), inventory(), broken=[BATCH]), have)
    assert said(planned) == ([], {"all": Reason.INVALID, "lamp-2": Reason.IN_USE})
    assert planned.verdicts[0].message == "can't be removed: Batch/all refers to it"


def test_a_product_that_something_in_git_refers_to_is_not_removed():
    planned = diff(desired(package()), actual(*fleet()[:2]))
    assert said(planned) == ([], {"lamp": Reason.IN_USE})


def test_a_package_is_not_removed_before_the_last_task_that_needs_it_has_ended():
    have = actual(*fleet(), state={BATCH: {"run": run(QUEUED=5, NOTIFIED=2)}})
    planned = diff(desired(inventory()), have)
    assert said(planned) == (["cancel all"], {"lamp": Reason.IN_USE, "lamp-2": Reason.IN_USE})
    assert planned.verdicts[1].message == "can't be removed: 2 unfinished tasks of Batch/all need it"


def test_a_batch_package_and_product_leave_together_when_nothing_is_unfinished():
    have = actual(*fleet(), state={BATCH: {"run": run(QUEUED=5)}})
    planned = diff(desired(product("fan")), have)
    assert said(planned) == (
        ["cancel all", "create fan", "remove berlin", "remove lamp-2", "remove lamp"],
        {},
    )


def test_tasks_of_a_batch_that_left_git_still_need_their_package():
    have = actual(*fleet(), state={BATCH: {"removed": True, "run": run(Phase.CANCELED, IN_PROGRESS=1)}})
    planned = diff(desired(product("fan")), have)
    assert said(planned) == (
        ["create fan", "remove berlin"],
        {"lamp": Reason.IN_USE, "lamp-2": Reason.IN_USE},
    )


def test_what_stays_because_it_is_used_keeps_what_it_refers_to():
    have = actual(*fleet(), state={BATCH: {"run": None}})
    planned = diff(desired(broken=[BATCH]), have)
    assert said(planned) == (
        ["remove berlin"],
        {"all": Reason.INVALID, "lamp-2": Reason.IN_USE, "lamp": Reason.IN_USE},
    )


def test_a_product_key_that_another_product_has_is_refused_until_that_one_is_gone():
    before = product("lamp", productKey="key")
    planned = diff(desired(product("bulb", productKey="key")), actual(before))
    assert said(planned) == (["remove lamp"], {"bulb": Reason.TAKEN})
    gone = actual(before, state={PRODUCT: {"removed": True}})
    assert said(diff(desired(product("bulb", productKey="key")), gone)) == (["create bulb"], {})


def test_what_refers_to_a_refused_product_is_refused_with_it_and_the_rest_goes_on():
    before = product("old", productKey="key")
    new = product(productKey="key"), *fleet()[1:], product("fan")
    planned = diff(desired(before, *new), actual(before))
    assert said(planned) == (
        ["create fan"],
        {
            "lamp": Reason.TAKEN,
            "lamp-2": Reason.REFERENCE,
            "berlin": Reason.REFERENCE,
            "all": Reason.REFERENCE,
        },
    )


def test_a_product_that_is_back_keeps_its_key():
    before = product("lamp", productKey="key")
    gone = actual(before, state={PRODUCT: {"removed": True}})
    assert said(diff(desired(before), gone)) == (["create lamp"], {})
    assert said(diff(desired(product()), gone)) == ([], {"lamp": Reason.IMMUTABLE})


def test_a_package_that_is_back_keeps_its_content():
    gone = actual(*base(), state={PACKAGE: {"removed": True}})
    other = package(file=dataclasses.replace(FIRMWARE, sha256="e" * 64), title="Two")
    planned = diff(desired(product(), inventory(), other), gone)
    assert said(planned) == ([], {"lamp-2": Reason.IMMUTABLE})
    assert planned.verdicts[0].message.startswith("files: ")
    assert said(diff(desired(product(), inventory(), package(title="Two")), gone)) == (["create lamp-2"], {})
    never = actual(product(), inventory(), package(), state={PACKAGE: {"digest": None, "spec": None}})
    assert said(diff(desired(product(), inventory(), other), never)) == (["create lamp-2"], {})


def test_a_product_s_name_is_its_key_unless_it_has_one():
    planned = diff(desired(product(), product("bulb", productKey="lamp")), actual(product()))
    assert said(planned) == ([], {"bulb": Reason.TAKEN})


@pytest.mark.parametrize(
    "other",
    [
        package(file=dataclasses.replace(FIRMWARE, sha256="e" * 64)),
        package(version="3"),
        product(productKey="x"),
    ],
)
def test_no_run_starts_on_a_package_or_product_whose_change_is_refused(other):
    rest = [one for one in base() if one.key != other.key]
    planned = diff(desired(*rest, other, batch()), actual(*base()))
    assert said(planned) == ([], {other.name: Reason.IMMUTABLE, "all": Reason.REFERENCE})
    assert "is not as Git says (Immutable)" in planned.verdicts[-1].message
    again = actual(*fleet(batch(state="Canceled")), state={BATCH: {"run": None}})
    assert said(diff(desired(*rest, other, batch()), again))[1]["all"] == Reason.REFERENCE
    stopped = diff(desired(*rest, other, batch(state="Canceled")), actual(*fleet()))
    assert said(stopped)[0] == ["cancel all"]


def test_no_run_starts_beside_an_inventory_of_its_product_that_is_not_valid():
    other = inventory("munich", product="fan")
    have = actual(*base(), product("fan"), other)
    rest = product(), package(), product("fan")
    planned = diff(desired(*rest, other, batch(), broken=[INVENTORY]), have)
    assert said(planned) == ([], {"berlin": Reason.INVALID, "all": Reason.REFERENCE})
    moved = inventory(product="fan")
    assert said(diff(desired(*rest, other, moved, batch()), have))[1]["all"] == Reason.REFERENCE
    assert said(diff(desired(*rest, inventory(), batch(), broken=[other.key]), have))[0] == ["create all"]
    new = Key(Kind.DEVICE_INVENTORY, "oslo")
    assert said(diff(desired(*rest, inventory(), other, batch(), broken=[new]), have))[1] == {
        "oslo": Reason.INVALID,
        "all": Reason.REFERENCE,
    }


# --- guards ---


def batches(count):
    return [batch(f"b{number}") for number in range(count)]


@pytest.mark.parametrize(
    ("running", "cancelled", "held"),
    [
        (2, 2, False),  # fewer than three are never held
        (3, 3, True),
        (6, 3, False),  # half is not more than half
        (5, 3, True),
        (7, 3, False),
        (7, 4, True),
    ],
)
def test_a_commit_that_cancels_most_of_what_runs_is_held(running, cancelled, held):
    everything = batches(running)
    planned = diff(desired(*base(), *everything[cancelled:]), actual(*fleet(*everything)))
    if not held:
        assert said(planned) == ([f"cancel b{number}" for number in range(cancelled)], {})
        return
    assert said(planned) == ([], {f"b{number}": Reason.MASS_CANCEL for number in range(cancelled)})
    assert planned.refused == ()
    assert len(planned.held) == cancelled
    assert f"Confirm-Cancel: {cancelled}" in planned.held[0].message


@pytest.mark.parametrize(("confirmed", "cancels"), [(3, 3), (2, 0), (4, 0), (None, 0)])
def test_a_mass_cancellation_goes_on_when_just_its_number_is_confirmed(confirmed, cancels):
    everything = batches(3)
    planned = diff(desired(*base()), actual(*fleet(*everything), confirmed_cancels=confirmed))
    assert planned.count(Verb.CANCEL) == cancels


def test_cancelling_by_state_counts_for_the_guard_too():
    everything = batches(4)
    after = [batch(one.name, state="Canceled") for one in everything]
    planned = diff(desired(*fleet(*after)), actual(*fleet(*everything)))
    assert set(said(planned)[1].values()) == {Reason.MASS_CANCEL}


def test_batches_that_ended_count_neither_way():
    ended = {one.key: {"run": run(Phase.COMPLETED)} for one in batches(9)}
    planned = diff(desired(*base()), actual(*fleet(*batches(9)), state=ended))
    assert planned.count(Verb.REMOVE) == 9


def test_the_rest_of_a_held_commit_goes_on():
    planned = diff(desired(*base(), product("fan")), actual(*fleet(*batches(3))))
    assert said(planned)[0] == ["create fan"]


def test_the_operator_sets_the_guard():
    everything = batches(2)
    have = actual(*fleet(*everything))
    assert diff(desired(*base()), have, mass_cancel_least=1).count(Verb.CANCEL) == 0
    assert diff(desired(*base()), have, mass_cancel_least=1, mass_cancel_share=1.0).count(Verb.CANCEL) == 2


def test_an_empty_tree_cancels_and_removes_nothing():
    planned = diff(desired(), actual(*fleet()))
    assert planned.actions == ()
    assert said(planned)[1] == dict.fromkeys(("all", "berlin", "lamp-2", "lamp"), Reason.MASS_CANCEL)
    assert "leaves nothing declared" in planned.held[0].message


def test_an_empty_tree_is_believed_when_its_cancellations_are_confirmed():
    planned = diff(desired(), actual(*fleet(), confirmed_cancels=1))
    assert said(planned) == (["cancel all", "remove berlin", "remove lamp-2", "remove lamp"], {})


def test_an_empty_tree_means_nothing_to_an_empty_database():
    assert diff(desired(), actual(first_sight=True)) == plan.Plan()


# --- first sight ---


def waiting(one, *, confirmed=False):
    found = Held(Reason.FIRST_SIGHT, one.digest, confirmed)
    return {one.key: {"digest": None, "spec": None, "run": None, "held": found}}


def test_an_empty_database_holds_the_batches_that_it_finds():
    planned = diff(desired(*fleet()), actual(first_sight=True))
    assert said(planned) == (["create lamp", "create lamp-2", "create berlin"], {"all": Reason.FIRST_SIGHT})
    assert planned.held[0].key == BATCH


def test_an_operator_may_start_them_at_once():
    planned = diff(desired(*fleet()), actual(first_sight=True), hold_first_sight=False)
    assert planned.actions[-1].starts_run


def test_a_held_batch_waits_until_it_is_confirmed():
    have = actual(*fleet(), state=waiting(batch()))
    assert said(diff(desired(*fleet()), have)) == ([], {"all": Reason.FIRST_SIGHT})
    confirmed = actual(*fleet(), state=waiting(batch(), confirmed=True))
    planned = diff(desired(*fleet()), confirmed)
    assert said(planned) == (["create all"], {})
    assert planned.actions[0].starts_run


def test_a_batch_that_is_not_valid_at_first_sight_is_held_whatever_it_says_when_it_is():
    planned = diff(desired(product(), broken=[BATCH, PACKAGE]), actual(first_sight=True))
    assert [(v.key, v.reason, v.holds) for v in planned.verdicts] == [
        (PACKAGE, Reason.INVALID, True),
        (BATCH, Reason.INVALID, True),
    ]
    unread = {"digest": None, "spec": None, "run": None, "held": Held(Reason.FIRST_SIGHT, "")}
    have = actual(*fleet(), state={BATCH: unread})
    assert said(diff(desired(*fleet()), have)) == ([], {"all": Reason.FIRST_SIGHT})
    later = diff(desired(*base(), broken=[BATCH]), actual(*base()))
    assert [v.holds for v in later.verdicts] == [False]


def test_a_batch_that_was_accepted_once_starts_again_also_while_files_are_unreadable_since_the_first_commit():
    have = actual(*fleet(batch(state="Canceled")), state={BATCH: {"run": None}}, first_sight=True)
    assert diff(desired(*fleet()), have).actions[0].starts_run


def test_a_held_batch_whose_spec_changes_starts():
    planned = diff(desired(*fleet(batch(timeout="5m"))), actual(*fleet(), state=waiting(batch())))
    assert planned.actions[0].starts_run


def test_a_held_batch_that_is_deleted_is_gone():
    planned = diff(desired(*base()), actual(*fleet(), state=waiting(batch())))
    assert said(planned) == (["remove all"], {})


def test_a_batch_that_names_unknown_devices_is_held_at_first_sight_all_the_same():
    have = actual(first_sight=True, unknown_devices={BATCH: ("dev-9",)})
    assert said(diff(desired(*fleet()), have))[1] == {"all": Reason.FIRST_SIGHT}


def test_a_batch_of_a_later_commit_is_not_held():
    assert diff(desired(*fleet()), actual(*base())).actions[0].starts_run


# --- another repository ---


def moved(*declarations, **changes):
    return actual(*declarations, first_sight=True, foreign=True, **changes)


def test_another_repository_cancels_and_removes_nothing_until_it_is_confirmed():
    other = product("fan"), batch("stop", state="Canceled")
    planned = diff(desired(*base(), *other), moved(*base(), batch(), batch("stop")))
    assert said(planned) == (["create fan"], {"all": Reason.MASS_CANCEL, "stop": Reason.MASS_CANCEL})
    assert planned.verdicts[0].message.startswith(
        "this commit is of another repository or ref: it cancels 2 of 2 "
    )
    planned = diff(desired(*base(), *other), moved(*base(), batch(), batch("stop"), confirmed_cancels=2))
    assert said(planned) == (["cancel all", "cancel stop", "create fan"], {})
    planned = diff(desired(product()), moved(product(), inventory()))
    assert said(planned) == ([], {"berlin": Reason.MASS_CANCEL})


@pytest.mark.parametrize("removed", [True, False])
def test_another_repository_s_batches_are_held_also_those_that_ran_here_once(removed):
    before = batch("old", state="Active" if removed else "Canceled")
    ended = {before.key: {"run": run(Phase.CANCELED), "removed": removed}}
    have = moved(*base(), before, state=ended)
    planned = diff(desired(*base(), batch("old"), batch("new")), have)
    assert said(planned) == ([], {"old": Reason.FIRST_SIGHT, "new": Reason.FIRST_SIGHT})
    assert len(diff(desired(*base(), batch("old"), batch("new")), have, hold_first_sight=False).actions) == 2


# --- promises ---

LIVES = st.one_of(
    st.none(),
    st.builds(
        lambda phase, counts: run(phase, **counts),
        st.sampled_from(Phase),
        st.dictionaries(st.sampled_from(["QUEUED", "NOTIFIED", "IN_PROGRESS"]), st.integers(0, 5)),
    ),
)
BATCHES = st.builds(
    lambda name, rate, state, scopes, roster: batch(
        name, pushRatePerMinute=rate, state=state, onCancel=scopes, roster=roster
    ),
    st.sampled_from([f"b{number}" for number in range(8)]),
    st.sampled_from([10, 1000]),
    st.sampled_from(["Active", "Canceled"]),
    st.lists(st.sampled_from(["Queued", "Notified", "InProgress"]), unique=True),
    st.sampled_from([None, LIST]),
)
FLEETS = st.lists(BATCHES, max_size=6, unique_by=lambda one: one.name).map(lambda found: [*base(), *found])


@given(FLEETS, st.data())
def test_the_plan_for_what_is_there_already_is_empty(fleet_, data):
    lives = {one.key: {"run": data.draw(LIVES)} for one in fleet_ if one.kind is Kind.BATCH}
    for one in fleet_:
        if one.kind is Kind.BATCH and one.resource.spec.state == "Canceled":
            life = lives[one.key]["run"]
            assume(life is None or life.phase is not Phase.IN_PROGRESS)
    assert diff(desired(*fleet_), actual(*fleet_, state=lives)) == plan.Plan()


@given(FLEETS, FLEETS, st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)), st.data())
def test_nothing_is_done_to_what_is_broken_or_was_last_declared_in_a_broken_file(
    before, after, broken, unreadable, data
):
    lives = {one.key: {"run": data.draw(LIVES)} for one in before if one.kind is Kind.BATCH}
    keys = [one.key for i, one in enumerate(after) if i in broken]
    paths = [one.path for i, one in enumerate(before) if i in unreadable]
    valid = [one for one in after if one.key not in keys]
    have = actual(*before, state=lives)
    planned = diff(desired(*valid, broken=keys, broken_paths=paths), have)
    declared = {one.key for one in valid}
    for action in planned.actions:
        assert action.key not in keys
        assert action.key in declared or have.objects[action.key].path not in paths
        assert (action.declaration is None) == (action.key not in declared)
    acted = [action.key for action in planned.actions]
    assert len(set(acted)) == len(acted)
    assert not set(acted) & {verdict.key for verdict in planned.verdicts}


@given(FLEETS, FLEETS, st.data())
def test_whatever_is_in_force_afterwards_refers_to_something_that_is(before, after, data):
    lives = {one.key: {"run": data.draw(LIVES)} for one in before if one.kind is Kind.BATCH}
    keep = data.draw(st.sets(st.sampled_from([one.key for one in after])))
    keep -= set() if PRODUCT in keep else {one.key for one in after}  # as validation does
    keep -= set() if PACKAGE in keep else {one.key for one in after if one.kind is Kind.BATCH}
    valid = [one for one in after if one.key in keep]
    have = actual(*before, state=lives)
    broken = [one.key for one in after if one.key not in keep]
    planned = diff(desired(*valid, broken=broken if data.draw(st.booleans()) else ()), have)
    force = set(have.objects)
    force |= {action.key for action in planned.actions if action.declaration is not None}
    force -= {action.key for action in planned.actions if action.declaration is None}
    if any(key.kind is Kind.BATCH for key in force):
        assert PACKAGE in force
    if PACKAGE in force or INVENTORY in force:
        assert PRODUCT in force
