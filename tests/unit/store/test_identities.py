"""Device secrets: encrypted, found by the wire's names, and of no use with another key."""

from __future__ import annotations

import stat

import pytest
import seed
from seed import KEY, NOW, SECOND
from sqlalchemy import text

from reconciler import errors
from reconciler.protocol.topics import Address
from reconciler.store import about, identities, products
from reconciler.store.identities import Vault

ONE = Address(KEY, "dev-1")


@pytest.fixture
def vault():
    return Vault(Vault.new_key())


def test_a_secret_comes_back_with_its_key_only(vault):
    sealed = vault.seal("s3cret")
    assert b"s3cret" not in sealed
    assert vault.open(sealed) == "s3cret"
    with pytest.raises(errors.StalledError, match="another key") as caught:
        Vault(Vault.new_key()).open(sealed)
    assert "secret.key" in caught.value.remedy


@pytest.mark.parametrize("key", [b"", b"short", b"!" * 44])
def test_a_key_that_is_none_is_refused(key):
    with pytest.raises(errors.UserError, match="malformed"):
        Vault(key)


def test_the_key_of_a_data_directory_is_made_once_and_for_its_owner_only(tmp_path):
    file = tmp_path / "secret.key"
    key = identities.load_or_make_key(file)
    assert identities.load_or_make_key(file) == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_key_that_cannot_be_kept_stops_us(tmp_path):
    with pytest.raises(errors.StalledError, match=r"secret\.key"):
        identities.load_or_make_key(tmp_path / "nowhere" / "secret.key")


def test_secrets_are_random():
    assert len({identities.new_secret() for _ in range(100)}) == 100
    assert len(identities.new_secret()) == 32


def test_a_device_is_found_by_its_names_on_the_wire(database, vault):
    seed.world(database, ["dev-1", "dev-2"])
    with database.writing() as connection:
        assert identities.sealed_secret(connection, ONE) is None
        assert not identities.put(connection, 1, vault.seal("first"), NOW)
        assert vault.open(identities.sealed_secret(connection, ONE)) == "first"
        assert identities.sealed_secret(connection, Address("other", "dev-1")) is None
        assert identities.sealed_secret(connection, Address(KEY, "dev-2")) is None


def test_replacing_a_secret_says_so_and_keeps_both_times(database, vault):
    seed.world(database, ["dev-1"])
    with database.writing() as connection:
        identities.put(connection, 1, vault.seal("first"), NOW)
        assert identities.put(connection, 1, vault.seal("second"), NOW + SECOND)
        found = about.identity(connection, 1)
    assert vault.open(found.secret) == "second"
    assert (found.created_at, found.rotated_at) == (NOW, NOW + SECOND)


def test_a_dropped_secret_is_gone(database, vault):
    seed.world(database, ["dev-1"])
    with database.writing() as connection:
        identities.put(connection, 1, vault.seal("first"), NOW)
        assert identities.exists(connection, 1)
        identities.drop(connection, 1)
        assert not identities.exists(connection, 1)
        assert about.identity(connection, 1) is None


def test_devices_of_a_product_that_left_git_cannot_log_in(database, vault):
    seed.world(database, ["dev-1"])
    with database.writing() as connection:
        identities.put(connection, 1, vault.seal("first"), NOW)
        products.remove(connection, 1)
        assert identities.sealed_secret(connection, ONE) is None


def test_the_file_of_the_database_never_holds_a_secret(database, database_url, vault):
    seed.world(database, ["dev-1"])
    with database.writing() as connection:
        identities.put(connection, 1, vault.seal("very-secret-indeed"), NOW)
    with database.writing() as connection:
        dumped = connection.execute(text("SELECT hex(secret) FROM identity")).scalar_one()
    assert b"very-secret-indeed" not in bytes.fromhex(dumped)


def test_many_secrets_are_read_at_once(database, vault):
    seed.world(database, ["dev-1", "dev-2", "dev-3"])
    with database.writing() as connection:
        for number in (1, 3):
            identities.put(connection, number, vault.seal(str(number)), NOW)
        found = identities.sealed_secrets(connection, [1, 2, 3])
    assert {number: vault.open(sealed) for number, sealed in found.items()} == {1: "1", 3: "3"}
