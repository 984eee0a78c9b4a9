from __future__ import annotations

import hashlib
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.diagnostics import Code
from reconciler.domain.limits import Limits
from reconciler.source import rosters
from reconciler.source.rosters import Shape
from reconciler.source.tree import FolderTree, UnreadableError

ROOT = pathlib.Path(__file__).parent


def check(content: bytes, shape: Shape = Shape.NAMES, limits: Limits | None = None):
    return rosters.check(FolderTree(ROOT, texts={"x.csv": content}), "x.csv", shape, limits or Limits())


def entries(content: bytes, shape: Shape):
    tree = FolderTree(ROOT, texts={"x.csv": content})
    return [
        (one.line, one.name, dict(one.tags)) for one in rosters.iter_entries(tree, "x.csv", shape, Limits())
    ]


def flaws(content: bytes, shape: Shape = Shape.NAMES, limits: Limits | None = None):
    checked = check(content, shape, limits)
    assert checked.ref is None
    return [(flaw.line, flaw.message) for flaw in checked.flaws]


@pytest.mark.parametrize(
    "content",
    [
        b"dev-1\ndev-2\n",
        b"name\ndev-1\ndev-2",
        b"\xef\xbb\xbfname\r\ndev-1\r\n\r\n dev-2 \r\n",
        b'"name"\n"dev-1"\ndev-2\n\n\n',
    ],
)
def test_a_list_is_one_name_a_line_with_or_without_a_header(content):
    checked = check(content)
    assert checked.flaws == ()
    assert (checked.ref.entries, checked.ref.size) == (2, len(content))
    assert checked.ref.sha256 == hashlib.sha256(content).hexdigest()
    assert [name for _, name, _ in entries(content, Shape.NAMES)] == ["dev-1", "dev-2"]


def test_an_inventory_has_a_column_for_each_tag_and_empty_cells_are_no_tags():
    content = b'name,region,floor\ndev-1,eu,1\ndev-2,"a, ""b""",\n'
    assert entries(content, Shape.TAGGED) == [
        (2, "dev-1", {"region": "eu", "floor": "1"}),
        (3, "dev-2", {"region": 'a, "b"'}),
    ]


@pytest.mark.parametrize(
    ("content", "shape", "expected"),
    [
        (b"dev-1\nx\ndev-2\na b c\n", Shape.NAMES, [(2, "`x` is not a device name"), (4, "`a b c` is not")]),
        (b"dev-1,eu\n", Shape.NAMES, [(1, "the line has 2 cells")]),
        (b"dev-1\n\xff\xff\n", Shape.NAMES, [(2, "the line is not UTF-8")]),
        (b'dev-1\n"dev-2\n', Shape.NAMES, [(2, "the quotes of this line do not pair up")]),
        (b"dev-1\ndev-2\ndev-1\n", Shape.NAMES, [(3, "`dev-1` is listed twice")]),
        (b"", Shape.NAMES, [(0, "the list names no device")]),
        (b"name\n", Shape.NAMES, [(0, "the list names no device")]),
        (b"dev-1\n", Shape.TAGGED, [(1, "the first column is `dev-1`, not `name`")]),
        (b"name;region\n", Shape.TAGGED, [(1, "the first column is `name;region`, not `name`")]),
        (b"name,a b\n", Shape.TAGGED, [(1, "column 2, `a b`, is not a tag's key")]),
        (b"name,a,a\n", Shape.TAGGED, [(1, "the column `a` is there twice")]),
        (b"name,a\ndev-1\n", Shape.TAGGED, [(2, "the line has 1 cell")]),
        (b"name,a\ndev-1," + b"x" * 1025, Shape.TAGGED, [(2, "a tag's value has more than")]),
        (b"dev-1\n" + b"x" * 70_000 + b"\ndev-2\n", Shape.NAMES, [(2, "the line is longer than")]),
    ],
)
def test_flaws_are_told_line_by_line(content, shape, expected):
    found = flaws(content, shape)
    assert [line for line, _ in found] == [line for line, _ in expected]
    assert all(said in message for (_, message), (_, said) in zip(found, expected, strict=True))


def test_a_repeated_name_names_both_lines():
    (flaw,) = check(b"name\ndev-1\ndev-2\ndev-1\ndev-1\n").flaws
    assert (flaw.code, flaw.first_line, flaw.line) == (Code.ROSTER_REPEATED, 2, 4)


def test_limits_end_the_reading():
    tight = Limits(devices_per_file=2)
    assert flaws(b"dev-1\ndev-2\ndev-3\ndev-4\n", limits=tight) == [
        (3, "a list has at most 2 devices, this has more")
    ]
    assert flaws(b"dev-1\n", limits=Limits(device_file_bytes=3))[0][1].startswith("the list has 6 bytes")


def test_many_flaws_are_counted_not_listed():
    found = flaws(b"x\n" * 1_000)
    assert len(found) == rosters.FLAWS + 1
    assert found[-1][1] == "950 more lines are malformed"


def test_a_missing_list_is_a_flaw_of_its_own():
    tree = FolderTree(ROOT)
    (flaw,) = rosters.check(tree, "none.csv", Shape.NAMES, Limits()).flaws
    assert flaw.code is Code.NO_FILE


def test_reading_a_list_that_is_not_clean_stops_at_its_flaw():
    with pytest.raises(UnreadableError, match=r"x\.csv:2: `x` is not a device name"):
        entries(b"dev-1\nx\n", Shape.NAMES)


@given(st.binary(max_size=300), st.sampled_from(Shape))
def test_any_bytes_give_a_list_or_flaws(content, shape):
    checked = check(content, shape)
    assert (checked.ref is None) == bool(checked.flaws)


@given(st.lists(st.sampled_from([f"dev-{i}" for i in range(6)]), max_size=20))
def test_repeats_are_found_wherever_they_are(names):
    found = rosters.repeats(lambda: iter([(name, place) for place, name in enumerate(names)]), 100)
    expected = {name for name in names if names.count(name) > 1}
    assert {name for name, _, _ in found} == expected
    for name, first, second in found:
        places = [place for place, other in enumerate(names) if other == name]
        assert [first, second] == places[:2]
