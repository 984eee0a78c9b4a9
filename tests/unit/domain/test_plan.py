"""How a change in Git is read: one test for each row of the manifests' table."""

from __future__ import annotations

import dataclasses

import pytest
from plans import (
    BATCH,
    FIRMWARE,
    INVENTORY,
    LIST,
    actual,
    base,
    batch,
    desired,
    diff,
    dynamic,
    fleet,
    inventory,
    package,
    product,
    run,
    said,
)

from reconciler.domain import plan
from reconciler.domain.actual import Phase
from reconciler.domain.desired import DesiredState, Key
from reconciler.domain.lifecycle import UNFINISHED, Status
from reconciler.domain.plan import Reason, Verb
from reconciler.domain.resources import Kind

# --- new ---


def test_what_is_new_is_created_in_the_order_of_reference():
    planned = diff(desired(*reversed(fleet())), actual())
    assert said(planned) == (["create lamp", "create lamp-2", "create berlin", "create all"], {})
    assert [action.starts_run for action in planned.actions] == [False, False, False, True]
    assert planned.count(Verb.CREATE) == 4
    assert planned.count(Verb.CANCEL, Verb.REMOVE) == 0
    assert (planned.refused, planned.held) == ((), ())


def test_a_batch_that_is_new_and_cancelled_touches_nobody():
    planned = diff(desired(*fleet(batch(state="Canceled"))), actual(*base()))
    assert said(planned)[0] == ["create all"]
    assert not planned.actions[0].starts_run


def test_unknown_devices_refuse_a_batch_and_are_named():
    names = tuple(f"dev-{number}" for number in range(1, 14))
    planned = diff(desired(*fleet()), actual(*base(), unknown_devices={BATCH: names}))
    assert said(planned) == ([], {"all": Reason.UNKNOWN_DEVICES})
    assert "dev-1, dev-2, " in planned.refused[0].message
    assert "dev-10 and 3 more: declare it or correct it" in planned.refused[0].message
    assert planned.refused[0].details == tuple(f"no device has the name {name}" for name in names)


@pytest.mark.parametrize("removed", [True, False])
def test_unknown_devices_refuse_a_second_run_too(removed):
    before = batch(state="Active" if removed else "Canceled")
    again = {"run": run(Phase.CANCELED), "removed": removed}
    have = actual(*fleet(before), state={BATCH: again}, unknown_devices={BATCH: ("dev-9",)})
    assert said(diff(desired(*fleet()), have)) == ([], {"all": Reason.UNKNOWN_DEVICES})


def test_unknown_devices_of_a_file_may_be_skipped_and_are_said_to_be():
    wanted = fleet(batch(roster=LIST))
    planned = diff(desired(*wanted), actual(*base(), unknown_devices={BATCH: ("dev-9 (eu.csv:2)",)}))
    assert planned.verdicts[0].message.endswith("declare it, correct it, or set skipUnknown")


def test_a_few_unknown_devices_are_all_named():
    planned = diff(desired(*fleet()), actual(*base(), unknown_devices={BATCH: ("dev-1",)}))
    assert planned.verdicts[0].message.startswith("no device has the name dev-1: ")


# --- nothing ---


def test_nothing_follows_from_what_is_in_force_already():
    assert diff(desired(*fleet()), actual(*fleet())) == plan.Plan()


def test_a_moved_manifest_and_a_moved_file_change_nothing():
    moved = (
        product(),
        package(path="new/place.yaml", file=dataclasses.replace(FIRMWARE, path="elsewhere.bin")),
        inventory(),
        batch(path="batches/all.yaml"),
    )
    assert diff(desired(*moved), actual(*fleet())) == plan.Plan()


def test_a_renamed_list_with_the_same_content_changes_nothing():
    before = batch(roster=LIST)
    after = batch(roster=dataclasses.replace(LIST, path="renamed.csv"))
    assert before.digest == after.digest
    assert diff(desired(*fleet(after)), actual(*fleet(before))) == plan.Plan()


@pytest.mark.parametrize("phase", [Phase.CANCELED, Phase.COMPLETED])
def test_a_batch_that_stopped_or_ended_stays_so_while_its_spec_stays(phase):
    have = actual(*fleet(), state={BATCH: {"run": run(phase)}})
    assert diff(desired(*fleet()), have) == plan.Plan()


