"""`reconciler device`: secrets are made, kept, shown when asked for, and never by accident."""

from __future__ import annotations

import re

import pytest
import seed
from seed import KEY, PRODUCT

from reconciler.cli import secret_file
from reconciler.protocol.topics import Address
from reconciler.settings import Settings
from reconciler.store import identities, status


@pytest.fixture
def fleet(database):
    seed.world(database, ["dev-1", "dev-2"])
    return database


@pytest.fixture
def secret_of(fleet, tmp_path):
    """What the endpoint would check a device against."""

    def read(name):
        vault = identities.Vault(identities.load_or_make_key(tmp_path / "secret.key"))
        with fleet.reading() as connection:
            sealed = identities.sealed_secret(connection, Address(KEY, name))
        return vault.open(sealed) if sealed else None

    return read


def printed(ran):
    assert ran.code == 0, ran.err
    return re.search(r"deviceSecret: +(\S+)", ran.out).group(1)


def states(database):
    with database.reading() as connection:
        return {device.name: device.state for device in status.devices_of(connection)}


def test_a_secret_is_made_and_printed_once(fleet, reconciler, secret_of):
    ran = reconciler("device", "create", PRODUCT, "dev-1")
    assert printed(ran) == secret_of("dev-1")
    assert re.search(f"productKey: +{KEY}", ran.out)
    again = reconciler("device", "create", PRODUCT, "dev-1")
    assert (again.code, again.out) == (1, "")
    assert "has a secret already" in again.err
    assert "rotate" in again.err
    assert secret_of("dev-1") not in again.err


def test_a_given_secret_is_used(fleet, reconciler, secret_of):
    assert (
        printed(reconciler("device", "create", KEY, "dev-1", "--secret", "from-the-factory"))
        == "from-the-factory"
    )
    assert secret_of("dev-1") == "from-the-factory"


def test_a_device_that_no_inventory_declares_becomes_registered(fleet, reconciler):
    reconciler("device", "create", PRODUCT, "dev-9")
    assert states(fleet) == {"dev-1": "declared", "dev-2": "declared", "dev-9": "registered"}


def test_showing_a_device_never_shows_its_secret_unless_asked(fleet, reconciler):
    secret = printed(reconciler("device", "create", PRODUCT, "dev-1"))
    shown = reconciler("device", "show", PRODUCT, "dev-1")
    assert shown.code == 0
    assert secret not in shown.out
    assert "made" in shown.out
    assert printed(reconciler("device", "show", PRODUCT, "dev-1", "--reveal")) == secret
    assert "none" in reconciler("device", "show", PRODUCT, "dev-2", "--reveal").out


def test_a_replaced_secret_replaces(fleet, reconciler, secret_of):
    old = printed(reconciler("device", "create", PRODUCT, "dev-1"))
    new = printed(reconciler("device", "rotate", PRODUCT, "dev-1"))
    assert new != old
    assert secret_of("dev-1") == new
    assert "replaced" in reconciler("device", "show", PRODUCT, "dev-1").out
    assert (
        printed(reconciler("device", "rotate", PRODUCT, "dev-1", "--secret", "mine-to-keep"))
        == "mine-to-keep"
    )


