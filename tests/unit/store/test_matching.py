"""Which dynamic batch a device matches: when, how often, and in which order."""

from __future__ import annotations

from datetime import timedelta

import pytest
import seed
from fleet import FLEET, KEEP, OVERWRITE, PRESENCE, WAIT, Fleet
from seed import NOW

from reconciler.domain import lifecycle
from reconciler.domain.lifecycle import Status, Trigger
from reconciler.domain.limits import Limits
from reconciler.store import devices, matching, products, runs, tables

MINUTE = timedelta(minutes=1)


@pytest.fixture
def fleet(database):
    made = Fleet(database)
    yield made
    made.check()


def put_off(fleet, run_id, **changes):
    values = {
        "push_rate": 600, "timeout": None, "retry": None, "tags": {}, "end_at": None, "suspended": False,
        "source_versions": ("1.3.0",),
    }  # fmt: skip
    with fleet.database.writing() as connection:
        runs.change(connection, run_id, runs.Changes(**values | changes), NOW)
    fleet.work()


# -------------------------------------------------------------------------------------------- by version


def test_a_dynamic_batch_takes_who_matches_already_and_who_does_later(fleet):
    fleet.says({"dev-0": "1.3.0", "dev-1": "1.2.0"})
    run_id = fleet.dynamic()
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED"}
    assert fleet.says({"dev-1": "1.3.0", "dev-2": "1.3.0", "dev-3": "1.2.0"}) == 2
    assert set(fleet.tasks(run_id)) == {"dev-0", "dev-1", "dev-2"}


def test_a_dynamic_batch_never_completes_by_itself(fleet):
    run_id = fleet.dynamic()
    fleet.says({"dev-0": "1.3.0"})
    fleet.end("dev-0", Trigger.REPORTED_TARGET)
    assert (fleet.tasks(run_id), fleet.run(run_id).phase) == ({"dev-0": "SUCCEEDED"}, "IN_PROGRESS")


def test_a_report_that_says_nothing_new_matches_nothing(fleet):
    run_id = fleet.dynamic()
    fleet.says({"dev-0": "1.3.0"})
    fleet.end("dev-0")
    assert fleet.says({"dev-0": "1.3.0"}, changed=False) == 0
    assert fleet.history(run_id) == {"dev-0": [("CANCELED", "canceled")]}


def test_only_the_newest_batch_matches_a_version(fleet):
    older, newer = fleet.dynamic("b", source_versions=["1.3.0", "1.2.0"]), fleet.dynamic("a")
    fleet.says({"dev-0": "1.3.0", "dev-1": "1.2.0"})
    assert fleet.tasks(newer) == {"dev-0": "QUEUED"}
    assert fleet.tasks(older) == {"dev-1": "QUEUED"}


def test_an_older_batchs_look_at_the_fleet_leaves_versions_to_the_newer_one(fleet):
    fleet.says({"dev-0": "1.3.0"})  # before the newer one began, so that it is nobody's yet
    older = fleet.dynamic("older", source_versions=["1.2.0"])
    newer = fleet.dynamic("newer", source_versions=["1.3.0"], new_reports_only=True)
    fleet.says({"dev-1": "1.2.0"})
    put_off(fleet, older, source_versions=("1.2.0", "1.3.0", "1.1.0"))
    fleet.says({"dev-2": "1.1.0"})
    assert set(fleet.tasks(older)) == {"dev-1", "dev-2"}
    assert fleet.tasks(newer) == {}


@pytest.mark.parametrize("end", ["canceled", "suspended"])
def test_a_suspended_batch_still_matches_a_canceled_one_does_not(fleet, end):
    run_id = fleet.dynamic()
    if end == "canceled":
        fleet.cancel(run_id)
    else:
        put_off(fleet, run_id, suspended=True)
    fleet.says({"dev-0": "1.3.0"})
    assert fleet.tasks(run_id) == ({} if end == "canceled" else {"dev-0": "QUEUED"})


def test_a_batch_that_has_not_started_matches_nobody_until_it_does(fleet):
    from test_runs import unverified

    unverified(fleet)
    run_id = fleet.dynamic()
    fleet.says({"dev-0": "1.3.0"})
    assert (fleet.run(run_id).phase, fleet.tasks(run_id)) == ("PLANNED", {})
    unverified(fleet, "verified")
    fleet.work()
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED"}


def test_a_device_is_matched_ten_times_at_most_and_the_older_batch_gets_no_turn(fleet):
    older, run_id = fleet.dynamic("older"), fleet.dynamic()
    for _ in range(12):
        fleet.says({"dev-0": "1.3.0"})
        fleet.end("dev-0", Trigger.REPORTED_TARGET)
        fleet.says({"dev-0": "1.4.0"})
    assert fleet.history(run_id) == {"dev-0": ["SUCCEEDED"] * 10}
    assert fleet.tasks(older) == {}


