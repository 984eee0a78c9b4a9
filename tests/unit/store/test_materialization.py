"""Lists become devices and tasks, chunk by chunk; every chunk may be the last one before a crash."""

from __future__ import annotations

from collections import Counter

import pytest
import seed
from seed import NOW, SECOND
from sqlalchemy import func, select

from reconciler.domain import lifecycle
from reconciler.domain.lifecycle import Status
from reconciler.store import (
    about,
    counts,
    devices,
    groups,
    jobs,
    materialization,
    products,
    runs,
    status,
    tables,
)

CHUNK = 3
FLEET = [f"dev-{number}" for number in range(8)]
PRESENCE = devices.Presence(1, seed.SETTLE)


def states(database):
    with database.reading() as connection:
        return {device.name: device.state for device in status.devices_of(connection)}


def tasks(database, batch=seed.BATCH):
    with database.reading() as connection:
        found = status.tasks(connection, status.TaskFilter(batch=batch), 100)
    return {task.device: (task.status, task.reason) for task in found}


def start(database, *names, versions=None, **changes):
    """A batch over devices that are already declared."""
    if versions:
        with database.writing() as connection:
            seed.report(connection, versions)
    with database.writing() as connection:
        run_id = seed.batch(connection, **changes)
    chunks = seed.materialize(database, chunk=CHUNK)
    assert_counted(database)
    return run_id, chunks


def assert_counted(database):
    """The counters are what counting gives."""
    with database.reading() as connection:
        rows = connection.execute(select(tables.task.c.run_id, tables.task.c.status))
        counted = Counter((row.run_id, row.status) for row in rows)
        kept = counts.read(connection, {run_id for run_id, _ in counted})
    assert {(run, str(name)): n for run, by in kept.items() for name, n in by.items()} == dict(counted)


@pytest.fixture
def declared(database):
    """Eight devices of one product, and its package 1.4.0."""
    with database.writing() as connection:
        seed.product(connection)
        seed.package(connection)
        seed.inventory(connection, FLEET)
    seed.materialize(database, chunk=CHUNK)
    return database


def test_an_inventory_becomes_devices_chunk_by_chunk(declared):
    assert states(declared) == dict.fromkeys(FLEET, "declared")


def test_each_chunk_of_an_inventory_is_a_transaction_and_the_next_one_goes_on_behind_it(database):
    with database.writing() as connection:
        seed.product(connection)
        seed.inventory(connection, FLEET)
    assert steps(database, lambda: len(states(database))) == [3, 6, 8, 8, 8, 8, 8]


def steps(database, look):
    """What is seen after each chunk of inventories, until there is none."""
    seen, more = [], True
    while more:
        with database.writing() as connection:
            more = materialization.inventory(connection, PRESENCE, NOW, chunk=CHUNK)
        if more:
            seen.append(look())
    return seen


def removed(database):
    return sorted(name for name, state in states(database).items() if state == "removed")


def test_devices_leave_an_inventory_chunk_by_chunk(declared):
    with declared.writing() as connection:
        seed.inventory(connection, ["dev-3"])
    assert steps(declared, lambda: len(removed(declared))) == [0, 0, 3, 5, 7]


def test_the_devices_of_an_inventory_that_left_git_leave_chunk_by_chunk_and_may_come_back_meanwhile(declared):
    with declared.writing() as connection:
        object_id = seed.declare(connection, "DeviceInventory", "all")
        products.remove(connection, object_id)
    with declared.writing() as connection:
        materialization.inventory(connection, PRESENCE, NOW, chunk=CHUNK)
    assert removed(declared) == FLEET[:3]
    with declared.writing() as connection:
        seed.inventory(connection, FLEET[2:])
    seed.materialize(declared, chunk=CHUNK)
    assert removed(declared) == FLEET[:2]
    with declared.writing() as connection:
        products.remove(connection, object_id)
    assert steps(declared, lambda: len(removed(declared))) == [5, 8, 8]


def test_a_device_that_goes_from_one_inventory_to_another_has_not_left(declared):
    with declared.writing() as connection:
        everybody = {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}
        new = groups.NewGroup(seed.declare(connection, "DeviceGroup", "all"), "all", 1, None, everybody)
        groups.put(connection, new, None, NOW)
    seed.materialize(declared, chunk=CHUNK)
    with declared.writing() as connection:
        products.remove(connection, seed.declare(connection, "DeviceInventory", "all"))
        seed.inventory(connection, FLEET[:5], name="other")
    seed.materialize(declared, chunk=CHUNK)
    assert removed(declared) == FLEET[5:]
    with declared.reading() as connection:
        member = tables.membership
        here = select(member.c.joins).where(member.c.present)
        assert connection.execute(here).scalars().all() == [1] * 5


