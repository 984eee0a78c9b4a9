"""Groups: who is a member, how often it came, and that SQL and Python read a selector alike."""

from __future__ import annotations

import pytest
import seed
from fleet import FLEET, PRESENCE, Fleet
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from seed import NOW
from sqlalchemy import event, select

from reconciler.domain import targeting
from reconciler.store import census, groups, jobs, materialization, products, tables


@pytest.fixture
def fleet(database):
    return Fleet(database)


def test_membership_is_complete_when_the_work_that_a_commit_gave_is_done(fleet):
    fleet.declare(FLEET, {"dev-1": {"ring": "beta"}, "dev-2": {"ring": "gamma"}})
    assert fleet.members(fleet.group(matchTags={"ring": "beta"})) == {"dev-1": 1}


def test_each_time_that_a_device_comes_is_counted(fleet):
    group = fleet.group(matchTags={"ring": "beta"})
    seen = []
    for tags in (
        {"dev-1": {"ring": "beta"}},
        {"dev-1": {"ring": "beta", "x": "1"}},
        {},
        {"dev-1": {"ring": "beta"}},
    ):
        fleet.declare(FLEET, tags)
        seen.append(fleet.members(group))
    assert seen == [{"dev-1": 1}, {"dev-1": 1}, {}, {"dev-1": 2}]


def test_removed_devices_leave_their_groups_and_come_back_anew(fleet):
    group = fleet.group(matchExpressions=[{"key": "x", "operator": "DoesNotExist", "values": []}])
    fleet.declare(FLEET[1:])
    assert set(fleet.members(group)) == set(FLEET[1:])
    fleet.declare(FLEET)
    assert fleet.members(group) == {**dict.fromkeys(FLEET, 1), "dev-0": 2}


def test_devices_whose_inventory_left_git_leave_their_groups(fleet):
    group = fleet.group(matchExpressions=[{"key": "x", "operator": "DoesNotExist"}])
    with fleet.database.writing() as connection:
        products.remove(connection, seed.declare(connection, "DeviceInventory", "all"))
    fleet.work()
    assert fleet.members(group) == {}


def test_a_removed_group_has_no_members_and_counts_on_when_it_is_back(fleet):
    fleet.declare(FLEET, {"dev-1": {"ring": "beta"}})
    group = fleet.group(matchTags={"ring": "beta"})
    fleet.ungroup()
    assert fleet.members(group) == {}
    assert fleet.group(matchTags={"ring": "beta"}) == group
    assert fleet.members(group) == {"dev-1": 2}


def test_only_a_changed_selector_is_worked_out_anew(fleet):
    group = fleet.group(matchTags={"ring": "beta"})
    with fleet.database.writing() as connection:  # as if it had been missed
        connection.execute(tables.device.update().values(tags={"ring": "beta"}))
    assert fleet.group(matchTags={"ring": "beta"}) == group
    assert fleet.members(group) == {}
    fleet.group(matchTags={"ring": "beta"}, matchExpressions=[{"key": "ring", "operator": "Exists"}])
    assert set(fleet.members(group)) == set(FLEET)


# --- chunk by chunk ---

BETA, GAMMA = {"ring": "beta"}, {"ring": "gamma"}


@pytest.fixture
def moving(fleet):
    """A group of the first four, which is to be one of the last four; nothing is worked out yet."""
    fleet.declare(FLEET, dict.fromkeys(FLEET[:4], BETA) | dict.fromkeys(FLEET[4:], GAMMA))
    group = fleet.group(matchTags=BETA)
    assert set(fleet.members(group)) == set(FLEET[:4])
    fleet.group(matchTags=GAMMA, work=False)
    return group


def chunk(fleet):
    with fleet.database.writing() as connection:
        return groups.chunk(connection, size=3)


def test_a_changed_selector_is_worked_out_chunk_by_chunk(fleet, moving):
    seen = [(chunk(fleet), set(fleet.members(moving))) for _ in range(4)]
    assert seen == [
        (True, {"dev-3"}),
        (True, {"dev-4", "dev-5"}),
        (True, set(FLEET[4:])),
        (False, set(FLEET[4:])),
    ]


