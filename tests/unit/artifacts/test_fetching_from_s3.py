"""A file from s3://, out of a stand-in that checks each signature by a computation of its own."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from file_server import FileServer, Page

from reconciler import errors
from reconciler.artifacts import https, s3
from reconciler.artifacts.fetch import Fetcher, Wanted
from reconciler.artifacts.network import Halt, RefusedError

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-central-1"
KEY_OF_FILE = "firmware/app 1.4+ü.bin"


def _hmac(key, text):
    return hmac.digest(key, text.encode(), "sha256")


def signature_problem(handler) -> str:
    """What Amazon's documentation of Signature Version 4 says is wrong with a request; empty when it is right."""
    pattern = r"AWS4-HMAC-SHA256 Credential=(\S+), SignedHeaders=(\S+), Signature=([0-9a-f]{64})"
    given = re.fullmatch(pattern, handler.headers.get("Authorization", ""))
    if given is None:
        return "not signed"
    key, date, *scope = given[1].split("/")
    if (key, scope) != (KEY, [REGION, "s3", "aws4_request"]):
        return f"wrong scope {given[1]}"
    names = given[2].split(";")
    if not {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names):
        return f"too few headers are signed: {names}"
    parts = urlsplit(handler.path)
    query = "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in sorted(parse_qsl(parts.query)))
    headers = "".join(f"{name}:{' '.join(handler.headers[name].split())}\n" for name in names)
    payload = handler.headers["x-amz-content-sha256"]
    canonical = "\n".join([handler.command, parts.path, query, headers, given[2], payload])
    moment = handler.headers["x-amz-date"]
    text = "\n".join(
        ["AWS4-HMAC-SHA256", moment, "/".join([date, *scope]), hashlib.sha256(canonical.encode()).hexdigest()]
    )
    signing = f"AWS4{SECRET}".encode()
    for part in (date, *scope):
        signing = _hmac(signing, part)
    right = _hmac(signing, text).hex()
    return "" if moment.startswith(date) and right == given[3] else "SignatureDoesNotMatch"


@pytest.fixture
def store_of_s3(certificates):
    made = FileServer(certificates)
    made.pages[f"/firmware-bucket/{quote(KEY_OF_FILE)}"] = Page(CONTENT, check=signature_problem)
    yield made
    made.close()


@pytest.fixture
def refusing():
    """What hands out the keys of roles, and gives none."""
    made = FileServer()
    answer = (
        b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>"
    )
    made.pages["/"] = Page(answer, status=403)
    yield made
    made.close()


@pytest.fixture
def keys(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return monkeypatch


@pytest.fixture
def fetch(store, store_of_s3, tls, keys):
    def attempt(region=REGION):
        origin = s3.S3(https.Client(tls), endpoint=f"{store_of_s3.url}/", region=region)
        wanted = Wanted(f"s3://firmware-bucket/{KEY_OF_FILE.replace(' ', '%20')}", SHA256, len(CONTENT))
        return Fetcher(store, {"s3": origin}, 10**9).fetch(wanted, Halt(), lambda *_: None)

    return attempt


def test_a_request_is_signed_as_amazon_says(fetch, store):
    fetch()
    assert store.found(SHA256)


def test_the_rest_of_a_file_is_asked_for_with_a_signature_too(fetch, store_of_s3):
    (page,) = store_of_s3.pages.values()
    page.breaks_after = 100_000
    with pytest.raises(errors.TransientError, match="100,000 of 300,000"):
        fetch()
    fetch()
    assert store_of_s3.ranges() == [None, "bytes=100000-"]


def test_the_region_may_come_from_the_environment(fetch, keys):
    keys.setenv("AWS_DEFAULT_REGION", REGION)
    fetch(region="")


def test_a_wrong_key_is_the_stores_to_refuse(fetch, keys):
    keys.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(errors.TransientError, match="403") as caught:
        fetch()
    assert "S3 takes keys from the environment" in caught.value.remedy


def test_without_keys_nothing_is_signed(fetch, keys, store_of_s3):
    keys.delenv("AWS_ACCESS_KEY_ID")
    keys.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(errors.TransientError, match="403"):
        fetch()
    (page,) = store_of_s3.pages.values()
    page.check = None
    fetch()


def test_a_bucket_of_another_region_names_it(fetch, store_of_s3):
    (page,) = store_of_s3.pages.values()
    page.check, page.status, page.headers = None, 301, {"x-amz-bucket-region": "us-west-2"}
    with pytest.raises(RefusedError, match="us-west-2") as caught:
        fetch()
    assert caught.value.remedy == "Give --s3-region us-west-2."


@pytest.mark.parametrize(
    "endpoint",
    [
        "minio.local:9000",
        "ftp://minio.local",
        "https://",
        "https://user:password@minio.local",
        "https://minio.local?a=1",
        "https://minio.local#a",
        "https://minio.local:port",
        "https://minio .local",
    ],
)
def test_an_endpoint_that_is_no_url_of_a_store_is_refused_at_start(tls, endpoint):
    with pytest.raises(errors.UsageError, match="--s3-endpoint is wrong") as caught:
        s3.S3(https.Client(tls), endpoint=endpoint)
    assert "https://HOST" in caught.value.remedy
    assert "password" not in caught.value.message


def test_a_role_that_may_not_be_taken_is_an_operators_to_mend(fetch, keys, tmp_path, refusing):
    """What Amazon answers is no error of the library's own kind."""
    (tmp_path / "config").write_text(f"""
[profile fw]
role_arn = arn:aws:iam::123456789012:role/fw
source_profile = own
region = eu-central-1
max_attempts = 1
services = here
[profile own]
aws_access_key_id = {KEY}
aws_secret_access_key = {SECRET}
[services here]
sts =
  endpoint_url = http://127.0.0.1:{refusing.port}
""")
    keys.delenv("AWS_ACCESS_KEY_ID")
    keys.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    keys.setenv("AWS_PROFILE", "fw")
    with pytest.raises(errors.TransientError, match=r"no keys for S3: .*not you"):
        fetch()


def test_a_profile_that_is_not_there_is_an_operators_to_mend(fetch, keys):
    keys.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(errors.TransientError, match="no keys for S3"):
        fetch()


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("s3://fw/a/b.bin", "https://fw.s3.eu-central-1.amazonaws.com/a/b.bin"),
        ("s3://fw.example/b.bin", "https://s3.eu-central-1.amazonaws.com/fw.example/b.bin"),
    ],
)
def test_amazons_own_buckets_have_hosts_of_their_own(tls, source, url):
    asked = []

    class Recorder(https.Client):
        def get(self, request, halt):
            asked.append(request.url)
            raise errors.TransientError("enough")

    origin = s3.S3(Recorder(tls), region=REGION)
    with pytest.raises(errors.TransientError), origin.open(source, Halt(), start=0, validator=None):
        pass
    assert asked == [url]