# --- changed ---


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        (batch(), batch(pushRatePerMinute=50), ("pushRatePerMinute",)),
        (batch(), batch(timeout="30m"), ("timeout",)),
        (batch(tags={"a": "1"}), batch(), ("tags",)),
        (batch(), batch(onCancel=[], timeout="5m"), ("onCancel", "timeout")),
        (batch(), batch(retry={"interval": "0s", "limit": 1}), ("retry",)),
        (batch(), batch(suspend=True), ("suspend",)),
        (
            batch(schedule={"start": "2026-11-02T12:00:00Z"}),
            batch(schedule={"start": "2026-11-02T12:00:00Z", "end": "2026-11-03T12:00:00Z"}),
            ("schedule.end",),
        ),
        (dynamic("all", "1"), dynamic("all", "0", "1"), ("target.sourceVersions",)),
        (product(), product(description="new"), ("description",)),
        (product(), product(registration="Auto"), ("registration",)),
        (package(), package(title="Two", customInfo="x"), ("customInfo", "title")),
        (inventory(), inventory(devices=[{"name": "dev-2"}]), ("devices",)),
    ],
)
def test_what_may_change_is_changed_in_place(before, after, fields):
    rest = [one for one in fleet() if one.key != before.key]
    planned = diff(desired(*rest, after), actual(*rest, before))
    assert said(planned) == ([f"change {after.name}"], {})
    action = planned.actions[0]
    assert (action.changed, action.starts_run, action.cancels_run) == (fields, False, False)


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        (batch(), batch(target={"devices": ["dev-1"]}), "target.all, target.devices"),
        (batch(), batch(target={"all": {}, "sourceVersions": ["1"]}), "target.sourceVersions"),
        (batch(), batch(schedule={"start": "2026-11-02T12:00:00Z"}), "schedule.start"),
        (batch(), batch(title="Another"), "title"),
        (batch(), batch(conflict="Wait"), "conflict"),
        (batch(), batch(noResponseTimeout="1h"), "noResponseTimeout"),
        (batch(), batch(confirm=True), "confirm"),
        (batch(), batch(download="HTTP"), "download"),
        (batch(), batch(multiModule=True), "multiModule"),
        (dynamic("all", "1"), dynamic("all", "1", newReportsOnly=True), "newReportsOnly"),
        (dynamic("all", "1"), batch(target={"all": {}, "sourceVersions": ["1"]}), "strategy"),
        (dynamic("all", "1"), dynamic(group="beta"), "target.all, target.group"),
        (batch(), batch(package="lamp-3"), "package"),
        (batch(), batch(delivery="Pull"), "delivery"),
        (batch(), batch(allowDowngrade=True), "allowDowngrade"),
        (batch(roster=LIST), batch(roster=dataclasses.replace(LIST, sha256="d" * 64)), "target.devicesFrom"),
        (package(), package(version="3"), "version"),
        (package(), package(file=dataclasses.replace(FIRMWARE, sha256="e" * 64)), "files"),
        (product(), product(productKey="other"), "productKey"),
        (inventory(), inventory(product="lamp-x"), "product"),
    ],
)
def test_what_may_not_change_is_refused_and_goes_on_as_it_was(before, after, field):
    rest = [one for one in fleet() if one.key != before.key]
    planned = diff(desired(*rest, after), actual(*rest, before))
    assert said(planned) == ([], {after.name: Reason.IMMUTABLE})
    assert planned.refused[0].message.startswith(f"{field}: ")
    assert planned.held == ()


def test_a_change_of_several_immutable_fields_names_them_and_is_refused_as_a_whole():
    after = batch(target={"devices": ["dev-1"]}, delivery="Pull", pushRatePerMinute=20)
    planned = diff(desired(*fleet(after)), actual(*fleet()))
    assert said(planned) == ([], {"all": Reason.IMMUTABLE})
    assert planned.verdicts[0].message.startswith("delivery, target.all, target.devices: ")


# --- invalid is never absent ---


def test_an_object_that_is_not_valid_stays_as_it_is_and_says_why():
    planned = diff(desired(*base(), broken=[BATCH]), actual(*fleet()))
    assert said(planned) == ([], {"all": Reason.INVALID})
    assert planned.verdicts[0].message == "title: too long"


def test_an_object_that_is_not_valid_says_so_also_without_a_reason():
    want = DesiredState({}, {BATCH: ()}, frozenset())
    assert diff(want, actual()).verdicts[0].message == "not valid"