def test_secrets_open_with_the_key_of_the_settings(fleet, reconciler, tmp_path, monkeypatch):
    key = identities.Vault.new_key().decode()
    secret = printed(reconciler("device", "create", PRODUCT, "dev-1", "--secret-key", key))
    assert not (tmp_path / "secret.key").exists()
    wrong = reconciler("device", "show", PRODUCT, "dev-1", "--reveal")
    assert wrong.code == 1
    assert "another key" in wrong.err
    assert secret not in wrong.out
    monkeypatch.setenv("RECONCILER_SECRET_KEY", key)
    assert printed(reconciler("device", "show", PRODUCT, "dev-1", "--reveal")) == secret


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "thermostad", "dev-1"], f"Did you mean {PRODUCT}?"),
        (["create", "xyzzy", "dev-1"], "Declare it in Git"),
        (["create", PRODUCT, "no"], "not a device name"),
        (["create", PRODUCT, "dev-1", "--secret", ""], "the secret is empty"),
        (["create", PRODUCT, "dev-1", "--secret", "two words"], "no space"),
        (["create", PRODUCT, "dev-1", "--secret", "seven77"], "shorter than 8"),
        (["create", PRODUCT, "dev-1", "--secret", "x" * 200], "longer than"),
        (["rotate", PRODUCT, "dev-1"], "has no secret"),
        (["rotate", PRODUCT, "dev-11"], "Did you mean dev-1?"),
        (["show", PRODUCT, "nobody"], "there is no device of thermostat"),
    ],
)
def test_what_cannot_be_done_changes_nothing(fleet, reconciler, arguments, said):
    ran = reconciler("device", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err
    with fleet.reading() as connection:
        assert identities.sealed_secrets(connection, [1, 2]) == {}
    assert states(fleet) == {"dev-1": "declared", "dev-2": "declared"}


def test_a_device_that_no_inventory_declares_is_made_with_a_note(fleet, reconciler):
    assert "no DeviceInventory" not in reconciler("device", "create", PRODUCT, "dev-1").err
    ran = reconciler("device", "create", PRODUCT, "new-one")
    assert printed(ran)
    assert "new-one is in no DeviceInventory" in ran.err


def test_before_the_first_start_the_remedy_is_to_start(reconciler):
    ran = reconciler("device", "create", PRODUCT, "dev-1")
    assert ran.code == 1
    assert "reconciler run" in ran.err


@pytest.fixture
def csv(tmp_path):
    def write(content):
        file = tmp_path / "secrets.csv"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(file)

    return write


@pytest.mark.parametrize("head", ["", "name,secret\n", "\N{BYTE ORDER MARK}Name, Secret\r\n"])
def test_secrets_are_imported_with_and_without_a_header(fleet, reconciler, secret_of, csv, head):
    ran = reconciler("device", "import", PRODUCT, csv(f'{head}dev-1,one\r\n\n"dev-7", two\n'))
    assert (ran.code, ran.out) == (0, "2 imported, 0 had this secret already, 0 refused\n")
    assert (secret_of("dev-1"), secret_of("dev-7")) == ("one", "two")
    assert states(fleet)["dev-7"] == "registered"


def test_importing_again_changes_nothing(fleet, reconciler, csv):
    file = csv("dev-1,one\ndev-2,two\n")
    reconciler("device", "import", PRODUCT, file)
    ran = reconciler("device", "import", KEY, file)
    assert (ran.code, ran.out) == (0, "0 imported, 2 had this secret already, 0 refused\n")


def test_lines_that_cannot_be_used_are_listed_and_the_others_imported(fleet, reconciler, secret_of, csv):
    reconciler("device", "create", PRODUCT, "dev-2", "--secret", "kept-so-far")
    lines = [
        b"dev-1,one", b"dev-1", b"x,short", b"dev-3,", b"dev-4,a b", b"dev-2,other", b"\xff\xfe,bad", b'"dev-5,open',
        b"dev-1,again", b"dev-1,one", b"dev-6," + b"x" * 5000, b"dev-7,last",
    ]  # fmt: skip
    ran = reconciler("device", "import", PRODUCT, csv(b"\n".join(lines)))
    assert ran.code == 1
    assert "2 imported, 1 had this secret already" in ran.out
    told = {int(line.split(":")[1]): line for line in ran.err.splitlines()}
    assert set(range(2, 10)) <= set(told)
    assert "1 column instead" in told[2]
    assert "another secret" in told[6]
    assert "CSV in UTF-8" in told[7]
    assert (secret_of("dev-1"), secret_of("dev-2"), secret_of("dev-7")) == ("one", "kept-so-far", "last")
    assert "kept-so-far" not in ran.err
    assert "again" not in ran.err


def test_a_flood_of_bad_lines_is_listed_in_part(fleet, reconciler, csv):
    ran = reconciler("device", "import", PRODUCT, csv("nonsense\n" * 80))
    assert len(ran.err.splitlines()) == 51
    assert "30 more lines" in ran.err


def test_a_long_file_is_imported_chunk_by_chunk(fleet, reconciler, csv, monkeypatch):
    monkeypatch.setattr(secret_file, "_CHUNK", 3)
    ran = reconciler("device", "import", PRODUCT, csv("".join(f"dev-{n},s{n}\n" for n in range(10))))
    assert ran.out.startswith("10 imported")
    assert len(states(fleet)) == 10


def test_a_file_that_is_not_there_is_said_not_to_be(fleet, reconciler, tmp_path):
    ran = reconciler("device", "import", PRODUCT, str(tmp_path / "nowhere.csv"))
    assert ran.code == 2
    assert "does not exist" in ran.err


def test_the_default_database_is_that_of_the_daemon(tmp_path):
    assert Settings(data_dir=tmp_path).database_url == f"sqlite:///{tmp_path / 'state.db'}"
