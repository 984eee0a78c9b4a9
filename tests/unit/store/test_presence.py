"""Who exists and who is there, by the daemon's epoch and the connection's number."""

from __future__ import annotations

from seed import NOW, PRODUCT, SECOND, find, inventory, materialize, world

from reconciler.protocol.topics import Address
from reconciler.store import devices, products, status

EPOCH = 7


def online(database, name, epoch=EPOCH):
    with database.reading() as connection:
        return find(connection, [name], epoch)[name].online


def came(database, session, *, now=NOW):
    with database.writing() as connection:
        devices.came(connection, {1: session}, EPOCH, now)


def went(database, session, *, epoch=EPOCH):
    with database.writing() as connection:
        return devices.went(connection, {1: session}, epoch, NOW + SECOND)


def test_a_device_is_there_from_its_connection_to_its_end(database):
    world(database, ["dev-1"])
    assert not online(database, "dev-1")
    came(database, 3)
    assert online(database, "dev-1")
    assert went(database, 3) == [1]
    assert not online(database, "dev-1")


def test_the_end_of_a_replaced_connection_does_not_take_the_device_away(database):
    world(database, ["dev-1"])
    came(database, 3)
    came(database, 4)
    assert went(database, 3) == []
    assert online(database, "dev-1")
    assert went(database, 4) == [1]


def test_an_end_that_is_told_twice_changes_nothing(database):
    world(database, ["dev-1"])
    came(database, 3)
    went(database, 3)
    assert went(database, 3) == []


def test_presence_ends_with_the_epoch_without_a_write(database):
    world(database, ["dev-1"])
    came(database, 3)
    assert not online(database, "dev-1", EPOCH + 1)
    assert went(database, 3, epoch=EPOCH + 1) == []


def test_last_seen_is_kept_when_a_device_goes(database):
    world(database, ["dev-1"])
    came(database, 3)
    went(database, 3)
    with database.reading() as connection:
        seen = status.devices_of(connection)[0]
    assert (seen.last_seen_at, seen.online_since) == (NOW + SECOND, None)


def test_hearing_a_device_moves_its_last_seen(database):
    world(database, ["dev-1"])
    with database.writing() as connection:
        devices.touch(connection, [1], NOW + SECOND)
        devices.touch(connection, [], NOW)
    with database.reading() as connection:
        assert status.devices_of(connection)[0].last_seen_at == NOW + SECOND


def test_devices_of_an_unknown_product_are_unknown(database):
    world(database, ["dev-1"])
    with database.reading() as connection:
        assert devices.find(connection, [Address("other", "dev-1")], EPOCH) == {}


def test_a_product_that_left_git_is_not_served(database):
    world(database, ["dev-1"])
    with database.writing() as connection:
        assert len(devices.served_product_keys(connection)) == 1
        products.remove(connection, 1)
        assert devices.served_product_keys(connection) == frozenset()
        assert find(connection, ["dev-1"]) == {}


def test_registering_a_device_again_changes_nothing_and_brings_back_a_removed_one(database):
    world(database, ["dev-1", "dev-2"])
    with database.writing() as connection:
        inventory(connection, ["dev-1"])
    materialize(database)
    with database.writing() as connection:
        product_id = products.product_id(connection, PRODUCT)
        devices.register(connection, product_id, ["dev-1", "dev-2", "dev-3"], NOW)
        devices.register(connection, product_id, ["dev-3"], NOW)
        states = {device.name: device.state for device in status.devices_of(connection)}
    assert states == {"dev-1": "declared", "dev-2": "registered", "dev-3": "registered"}


def test_enrolling_gives_the_ids_of_old_and_new_devices(database):
    world(database, ["dev-1"])
    with database.writing() as connection:
        product_id = products.product_id(connection, PRODUCT)
        first = devices.enrol(connection, product_id, ["dev-1", "dev-9"], NOW)
        assert devices.enrol(connection, product_id, ["dev-9", "dev-1"], NOW) == first
        assert first["dev-1"] == 1
        assert devices.ids(connection, product_id, ["dev-1", "nobody"]) == {"dev-1": 1}


def test_versions_are_the_newest_report_of_each_module(database):
    world(database, ["dev-1", "dev-2"])
    with database.writing() as connection:
        for version in ("1.0.0", "1.2.0"):
            devices.report(connection, [devices.Report(1, 1, "default", version)], NOW)
        devices.report(
            connection, [devices.Report(1, 1, "mcu", "9"), devices.Report(2, 1, "default", "1.2.0")], NOW
        )
        devices.report(connection, [], NOW)
        assert devices.versions(connection, [1]) == {(1, "default"): "1.2.0", (1, "mcu"): "9"}
        assert devices.reported_versions(connection, 1, "default") == ["1.2.0"]
        assert devices.reported_versions(connection, 1, "none") == []
        assert devices.distribution(connection, 1) == [("default", "1.2.0", 2), ("mcu", "9", 1)]


def test_the_end_of_a_connection_that_was_never_written_ends_the_one_before_it_too(database):
    world(database, ["dev-1"])
    came(database, 3)
    assert went(database, 4) == [1]  # 4 replaced 3, and both were told in one burst
    assert not online(database, "dev-1")
