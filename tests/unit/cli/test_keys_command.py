"""`reconciler keys`: a private key is made once, for its owner only; its public half is shown, and nothing else."""

from __future__ import annotations

import os
import re
import stat

import pytest
import seed
from seed import PRODUCT

from reconciler.store import signing_keys, tables


@pytest.fixture(scope="module")
def pems():
    """One key of each type: making RSA keys takes time."""
    return {str(type_): signing_keys.make(type_) for type_ in signing_keys.Type}


@pytest.fixture
def private(tmp_path, pems):
    file = tmp_path / "private.pem"
    file.write_text(pems["rsa"])
    return file


@pytest.mark.parametrize(("type_", "shown"), [("rsa", "RSA, 2048 bits"), ("ed25519", "Ed25519")])
def test_a_key_is_made_for_its_owner_only_and_its_public_half_printed(reconciler, tmp_path, type_, shown):
    file = tmp_path / "product.pem"
    before = os.umask(0)  # whatever the shell allows
    try:
        ran = reconciler("keys", "create", str(file), "--type", type_)
    finally:
        os.umask(before)
    assert ran.code == 0, ran.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = signing_keys.read(file.read_bytes(), "")
    assert (str(key), ran.out) == (shown, key.public_pem())
    assert f"privateKeyFrom: {{file: {file}}}" in ran.err
    assert "PRIVATE" not in ran.out + ran.err.replace("The private key", "")


def test_a_key_is_never_overwritten(reconciler, private, tmp_path):
    before = private.read_bytes()
    link = tmp_path / "link.pem"
    link.symlink_to(tmp_path / "nowhere")
    for file in (private, link):
        ran = reconciler("keys", "create", str(file))
        assert (ran.code, ran.out) == (1, "")
        assert "never overwritten" in ran.err
    assert private.read_bytes() == before
    assert not (tmp_path / "nowhere").exists()


def test_a_key_that_cannot_be_written_is_said(reconciler, tmp_path):
    ran = reconciler("keys", "create", str(tmp_path / "missing" / "k.pem"), "--type", "ed25519")
    assert (ran.code, ran.out) == (1, "")
    assert "can't be written: No such file" in ran.err


def bytes_of(c_source):
    """The arrays of C source, as a compiler reads them."""
    found = re.findall(r"static const unsigned char (\w+)\[(\d+)\] = \{([^}]*)\};", c_source)
    arrays = {
        name: bytes(int(byte, 16) for byte in re.findall("0x[0-9a-f]{2}", body)) for name, _, body in found
    }
    assert {name: str(len(data)) for name, data in arrays.items()} == {name: size for name, size, _ in found}
    return arrays


@pytest.mark.parametrize("type_", ["rsa", "ed25519"])
def test_the_public_key_is_shown_as_firmware_wants_it(reconciler, private, pems, type_):
    private.write_text(pems[type_])
    key = signing_keys.read(private.read_bytes(), "")
    bare, exponent = key.public_numbers()
    assert reconciler("keys", "show", str(private)).out == key.public_pem()
    assert reconciler("keys", "show", str(private), "--format", "hex").out == f"{bare.hex()}\n"
    arrays = bytes_of(reconciler("keys", "show", str(private), "--format", "c").out)
    names = {"ota_pubn_buf": bare, "ota_pube_buf": exponent} if exponent else {"ota_public_key": bare}
    assert arrays == names


@pytest.mark.parametrize("form", ["der", "raw"])
def test_bytes_are_written_as_they_are(private, capfdbinary, form):
    from reconciler import cli

    assert cli.execute(["keys", "show", str(private), "--format", form]) == 0
    key = signing_keys.read(private.read_bytes(), "")
    assert capfdbinary.readouterr().out == (key.public_der() if form == "der" else key.public_numbers()[0])


def test_a_key_in_a_variable_is_shown_also_when_its_lines_are_one(reconciler, monkeypatch, pems):
    monkeypatch.setenv("SIGNING", pems["rsa"].replace("\n", "\\n"))
    shown = reconciler("keys", "show", "--env", "SIGNING")
    assert shown.out == signing_keys.read(pems["rsa"].encode(), "").public_pem()


def test_the_key_of_a_product_is_the_one_that_its_manifest_names(database, reconciler, private):
    seed.world(database, ["dev-1"])
    ran = reconciler("keys", "show", "--product", PRODUCT)
    assert (ran.code, ran.out) == (1, "")
    assert "doesn't sign" in ran.err
    with database.writing() as connection:
        connection.execute(tables.product.update().values(signing_key=f"file:{private}"))
    shown = reconciler("keys", "show", "--product", PRODUCT)
    assert shown.out == signing_keys.read(private.read_bytes(), "").public_pem()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "one of FILE, --env and --product"),
        (["k.pem", "--env", "K"], 2, "one of FILE, --env and --product"),
        (["/nowhere/k.pem"], 1, "can't be read: No such file"),
        (["/dev/zero"], 1, "is not a file"),
        (["--env", "NOT_THERE"], 1, "NOT_THERE is not set"),
    ],
)
def test_what_is_no_key_is_said(reconciler, arguments, code, said):
    ran = reconciler("keys", "show", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err


def test_a_file_that_is_too_long_or_no_key_is_not_printed(reconciler, tmp_path):
    long, other = tmp_path / "long", tmp_path / "other"
    long.write_bytes(b"s3cret" * 20_000)
    other.write_bytes(b"s3cret")
    for file, said in ((long, "too long"), (other, "no private key")):
        ran = reconciler("keys", "show", str(file))
        assert (ran.code, ran.out) == (1, "")
        assert said in ran.err
        assert "s3cret" not in ran.err
