"""Which pushes a simulated device takes: those that every SDK in the field takes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.protocol import messages
from reconciler.protocol.topics import Address
from reconciler.simulator import push
from reconciler.simulator.push import File, Push, Stream

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
    assert push.parse(wire(DATA)) == Push("2.0.0", (File("http://host/f", 432945, "sha256", "ab12"),))


@given(st.permutations(list(DATA)))
def test_the_order_of_keys_does_not_matter(keys):
    assert push.parse(wire({key: DATA[key] for key in keys})) == push.parse(wire(DATA))


def test_module_and_strategy_are_read():
    found = push.parse(wire({**DATA, "module": "MCU", "extData": {"strategy": "s-1"}}))
    assert found is not None
    assert (found.module, found.strategy) == ("MCU", "s-1")


def test_the_number_of_a_batch_is_echoed_as_a_text():
    found = push.parse(wire({**DATA, "extData": {"strategy": 25}}))
    assert found is not None
    assert found.strategy == "25"


def test_a_sagoo_device_takes_md5_in_either_spelling():
    for spelled in ("MD5", "Md5"):
        found = push.parse(wire({**DATA, "signMethod": spelled, "extData": {"strategy": 25}}))
        assert found is not None
        assert found.files[0].method == "md5"


@pytest.mark.parametrize("missing", DATA)
def test_without_one_of_the_five_fields_it_is_dropped(missing):
    assert push.parse(wire({key: value for key, value in DATA.items() if key != missing})) is None


@pytest.mark.parametrize("method", ["MD5", "md5", "Sha256", "sha256", "SHA1", ""])
def test_another_spelling_of_the_sign_method_is_dropped(method):
    assert push.parse(wire({**DATA, "signMethod": method})) is None


def test_md5_is_taken_in_the_spelling_of_the_wire():
    found = push.parse(wire({**DATA, "signMethod": "Md5"}))
    assert found is not None
    assert found.files[0].method == "md5"


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
    assert found.files[0].source == Stream(1397345, 1)


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
        files=(messages.File("a.bin", 3, source, "cd", "ab"),),
        sign_method=method,
        module=module,
        is_delta=is_delta,
        tags={"site": "north \u00fc"},
        custom_info='{"a": 1}',
    )
    is_md5 = method is messages.SignMethod.MD5
    expected_source = source if isinstance(source, str) else Stream(41, 1)
    expected = Push(
        version="2.0.0",
        files=(
            File(expected_source, 3, "md5", "ab") if is_md5 else File(expected_source, 3, "sha256", "cd"),
        ),
        module=module,
        is_delta=is_delta,
    )
    assert push.parse(messages.push(package, 1)) == expected
    assert push.parse(messages.get_reply("7", package)) == expected
    assert push.parse(messages.get_reply(7, None)) is None


ONE = {"fileSize": 3, "fileName": "a.bin", "fileUrl": "http://host/a", "fileSign": "AB12"}
OTHER = {"fileSize": 4, "fileName": "b.bin", "fileUrl": "http://host/b", "fileSign": "cd34"}
SEVERAL = {
    "version": "2.0.0",
    "signMethod": "SHA256",
    "module": "MCU",
    "extData": {"site": "x"},
    "files": [ONE, OTHER],
}


def test_several_files_are_read_in_their_order():
    found = push.parse(wire(SEVERAL))
    assert found is not None
    assert (found.version, found.module) == ("2.0.0", "MCU")
    assert found.files == (
        File("http://host/a", 3, "sha256", "ab12"),
        File("http://host/b", 4, "sha256", "cd34"),
    )


@pytest.mark.parametrize("missing", ONE)
def test_when_one_of_several_files_lacks_a_field_all_are_dropped(missing):
    lacking = {key: value for key, value in OTHER.items() if key != missing}
    assert push.parse(wire({**SEVERAL, "files": [ONE, lacking]})) is None


@pytest.mark.parametrize("count", [0, 1, 21])
def test_an_array_of_one_file_or_of_too_many_is_dropped(count):
    assert push.parse(wire({**SEVERAL, "files": [ONE] * 20})) is not None
    assert push.parse(wire({**SEVERAL, "files": [ONE] * count})) is None


@pytest.mark.parametrize(
    "change",
    [
        {"fileName": "a{.bin"},
        {"fileName": "a}.bin"},
        {"fileName": ""},
        {"fileUrl": 1},
        {"fileSize": "3"},
        {"fileSign": None},
    ],
)
def test_several_files_that_c_takes_for_others_are_dropped(change):
    assert push.parse(wire({**SEVERAL, "files": [ONE, {**OTHER, **change}]})) is None


@pytest.mark.parametrize("files", [None, 2, "files", [1, 2], {}, [[], []]])
def test_files_of_another_type_are_dropped(files):
    assert push.parse(wire({**SEVERAL, "files": files})) is None


def test_c_miscounts_files_with_an_object_behind_them_so_they_are_dropped():
    files_first = {key: SEVERAL[key] for key in ("version", "signMethod", "files", "extData")}
    assert push.parse(wire(files_first)) is None
    assert push.parse(wire({**files_first, "extData": {"site": "x"}}, (", ", ": "))) is None


def test_several_files_come_by_http_only():
    assert push.parse(wire({**SEVERAL, "dProtocol": "mqtt", "streamId": 1, "streamFileId": 1})) is None


@pytest.mark.parametrize("method", messages.SignMethod)
@pytest.mark.parametrize("count", [2, 20])
def test_several_files_that_the_platform_pushes_and_answers_are_taken(method, count):
    files = tuple(
        messages.File(
            f"part \u00e9-{number}.bin", number + 1, f"http://host/d/{number}", f"cd{number}", f"ab{number}"
        )
        for number in range(count)
    )
    package = messages.PackageInfo(
        "2.0.0", files, method, "MCU", is_delta=True, tags={"site": "north"}, custom_info='{"a":{"url":[1]}}'
    )
    is_md5 = method is messages.SignMethod.MD5
    expected = tuple(
        File(str(file.source), file.size, "md5", file.md5)
        if is_md5
        else File(str(file.source), file.size, "sha256", file.sha256)
        for file in files
    )
    for payload in (messages.push(package, 1), messages.get_reply("7", package)):
        found = push.parse(payload)
        assert found == Push("2.0.0", expected, "MCU", is_delta=True)