@pytest.mark.parametrize("most", [9, 10, 11])
def test_how_often_a_device_is_matched_is_the_operators_to_say(database, most):
    fleet = Fleet(database, presence=devices.Presence(1, MINUTE, Limits(matches_per_device=most)))
    run_id = fleet.dynamic()
    for _ in range(12):
        fleet.says({"dev-0": "1.3.0"})
        fleet.end("dev-0", Trigger.REPORTED_TARGET)
        fleet.says({"dev-0": "1.4.0"})
    assert fleet.history(run_id) == {"dev-0": ["SUCCEEDED"] * most}


def test_a_device_whose_task_in_the_batch_goes_on_is_not_matched_by_it_again(fleet):
    run_id = fleet.dynamic(source_versions=["1.3.0", "1.3.1"])
    fleet.says({"dev-0": "1.3.0"})
    assert fleet.says({"dev-0": "1.3.1"}) == 0
    assert fleet.history(run_id) == {"dev-0": ["QUEUED"]}


def test_a_conflict_is_noted_once_for_each_version_that_the_device_reports(fleet):
    fleet.batch("busy", names=["dev-0"])
    run_id = fleet.dynamic(source_versions=["1.3.0", "1.3.1"])
    for version in ("1.3.0", "1.2.0", "1.3.0", "1.3.1", "1.3.0"):
        fleet.says({"dev-0": version})
    assert fleet.history(run_id) == {"dev-0": [("FAILED", "conflict")] * 2}


def test_who_was_a_conflict_may_be_matched_when_it_is_free_and_reports_again(fleet):
    fleet.batch("busy", names=["dev-0"])
    run_id = fleet.dynamic()
    fleet.says({"dev-0": "1.3.0"})
    fleet.end("dev-0", batch="busy")
    fleet.says({"dev-0": "1.2.0"})
    fleet.says({"dev-0": "1.3.0"})
    assert fleet.history(run_id) == {"dev-0": [("FAILED", "conflict"), "QUEUED"]}


@pytest.mark.parametrize(("conflict", "then"), [(WAIT, ("QUEUED", "behind")), (OVERWRITE, "QUEUED")])
def test_matches_meet_the_batchs_conflict_rule(fleet, conflict, then):
    fleet.batch("busy", names=["dev-0"])
    run_id = fleet.dynamic(conflict=conflict)
    fleet.says({"dev-0": "1.3.0"})
    assert fleet.tasks(run_id) == {"dev-0": then}


def test_new_reports_only_wants_a_report_but_not_a_new_version(fleet):
    fleet.says({"dev-0": "1.3.0", "dev-1": "1.3.0"})
    run_id = fleet.dynamic(new_reports_only=True)
    assert fleet.tasks(run_id) == {}
    assert fleet.says({"dev-0": "1.3.0"}, changed=False) == 1
    fleet.end("dev-0")
    assert fleet.says({"dev-0": "1.3.0"}, changed=False) == 0
    fleet.says({"dev-0": "1.2.0"})
    assert fleet.says({"dev-0": "1.3.0"}) == 1
    assert fleet.history(run_id) == {"dev-0": [("CANCELED", "canceled"), "QUEUED"]}


def test_other_source_versions_make_it_look_at_the_fleet_again(fleet):
    fleet.says({"dev-0": "1.3.0", "dev-1": "1.2.0", "dev-2": "1.1.0"})
    run_id = fleet.dynamic()
    fleet.end("dev-0", Trigger.CANCELED)
    put_off(fleet, run_id, source_versions=("1.3.0", "1.2.0"))
    assert fleet.history(run_id) == {"dev-0": [("CANCELED", "canceled")], "dev-1": ["QUEUED"]}


def test_the_same_source_versions_in_another_order_are_no_news(fleet):
    run_id = fleet.dynamic(source_versions=["1.3.0", "1.2.0"])
    with fleet.database.writing() as connection:
        run = fleet.run(run_id)
        changes = runs.Changes(
            push_rate=1, timeout=None, retry=None, tags={}, end_at=None, suspended=False,
            source_versions=tuple(reversed(run.source_versions)),
        )  # fmt: skip
        runs.change(connection, run_id, changes, NOW)
    assert fleet.work() == 0


def test_modules_are_matched_by_their_own_batches(fleet):
    run_id = fleet.dynamic(module="mcu", multi_module=True)
    fleet.says({"dev-0": "1.3.0"})
    fleet.says({"dev-1": "1.3.0"}, module="mcu")
    assert set(fleet.tasks(run_id)) == {"dev-1"}


