"""Which pushes a simulated device takes: those that every SDK in the field takes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.protocol import messages
from reconciler.protocol.topics import Address
from reconciler.simulator import push
from reconciler.simulator.push import Push, Stream

DATA = {
    "size": 432945,
    "version": "2.0.0",
    "url": "http://host/f",
    "sign": "AB12",
    "signMethod": "SHA256",
}


def wire(data: object, separators: tuple[str, str] = (",", ":")) -> bytes:
    message = {"code": "1000", "data": data, "id": 1626969597470, "message": "success"}
    return json.dumps(message, separators=separators).encode()


def test_a_push_is_read():
    assert push.parse(wire(DATA)) == Push("2.0.0", "http://host/f", 432945, "sha256", "ab12")


@given(st.permutations(list(DATA)))
def test_the_order_of_keys_does_not_matter(keys):
    assert push.parse(wire({key: DATA[key] for key in keys})) == push.parse(wire(DATA))


def test_module_and_strategy_are_read():
    found = push.parse(wire({**DATA, "module": "MCU", "extData": {"strategy": "s-1"}}))
    assert found is not None
    assert (found.module, found.strategy) == ("MCU", "s-1")


@pytest.mark.parametrize("missing", DATA)
def test_without_one_of_the_five_fields_it_is_dropped(missing):
    assert push.parse(wire({key: value for key, value in DATA.items() if key != missing})) is None


@pytest.mark.parametrize("method", ["MD5", "md5", "Sha256", "sha256", "SHA1", ""])
def test_another_spelling_of_the_sign_method_is_dropped(method):
    assert push.parse(wire({**DATA, "signMethod": method})) is None


def test_md5_is_taken_in_the_spelling_of_the_wire():
    found = push.parse(wire({**DATA, "signMethod": "Md5"}))
    assert found is not None
    assert found.method == "md5"


def test_a_space_after_the_colon_hides_the_key_from_c_so_the_push_is_dropped():
    assert push.parse(wire(DATA, (", ", ": "))) is None


def test_a_tag_that_is_named_like_a_field_and_comes_first_makes_c_read_it_so_the_push_is_dropped():
    assert push.parse(wire({"extData": {"version": "9"}, **DATA})) is None
    assert push.parse(wire({**DATA, "extData": {"version": "9"}})) is not None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"data":{}}',
        b'{"data":[]}',
        wire({**DATA, "size": "432945"}),
        wire({**DATA, "size": True}),
        wire({**DATA, "version": 2}),
        wire({**DATA, "module": None}),
        wire({**DATA, "extData": []}),
    ],
)
def test_anything_else_is_dropped(payload):
    assert push.parse(payload) is None


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(payload):
    push.parse(payload)


def test_packages_come_on_two_topics():
    address = Address("pk", "dev-1")
    assert push.is_push_topic("/ota/device/upgrade/pk/dev-1", address)
    assert push.is_push_topic("/sys/pk/dev-1/thing/ota/firmware/get_reply", address)
    assert not push.is_push_topic("/ota/device/upgrade/pk/dev-2", address)


STREAM = {key: value for key, value in DATA.items() if key != "url"} | {
    "dProtocol": "mqtt",
    "streamId": 1397345,
    "streamFileId": 1,
}


def test_a_stream_stands_in_the_place_of_the_url():
    found = push.parse(wire(STREAM))
    assert found is not None
    assert found.source == Stream(1397345, 1)


@pytest.mark.parametrize("missing", ["streamId", "streamFileId"])
def test_without_all_of_its_stream_it_is_dropped_even_when_there_is_a_url(missing):
    assert push.parse(wire({**DATA, **STREAM})) is not None
    assert push.parse(wire({k: v for k, v in {**DATA, **STREAM}.items() if k != missing})) is None


@pytest.mark.parametrize("change", [{"streamId": "1"}, {"streamFileId": None}, {"dProtocol": "coap"}])
def test_a_stream_of_another_kind_is_dropped(change):
    assert push.parse(wire({**STREAM, **change})) is None


def test_a_delta_is_told_apart():
    assert push.parse(wire({**DATA, "isDiff": 1})).is_delta
    assert not push.parse(wire(DATA)).is_delta


@pytest.mark.parametrize("source", ["http://host/f", messages.Stream(41)])
@pytest.mark.parametrize("is_delta", [True, False])
@pytest.mark.parametrize("method", messages.SignMethod)
@pytest.mark.parametrize("module", ["default", "MCU"])
def test_what_the_platform_pushes_and_answers_is_taken(method, module, is_delta, source):
    package = messages.PackageInfo(
        version="2.0.0",
        source=source,
        size=3,
        sign_method=method,
        md5="ab",
        sha256="cd",
        module=module,
        is_delta=is_delta,
        tags={"site": "north \u00fc"},
        custom_info='{"a": 1}',
    )
    is_md5 = method is messages.SignMethod.MD5
    expected = Push(
        version="2.0.0",
        source=source if isinstance(source, str) else Stream(41, 1),
        size=3,
        method="md5" if is_md5 else "sha256",
        sign="ab" if is_md5 else "cd",
        module=module,
        is_delta=is_delta,
    )
    assert push.parse(messages.push(package, 1)) == expected
    assert push.parse(messages.get_reply("7", package)) == expected
    assert push.parse(messages.get_reply(7, None)) is None
