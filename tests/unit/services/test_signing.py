"""Secure upgrade: devices of a product that signs are told nothing unsigned, whatever becomes of its key."""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import subprocess

import pytest
from rig import base, batch, document, package

from reconciler import errors
from reconciler.services import signing
from reconciler.services.signing import Keyring
from reconciler.store import products, signing_keys, tables

ONE, TWO = "dev-1", "dev-2"


@pytest.fixture(scope="module")
def keys():
    return [signing_keys.make(signing_keys.Type.ED25519) for _ in range(2)]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "product.pem"


def signed(file, *names, **product):
    return base(*names, signing={"privateKeyFrom": {"file": str(file)}}, **product)


async def begin(rig, file, *parts, **spec):
    """A device that is there, a batch that waits for it, and a product that signs."""
    await rig.commit(signed(file, ONE))
    await rig.arrive(ONE)
    await rig.commit(signed(file, ONE), batch(**spec), *parts)


def held(rig):
    (found,) = rig.rows(tables.product.select())
    return found.signing_held or ""


def right(key, data):
    return signing_keys.read(key.encode(), "").sign(bytes.fromhex(data["sign"])) == data["digestsign"]


def documented(number):
    """What docs/devices.md tells firmware developers to type, with one of its two last lines."""
    page = (pathlib.Path(__file__).parents[3] / "docs" / "devices.md").read_text(encoding="utf-8")
    (block,) = [each for each in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "openssl" in each]
    *first, for_rsa, for_ed25519 = block.splitlines()
    return "\n".join(["set -e", *first, (for_rsa, for_ed25519)[number]])


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("number", [0, 1], ids=["RSA", "Ed25519"])
async def test_openssl_verifies_what_a_device_is_pushed_as_the_docs_tell_it(rig, file, tmp_path, number):
    key = signing_keys.make(list(signing_keys.Type)[number])
    file.write_text(key)
    await begin(rig, file)
    assert await rig.push() == 1
    (said,) = rig.pushed(ONE)
    (tmp_path / "app.bin").write_bytes(base()["app.bin"])
    (tmp_path / "digestsign.txt").write_text(said["data"]["digestsign"])
    (tmp_path / "public.pem").write_text(signing_keys.read(key.encode(), "").public_pem())

    def verify():
        return subprocess.run(
            ["sh", "-c", documented(number)], cwd=tmp_path, capture_output=True, check=False
        )

    right = verify()
    assert (right.returncode, right.stderr) == (0, b"")
    assert b"Verified" in right.stdout
    (tmp_path / "app.bin").write_bytes(b"firmware of somebody else")
    assert verify().returncode != 0


async def test_a_question_is_answered_with_the_same_signature(rig, file, keys):
    file.write_text(keys[0])
    await begin(rig, file, delivery="Pull")
    rig.ask(ONE)
    await rig.hear()
    (data,) = rig.answers(ONE)
    assert right(keys[0], data)


async def test_each_file_of_a_package_is_signed(rig, file, keys):
    file.write_text(keys[1])
    files = [{"name": "a.bin", "source": "app.bin"}, {"name": "b.bin", "source": "app.bin"}]
    await begin(rig, file, package(files=files), package="lamp-3")
    assert await rig.push() == 1
    told = rig.pushed(ONE)[0]["data"]["files"]
    key = signing_keys.read(keys[1].encode(), "")
    wanted = [key.sign(bytes.fromhex(each["fileSign"])) for each in told]
    assert [each["fileDigestsign"] for each in told] == wanted


async def test_without_its_key_nothing_goes_out_until_it_is_there(rig, file, keys):
    await begin(rig, file)
    assert held(rig) == (
        f"its signing key can't be used: {file} can't be read: No such file or directory. "
        "Put the private key (PEM) there, readable by the daemon's user alone."
    )
    assert await rig.wait(10) == 0
    rig.ask(ONE)
    await rig.hear()
    assert (rig.answers(ONE), rig.status(ONE), rig.task(ONE).pushes) == ([{}], "QUEUED", 0)
    file.write_text(keys[0])
    await rig.signing.look()
    assert held(rig) == ""
    assert await rig.push() == 1
    assert right(keys[0], rig.pushed(ONE)[-1]["data"])
    said = [line.message for line in rig.events("signing")]
    assert [said[0][:30], said[1]] == [
        "its signing key can't be used:",
        "its signing key can be used again: pushes go on",
    ]
    rig.check()


