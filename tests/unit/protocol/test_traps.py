"""What we send, read by devices as peculiar as the real ones: each trap of device protocol §1 by its number."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
from emulators import c_blocks, c_json, c_push, c_scanf, c_url, python_sdk
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.domain.resources import base
from reconciler.protocol import blocks, messages, sagoo, urls
from reconciler.protocol.messages import File, PackageInfo, SignMethod, Stream

CONTENT = b"firmware"
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()
NOW = 1_900_000_000
LONGEST_BASE = "https://" + "h" * (urls.MAX_BASE_LENGTH - 8)
WIRE = {"MD5": "Md5", "SHA256": "SHA256"}


def url(base="http://ota.example", name="app.bin"):
    return urls.download_url(base, urls.sign(b"key", 7, 42, NOW), name)


def file(number=0, source=None, name=None, signature=None):
    return File(name or f"part {number}.bin", 100 + number, source or url(), SHA256, MD5, signature)


def plain(text):
    """What a manifest may say in a tag or as custom info: see `PackageSpec.custom_info` and `resources.tags`."""
    return base.is_balanced(text) and text.rpartition('"')[2] not in base.PROTOCOL_KEYS


names = st.text(
    st.characters(exclude_characters='/\\"{}[]', exclude_categories=["Cc", "Cs"]), min_size=1, max_size=32
).filter(lambda name: name not in base.PROTOCOL_KEYS)
anything = st.text(st.sampled_from('{}[]":,\\ aé') | st.characters(exclude_categories=["Cs"]), max_size=30)
texts = st.one_of(
    anything,
    st.sampled_from(
        ['{"url":"http://evil","files":[{"fileUrl":"x"}]}', '"files":[', 'a "version"', "files:"]
    ),
).filter(plain)
tags = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9.]{1,30}", fullmatch=True).filter(lambda key: key not in base.PROTOCOL_KEYS),
    texts,
    max_size=3,
)
signatures = st.none() | st.just("ab+/" * 85 + "abc=")
several = st.lists(names, min_size=2, max_size=20, unique=True)
packages = st.builds(
    PackageInfo,
    version=st.sampled_from(["2.0.0", "9" * 64]),
    files=st.one_of(
        st.builds(lambda signature: (file(signature=signature),), signatures),
        st.builds(lambda signature: (file(source=Stream(1397345), signature=signature),), signatures),
        st.builds(
            lambda found, signature: tuple(file(i, None, name, signature) for i, name in enumerate(found)),
            several,
            signatures,
        ),
    ),
    sign_method=st.sampled_from(SignMethod),
    module=st.sampled_from(["default", "MCU"]),
    is_delta=st.booleans(),
    tags=tags,
    custom_info=st.none() | texts,
)


def signature_of(package):
    """What a device finds as the signature of a package of one file."""
    signature = package.files[0].signature if len(package.files) == 1 else None
    return signature and signature.encode()


def sent(package):
    return [
        messages.push(package, 1626969597470),
        messages.get_reply("7", package),
        messages.get_reply(7, package),
    ]


# --- traps 2 to 6: messages in the hands of the C SDK ---


@given(package=packages)
@example(PackageInfo("1", (file(0), file(1)), tags={"k": "{}"}, custom_info='{"fileUrl":{"a":"{}"}}'))
@example(PackageInfo("1", (file(0, name="files."), file(1, name=" url")), tags={"k": "files "}))
def test_traps_2_to_6_the_c_sdk_reads_of_each_push_just_what_we_mean(package):
    for payload in sent(package):
        found = c_push.read(payload)
        assert len(found) == len(package.files)
        for wanted, meant in zip(found, package.files, strict=True):
            is_md5 = package.sign_method is SignMethod.MD5
            assert wanted.version == package.version.encode()
            assert wanted.method == WIRE[package.sign_method.name].encode()
            assert wanted.size == meant.size
            assert wanted.digest == (meant.md5 if is_md5 else meant.sha256).encode()
            assert wanted.module == (None if package.module == "default" else package.module.encode())
            if isinstance(meant.source, Stream):
                assert wanted.source == c_push.Stream(meant.source.id, meant.source.file_id)
            else:
                assert wanted.source == meant.source.encode()
            if len(package.files) > 1:
                assert wanted.name == json.dumps(meant.name, ensure_ascii=False)[1:-1].encode()
        data = c_json.value(payload, "data")
        told = json.loads(payload)["data"]
        assert json.loads(data) == told
        assert found[0].extra == c_json.optional(data, "extData")
        assert found[0].extra is None or json.loads(found[0].extra) == told["extData"]
        for key, text in (
            ("isDiff", b"1" if package.is_delta else None),
            ("digestsign", signature_of(package)),
        ):
            assert c_json.optional(data, key) == text


@given(
    package=packages.filter(
        lambda package: isinstance(package.files[0].source, str) and len(package.files) == 1
    )
)
def test_traps_2_to_4_a_sagooiot_device_with_the_c_sdk_reads_its_push_and_finds_its_batch(package):
    offered = sagoo.Offered(package, 4711)
    for payload in (sagoo.push(offered, 1626969597470), sagoo.get_reply("7", offered)):
        (wanted,) = c_push.read(payload)
        assert wanted.source == package.files[0].source.encode()
        assert wanted.method == WIRE[package.sign_method.name].encode()
        assert c_json.number(wanted.extra or b"", "strategy") == 4711


@pytest.mark.parametrize("request_id", ["123", 123, ""])
def test_nothing_to_do_is_nothing_to_the_c_sdk(request_id):
    assert c_push.read(messages.get_reply(request_id, None)) == []


ONE = json.loads(messages.push(PackageInfo("2.0.0", (file(),), SignMethod.MD5, "MCU", tags={"k": "v"}), 1))
TWO = json.loads(messages.push(PackageInfo("2.0.0", (file(0), file(1)), tags={"k": "v"}), 1))
STREAMED = json.loads(messages.push(PackageInfo("2.0.0", (file(source=Stream(5)),)), 1))
STREAMED_MD5 = json.loads(messages.push(PackageInfo("1", (file(source=Stream(5)),), SignMethod.MD5), 1))
NAMED = {**TWO, "data": {**TWO["data"], "module": "files"}}
TAGGED = {**ONE, "data": {**ONE["data"], "extData": {"k": "url"}}}


def written(message, **data):
    """The message with other data, as compact as ours."""
    changed = {key: value for key, value in {**message["data"], **data}.items() if value is not None}
    return json.dumps({**message, "data": changed}, separators=(",", ":")).encode()


def first(message, *keys):
    """The message with these fields of its data at the front."""
    data = {key: message["data"][key] for key in keys} | message["data"]
    return json.dumps({**message, "data": data}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("trap", "payload"),
    [
        ("2 a digest in capitals", written(ONE, signMethod="MD5")),
        ("2 a digest in small letters", written(ONE, signMethod="sha256")),
        ("3 spaces", json.dumps(ONE).encode()),
        ("4 a tag before the scalars", first(TAGGED, "extData")),
        ("4 braces that nobody closes", written(ONE, extData={"k": "{{"})),
        ("4 a tag like a field", written(TWO, extData={"k": "files"})),
        ("4 a version like a field", written(ONE, version="url")),
        ("4 a module like a field", first(NAMED, "module")),
        ("5 one entry in files", written(TWO, files=TWO["data"]["files"][:1])),
        ("5 no entry in files", written(ONE, files=[])),
        ("6 a protocol without a stream", written(ONE, dProtocol="https")),
        ("6 a stream without a number of the file", written(STREAMED, streamFileId=None)),
    ],
)
def test_the_emulated_sdk_falls_into_the_traps(trap, payload):
    with pytest.raises(c_push.Dropped):
        c_push.read(payload)


def test_trap_4_a_field_is_taken_from_an_inner_object_that_comes_first():
    inner = {**ONE, "data": {**ONE["data"], "extData": {"version": "evil"}}}
    assert c_push.read(first(inner, "extData"))[0].version == b"evil"
    assert c_push.read(written(inner))[0].version == b"2.0.0"


def test_trap_5_what_comes_behind_files_is_counted_among_them():
    assert len(c_push.read(written(TWO))) == 2
    with pytest.raises(c_push.Dropped):
        c_push.read(first(TWO, "files"))


def test_the_emulated_reader_finds_what_the_sdk_finds():
    assert c_json.value(b'{"x":{"url":"a"},"url":"b"}', "url") == b"a"
    assert c_json.value(b'{"data":{"x":"{"},"id":1},"y":{}}', "data") == b'{"x":"{"},"id":1}'
    assert c_json.value(b'{"a":"x\\"y"}', "a") == b"x\\"
    for text in (
        b'{"url": "b"}'[:7],
        b'{"tag":"url","url":"b"}',
        b'{"Url":"b"}',
        b'{"url" :"b"}',
        b'{"url":"b',
    ):
        with pytest.raises(c_json.NotFound):
            c_json.value(text, "url")


# --- traps 2 and 12: messages in the hands of the Python SDK ---


@pytest.mark.parametrize("method", SignMethod)
def test_traps_2_and_12_the_python_sdk_takes_a_push_and_checks_its_file(method):
    package = PackageInfo("2.0.0", (dataclasses.replace(file(), size=len(CONTENT)),), method)
    for payload in sent(package):
        python_sdk.check(python_sdk.read(payload), CONTENT)


def test_the_emulated_python_sdk_falls_into_its_traps():
    for missing in python_sdk.NEEDED:
        with pytest.raises(python_sdk.Ignored):
            python_sdk.read(written(ONE, **{missing: None}))
    with pytest.raises(python_sdk.Broken, match="no digest is called MD5"):
        python_sdk.check(python_sdk.read(written(ONE, signMethod="MD5")), CONTENT)


# --- and in the hands of a microcontroller ---


@pytest.mark.parametrize("module", ["default", "GATEWAY"])
def test_a_push_for_a_stream_is_one_that_small_devices_can_scan(module):
    streamed = file(source=Stream(1397345))
    package = PackageInfo("1.10", (streamed,), SignMethod.MD5, module, tags={"k": "v"})
    assert c_scanf.read(messages.push(package, 1)) == (streamed.size, 1397345, "1.10")


@pytest.mark.parametrize("early", ["version", "dProtocol", "signMethod", "sign"])
def test_the_emulated_scan_ends_at_the_first_field_in_another_place(early):
    with pytest.raises(c_scanf.NotScanned):
        c_scanf.read(first(STREAMED_MD5, early))


# --- trap 8: URLs ---


@given(base_=st.sampled_from(["http://ota.example", "https://ota.example/a/b", LONGEST_BASE]), name=st.text())
def test_trap_8_every_url_fits_into_the_buffers_of_every_sdk(base_, name):
    made = url(base_, name)
    for sdk in c_url.Sdk:
        target = c_url.split(made, sdk)
        assert target.port == (443 if made.startswith("https") else 80)
        assert made.endswith(target.host + target.path)


def test_trap_8_a_port_is_understood_by_the_newest_sdk_alone():
    made = url("http://ota.example:8080")
    assert c_url.split(made, c_url.Sdk.C42)[:2] == ("ota.example", 8080)
    for sdk in (c_url.Sdk.C3, c_url.Sdk.C41):
        with pytest.raises(c_url.Unusable, match=r"no host is called ota\.example:8080"):
            c_url.split(made, sdk)


@pytest.mark.parametrize(
    "made",
    [url() + "x" * 256, f"http://{'h' * 256}/d/x", "http://ota.example", "ota.example/d/x", url() + " "],
)
def test_the_emulated_buffers_are_small(made):
    with pytest.raises(c_url.Unusable):
        c_url.split(made, c_url.Sdk.C41)


# --- traps 9 and 10: blocks, asked for by the C SDK ---


def served(device, content):
    """Our answer to the device's next question."""
    request = blocks.parse_request(device.question())
    return blocks.reply(request, len(content), content[request.offset :][: request.size])


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 1000])
def test_traps_9_and_10_the_c_sdk_gets_a_whole_file_in_blocks(size):
    content = bytes((7 * i + i // 251) & 0xFF for i in range(size))
    device = c_blocks.Download(c_push.Stream(1397345, 1), size, 256)
    while not device.is_done:
        device.take(served(device, content))
    assert device.content == content


def test_a_block_that_comes_twice_or_too_early_does_no_harm():
    content = bytes(range(200))
    device = c_blocks.Download(c_push.Stream(1, 1), 200, 100)
    reply = served(device, content)
    for _ in range(3):
        device.take(reply)
    device.take(served(device, content))
    assert device.content == content


def test_an_answer_without_a_block_is_none_to_the_c_sdk():
    device = c_blocks.Download(c_push.Stream(1, 1), 200, 100)
    with pytest.raises(c_blocks.AsksAgain, match="code 404"):
        device.take(blocks.error(blocks.parse_request(device.question()), 404, "no such stream"))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda reply: reply[:-1] + bytes([reply[-1] ^ 1]), "checksum"),
        (lambda reply: reply[:-2] + reply[:-3:-1], "checksum"),
        (lambda reply: reply[:-3] + bytes([reply[-3] ^ 1]) + reply[-2:], "checksum"),
        (lambda reply: reply[:-3] + reply[-2:], "99 bytes, not 100"),
        (lambda reply: reply.replace(b'"bSize":', b'"bsize":'), "bSize"),
        (lambda reply: reply[1::-1] + reply[2:], "0 bytes, not 100"),
        (lambda reply: reply[:2] + reply[2:].replace(b":", b": ", 1), "code"),
    ],
    ids=["crc", "crc high byte first", "content", "short", "other key", "length low byte first", "space"],
)
def test_the_emulated_block_reader_notices(damage, why):
    content = bytes(range(1, 101))
    device = c_blocks.Download(c_push.Stream(1, 1), 100, 100)
    with pytest.raises(c_blocks.AsksAgain, match=why):
        device.take(damage(served(device, content)))
