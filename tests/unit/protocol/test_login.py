"""Logging in, as the SDKs in the field do it (device protocol §3, trap 11)."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.protocol import login
from reconciler.protocol.topics import Address

VECTOR = "EDD8F9735C7F96901B7249DA454F2EF9583A3074E5FFFE2536AEC6BADEEE2FB3"
VECTOR_ID = "pk.dn|securemode=2,signmethod=hmacsha256,timestamp=2524608000000,_v=c-sdk-4.2|"


def test_the_published_test_vector_is_accepted_in_upper_and_in_lower_case() -> None:
    for password in (VECTOR, VECTOR.lower()):
        assert login.verify(login.parse(VECTOR_ID, "dn&pk", password), "sec")


def test_another_secret_is_refused() -> None:
    assert not login.verify(login.parse(VECTOR_ID, "dn&pk", VECTOR), "sec2")


@pytest.mark.parametrize("field", ["cid", "timestamp", "address", "sign_method"])
def test_every_signed_part_matters(field: str) -> None:
    changed = {"cid": "x", "timestamp": "1", "address": Address("pk", "dm"), "sign_method": "hmacmd5"}
    claim = login.parse(VECTOR_ID, "dn&pk", VECTOR)
    assert not login.verify(dataclasses.replace(claim, **{field: changed[field]}), "sec")


@pytest.mark.parametrize(
    ("client_id", "cid"),
    [
        ("thermostat&dev-0001|securemode=2|", "thermostat&dev-0001"),
        ("thermostat.dev-0001|securemode=2|", "thermostat.dev-0001"),
        ("00:1b:44:11 我|", "00:1b:44:11 我"),
        ("|securemode=3|", ""),
        ("", ""),
        ("plain", "plain"),
    ],
)
def test_the_client_id_may_be_anything_and_the_identity_comes_from_the_user_name(
    client_id: str, cid: str
) -> None:
    claim = login.parse(client_id, "dev-0001&thermostat", "00")
    assert (claim.cid, claim.client_id) == (cid, client_id)
    assert claim.address == Address("thermostat", "dev-0001")


def test_md5_without_a_timestamp_is_the_default() -> None:
    claim = login.parse("x", "dev-0001&thermostat", "")
    assert (claim.sign_method, claim.timestamp) == ("hmacmd5", None)
    password = login.sign("sec", claim.address, "x")
    assert len(password) == 32
    assert login.verify(dataclasses.replace(claim, password=password), "sec")


def test_other_options_are_not_signed_and_their_spelling_is_forgiven() -> None:
    sloppy = "pk.dn|SecureMode=3, signMethod = HMACSHA256 ,timestamp=2524608000000,_ss=1,junk,,=,lan=C|"
    assert login.verify(login.parse(sloppy, "dn&pk", VECTOR), "sec")


def test_the_node_sdk_breaks_its_client_id_over_lines() -> None:
    address = Address("thermostat", "dev-0001")
    cid = "thermostat&dev-0001_aliyun-iot-device-sdk-js"
    client_id = f"{cid}|securemode=3,\n        signmethod=hmacsha1,\n        timestamp=1700000000000|"
    password = login.sign("sec", address, cid, method="hmacsha1", timestamp="1700000000000")
    assert login.verify(login.parse(client_id, "dev-0001&thermostat", password), "sec")


@pytest.mark.parametrize("username", ["", "&", "dev-0001", "dev-0001&", "&thermostat"])
def test_a_user_name_without_both_names_is_an_error(username: str) -> None:
    with pytest.raises(login.LoginError, match="is not deviceName&productKey") as caught:
        login.parse("x|securemode=2|", username, "00")
    assert username in caught.value.reason


def test_an_unknown_sign_method_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(login.LoginError, match="hmacmd5, hmacsha1, hmacsha256"):
        login.parse("x|signmethod=none|", "dev-0001&thermostat", "")
    with pytest.raises(login.LoginError, match="hmacmd5, hmacsha1, hmacsha256"):
        login.sign("s", Address("pk", "dn"), "x", method="sha256")


@given(
    secret=st.text(min_size=1, max_size=40),
    cid=st.none() | st.text(st.characters(exclude_characters="|", codec="utf-8"), max_size=30),
    method=st.sampled_from(["hmacmd5", "hmacsha1", "hmacsha256"]),
    timestamp=st.none() | st.from_regex(r"\A[0-9]{1,16}\Z"),
)
def test_what_a_device_makes_is_accepted(
    secret: str, cid: str | None, method: str, timestamp: str | None
) -> None:
    made = login.make(Address("thermostat", "dev-0001"), secret, cid=cid, method=method, timestamp=timestamp)
    claim = login.parse(made.client_id, made.username, made.password)
    assert login.verify(claim, secret)
    assert not login.verify(claim, secret + "x")


@given(st.text(), st.text(), st.text())
def test_whatever_is_sent_is_a_claim_or_a_login_error(client_id: str, username: str, password: str) -> None:
    try:
        claim = login.parse(client_id, username, password)
    except login.LoginError:
        return
    assert not login.verify(claim, "the secret")


def test_text_that_is_no_unicode_is_a_wrong_password() -> None:
    assert not login.verify(login.parse("\ud800", "dev-0001&thermostat", "\udfff"), "sec")


def test_a_password_is_never_shown() -> None:
    made = login.make(Address("thermostat", "dev-0001"), "sec")
    assert made.password not in repr(made)
    assert made.password not in repr(login.parse(made.client_id, made.username, made.password))