async def test_a_verification_waits_for_the_key_too(rig, file, keys):
    await rig.commit(signed(file, ONE))
    await rig.arrive(ONE)
    await rig.commit(signed(file, ONE), package(verification={"devices": [ONE]}))
    assert await rig.wait(1) == 0
    file.write_text(keys[0])
    await rig.signing.look()
    assert await rig.push() == 1
    assert "digestsign" in rig.pushed(ONE)[0]["data"]


@pytest.mark.parametrize("spoil", ["remove", "junk", "close"])
async def test_a_key_that_is_lost_stops_what_is_not_claimed_yet(rig, file, keys, spoil):
    file.write_text(keys[0])
    await begin(rig, file)
    if spoil == "remove":
        file.unlink()
    elif spoil == "junk":
        file.write_text("junk")
    else:
        file.unlink()
        file.mkdir()
    await rig.signing.look()
    assert "its signing key can't be used" in held(rig)
    assert await rig.wait(1) == 0
    assert rig.pushed(ONE) == []


async def test_a_push_that_was_claimed_before_its_key_was_lost_is_signed_still(rig, file, keys):
    file.write_text(keys[0])
    await begin(rig, file)
    file.unlink()
    assert await rig.push() == 1  # nobody has looked since
    assert right(keys[0], rig.pushed(ONE)[0]["data"])


async def test_a_new_key_in_the_same_place_signs_from_then_on(rig, file, keys):
    file.write_text(keys[0])
    await begin(rig, file)
    file.write_text(keys[1])
    await rig.signing.look()
    assert await rig.push() == 1
    assert right(keys[1], rig.pushed(ONE)[0]["data"])


async def test_a_commit_that_names_another_key_is_followed_and_held_while_that_is_missing(
    rig, file, keys, tmp_path
):
    file.write_text(keys[0])
    other = tmp_path / "other.pem"
    await begin(rig, file)
    await rig.commit(signed(other, ONE), batch())
    assert await rig.wait(1) == 0
    other.write_text(keys[1])
    await rig.signing.look()
    assert await rig.push() == 1
    assert right(keys[1], rig.pushed(ONE)[0]["data"])


async def test_a_product_that_begins_to_sign_is_held_until_its_key_was_read(rig, file, keys):
    file.write_text(keys[1])
    await rig.commit(base(ONE), batch())
    await rig.arrive(ONE)
    looks = rig.signing.look

    async def nobody_looks():
        assert held(rig) == products.UNREAD
        assert await rig.push() == 0

    rig.signing.look = nobody_looks
    await rig.commit(signed(file, ONE), batch())
    await looks()
    assert await rig.push() == 1
    assert right(keys[1], rig.pushed(ONE)[0]["data"])
    assert rig.events("signing") == []


async def test_a_key_that_was_read_while_a_commit_named_another_frees_nothing(rig, file, tmp_path):
    async def nobody_looks():
        assert held(rig) == products.UNREAD

    rig.signing.look = nobody_looks
    await rig.commit(signed(file, ONE))
    with rig.database.reading() as connection:
        (asked,) = products.signing(connection)
    await rig.commit(signed(tmp_path / "other.pem", ONE))
    with rig.database.writing() as connection:
        assert not products.note_signing(connection, asked, None, rig.clock.now())
    assert held(rig) == products.UNREAD


async def test_a_product_that_signs_no_more_goes_on_without(rig, file):
    await begin(rig, file)
    assert await rig.wait(1) == 0
    await rig.commit(base(ONE), batch())
    assert await rig.push() == 1
    assert "digestsign" not in rig.pushed(ONE)[0]["data"]