def test_a_file_that_cannot_be_read_leaves_the_objects_it_last_declared():
    planned = diff(desired(*fleet()[:2], broken_paths=["all.yaml", "berlin.yaml"]), actual(*fleet()))
    assert said(planned) == ([], {"all": Reason.UNREADABLE, "berlin": Reason.UNREADABLE})


def test_what_lay_below_a_folder_that_can_not_be_read_stays():
    have = actual(*base(), batch(path="batches/eu/all.yaml"))
    for path in ("batches", "batches/eu"):
        planned = diff(desired(*base(), broken_paths=[path]), have)
        assert said(planned) == ([], {"all": Reason.UNREADABLE})
    assert said(diff(desired(*base(), broken_paths=["batches/e"]), have))[0] == ["cancel all"]


def test_nothing_is_gone_while_a_document_may_be_any_object():
    want = dataclasses.replace(desired(*base()), unnamed=frozenset(["new.yaml"]))
    planned = diff(want, actual(*fleet(batch("held")), state={Key(Kind.BATCH, "held"): {"digest": None}}))
    assert planned == plan.Plan()
    planned = diff(want, actual(*fleet()))
    assert said(planned) == ([], {"all": Reason.UNREADABLE})
    assert planned.verdicts[0].message == "new.yaml can't be read, and may declare it now"


def test_a_broken_file_says_nothing_of_objects_that_moved_out_of_it_or_left_git_before():
    have = actual(*fleet(), state={INVENTORY: {"removed": True}})
    moved = batch(path="elsewhere.yaml")
    planned = diff(desired(*fleet()[:2], moved, broken_paths=["all.yaml", "berlin.yaml"]), have)
    assert planned == plan.Plan()


def test_a_new_object_that_is_not_valid_keeps_no_other_from_going_on():
    other = Key(Kind.BATCH, "other")
    planned = diff(desired(*fleet(), broken=[other]), actual(*fleet()[:2]))
    assert said(planned) == (["create berlin", "create all"], {"other": Reason.INVALID})


# --- deleted, cancelled, back ---


def test_a_deleted_batch_is_cancelled_by_its_last_on_cancel():
    one = batch(onCancel=["Notified", "InProgress"])
    planned = diff(desired(*base()), actual(*fleet(one)))
    action = planned.actions[0]
    assert said(planned) == (["cancel all"], {})
    assert (action.cancels_run, action.declaration) == (True, None)
    assert action.statuses == (Status.NOTIFIED, Status.IN_PROGRESS)


def test_a_deleted_batch_that_says_nothing_cancels_what_was_not_sent():
    planned = diff(desired(*base()), actual(*fleet()))
    assert planned.actions[0].statuses == (Status.CONFIRM, Status.QUEUED)


@pytest.mark.parametrize("gone", [{"run": run(Phase.COMPLETED)}, {"run": None}, {"run": run(Phase.CANCELED)}])
def test_a_deleted_batch_that_does_not_run_is_only_removed(gone):
    planned = diff(desired(*base()), actual(*fleet(), state={BATCH: gone}))
    assert said(planned) == (["remove all"], {})
    assert not planned.actions[0].cancels_run


@pytest.mark.parametrize(
    ("scopes", "statuses"),
    [
        ([], ()),
        (["Scheduled"], ()),
        (["Scheduled", "Unconfirmed"], (Status.CONFIRM,)),
        (["Queued"], (Status.QUEUED,)),
        (["InProgress", "Queued"], (Status.QUEUED, Status.IN_PROGRESS)),
        (
            ["Scheduled", "Unconfirmed", "Queued", "Notified", "InProgress"],
            UNFINISHED,
        ),
    ],
)
def test_on_cancel_says_which_tasks_end(scopes, statuses):
    planned = diff(desired(*fleet(batch(state="Canceled", onCancel=scopes))), actual(*fleet()))
    assert said(planned) == (["cancel all"], {})
    assert planned.actions[0].statuses == statuses


def test_a_cancellation_counts_also_beside_a_change_that_is_refused():
    after = batch(state="Canceled", target={"devices": ["dev-1"]})
    planned = diff(desired(*fleet(after)), actual(*fleet()))
    assert said(planned) == (["cancel all"], {})
    assert planned.actions[0].declaration == after


