"""Which bytes of a file answer a request; several ranges are read back by the standard library's mail parser."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from reconciler.web import ranges

CONTENT = bytes(range(256)) * 4
SHA256 = "ab" * 32


def ask(wanted, **more):
    return ranges.answer(Headers({"range": wanted, **more}), SHA256, len(CONTENT))


def sent(answer):
    return b"".join(
        part if isinstance(part, bytes) else CONTENT[part.start : part.stop] for part in answer.body
    )


def parts(answer):
    """Place and content of each part, as a stranger's parser sees them."""
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + sent(answer), policy=email.policy.HTTP)
    assert message.is_multipart()
    assert not message.defects
    return [(part["Content-Range"], part.get_payload(decode=True)) for part in message.iter_parts()]


def test_several_ranges_come_as_parts_in_the_order_they_were_asked_for():
    answer = ask("bytes=10-19, 0-4,-3")
    assert answer.status == 206
    assert "Content-Range" not in answer.headers
    assert answer.length == len(sent(answer))
    assert parts(answer) == [
        ("bytes 10-19/1024", CONTENT[10:20]),
        ("bytes 0-4/1024", CONTENT[:5]),
        ("bytes 1021-1023/1024", CONTENT[-3:]),
    ]


def test_of_several_ranges_those_behind_the_end_are_left_out():
    answer = ask("bytes=5-6,5000-,2000-3000")
    assert (answer.status, answer.headers["Content-Range"], sent(answer)) == (
        206,
        "bytes 5-6/1024",
        CONTENT[5:7],
    )
    assert ask("bytes=5000-,-0").status == 416


def test_ranges_that_cost_more_than_the_file_are_answered_with_the_file():
    assert ask("bytes=" + ",".join(["0-"] * 20)).status == 200
    assert ask("bytes=" + ",".join(f"{n}-{n}" for n in range(33))).status == 200
    assert ask("bytes=" + ",".join(f"{n}-{n}" for n in range(32))).status == 206


def test_several_ranges_of_another_file_are_not_answered():
    assert ask("bytes=0-1,5-6", **{"if-range": '"other"'}).status == 200
    assert ask("bytes=0-1,5-6", **{"if-range": f'"{SHA256}"'}).status == 206


@pytest.mark.parametrize(
    "wanted", ["bytes=,", "bytes", "bytes=0-1;5-6", "bytes=0-1,x", "BYTES 0-1", "bytes==0-1"]
)
def test_what_is_no_range_is_answered_with_the_file(wanted):
    assert (ask(wanted).status, sent(ask(wanted))) == (200, CONTENT)


def test_the_unit_is_read_in_any_case_and_empty_elements_are_nothing():
    assert sent(ask("Bytes=,5-6,,")) == CONTENT[5:7]


@given(st.text("0123456789-,= bytes", max_size=40))
def test_whatever_is_asked_the_length_is_that_of_what_is_sent(wanted):
    answer = ask(wanted)
    assert answer.status in {200, 206, 416}
    assert answer.length == len(sent(answer))
