"""Block download: questions as real devices spell them, and answers read by an independent reader."""

from __future__ import annotations

import contextlib
import json
import time

import block_reader
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.protocol import blocks
from reconciler.protocol.blocks import Request
from reconciler.protocol.messages import MAX_PAYLOAD, Malformed

OF_C_SDK = (
    b'{"id":"1","version":"1.0","params":{"fileToken":"default","fileInfo":{"streamId":1397345,"fileId":1,},'
    b'"fileBlock":{"size":5120,"offset":0}}}'
)
PLAIN = {"fileInfo": {"streamId": 7, "fileId": 1}, "fileBlock": {"size": 256, "offset": 512}}


def question(**changes: object) -> bytes:
    return json.dumps({"id": "1", "params": PLAIN | changes}).encode()


def test_the_question_of_the_c_sdk_is_read_although_it_is_no_json():
    with pytest.raises(json.JSONDecodeError):
        json.loads(OF_C_SDK)
    assert blocks.parse_request(OF_C_SDK) == Request("1", 1397345, 1, 5120, 0, "default")


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (question(), Request("1", 7, 1, 256, 512)),
        (
            b'{"params":{"fileInfo":{"streamId":"7","fileId":"1"},"fileBlock":{"size":"256","offset":"-3"}}}',
            Request("", 7, 1, 256, -3),
        ),
        (
            b'{"id":9,"params":{"fileInfo":{"streamId":7,"fileId":1 , },"fileBlock":{"size":0,"offset":1,},\n},}',
            Request(9, 7, 1, 0, 1),
        ),
        (question(fileToken="a,}b\\\\"), Request("1", 7, 1, 256, 512, "a,}b\\\\")),
        (question(fileToken=',]"'), Request("1", 7, 1, 256, 512, ',]"')),
    ],
)
def test_every_spelling_that_devices_use_is_read(payload, expected):
    assert blocks.parse_request(payload) == expected


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not JSON"),
        (b'{"params":{,,}}', "not JSON"),
        (b'{"params":{"fileInfo":{"streamId":7,,"fileId":1}}}', "not JSON"),
        (b"[1,]", "an array, not an object"),
        (b"{}", "streamId is missing"),
        (b'{"params":[]}', "params is an array"),
        (question(fileInfo=3), "fileInfo is a number"),
        (question(fileInfo={"streamId": 7}), "fileId is missing"),
        (question(fileInfo={"streamId": True, "fileId": 1}), "streamId is not a whole number"),
        (question(fileInfo={"streamId": 7.5, "fileId": 1}), "streamId is not a whole number"),
        (question(fileInfo={"streamId": "seven", "fileId": 1}), "streamId is not a whole number"),
        (question(fileInfo={"streamId": 2**53, "fileId": 1}), "streamId is not a whole number"),
        (question(fileInfo={"streamId": "9" * 19, "fileId": 1}), "streamId is not a whole number"),
        (question(fileBlock={"size": 1}), "offset is missing"),
        (question(fileToken=5), "fileToken is no string"),
        (question(fileToken="t" * 129), "fileToken is no string of at most 128"),
        (b'{"id":true}', "id is true or false"),
        (b"{" + b" " * MAX_PAYLOAD + b"}", "more than"),
    ],
)
def test_what_asks_for_nothing_is_malformed_and_says_why(payload, reason):
    with pytest.raises(Malformed, match=reason):
        blocks.parse_request(payload)


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_no_bytes_do_anything_but_be_read_or_be_malformed(payload):
    with contextlib.suppress(Malformed):
        blocks.parse_request(payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(',]}"\\ a'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(',]}"\\ a'), inner),
)


@given(json_values)
def test_taking_commas_away_changes_no_valid_text(value):
    for text in (json.dumps(value), json.dumps(value, indent=1)):
        assert json.loads(blocks._STRING_OR_TRAILING.sub(rb"\1", text.encode())) == value


@pytest.mark.parametrize("evil", [b'\\"', b'"', b", ", b'",\\', b"{,"])
def test_no_text_takes_long(evil):
    began = time.process_time()
    with pytest.raises(Malformed):
        blocks.parse_request((b'{"a":"' + evil * MAX_PAYLOAD)[:MAX_PAYLOAD])
    assert time.process_time() - began < 1


identifiers = st.integers(0, 2**53) | st.text("abc123-", max_size=128)
tokens = st.none() | st.text("abc123-", max_size=128)


@given(st.binary(max_size=5000), identifiers, tokens, st.integers(0, 10**9))
@example(b"", "", None, 0)
@example(b"\0" * 4096, 1, "default", 0)
def test_a_device_reads_back_what_was_said(content, id_, token, offset):
    request = Request(id_, 7, 1, len(content), offset, token)
    read = block_reader.read(blocks.reply(request, offset + len(content), content))
    assert (read.code, read.message) == (200, "success")
    assert (json.loads(read.id), read.token) == (id_, token)
    assert (read.offset, read.file_length, read.content) == (offset, offset + len(content), content)


def test_a_reply_is_these_bytes():
    request = Request("1", 1397345, 1, 9, 0)
    head = b'{"code":200,"data":{"bOffset":0,"fileLength":5092,"bSize":9},"id":"1","message":"success"}'
    expected = bytes([0, len(head)]) + head + b"123456789" + b"\x3d\xbb"
    assert blocks.reply(request, 5092, b"123456789") == expected


def test_an_error_carries_no_bytes_and_echoes_what_was_asked():
    reply = blocks.error(Request(5, 7, 1, 256, -4, "t"), 404, "no such stream")
    read = block_reader.read(reply)
    assert read == block_reader.Block(404, "5", "no such stream", -4, 0, "t", b"")
    assert reply.endswith(b"\0\0")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 255, 256, 257, 5120, 65537, blocks.MAX_BLOCK])
def test_the_checksum_is_that_of_the_definition_at_every_size(size):
    content = bytes((i * 7 + i // 251) & 0xFF for i in range(size))
    assert blocks.crc16(content) == block_reader.checksum(content).to_bytes(2, "little")


@given(st.binary(max_size=600))
def test_the_checksum_is_that_of_the_definition(content):
    assert blocks.crc16(content) == block_reader.checksum(content).to_bytes(2, "little")