def test_cancelling_what_ended_by_itself_is_a_change_of_the_text_only():
    have = actual(*fleet(), state={BATCH: {"run": run(Phase.COMPLETED)}})
    planned = diff(desired(*fleet(batch(state="Canceled"))), have)
    assert said(planned) == (["change all"], {})
    assert not planned.actions[0].cancels_run


@pytest.mark.parametrize(
    ("life", "starts"), [(None, True), (run(Phase.COMPLETED), False), (run(Phase.CANCELED), True)]
)
def test_active_again_is_a_new_run_unless_the_last_one_ended_by_itself(life, starts):
    have = actual(*fleet(batch(state="Canceled")), state={BATCH: {"run": life}})
    planned = diff(desired(*fleet()), have)
    assert said(planned) == (["change all"], {})
    assert planned.actions[0].starts_run is starts


def test_active_again_with_another_target_is_refused():
    have = actual(*fleet(batch(state="Canceled")), state={BATCH: {"run": None}})
    planned = diff(desired(*fleet(batch(target={"devices": ["dev-1"]}))), have)
    assert said(planned) == ([], {"all": Reason.IMMUTABLE})


def test_active_again_is_a_new_run_also_while_the_earlier_one_drains():
    have = actual(*fleet(batch(state="Canceled")), state={BATCH: {"run": run(Phase.CANCELED, NOTIFIED=2)}})
    planned = diff(desired(*fleet()), have)
    assert said(planned) == (["change all"], {})
    assert planned.actions[0].starts_run
    assert planned.actions[0].why == "active again behind 2 unfinished tasks of its run 1"


@pytest.mark.parametrize(
    ("life", "starts"),
    [(None, True), (run(Phase.CANCELED), True), (run(Phase.COMPLETED), False)],
)
def test_a_deleted_batch_that_is_back_runs_again_unless_it_had_ended_by_itself(life, starts):
    have = actual(*fleet(), state={BATCH: {"run": life, "removed": True}})
    planned = diff(desired(*fleet()), have)
    assert said(planned) == (["create all"], {})
    assert planned.actions[0].starts_run is starts


def test_a_batch_that_ended_and_was_then_cancelled_and_deleted_stays_ended_when_it_is_back():
    have = actual(
        *fleet(batch(state="Canceled")), state={BATCH: {"run": run(Phase.COMPLETED), "removed": True}}
    )
    assert not diff(desired(*fleet()), have).actions[0].starts_run


def test_a_batch_that_somebody_cancelled_stays_so_when_it_is_back_with_the_same_spec():
    ended = run(Phase.CANCELED, by_git=False)
    have = actual(*fleet(), state={BATCH: {"run": ended, "removed": True}})
    planned = diff(desired(*fleet()), have)
    assert said(planned) == (["create all"], {})
    assert (planned.actions[0].starts_run, planned.actions[0].why) == (
        False,
        "back in Git; its run was cancelled by hand and stays so",
    )
    assert diff(desired(*fleet(batch(timeout="5m"))), have).actions[0].starts_run


def test_a_batch_that_is_back_with_another_spec_runs_again_also_after_its_end():
    have = actual(*fleet(), state={BATCH: {"run": run(Phase.COMPLETED), "removed": True}})
    planned = diff(desired(*fleet(batch(timeout="5m"))), have)
    assert planned.actions[0].starts_run


def test_a_batch_that_is_back_is_a_new_run_also_while_the_earlier_one_drains():
    have = actual(*fleet(), state={BATCH: {"run": run(Phase.CANCELED, IN_PROGRESS=1), "removed": True}})
    planned = diff(desired(*fleet()), have)
    assert planned.actions[0].starts_run
    assert planned.actions[0].why == "back in Git: a new run behind 1 unfinished task of its run 1"


def test_removed_objects_are_not_removed_again():
    gone = {one.key: {"removed": True, "run": None} for one in fleet()}
    assert diff(desired(), actual(*fleet(), state=gone)) == plan.Plan()


def test_cancellations_come_first_and_removals_last_in_the_order_of_reference():
    two, three = batch("two"), batch("three")
    ended = {two.key: {"run": run(Phase.COMPLETED)}, three.key: {"run": run()}}
    have = actual(*fleet(two, three), state=ended)
    fresh = product("fan")
    planned = diff(desired(fresh), have)
    assert said(planned)[0] == [
        "cancel three",
        "create fan",
        "remove two",
        "remove berlin",
        "remove lamp-2",
        "remove lamp",
    ]
