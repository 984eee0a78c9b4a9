"""What SagooIOT devices are told, byte by byte, and what of what they say over HTTP is understood."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.protocol import messages, sagoo
from reconciler.protocol.messages import File, Malformed, PackageInfo, SignMethod
from reconciler.protocol.sagoo import Offered, Question

FILE = File(name="app.bin", size=432945, source="http://x/d/t/app.bin", sha256="ab" * 32, md5="cd" * 16)
PACKAGE = PackageInfo(version="2.0.0", files=(FILE,))
MD5 = dataclasses.replace(PACKAGE, sign_method=SignMethod.MD5)
RICH = dataclasses.replace(
    PACKAGE, module="MCU", is_delta=True, tags={"site": "berlin"}, custom_info='{"notice":"x"}'
)


# --- topics ---


def test_a_push_has_the_code_of_sagoo_and_the_number_of_the_batch():
    assert sagoo.push(Offered(PACKAGE, 25), 1626969597470).decode() == (
        '{"code":"200","data":{"size":432945,"version":"2.0.0","url":"http://x/d/t/app.bin",'
        f'"sign":"{FILE.sha256}","signMethod":"SHA256","extData":{{"strategy":25}}}},'
        '"id":1626969597470,"message":"success"}'
    )


def test_the_number_of_the_batch_stands_before_tags_and_custom_info():
    data = json.loads(sagoo.push(Offered(RICH, 7), 5))["data"]
    assert list(data) == ["size", "version", "isDiff", "url", "sign", "signMethod", "module", "extData"]
    assert list(data["extData"].items()) == [
        ("strategy", 7),
        ("site", "berlin"),
        ("_package_udi", '{"notice":"x"}'),
    ]


@pytest.mark.parametrize(
    ("offered", "called"),
    [
        (Offered(MD5, 1), "Md5"),
        (Offered(MD5, 1, md5_name="MD5"), "MD5"),
        (Offered(PACKAGE, 1, md5_name="MD5"), "SHA256"),
    ],
)
def test_md5_is_called_what_the_product_says(offered, called):
    for payload in (sagoo.push(offered, 1), sagoo.get_reply(1, offered)):
        data = json.loads(payload)["data"]
        assert data["signMethod"] == called
        assert data["sign"] == (FILE.sha256 if called == "SHA256" else FILE.md5)


def test_a_question_is_answered_with_its_id_and_the_same_code():
    assert sagoo.get_reply("123", Offered(PACKAGE, 25)).startswith(
        b'{"id":"123","code":"200","data":{"size":432945,"version":"2.0.0",'
    )
    assert sagoo.get_reply(7, None) == b'{"id":7,"code":"200","data":{}}'


@pytest.mark.parametrize("echo", ['"25"', "25"])
def test_the_number_of_the_batch_is_understood_as_a_text_and_as_a_number(echo):
    said = messages.parse_progress(b'{"id":"1","params":{"step":"50","strategy":%s}}' % echo.encode())
    assert said.strategy == "25"
    assert sagoo.run_of(said.strategy) == 25


@pytest.mark.parametrize("echo", ["true", "null", "[]", '""', "2.5"])
def test_anything_else_is_no_number_of_a_batch(echo):
    said = messages.parse_progress(b'{"id":"1","params":{"step":"50","strategy":%s}}' % echo.encode())
    assert sagoo.run_of(said.strategy) is None


@pytest.mark.parametrize("strategy", [None, "x", "-1", "1.5", "9" * 19, "٣"])
def test_a_batch_that_there_cannot_be_is_none(strategy):
    assert sagoo.run_of(strategy) is None


# --- HTTP ---


def test_over_http_a_package_looks_as_sagoo_has_it():
    assert json.loads(sagoo.ota_info(Offered(MD5, 25, md5_name="MD5"))) == {
        "code": 0,
        "message": "",
        "data": {
            "size": 432945,
            "version": "2.0.0",
            "url": "http://x/d/t/app.bin",
            "sign": FILE.md5,
            "signMethod": "md5",
            "module": "default",
            "extData": {"strategy": 25},
        },
    }
    data = json.loads(sagoo.ota_info(Offered(RICH, 7)))["data"]
    assert (data["isDiff"], data["module"], data["signMethod"]) == (1, "MCU", "sha256")
    assert data["extData"] == {"strategy": 7, "site": "berlin", "_package_udi": '{"notice":"x"}'}


def test_over_http_there_may_be_nothing_to_do():
    assert sagoo.ota_info(None) == b'{"code":0,"message":"","data":{}}'


def test_a_report_is_accepted_and_what_cannot_be_answered_says_why():
    assert sagoo.accepted() == b'{"code":0,"message":""}'
    assert sagoo.refusal(404, "no such device") == b'{"code":404,"message":"no such device"}'


def test_a_question_says_who_asks_for_what():
    asked = {"deviceKey": "dev-1", "version": "1.0.0", "module": "MCU", "productKey": "lampkey", "ak": "x"}
    assert sagoo.parse_question(asked) == Question("dev-1", "1.0.0", "MCU", "lampkey")
    assert sagoo.parse_question({"deviceKey": "dev-1", "version": "", "module": ""}) == Question("dev-1")


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({}, "deviceKey is not a device's name"),
        ({"deviceKey": "a/b"}, "deviceKey is not a device's name"),
        ({"deviceKey": "dev-1", "version": "1.0"}, "version is not x.y.z in digits"),
        ({"deviceKey": "dev-1", "module": "a b"}, "module 'a b' is not"),
        ({"deviceKey": "dev-1", "productKey": "a/b"}, "productKey is not a product's key"),
    ],
)
def test_a_question_that_means_nothing_says_what_is_wrong(query, why):
    with pytest.raises(Malformed, match=why):
        sagoo.parse_question(query)


@pytest.mark.parametrize("step", ['"-1"', "-1"])
def test_a_report_says_who_got_how_far_with_which_batch(step):
    body = b'{"params":{"deviceKey":"dev-1","step":%s,"strategy":"25"}}' % step.encode()
    report = sagoo.parse_report(body)
    assert report == sagoo.Report("dev-1", messages.Progress(-1, strategy="25"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"params":[]}',
        b'{"params":{"step":"1"}}',
        b'{"params":{"deviceKey":"dev-1"}}',
        b'{"params":{"deviceKey":7,"step":"1"}}',
        b'{"params":{"deviceKey":"dev-1","step":"101"}}',
        b'{"params":{"deviceKey":"dev-1","step":"1","productKey":7}}',
        b" " * 20_000,
    ],
)
def test_a_report_that_means_nothing_is_refused(body):
    with pytest.raises(Malformed):
        sagoo.parse_report(body)


@given(st.binary(max_size=200))
def test_whatever_comes_a_report_is_a_value_or_malformed(body):
    with contextlib.suppress(Malformed):
        assert sagoo.parse_report(body).device


def test_what_is_said_over_http_is_what_is_said_on_the_topics():
    assert messages.parse_inform(sagoo.inform_payload("1.0.0", "MCU")) == messages.Inform("1.0.0", "MCU")
    asked = messages.parse_firmware_get(sagoo.firmware_get_payload("MCU"))
    assert asked == messages.FirmwareGet("", "MCU")
    for said in (messages.Progress(50, "so far", "MCU", "25"), messages.Progress(-4)):
        assert messages.parse_progress(sagoo.progress_payload(said, said.module)) == said


# --- signatures ---


def signed(**changes: str) -> dict[str, str]:
    sign = hmac.new(b"secret", b"ak=access&time=1640494526", hashlib.sha256).hexdigest()
    return {"deviceKey": "dev-1", "ak": "access", "time": "1640494526", "sign": sign, "appId": "a"} | changes


def test_a_signed_request_is_known():
    assert sagoo.is_signed(signed(), "access", "secret")
    assert sagoo.is_signed(signed(sign=signed()["sign"].upper()), "access", "secret")


@pytest.mark.parametrize(
    "query", [{}, signed(ak="other"), signed(time="1"), signed(sign="00"), signed(sign=""), signed(sign="é")]
)
def test_a_request_that_is_not_signed_with_the_keys_is_not(query):
    assert not sagoo.is_signed(query, "access", "secret")