async def test_a_daemon_that_comes_back_without_the_key_holds_before_it_pushes(rig, file, keys):
    file.write_text(keys[0])
    await begin(rig, file)
    await rig.kill()
    file.unlink()
    await rig.boot()
    await rig.arrive(ONE)
    assert await rig.wait(1) == 0
    assert rig.pushed(ONE) == []


async def test_only_the_product_whose_key_is_missing_is_held(rig, file):
    other = {
        "p2.yaml": document("Product", "clock", productKey="clockkey"),
        "k2.yaml": document("Package", "clock-2", product="clock", version="2.0.0", title="Clock",
                            files=[{"name": "app.bin", "source": "app.bin"}]),
        "i2.yaml": document("DeviceInventory", "paris", product="clock", devices=[{"name": TWO}]),
        "b2.yaml": document("Batch", "clocks", package="clock-2", target={"all": {}}, delivery="Pull"),
    }  # fmt: skip
    await begin(rig, file, other)
    from reconciler.protocol import topics
    from reconciler.protocol.topics import Address

    there = Address("clockkey", TWO)
    rig.wire.connect(there)
    rig.wire.send(there, topics.firmware_get(there), b'{"id":1}')
    await rig.hear()
    (push,) = [each for each in rig.wire.published if each.address == there]
    assert b'"url":' in push.payload
    assert await rig.wait(1) == 0


async def test_what_is_told_of_a_held_product_and_its_batch_names_the_remedy(rig, file):
    from reconciler.cli import documents
    from reconciler.store import status, task_views

    await begin(rig, file)
    rig.clock.advance(60)
    with rig.database.reading() as connection:
        found = {item.name: item for item in status.objects(connection)}
        (task,) = status.tasks(connection, status.TaskFilter(batch="all"), 10)
        waits = task_views.Waits(connection, rig.clock.now()).of(task)
    for name in ("lamp", "all"):
        said = documents.of_object(found[name])["status"]
        stalled = next(each for each in said["conditions"] if each["type"] == "Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", "SigningKeyUnavailable")
        assert "Put the private key (PEM) there" in stalled["message"]
        assert said["health"] == "Degraded"
    assert documents.of_object(found["lamp-2"])["status"]["health"] == "Healthy"
    assert str(waits) == "waits for its signing key"


async def test_a_trace_names_the_key_as_what_decides(rig, file):
    from reconciler.services import trace

    await begin(rig, file)
    with rig.database.reading() as connection:
        (found,) = trace.device(connection, rig.task(ONE).device_id, rig.clock.now(), only="all")
    assert str(found.trace.decided_by) == "signing"
    assert "Put the private key (PEM) there" in found.trace.end


def test_the_environment_is_the_daemons():
    with pytest.raises(errors.UserError, match="the environment variable KEY is not set") as caught:
        Keyring({}).look("env:KEY")
    assert "start the daemon again" in caught.value.remedy
    assert Keyring()._environment is os.environ


@pytest.mark.parametrize("name", ["/dev/zero", "/nowhere/k", "/etc", "/\x00k"])
def test_what_is_no_file_is_never_read(name):
    with pytest.raises(errors.UserError, match=r"is not a file|can't be read"):
        signing.load(f"file:{name}", {})


def test_a_file_that_is_too_long_is_not_read_to_its_end(tmp_path):
    (tmp_path / "k").write_bytes(b"x" * (signing.MOST_BYTES + 1))
    with pytest.raises(errors.UserError, match="too long"):
        signing.load(f"file:{tmp_path / 'k'}", {})


def test_a_text_that_did_not_change_is_not_parsed_again(keys):
    keyring = Keyring({"KEY": keys[1]})
    assert keyring.look("env:KEY") is keyring.look("env:KEY")


async def test_the_service_looks_again_and_again(rig, file, keys, monkeypatch):
    monkeypatch.setattr(signing, "LOOK_SECONDS", 0.0)
    await begin(rig, file)
    running = asyncio.create_task(rig.signing.run())
    for wanted in (True, False, True):
        if wanted:
            file.write_text(keys[1])
        else:
            file.unlink()
        for _ in range(2000):
            if (held(rig) == "") is wanted:
                break
            await asyncio.sleep(0.005)
        else:
            pytest.fail("it did not look")
    running.cancel()