def test_members_of_a_group_that_left_git_leave_chunk_by_chunk(fleet, moving):
    fleet.work()
    fleet.ungroup(work=False)
    seen = [(chunk(fleet), len(fleet.members(moving))) for _ in range(4)]
    assert seen == [(True, 4), (True, 2), (True, 0), (False, 0)]


def test_a_selector_that_changes_while_it_is_worked_out_begins_anew(fleet, moving):
    chunk(fleet)
    fleet.group(matchTags=BETA)
    assert fleet.members(moving) == dict.fromkeys(FLEET[:3], 2) | {"dev-3": 1}


def test_a_group_that_becomes_a_list_has_no_members(fleet, moving):
    with fleet.database.writing() as connection:
        listed = seed.roster(connection, "listed", FLEET[:2])
        object_id = seed.declare(connection, "DeviceGroup", "group")
        groups.put(connection, groups.NewGroup(object_id, "group", 1, listed, None), None, NOW)
    fleet.work()
    assert fleet.members(moving) == {}


def test_a_look_at_a_group_waits_until_its_membership_is_complete(fleet, moving):
    run_id = fleet.dynamic(group_id=moving, work=False)
    with fleet.database.writing() as connection:
        assert materialization.anything_due(connection)
        assert not jobs.work(connection, PRESENCE, NOW)
    assert fleet.tasks(run_id) == {}
    fleet.work()
    assert set(fleet.tasks(run_id)) == set(FLEET[4:])
    with fleet.database.reading() as connection:
        assert not materialization.anything_due(connection)


@pytest.mark.parametrize("fresh", [False, True], ids=["everybody", "new reports"])
def test_who_reports_meanwhile_goes_by_the_new_selector(fleet, moving, fresh):
    run_id = fleet.dynamic(group_id=moving, work=False, new_reports_only=fresh)
    fleet.says({"dev-0": "1.3.0", "dev-7": "1.3.0"})
    assert set(fleet.tasks(run_id)) == {"dev-7"}


def test_who_reports_meanwhile_is_not_in_a_group_that_left_git(fleet, moving):
    fleet.work()
    run_id = fleet.dynamic(group_id=moving, new_reports_only=True)
    fleet.ungroup(work=False)
    fleet.says({"dev-7": "1.3.0"})
    fleet.declare(FLEET, {"dev-6": {"ring": "gamma", "x": "1"}})
    assert fleet.tasks(run_id) == {}


def looks(fleet):
    """What a plan counts of groups."""
    with fleet.database.reading() as connection:
        return (
            census.overlapping(connection, "other", 1, {"matchTags": GAMMA}),
            census.overlapping(connection, "other", None, {"matchTags": BETA}),
            census.overlapping(connection, "group", 1, {"matchTags": GAMMA}),
        )


def test_a_plan_counts_a_group_that_is_being_worked_out_as_if_it_were(fleet, moving):
    seen = [looks(fleet)]
    while chunk(fleet):
        seen.append(looks(fleet))
    assert seen == [([("group", 4)], [], [])] * 4


def test_a_static_group_is_its_list_and_has_no_members_of_its_own(fleet):
    with fleet.database.writing() as connection:
        listed = seed.roster(connection, "listed", FLEET[:2])
        object_id = seed.declare(connection, "DeviceGroup", "static")
        group = groups.put(connection, groups.NewGroup(object_id, "static", 1, listed, None), None, NOW)
    assert fleet.members(group) == {}


def test_a_report_moves_a_device_from_one_group_to_another(fleet):
    old, new = (
        fleet.group(f"on-{version}", module={"name": "default", "version": version})
        for version in ("1.3.0", "1.4.0")
    )
    fleet.says({"dev-0": "1.3.0", "dev-1": "1.4.0"})
    assert (fleet.members(old), fleet.members(new)) == ({"dev-0": 1}, {"dev-1": 1})
    fleet.says({"dev-0": "1.4.0"})
    assert (fleet.members(old), fleet.members(new)) == ({}, {"dev-0": 1, "dev-1": 1})