def test_removed_devices_match_nothing_and_match_when_they_are_back(fleet):
    fleet.says({"dev-0": "1.2.0"})
    fleet.declare(FLEET[1:])
    run_id = fleet.dynamic()
    assert fleet.says({"dev-0": "1.3.0"}) == 0
    fleet.declare(FLEET)
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED"}


# ---------------------------------------------------------------------------------------------- by group


def tagged(fleet, **values):
    """Everybody is declared; these have the tag."""
    fleet.declare(FLEET, {name.replace("_", "-"): {"ring": value} for name, value in values.items()})


def test_a_group_batch_takes_members_and_those_who_join(fleet):
    tagged(fleet, dev_0="beta")
    run_id = fleet.dynamic(group_id=fleet.group(matchTags={"ring": "beta"}))
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED"}
    tagged(fleet, dev_0="beta", dev_1="beta")
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED", "dev-1": "QUEUED"}


def test_a_member_that_matches_again_triggers_nothing(fleet):
    tagged(fleet, dev_0="beta")
    run_id = fleet.dynamic(group_id=fleet.group(matchTags={"ring": "beta"}))
    fleet.end("dev-0", Trigger.UNFIT)
    fleet.says({"dev-0": "1.2.0"})
    fleet.declare(FLEET, {"dev-0": {"ring": "beta", "more": "tags"}})
    assert fleet.history(run_id) == {"dev-0": [("FAILED", "unexpected-version")]}


@pytest.mark.parametrize(
    ("trigger", "again"), [(Trigger.UNFIT, True), (Trigger.CANCELED, False), (Trigger.REPORTED_TARGET, False)]
)
def test_who_left_and_comes_back_is_matched_again_only_after_a_failure(fleet, trigger, again):
    tagged(fleet, dev_0="beta")
    run_id = fleet.dynamic(group_id=fleet.group(matchTags={"ring": "beta"}))
    fleet.end("dev-0", trigger)
    tagged(fleet)
    tagged(fleet, dev_0="beta")
    assert len(fleet.history(run_id)["dev-0"]) == 1 + again


def test_a_group_batch_leaves_out_a_member_that_was_removed(fleet):
    tagged(fleet, dev_0="beta", dev_1="beta")
    group = fleet.group(matchTags={"ring": "beta"})
    with fleet.database.writing() as connection:
        connection.execute(
            tables.device.update().where(tables.device.c.name == "dev-0").values(state="removed")
        )
    run_id = fleet.dynamic(group_id=group)
    fleet.says({"dev-0": "1.3.0"})
    assert fleet.tasks(run_id) == {"dev-1": "QUEUED"}


def test_members_whose_inventory_is_back_join_again(fleet):
    tagged(fleet, dev_0="beta")
    group = fleet.group(matchTags={"ring": "beta"})
    run_id = fleet.dynamic(group_id=group)
    fleet.end("dev-0", Trigger.UNFIT)
    with fleet.database.writing() as connection:
        products.remove(connection, seed.declare(connection, "DeviceInventory", "all"))
    fleet.work()
    tagged(fleet, dev_0="beta")
    assert fleet.members(group) == {"dev-0": 2}
    assert fleet.history(run_id) == {"dev-0": [("FAILED", "unexpected-version"), "QUEUED"]}


def test_leaving_the_group_touches_no_task(fleet):
    tagged(fleet, dev_0="beta")
    run_id = fleet.dynamic(group_id=fleet.group(matchTags={"ring": "beta"}))
    tagged(fleet)
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED"}


def test_a_delta_waits_until_its_member_reports_the_source_version(fleet):
    tagged(fleet, dev_0="beta")
    run_id = fleet.dynamic(
        group_id=fleet.group(matchTags={"ring": "beta"}), delta=True, source_versions=["1.3.0"]
    )
    assert fleet.tasks(run_id) == {}
    fleet.says({"dev-0": "1.2.0"})
    assert fleet.says({"dev-0": "1.3.0"}) == 1
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED"}


def test_a_version_can_bring_a_device_into_a_group_and_out_of_it(fleet):
    run_id = fleet.dynamic(group_id=fleet.group(module={"name": "mcu", "version": "7"}))
    fleet.says({"dev-0": "7", "dev-1": "8"}, module="mcu")
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED"}
    fleet.end("dev-0", Trigger.UNFIT)
    fleet.says({"dev-0": "8"}, module="mcu")
    fleet.says({"dev-0": "7"}, module="mcu")
    assert fleet.history(run_id) == {"dev-0": [("FAILED", "unexpected-version"), "QUEUED"]}