def test_what_is_cancelled_ends_before_an_inventory_makes_devices(declared):
    run_id, _ = start(declared)
    with declared.writing() as connection:
        runs.cancel(connection, run_id, runs.Cancellation("git", (Status.QUEUED,)), NOW)
        seed.inventory(connection, [*FLEET, "dev-9"])
    for _ in range(4):
        with declared.writing() as connection:
            assert materialization.work(connection, PRESENCE, NOW, chunk=CHUNK)
        assert "dev-9" not in states(declared)
    assert {state for state, _ in tasks(declared).values()} == {"CANCELED"}
    seed.materialize(declared, chunk=CHUNK)
    assert "dev-9" in states(declared)


def test_devices_that_an_inventory_no_longer_names_are_removed_and_new_ones_declared(declared):
    with declared.writing() as connection:
        seed.inventory(connection, [*FLEET[2:], "dev-9"])
    seed.materialize(declared, chunk=CHUNK)
    assert states(declared) == {
        **dict.fromkeys(FLEET[:2], "removed"),
        **dict.fromkeys([*FLEET[2:], "dev-9"], "declared"),
    }
    with declared.reading() as connection:
        assert about.declared_devices(connection) == {3: 7}


def test_a_removed_device_that_is_declared_again_is_the_same_device(declared):
    with declared.writing() as connection:
        seed.inventory(connection, FLEET[1:])
    seed.materialize(declared)
    with declared.writing() as connection:
        seed.inventory(connection, FLEET)
    seed.materialize(declared)
    with declared.reading() as connection:
        assert seed.find(connection, ["dev-0"])["dev-0"].id == 1
    assert states(declared)["dev-0"] == "declared"


def test_changed_tags_reach_the_devices_and_dropped_ones_leave_them(declared):
    for tags in ({"dev-1": {"site": "a"}}, {"dev-1": {"site": "b"}}, {}):
        with declared.writing() as connection:
            seed.inventory(connection, FLEET, tags=tags)
        seed.materialize(declared, chunk=CHUNK)
        with declared.reading() as connection:
            found = status.devices_of(connection, name="dev-1")[0]
        assert found.tags == tags.get("dev-1", {})


def test_an_inventory_that_is_not_whole_yet_says_so(database):
    with database.writing() as connection:
        seed.product(connection)
        seed.inventory(connection, FLEET)
        assert materialization.anything_due(connection)
        assert [item.materializing for item in status.objects(connection, "DeviceInventory")] == [True]
    seed.materialize(database)
    with database.reading() as connection:
        assert not materialization.anything_due(connection)
        assert [item.materializing for item in status.objects(connection, "DeviceInventory")] == [False]


def test_a_batch_waits_for_the_inventories_of_its_commit(database):
    with database.writing() as connection:
        seed.product(connection)
        seed.package(connection)
        seed.inventory(connection, FLEET)
        seed.batch(connection)
        assert not jobs.work(connection, PRESENCE, NOW)
    seed.materialize(database, chunk=CHUNK)
    assert set(tasks(database)) == set(FLEET)


def test_every_device_of_the_product_gets_a_task(declared):
    run_id, chunks = start(declared)
    assert tasks(declared) == dict.fromkeys(FLEET, ("QUEUED", None))
    assert chunks == 4
    with declared.reading() as connection:
        assert counts.read(connection, [run_id]) == {run_id: {Status.QUEUED: 8}}


def test_a_list_of_names_limits_the_batch_to_devices_that_exist(declared):
    start(declared, names=["dev-1", "dev-5", "nobody"])
    assert set(tasks(declared)) == {"dev-1", "dev-5"}


def test_removed_devices_are_not_targeted(declared):
    with declared.writing() as connection:
        seed.inventory(connection, FLEET[:2])
    seed.materialize(declared)
    start(declared)
    assert set(tasks(declared)) == set(FLEET[:2])


def test_devices_on_the_target_and_downgrades_are_left_out_and_counted(declared):
    run_id, _ = start(declared, versions={"dev-0": "1.4.0", "dev-1": "2.0.0", "dev-2": "1.3.0"})
    assert set(tasks(declared)) == set(FLEET[2:])
    with declared.reading() as connection:
        run = status.objects(connection, "Batch")[0].run
        assert run.left_out == {"already-on-target": 1, "downgrade": 1}
        assert about.left_out(connection, 2) == [about.LeftOut(seed.BATCH, "downgrade", "2.0.0")]
        assert seed.task(connection, "dev-2", run_id).source_version == "1.3.0"


def test_a_batch_may_ask_for_downgrades(declared):
    start(declared, versions={"dev-1": "2.0.0"}, allow_downgrade=True)
    assert tasks(declared)["dev-1"] == ("QUEUED", None)


def test_source_versions_choose_devices_and_leave_those_that_never_reported(declared):
    versions = {"dev-0": "1.2.0", "dev-1": "1.3.0", "dev-2": "1.3.1"}
    start(declared, versions=versions, source_versions=["1.3.0", "1.3.1"])
    assert set(tasks(declared)) == {"dev-1", "dev-2"}