def test_what_one_device_costs_a_group_grows_neither_with_the_group_nor_with_the_fleet(fleet):
    fleet.group(matchTags={"ring": "beta"})
    said = []

    def listen(connection, cursor, statement, parameters, *rest):
        if statement.startswith(("UPDATE membership", "INSERT INTO membership")):
            said.append((statement, parameters))

    with fleet.database.writing() as connection:
        event.listen(connection, "before_cursor_execute", listen)
        groups.arrived(connection, [1])
        event.remove(connection, "before_cursor_execute", listen)
        plans = [
            [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            for statement, parameters in said
        ]
    update, insert = plans
    assert "SEARCH membership USING PRIMARY KEY (group_id=? AND device_id=?)" in update
    assert "SEARCH device USING INTEGER PRIMARY KEY (rowid=?)" in insert
    assert not [line for line in update + insert if line.startswith(("SCAN device", "SCAN membership"))]
    assert not [line for line in insert if line.startswith("SEARCH device USING INDEX")]


# --------------------------------------------------------------------------------------- two readings

keys = st.sampled_from(["ring", "site.floor", "a-b_c", "x"])
values = st.sampled_from(["1", "beta", "", "ä", 'say "it"', "01"])
tags = st.dictionaries(keys, values, max_size=3)
expressions = st.one_of(
    st.fixed_dictionaries(
        {
            "key": keys,
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(values, min_size=1, max_size=3, unique=True),
        }
    ),
    st.fixed_dictionaries({"key": keys, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)
modules = st.sampled_from(["default", "mcu"])
versions = st.sampled_from(["1.3.0", "1.4.0"])
selectors = st.fixed_dictionaries(
    {},
    optional={
        "matchTags": tags,
        "matchExpressions": st.lists(expressions, max_size=3),
        "module": st.fixed_dictionaries({"name": modules, "version": versions}),
    },
)
fleets = st.lists(
    st.tuples(st.none() | tags, st.dictionaries(modules, versions)), min_size=len(FLEET), max_size=len(FLEET)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(selector=selectors, devices=fleets)
@example(selector={"matchTags": {"x": "1"}}, devices=[({"x": "01"}, {})] * len(FLEET))
def test_a_selector_means_the_same_to_the_database_and_to_trace(fleet, selector, devices):
    ids = fleet.ids()
    with fleet.database.writing() as connection:
        connection.execute(tables.device_version.delete())
        for name, (has, reports) in zip(FLEET, devices, strict=True):
            connection.execute(tables.device.update().where(tables.device.c.id == ids[name]).values(tags=has))
            for module, version in reports.items():
                row = {"device_id": ids[name], "product_id": 1, "module": module, "version": version}
                connection.execute(tables.device_version.insert().values(**row, reported_at=NOW))
        found = connection.execute(select(tables.device.c.name).where(groups.compiled(selector))).scalars()
        selected = set(found)
    read = {
        name
        for name, (has, reports) in zip(FLEET, devices, strict=True)
        if targeting.selects(selector, seed.PRODUCT, has or {}, reports)
    }
    assert selected == read


# ------------------------------------------------------------------------------------------ the gray share


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.text("abcdefghij-", min_size=1, max_size=12),
    thousandths=st.integers(1, 100_000),
    hashes=st.lists(st.integers(0, 2**31 - 1) | st.just(5), min_size=len(FLEET), max_size=len(FLEET)),
)
def test_a_share_means_the_same_to_the_database_and_to_trace(fleet, batch, thousandths, hashes):
    """Also where several devices have the same place on the ring: then their names decide."""
    ids = fleet.ids()
    with fleet.database.writing() as connection:
        for name, hash31 in zip(FLEET, hashes, strict=True):
            row = tables.device.update().where(tables.device.c.id == ids[name])
            connection.execute(row.values(hash31=hash31))
    run_id = fleet.batch(batch, gray=thousandths)
    a, b = targeting.gray_parameters(batch)
    order = sorted(zip(FLEET, hashes, strict=True), key=lambda at: (targeting.gray_key(at[1], a, b), at[0]))
    count = targeting.gray_count(len(FLEET), thousandths)
    assert set(fleet.tasks(run_id)) == {name for name, _ in order[:count]}
    from reconciler.domain import lifecycle

    fleet.cancel(run_id, *lifecycle.UNFINISHED)
