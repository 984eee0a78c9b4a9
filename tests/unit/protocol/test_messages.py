"""The payloads, byte for byte; how peculiar devices read them is in `test_traps`."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import pytest
from emulators import c_json
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.resources import base
from reconciler.protocol import messages
from reconciler.protocol.messages import (
    File,
    FirmwareGet,
    Inform,
    Malformed,
    PackageInfo,
    Progress,
    SignMethod,
)

PARSERS = [messages.parse_inform, messages.parse_progress, messages.parse_firmware_get]
FILE = File(
    name="app.bin", size=432945, source="http://ota.example/d/abc/app.bin", sha256="ab" * 32, md5="cd" * 16
)
OTHER = File(
    name="é 2.tar.gz", size=7, source="http://ota.example/d/abd/_2.tar.gz", sha256="ef" * 32, md5="01" * 16
)
PACKAGE = PackageInfo(version="2.0.0", files=(FILE,))


def with_(source: str | messages.Stream = FILE.source, **changes: object) -> PackageInfo:
    changes.setdefault("files", (dataclasses.replace(FILE, source=source),))
    return dataclasses.replace(PACKAGE, **changes)


# --- informs ---


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"id":"123","params":{"version":"1.0.1","module":"MCU"}}', Inform("1.0.1", "MCU")),
        (b'{"id":123,"params":{"version":"1.0.1"}}', Inform("1.0.1", "default")),
        (b'{"params":{"version":"1.0.1","module":""}}', Inform("1.0.1", "default")),
        (b'{"params":{"version":"1.0.1","module":null}}', Inform("1.0.1", "default")),
        (b'{"params":{"version":"1.0.1","module":"default"}}', Inform("1.0.1", "default")),
        (b'{ "id" : true, "params" : { "version" : "a_B-9.x" , "more": [1] } }', Inform("a_B-9.x")),
        (b'{"params":{"version":"1"},"params":{"version":"2"}}', Inform("2")),
        (b'{"params":{"version":"' + b"9" * 64 + b'"}}', Inform("9" * 64)),
    ],
)
def test_informs_are_read_in_every_form_that_devices_send(payload, expected):
    assert messages.parse_inform(payload) == expected


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"params":{"version":"\xff"}}', "not JSON"),
        (b'{"params":{"version":"1.0"}', "not JSON"),
        (b"[]", "an array, not an object"),
        (b"null", "missing, not an object"),
        (b"7", "a number, not an object"),
        (b"{}", "version is missing"),
        (b'{"params":null}', "version is missing"),
        (b'{"params":[]}', "params is an array"),
        (b'{"params":"1.0"}', "params is a string"),
        (b'{"params":{"version":1.1}}', "version is a number"),
        (b'{"params":{"version":""}}', "version ''"),
        (b'{"params":{"version":"1 0"}}', "version '1 0'"),
        (b'{"params":{"version":"1.0\\n"}}', "version '1.0\\n'"),
        (b'{"params":{"version":"1.0\xc3\xa9"}}', "version"),
        (b'{"params":{"version":"' + b"9" * 65 + b'"}}', "9'…"),
        (b'{"params":{"version":"1.0","module":7}}', "module is a number"),
        (b'{"params":{"version":"1.0","module":"a/b"}}', "module 'a/b'"),
        (
            b'{"params":{"version":"1.0"},"x":"' + b"x" * messages.MAX_PAYLOAD + b'"}',
            "more than 16384 bytes",
        ),
    ],
)
def test_an_inform_that_means_nothing_is_malformed_and_says_why(payload, reason):
    with pytest.raises(Malformed) as caught:
        messages.parse_inform(payload)
    assert reason in caught.value.reason
    assert len(caught.value.reason) < 150
    assert caught.value.reason.isprintable()


# --- progress ---


@pytest.mark.parametrize(
    ("step", "expected"),
    [(b"0", 0), (b'"0"', 0), (b'"-1"', -1), (b"-4", -4), (b'"100"', 100), (b"100", 100), (b'"007"', 7)],
)
def test_a_step_is_read_as_number_and_as_string(step, expected):
    payload = b'{"id":"1","params":{"step":' + step + b',"desc":"x"}}'
    assert messages.parse_progress(payload) == Progress(expected, "x")


@pytest.mark.parametrize(
    "step",
    [
        "-5",
        "101",
        '"-5"',
        '"101"',
        '""',
        '"5%"',
        '" 5"',
        '"5.0"',
        '"\u0665"',
        "5.5",
        "true",
        "null",
        "[]",
        "1e99",
    ],
)
def test_a_step_outside_of_the_protocol_is_malformed(step):
    with pytest.raises(Malformed, match="step"):
        messages.parse_progress(f'{{"params":{{"step":{step}}}}}'.encode())


def test_progress_without_params_is_malformed():
    with pytest.raises(Malformed, match="step is missing"):
        messages.parse_progress(b'{"id":1}')


def test_progress_keeps_module_and_strategy():
    payload = b'{"params":{"step":"50","desc":"","module":"MCU","strategy":"b-1"}}'
    assert messages.parse_progress(payload) == Progress(50, "", "MCU", "b-1")


@pytest.mark.parametrize("strategy", ["true", "7.5", "{}", '""', "null", '"' + "x" * 129 + '"'])
def test_a_strategy_that_is_none_of_ours_is_no_strategy(strategy):
    payload = f'{{"params":{{"step":1,"strategy":{strategy}}}}}'.encode()
    assert messages.parse_progress(payload) == Progress(1)


@pytest.mark.parametrize(
    ("desc", "expected"),
    [
        ("x" * 129, "x" * 128),
        ("é" * 500, "é" * 128),
        ("flash\u0000 failed\r\n", "flash  failed"),
        ("\u001b[31mred\u009b", "[31mred"),
        (7, ""),
        (None, ""),
        ({"a": 1}, ""),
    ],
)
def test_a_description_is_cut_and_cleaned_and_never_costs_the_report(desc, expected):
    payload = json.dumps({"params": {"step": "1", "desc": desc}}).encode()
    assert messages.parse_progress(payload) == Progress(1, expected)


# --- asking ---


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (
            b'{"id":"123","version":"1.0","params":{"module":"MCU"},"method":"thing.ota.firmware.get"}',
            FirmwareGet("123", "MCU"),
        ),
        (b'{"id":123,"params":{}}', FirmwareGet(123)),
        (b'{"id":"5"}', FirmwareGet("5")),
        (b'{"id":0,"params":{"module":"default","version":"1.0"}}', FirmwareGet(0)),
        (b"{}", FirmwareGet("")),
        (b'{"id":null}', FirmwareGet("")),
    ],
)
def test_a_device_may_ask_with_as_little_as_it_likes(payload, expected):
    assert messages.parse_firmware_get(payload) == expected


@pytest.mark.parametrize(
    "payload",
    [
        b'{"id":true}',
        b'{"id":1.5}',
        b'{"id":[1]}',
        b'{"id":"' + b"1" * 129 + b'"}',
        b'{"id":1,"params":[]}',
        b"[1]",
    ],
)
def test_a_question_that_can_not_be_answered_is_malformed(payload):
    with pytest.raises(Malformed):
        messages.parse_firmware_get(payload)


# --- any bytes ---


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "params", "version", "step", "module", "desc"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("parse", PARSERS)
@given(payload=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_in_a_parser_returns_a_value_or_says_malformed(parse, payload):
    with contextlib.suppress(Malformed):
        parse(payload)


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("depth", [10, 890, 1_000, 5_000])
def test_values_nested_as_deeply_as_they_go_are_malformed(parse, depth):
    deep = "[" * depth + "]" * depth
    for payload in (
        deep,
        f'{{"params":{deep}}}',
        f'{{"params":{{"module":{deep},"step":{deep},"version":{deep}}}}}',
    ):
        with pytest.raises(Malformed):
            parse(payload.encode())


# --- what we send ---


def test_a_push_is_written_byte_for_byte_as_devices_expect_it():
    assert messages.push(PACKAGE, 1626969597470) == (
        b'{"code":"1000","data":{"size":432945,"version":"2.0.0","url":"http://ota.example/d/abc/app.bin",'
        b'"sign":"' + b"ab" * 32 + b'","signMethod":"SHA256"},"id":1626969597470,"message":"success"}'
    )


def test_a_push_for_a_stream_has_its_fields_in_the_order_that_small_devices_scan():
    streamed = with_(source=messages.Stream(1397345), sign_method=SignMethod.MD5, module="MCU", is_delta=True)
    assert messages.push(streamed, 5).decode() == (
        f'{{"code":"1000","data":{{"size":432945,"streamId":1397345,"module":"MCU","sign":"{"cd" * 16}",'
        f'"dProtocol":"mqtt","version":"2.0.0","signMethod":"Md5","streamFileId":1,"md5":"{"cd" * 16}","isDiff":1}},'
        '"id":5,"message":"success"}'
    )


def test_a_push_with_everything_has_its_fields_in_the_documented_order():
    package = with_(
        sign_method=SignMethod.MD5, is_delta=True, module="MCU", tags={"k": "v"}, custom_info='{"notice":"é"}'
    )
    assert messages.push(package, 5).decode() == (
        '{"code":"1000","data":{"size":432945,"version":"2.0.0","isDiff":1,"url":"http://ota.example/d/abc/app.bin",'
        f'"md5":"{"cd" * 16}","sign":"{"cd" * 16}","signMethod":"Md5","module":"MCU",'
        '"extData":{"k":"v","_package_udi":"{\\"notice\\":\\"é\\"}"}},"id":5,"message":"success"}'
    )


def test_no_tag_can_have_the_name_of_a_field_that_we_send():
    package = with_(sign_method=SignMethod.MD5, is_delta=True, module="MCU", tags={"k": "v"})
    for files in ((FILE,), (dataclasses.replace(FILE, source=messages.Stream(1)),), (FILE, OTHER)):
        pushed = json.loads(messages.push(dataclasses.replace(package, files=files), 5))
        of_files = [key for file in pushed["data"].get("files", ()) for key in file]
        assert {*pushed, *pushed["data"], *of_files} <= base.PROTOCOL_KEYS


def test_several_files_come_last_in_the_order_of_the_manifest():
    package = with_(files=(FILE, OTHER), is_delta=True, module="MCU", tags={"k": "v"})
    assert messages.push(package, 5).decode() == (
        '{"code":"1000","data":{"version":"2.0.0","isDiff":1,"signMethod":"SHA256","module":"MCU","extData":{"k":"v"},'
        '"files":[{"fileSize":432945,"fileName":"app.bin","fileUrl":"http://ota.example/d/abc/app.bin",'
        f'"fileSign":"{"ab" * 32}"}},'
        '{"fileSize":7,"fileName":"é 2.tar.gz","fileUrl":"http://ota.example/d/abd/_2.tar.gz",'
        f'"fileSign":"{"ef" * 32}"}}]}},"id":5,"message":"success"}}'
    )


def test_several_files_have_their_md5_twice_where_that_is_the_method():
    data = json.loads(messages.get_reply("1", with_(files=(FILE, OTHER), sign_method=SignMethod.MD5)))["data"]
    assert [(file["fileMd5"], file["fileSign"]) for file in data["files"]] == [
        ("cd" * 16,) * 2,
        ("01" * 16,) * 2,
    ]
    assert "md5" not in data
    assert "sign" not in data


def test_a_reply_echoes_the_id_with_its_type_and_says_200_as_a_number():
    assert messages.get_reply("123", PACKAGE).startswith(b'{"id":"123","code":200,"data":{"size":432945,')
    assert messages.get_reply(123, PACKAGE).startswith(b'{"id":123,"code":200,"data":{"size":432945,')


def test_a_reply_without_a_package_has_empty_data():
    assert messages.get_reply("1", None) == b'{"id":"1","code":200,"data":{}}'


def test_an_id_can_not_break_out_of_its_string():
    reply = messages.get_reply('","data":{"url":"http://evil"},"x":"', None)
    assert json.loads(reply) == {"id": '","data":{"url":"http://evil"},"x":"', "code": 200, "data": {}}


def test_manifests_name_the_sign_methods_and_the_wire_spells_them():
    assert [SignMethod[name].value for name in ("MD5", "SHA256")] == ["Md5", "SHA256"]


@pytest.mark.parametrize("build", [lambda p: messages.push(p, 1), lambda p: messages.get_reply(7, p)])
@pytest.mark.parametrize("source", [FILE.source, messages.Stream(5)], ids=["URL", "stream"])
def test_a_signed_file_has_its_signature_before_all_that_is_not_a_scalar(build, source):
    signed = dataclasses.replace(FILE, source=source, signature="c2lnbg==")
    data = json.loads(build(PackageInfo("2.0.0", (signed,), tags={"site": "x"})))["data"]
    assert data["digestsign"] == "c2lnbg=="
    assert list(data)[-1] == "extData"
    assert c_json.value(build(PackageInfo("2.0.0", (signed,))), "digestsign") == b"c2lnbg=="
    assert b"digestsign" not in build(PackageInfo("2.0.0", (dataclasses.replace(FILE, source=source),)))


def test_each_of_several_signed_files_has_its_own_signature_and_the_package_none():
    files = tuple(dataclasses.replace(OTHER, signature=each) for each in ("b25l", "dHdv"))
    said = messages.push(PackageInfo("2.0.0", files, SignMethod.MD5), 1)
    data = json.loads(said)["data"]
    assert [file["fileDigestsign"] for file in data["files"]] == ["b25l", "dHdv"]
    assert c_json.optional(said, "digestsign") is None
    assert b"fileDigestsign" not in messages.push(PackageInfo("2.0.0", (OTHER, OTHER)), 1)
