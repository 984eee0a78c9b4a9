"""Who exists and who is there, by the daemon's epoch and the connection's number; and what that makes due."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rows import EPOCH, HOUR, KEY, MINUTE, NOW, PRODUCT, Rows
from rows import row as row_of
from sqlalchemy import select, update

from reconciler.domain import lifecycle, targeting
from reconciler.protocol.topics import Address
from reconciler.store import devices, products, tables, tasks

SECOND = timedelta(seconds=1)
ONE = Address(KEY, "dev-1")


@pytest.fixture
def rows(database):
    """A product and one device of it, which is away; a writing transaction for the whole test."""
    with database.writing() as connection:
        made = Rows(connection)
        made.world()
        made.device("dev-1")
        yield made


def find(rows, names, epoch=EPOCH):
    found = devices.find(rows.connection, [Address(KEY, name) for name in names], epoch)
    return {address.device_name: device for address, device in found.items()}


def online(rows, name="dev-1", epoch=EPOCH):
    return find(rows, [name], epoch)[name].online


def came(rows, session, *, now=NOW):
    devices.came(rows.connection, {1: session}, EPOCH, now)


def went(rows, session, *, epoch=EPOCH):
    return devices.went(rows.connection, {1: session}, epoch, NOW + SECOND)


def device(rows, number=1):
    return row_of(rows.connection, tables.device, number)


def task(rows, number=1):
    return row_of(rows.connection, tables.task, number)


# --- who is there ---


def test_a_device_is_there_from_its_connection_to_its_end(rows):
    assert not online(rows)
    came(rows, 3)
    assert online(rows)
    assert went(rows, 3) == [1]
    assert not online(rows)


def test_the_end_of_a_replaced_connection_does_not_take_the_device_away(rows):
    came(rows, 3)
    came(rows, 4)
    assert went(rows, 3) == []
    assert online(rows)
    assert went(rows, 4) == [1]


def test_an_end_that_is_told_twice_changes_nothing(rows):
    came(rows, 3)
    went(rows, 3)
    assert went(rows, 3) == []


def test_the_end_of_a_connection_that_was_never_written_ends_the_one_before_it_too(rows):
    came(rows, 3)
    assert went(rows, 4) == [1]  # 4 replaced 3, and both were told in one burst
    assert not online(rows)


def test_presence_ends_with_the_epoch_without_a_write(rows):
    came(rows, 3)
    assert not online(rows, epoch=EPOCH + 1)
    assert went(rows, 3, epoch=EPOCH + 1) == []


def test_last_seen_is_kept_when_a_device_goes(rows):
    came(rows, 3)
    went(rows, 3)
    assert (device(rows).last_seen_at, device(rows).online_since) == (NOW + SECOND, None)


def test_hearing_a_device_moves_its_last_seen(rows):
    devices.touch(rows.connection, [1], NOW + SECOND)
    devices.touch(rows.connection, [], NOW)
    assert device(rows).last_seen_at == NOW + SECOND
    assert find(rows, ["dev-1"])["dev-1"].last_seen == tables.milliseconds(NOW + SECOND)


def test_a_device_that_was_never_seen_has_no_last_seen(rows):
    rows.device("dev-2", last_seen_at=None)
    assert find(rows, ["dev-2"])["dev-2"].last_seen is None


# --- who exists ---


def test_devices_of_an_unknown_product_are_unknown(rows):
    assert devices.find(rows.connection, [Address("other", "dev-1"), Address(KEY, "nobody")], EPOCH) == {}
    assert devices.find(rows.connection, [], EPOCH) == {}


def test_a_product_that_left_git_is_not_served(rows):
    assert devices.served_product_keys(rows.connection) == {KEY}
    assert devices.products(rows.connection, [KEY, "other"]).keys() == {KEY}
    products.remove(rows.connection, 1)
    assert devices.served_product_keys(rows.connection) == frozenset()
    assert devices.products(rows.connection, [KEY]) == {}
    assert find(rows, ["dev-1"]) == {}


def test_a_device_is_found_with_what_its_product_allows(rows):
    found = find(rows, ["dev-1"])["dev-1"]
    assert (found.id, found.product_id, found.modules, found.numeric_versions) == (1, 1, {"mcu"}, False)


def test_registering_a_device_again_changes_nothing_and_brings_back_a_removed_one(rows):
    rows.device("dev-2", state="removed")
    devices.register(rows.connection, 1, ["dev-1", "dev-2", "dev-3"], NOW)
    devices.register(rows.connection, 1, ["dev-3"], NOW)
    found = rows.connection.execute(select(tables.device.c.name, tables.device.c.state)).all()
    assert sorted(found) == [("dev-1", "declared"), ("dev-2", "registered"), ("dev-3", "registered")]


def test_a_registered_device_has_its_place_in_every_gray_batch(rows):
    devices.register(rows.connection, 1, ["dev-7"], NOW)
    assert device(rows, 2).hash31 == targeting.hash31(KEY, "dev-7")


def test_enrolling_gives_the_ids_of_old_and_new_devices(rows):
    product_id = products.product_id(rows.connection, PRODUCT)
    first = devices.enrol(rows.connection, product_id, ["dev-1", "dev-9"], NOW)
    assert devices.enrol(rows.connection, product_id, ["dev-9", "dev-1"], NOW) == first
    assert first["dev-1"] == 1
    assert devices.ids(rows.connection, product_id, ["dev-1", "nobody"]) == {"dev-1": 1}


def test_versions_are_the_newest_report_of_each_module(rows):
    rows.device("dev-2")
    connection = rows.connection
    for version in ("1.0.0", "1.2.0"):
        devices.report(connection, [devices.Report(1, 1, "default", version)], NOW)
    more = [devices.Report(1, 1, "mcu", "9"), devices.Report(2, 1, "default", "1.2.0")]
    devices.report(connection, more, NOW + SECOND)
    devices.report(connection, [], NOW)
    assert devices.versions(connection, [1]) == {(1, "default"): "1.2.0", (1, "mcu"): "9"}
    reported = select(tables.device_version.c.reported_at).order_by(tables.device_version.c.reported_at)
    assert connection.execute(reported).scalars().all() == [NOW, NOW + SECOND, NOW + SECOND]
    assert devices.reported_versions(connection, 1, "default") == ["1.2.0"]
    assert devices.reported_versions(connection, 1, "none") == []
    assert devices.distribution(connection, 1) == [("default", "1.2.0", 2), ("mcu", "9", 1)]


# --- what is due for who comes and goes ---


@pytest.mark.parametrize(
    "state", [s for s in lifecycle.TABLE if s.status in lifecycle.UNFINISHED], ids="-".join
)
def test_whoever_comes_has_what_can_be_pushed_due_and_nothing_else(rows, state):
    retry = {"retry_at": NOW} if state.hold is lifecycle.Hold.RETRY else {}
    rows.task(rows.run(), 1, str(state.status), hold=str(state.hold), **retry)
    tasks.due_again(rows.connection, [1], NOW + SECOND)
    pushable = lifecycle.Trigger.CLAIMED in lifecycle.TABLE[state]
    assert task(rows).push_due_at == (NOW + SECOND if pushable else None)
    tasks.not_due(rows.connection, [1])
    assert task(rows).push_due_at is None


@pytest.mark.parametrize(
    ("last", "retry_at", "due"),
    [
        (None, None, NOW),
        (NOW - HOUR, None, NOW),
        (NOW - 20 * SECOND, None, NOW + 40 * SECOND),
        (NOW - HOUR, NOW + HOUR, NOW + HOUR),
        (NOW - HOUR, NOW - HOUR / 2, NOW),
        (NOW - 20 * SECOND, NOW + SECOND, NOW + 40 * SECOND),
    ],
)
def test_a_push_is_due_a_minute_after_the_last_and_not_before_the_next_attempt(rows, last, retry_at, due):
    hold = "retry" if retry_at else "none"
    rows.task(rows.run(), 1, "NOTIFIED", hold=hold, last_pushed_at=last, retry_at=retry_at)
    tasks.due_again(rows.connection, [1], NOW)
    assert task(rows).push_due_at == due


def test_who_fetches_is_never_due(rows):
    rows.task(rows.run(push_delivery=False), 1)
    tasks.due_again(rows.connection, [1], NOW)
    tasks.due_for_present(rows.connection, EPOCH, NOW)
    assert task(rows).push_due_at is None


def test_only_the_devices_that_came_or_went_are_touched(rows):
    rows.device("dev-2")
    run = rows.run()
    for number in (1, 2):
        rows.task(run, number, push_due_at=None)
    tasks.due_again(rows.connection, [2], NOW)
    assert (task(rows, 1).push_due_at, task(rows, 2).push_due_at) == (None, NOW)
    tasks.not_due(rows.connection, [1])
    assert task(rows, 2).push_due_at == NOW


@pytest.mark.parametrize(
    ("status", "hold", "given", "due"),
    [
        ("QUEUED", "none", {}, NOW + MINUTE),
        ("QUEUED", "none", {"push_due_at": NOW}, NOW),
        ("NOTIFIED", "none", {}, None),
        ("IN_PROGRESS", "retry", {"retry_at": NOW + HOUR}, NOW + HOUR),
        ("CONFIRM", "none", {}, None),
        ("QUEUED", "behind", {}, None),
    ],
)
def test_what_was_made_while_no_daemon_ran_is_due_for_who_was_there_before(rows, status, hold, given, due):
    rows.task(rows.run(), 1, status, hold=hold, **given)
    tasks.due_for_present(rows.connection, EPOCH, NOW + MINUTE)
    assert task(rows).push_due_at == given.get("push_due_at")
    rows.connection.execute(update(tables.device).values(online_epoch=EPOCH))
    tasks.due_for_present(rows.connection, EPOCH, NOW + MINUTE)
    assert task(rows).push_due_at == due
