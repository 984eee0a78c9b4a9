"""Groups: who is a member, how often it came, and that SQL and Python read a selector alike."""

from __future__ import annotations

import pytest
import seed
from fleet import FLEET, Fleet
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from seed import NOW
from sqlalchemy import event, select

from reconciler.domain import targeting
from reconciler.store import groups, products, tables


@pytest.fixture
def fleet(database):
    return Fleet(database)


def test_membership_is_complete_when_the_group_is_declared(fleet):
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
