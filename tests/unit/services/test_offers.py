"""What a device is told of its file: a URL or a stream, by the batch's `download`."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from emulators import c_push, c_url

from reconciler import errors
from reconciler.domain import resources
from reconciler.protocol import urls
from reconciler.services.offers import Offers
from reconciler.services.signing import Keyring
from reconciler.store import signing_keys
from reconciler.store.products import File, Offer

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
BOTH = "https://ota.example, http://ota.example:8080/files"
TASK = 41


FILE = File("app.bin", 3, 2048, "ab" * 32, "cd" * 16)
OTHER = File("music/../é.tar.gz", 4, 10, "ef" * 32, "01" * 16)


def offered(download: str, **changes: object) -> Offer:
    values = {
        "run_id": 1,
        "version": "2.0.0",
        "module": "default",
        "sign_method": "SHA256",
        "files": (FILE,),
        "custom_info": None,
        "tags": {},
        "download": download,
        "delta": False,
    }
    return Offer(**values | changes)


def told(public_url: str, download: str, keyring: Keyring | None = None, **changes: object) -> dict:
    offers = Offers(b"k" * 32, urls.check_bases(public_url), keyring)
    return json.loads(offers.push(offered(download, **changes), TASK, NOW))["data"]


@pytest.mark.parametrize(
    ("public_url", "download", "begins"),
    [
        ("http://ota.example", "Auto", "http://ota.example/d/"),
        ("http://ota.example", "HTTP", "http://ota.example/d/"),
        ("https://ota.example", "Auto", "https://ota.example/d/"),
        ("https://ota.example", "HTTPS", "https://ota.example/d/"),
        (BOTH, "Auto", "https://ota.example/d/"),
        (BOTH, "HTTPS", "https://ota.example/d/"),
        (BOTH, "HTTP", "http://ota.example:8080/files/d/"),
    ],
)
def test_the_url_is_of_the_scheme_that_the_batch_asks_for(public_url, download, begins):
    data = told(public_url, download)
    assert data["url"].startswith(begins)
    assert "dProtocol" not in data


@pytest.mark.parametrize("public_url", ["http://ota.example", "https://ota.example", BOTH])
def test_over_mqtt_the_stream_is_the_task_and_there_is_no_url(public_url):
    data = told(public_url, "MQTT")
    assert "url" not in data
    assert (data["dProtocol"], data["streamId"], data["streamFileId"]) == ("mqtt", TASK, 1)


@pytest.mark.parametrize("download", ["Auto", "MQTT"])
def test_only_a_delta_says_that_it_is_one(download):
    assert told(BOTH, download, delta=True)["isDiff"] == 1
    assert "isDiff" not in told(BOTH, download)


@pytest.mark.parametrize(("public_url", "download"), [("http://a", "HTTPS"), ("https://a", "HTTP")])
def test_no_other_scheme_stands_in_for_one_that_is_gone(public_url, download):
    with pytest.raises(errors.StalledError, match=f"over {download}, and devices reach this server"):
        told(public_url, download)


def test_each_file_has_a_url_of_its_own_which_opens_just_that_file():
    data = told(BOTH, "HTTP", files=(FILE, OTHER))
    assert "url" not in data
    granted = []
    for file in data["files"]:
        token, name = file["fileUrl"].removeprefix("http://ota.example:8080/files/d/").split("/")
        grant = urls.verify(b"k" * 32, token, int(NOW.timestamp()))
        granted.append((grant.blob_id, grant.task_id, name))
    assert granted == [(3, TASK, "app.bin"), (4, TASK, "music_.._.tar.gz")]


@pytest.fixture(scope="module")
def key():
    return signing_keys.make(signing_keys.Type.ED25519)


@pytest.mark.parametrize("download", ["HTTP", "MQTT"])
@pytest.mark.parametrize(("method", "digest"), [("SHA256", FILE.sha256), ("MD5", FILE.md5)])
def test_what_is_signed_is_the_digest_that_the_device_checks(key, download, method, digest):
    keyring = Keyring({"KEY": key})
    keyring.look("env:KEY")
    data = told(BOTH, download, keyring, sign_method=method, signing_key="env:KEY")
    assert data["sign"] == digest
    assert data["digestsign"] == signing_keys.read(key.encode(), "").sign(bytes.fromhex(digest))


def test_each_of_several_files_is_signed(key):
    keyring = Keyring({"KEY": key})
    keyring.look("env:KEY")
    files = told(BOTH, "HTTP", keyring, files=(FILE, OTHER), signing_key="env:KEY")["files"]
    private = signing_keys.read(key.encode(), "")
    wanted = [private.sign(bytes.fromhex(file.sha256)) for file in (FILE, OTHER)]
    assert [file["fileDigestsign"] for file in files] == wanted


@pytest.mark.parametrize("keyring", [None, Keyring({})], ids=["no keyring", "an empty one"])
def test_nothing_unsigned_stands_in_for_what_must_be_signed(keyring):
    with pytest.raises(errors.StalledError, match="before its product's signing key was read"):
        told(BOTH, "HTTP", keyring, signing_key="env:KEY")


def test_a_product_that_does_not_sign_sends_no_signature(key):
    keyring = Keyring({"KEY": key})
    keyring.look("env:KEY")
    assert "digestsign" not in told(BOTH, "HTTP", keyring)


@pytest.mark.parametrize("method", resources.SignMethod)
@pytest.mark.parametrize(
    ("protocol", "files"), [("Aliyun", (FILE,)), ("Aliyun", (FILE, OTHER)), ("Sagoo", (FILE,))]
)
def test_the_c_sdk_reads_every_offer_and_has_room_for_its_urls_however_long_ours_is(protocol, files, method):
    longest = "http://" + "h" * (urls.MAX_BASE_LENGTH - len("http://"))
    offers = Offers(b"k" * 32, urls.check_bases(longest))
    made = offered("Auto", protocol=protocol, sign_method=method, files=files, tags={"site": "é"}, delta=True)
    found = c_push.read(offers.push(made, 2**63 - 1, NOW))
    assert [wanted.size for wanted in found] == [file.size for file in files]
    for wanted in found:
        assert isinstance(wanted.source, bytes)
        assert c_url.split(wanted.source.decode(), c_url.Sdk.C41).host == "h" * (urls.MAX_BASE_LENGTH - 7)