@pytest.mark.parametrize("conflict", [KEEP, OVERWRITE])
def test_several_batches_of_a_group_each_match_the_newest_first(fleet, conflict):
    group = fleet.group(matchTags={"ring": "beta"})
    older, newer = (fleet.dynamic(name, group_id=group, conflict=conflict) for name in ("older", "newer"))
    tagged(fleet, dev_0="beta")
    assert fleet.tasks(newer) == {"dev-0": "QUEUED"}
    assert fleet.tasks(older) == {"dev-0": ("FAILED", "conflict")}


@pytest.mark.parametrize("group_is_newer", [True, False])
def test_the_newer_batch_comes_first_whatever_its_kind(fleet, group_is_newer):
    group = fleet.group(module={"name": "default", "version": "1.3.0"})
    order = [{}, {"group_id": group}]
    made = [
        fleet.dynamic(f"batch-{number}", conflict=WAIT, **how)
        for number, how in enumerate(order if group_is_newer else reversed(order))
    ]
    fleet.says({"dev-0": "1.3.0"})
    assert [fleet.tasks(run_id) for run_id in made] == [{"dev-0": ("QUEUED", "behind")}, {"dev-0": "QUEUED"}]


def test_new_reports_only_waits_for_a_members_report(fleet):
    tagged(fleet, dev_0="beta")
    fleet.says({"dev-0": "1.3.0"}, now=NOW - MINUTE)
    group = fleet.group(matchTags={"ring": "beta"})
    run_id = fleet.dynamic(group_id=group, new_reports_only=True)
    tagged(fleet, dev_0="beta", dev_1="beta")
    assert fleet.tasks(run_id) == {}
    fleet.says({"dev-0": "1.3.0", "dev-2": "1.3.0"}, changed=False)
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED"}


def test_a_removed_groups_batches_go_on_and_match_nobody(fleet):
    tagged(fleet, dev_0="beta")
    run_id = fleet.dynamic(group_id=fleet.group(matchTags={"ring": "beta"}))
    fleet.ungroup()
    tagged(fleet, dev_0="beta", dev_1="beta")
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED"}
    assert fleet.run(run_id).phase == "IN_PROGRESS"


def test_a_changed_selector_makes_the_groups_batches_look_again(fleet):
    tagged(fleet, dev_0="beta", dev_1="gamma")
    run_id = fleet.dynamic(group_id=fleet.group(matchTags={"ring": "beta"}))
    fleet.group(matchTags={"ring": "gamma"})
    assert fleet.tasks(run_id) == {"dev-0": "QUEUED", "dev-1": "QUEUED"}


def test_a_group_over_all_products_gives_a_batch_only_devices_of_its_own(fleet):
    with fleet.database.writing() as connection:
        seed.product(connection, "other", "otherKey")
        seed.inventory(connection, ["other-1"], name="others", product_name="other")
    fleet.work()
    group = fleet.group(
        product=False, matchExpressions=[{"key": "x", "operator": "DoesNotExist", "values": []}]
    )
    run_id = fleet.dynamic(group_id=group)
    assert set(fleet.members(group)) == {*FLEET, "other-1"}
    assert set(fleet.tasks(run_id)) == set(FLEET)


def test_a_chunk_that_is_done_twice_matches_nobody_twice(fleet):
    fleet.says(dict.fromkeys(FLEET, "1.3.0"))
    run_id = fleet.dynamic()
    with fleet.database.writing() as connection:
        runs.scan(connection, [run_id])
    fleet.work()
    with fleet.database.writing() as connection:
        matching.arrived(connection, fleet.ids().values(), PRESENCE, NOW)
    assert fleet.history(run_id) == {name: ["QUEUED"] for name in FLEET}


def test_matching_rings_for_nobody_where_there_is_no_dynamic_batch(fleet):
    fleet.batch()
    assert fleet.says({"dev-0": "1.3.0"}) == 0
    with fleet.database.writing() as connection:
        assert matching.match(connection, [], devices.Presence(1, MINUTE), NOW) == 0
        assert matching.arrived(connection, [], devices.Presence(1, MINUTE), NOW) == 0


def test_matches_of_who_is_there_are_due_at_once(fleet):
    fleet.come(["dev-0"])
    fleet.dynamic()
    fleet.says({"dev-0": "1.3.0"})
    with fleet.database.reading() as connection:
        assert seed.task(connection, "dev-0").push_due_at == NOW


def test_cancelling_a_dynamic_batch_drops_its_look_at_the_fleet(fleet):
    fleet.says({"dev-0": "1.3.0"})
    run_id = fleet.dynamic(work=False)
    fleet.cancel(run_id, *lifecycle.UNFINISHED)
    assert fleet.tasks(run_id) == {}
    assert Status.QUEUED not in fleet.history(run_id)