def test_a_device_that_is_busy_fails_at_once_as_conflict(declared):
    start(declared, names=["dev-1", "dev-4"])
    run_id, _ = start(declared, name="another", names=["dev-4", "dev-5"])
    assert tasks(declared, "another") == {"dev-4": ("FAILED", "conflict"), "dev-5": ("QUEUED", None)}
    assert tasks(declared) == dict.fromkeys(["dev-1", "dev-4"], ("QUEUED", None))
    with declared.reading() as connection:
        assert counts.failures(connection, run_id) == {"conflict": 1}


def test_a_batch_that_finds_nobody_completes(declared):
    start(declared, names=["nobody"])
    with declared.reading() as connection:
        run = status.objects(connection, "Batch")[0].run
    assert (run.phase, run.total, run.materializing) == ("COMPLETED", 0, False)


def test_a_batch_whose_tasks_all_conflicted_completes_too(declared):
    start(declared)
    start(declared, name="another")
    with declared.reading() as connection:
        run = status.objects(connection, "Batch", "another")[0].run
    assert (run.phase, run.counts) == ("COMPLETED", {"FAILED": 8})


def test_a_run_that_is_not_whole_yet_does_not_complete(declared):
    with declared.writing() as connection:
        run_id = seed.batch(connection)
        jobs.work(connection, PRESENCE, NOW, CHUNK)
    for name in FLEET[:3]:
        with declared.writing() as connection:
            seed.send(connection, name, lifecycle.reported(_active(connection, name), "1.4.0"))
    with declared.reading() as connection:
        assert status.objects(connection, "Batch")[0].run.phase == "IN_PROGRESS"
    seed.materialize(declared, chunk=CHUNK)
    with declared.reading() as connection:
        assert counts.read(connection, [run_id]) == {run_id: {Status.SUCCEEDED: 3, Status.QUEUED: 5}}


def _active(connection, name):
    from reconciler.store import tasks as store

    device = seed.find(connection, [name])[name]
    return store.active(connection, [device.id])[device.id][0]


@pytest.mark.parametrize("crashes", [1, 2, 3, 4])
def test_a_crash_in_a_chunk_loses_nothing_and_doubles_nothing(declared, crashes):
    """The chunk that was cut off is done again as a whole."""
    with declared.writing() as connection:
        seed.report(connection, {"dev-0": "1.4.0", "dev-4": "1.4.0"})
        seed.batch(connection)

    def chunk(*, crash):
        with declared.writing() as connection:
            more = jobs.work(connection, PRESENCE, NOW, CHUNK)
            if crash:
                raise InterruptedError
            return more

    done = 0
    while True:
        if done == crashes - 1:
            with pytest.raises(InterruptedError):
                chunk(crash=True)
        if not chunk(crash=False):
            break
        done += 1
    assert set(tasks(declared)) == set(FLEET) - {"dev-0", "dev-4"}
    with declared.reading() as connection:
        left = connection.execute(select(func.count()).select_from(tables.left_out)).scalar_one()
    assert left == 2
    assert_counted(declared)


def test_a_device_that_is_declared_after_a_batch_began_belongs_to_the_next_one(declared):
    with declared.writing() as connection:
        seed.batch(connection)
        jobs.work(connection, PRESENCE, NOW, CHUNK)
        seed.inventory(connection, [*FLEET, "dev-00", "dev-99"])
    seed.materialize(declared, chunk=CHUNK)
    assert set(tasks(declared)) == set(FLEET)


def test_a_push_is_due_at_once_only_for_devices_that_are_there_and_settled(declared):
    with declared.writing() as connection:
        seed.online(connection, ["dev-1"], now=NOW - 60 * SECOND)
        seed.online(connection, ["dev-2"], now=NOW - 4 * SECOND)
        seed.online(connection, ["dev-3"], epoch=99)
        run_id = seed.batch(connection)
        jobs.work(connection, devices.Presence(1, 10 * SECOND), NOW)
        due = {name: seed.task(connection, name, run_id).push_due_at for name in FLEET[:4]}
    assert due == {"dev-0": None, "dev-1": NOW, "dev-2": NOW + 6 * SECOND, "dev-3": None}


def test_the_oldest_incomplete_run_comes_first(declared):
    with declared.writing() as connection:
        seed.batch(connection, "older", names=["dev-1"])
        seed.batch(connection, "newer", names=["dev-1"])
    seed.materialize(declared)
    assert tasks(declared, "older") == {"dev-1": ("QUEUED", None)}
    assert tasks(declared, "newer") == {"dev-1": ("FAILED", "conflict")}


def test_a_canceled_run_gets_no_more_tasks(declared):
    with declared.writing() as connection:
        run_id = seed.batch(connection)
        jobs.work(connection, PRESENCE, NOW, CHUNK)
        runs.cancel(connection, run_id, runs.Cancellation("git", ()), NOW)
    seed.materialize(declared, chunk=CHUNK)
    assert set(tasks(declared)) == set(FLEET[:3])
