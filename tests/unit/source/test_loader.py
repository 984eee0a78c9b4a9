from __future__ import annotations

import math
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.domain.diagnostics import Code
from reconciler.source import documents, loader, quick
from reconciler.source.documents import named


def data(text: str):
    parsed = loader.load(text.encode())
    assert parsed.problems == ()
    (found,) = parsed.documents
    assert found.problems == ()
    return found.data


def problem(text: str | bytes):
    parsed = loader.load(text.encode() if isinstance(text, str) else text)
    (found,) = parsed.problems or parsed.documents[0].problems
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.10", 1.1),
        ("1.4.0", "1.4.0"),
        ("'1.10'", "1.10"),
        ("yes", "yes"),
        ("on", "on"),
        ("True", True),
        ("~", None),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("-3", -3),
        ("+.5e3", 500.0),
        (".inf", math.inf),
        ("1_000", "1_000"),
        ("0b1", "0b1"),
        ("2026-12-01T02:00:00+01:00", "2026-12-01T02:00:00+01:00"),
        ("12:30", "12:30"),
        ("9" * 5000, "9" * 5000),
        ("[a, {b: c}]", ["a", {"b": "c"}]),
        ("|\n  x\n  y", "x\ny\n"),
    ],
)
def test_values_are_typed_as_yaml_1_2_says(text, value):
    assert data(f"key: {text}\n") == {"key": value}


def test_every_value_has_its_line_and_columns_and_its_spelling():
    (document,) = loader.load(b"a: 1\nb:\n  - x: 1.10\n    y: 'q'\n").documents
    node, exact = document.find(("b", 0, "x"))
    assert exact
    assert (node.spot.line, node.spot.column, node.spot.end_column, node.text) == (3, 8, 12, "1.10")
    assert (node.key.line, node.key.column) == (3, 5)
    assert document.find(("b", 0, "y"))[0].text is None
    nearest, exact = document.find(("b", 0, "z", "deeper"))
    assert not exact
    assert nearest.spot.line == 3


@pytest.mark.parametrize(
    "text", ["\ufeffa: 1\nb: 2\n", "a: 1\r\nb: 2\r\n", "---\na: 1\nb: 2\n...\n", "{a: 1, b: 2}"]
)
def test_marks_line_ends_and_styles_make_no_difference(text):
    assert data(text) == {"a": 1, "b": 2}


def test_what_the_c_parser_wrongly_refuses_is_read_all_the_same():
    assert data("s: {start: 02:00:00, names: [a:b]}") == {"s": {"start": "02:00:00", "names": ["a:b"]}}
    assert problem("s: [a:b]\nt: 'x").message == "the quote that opens here is never closed"


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("a:\n\tb: 1\n", 2, 1, "a tab is used for indentation"),
        ("a:\n  b: 1\n\tc: 2\n", 3, 1, "a tab is used for indentation"),
        ("a: b: c\n", 1, 5, "a second `: ` stands in one line"),
        ("a: 1\n  b: 2\n", 2, 4, "a key cannot stand here"),
        ("a\nb: 1\n", 2, 2, "a key cannot stand here"),
        ("a: @x\n", 1, 4, "a text cannot start with `@`"),
        ("a: `x`\n", 1, 4, "a text cannot start with a backtick"),
        ("a: %x\n", 1, 4, "a text cannot start with `%`"),
        ("a: 'x\nb: 2\n", 1, 4, "the quote that opens here is never closed"),
        ("a: [1, 2\nb: 3\n", 1, 4, "the bracket that opens here is never closed"),
        ("a: {x: 1\nb: 3\n", 1, 4, "the bracket that opens here is never closed"),
        ('a: "\\d"\n', 1, 5, "this escape does not exist in double quotes"),
        ("a:\n  b: 1\n c: 2\n", 3, 2, "this line is indented differently from the lines it belongs to"),
        ("- a\nb: 1\n", 2, 1, "a list is followed by something that is no entry of it"),
        ("a: - b\n", 1, 4, "a list cannot start here"),
        ("a: *\n", 1, 5, "`*` and `&` have a meaning of their own in YAML"),
        ("a: !foo!bar x\n", 1, 4, "a text that starts with `!` is a tag"),
        ("a: !<x y\n", 1, 7, "a text that starts with `!` is a tag"),
        ("a: 1\nb\nc: 2\n", 2, 1, "there is text without a `:` where a key must be"),
        ("a: ]\n", 1, 4, "a value is missing here"),
        ("a: |x\n", 1, 5, "only a line break can follow here"),
        ('a: "\\xg"\n', 1, 7, "this escape in double quotes is no character"),
        ('a: "\\ud800"\n', 1, 7, "this escape in double quotes is no character"),
        ("a: 1\n... b: 2\n", 2, 5, "text stands after the end of a document"),
        ("%TAG x\n---\na: 1\n", 1, 6, "a line that starts with `%` is a directive of YAML"),
        ("a: {b: 02:00}\nc: {d: 1\n", 2, 4, "the bracket that opens here is never closed"),
        ("a: {b: 02:00}\n  c: 1\n", 2, 3, "this line is indented differently from the lines it belongs to"),
        ("a: {b: 02:00}\nc: |x\n", 2, 5, "only a line break can follow here"),
        ("a: {b: 02:00}\nc: @x\n", 2, 4, "a text cannot start with `@`"),
        ("%YAML 9.1\n---\na: 1\n", 1, 1, "the document asks for another version of YAML"),
        ("a: 1\n<<<<<<< HEAD\nb: 1\n=======\n", 2, 1, "the file holds an unresolved merge conflict"),
        ("a: 1\nb: 2\n=======\nb: 3\n", 3, 1, "the file holds an unresolved merge conflict"),
        ("a: *x\n", 1, 4, "`*x` refers to an anchor that is not complete above it"),
        ("a: &x [*x]\n", 1, 8, "`*x` refers to an anchor that is not complete above it"),
        ("a: !!str 1\n", 1, 4, "manifests use no tags like `tag:yaml.org,2002:str`"),
        ("a: {{ x }}\n", 1, 5, "a mapping or list cannot be a key"),
        ("? [x]\n: 1\n", 1, 3, "a mapping or list cannot be a key"),
        ("a: &x b\n*x : 1\n", 2, 1, "an alias cannot be a key"),
        ("1: x\n", 1, 1, "the key `1` is read as the number 1, not as text"),
        ("a: 1\nb: 2\na: 3\n", 3, 1, "`a` is given twice"),
        (b"a: \xe4\n", 1, 4, "byte 0xe4 is not UTF-8"),
        (b"\xff\xfea\x00", 1, 1, "the file is UTF-16, not UTF-8"),
        ("a: x\nb: \x07\n", 2, 4, "the character U+0007 cannot be in YAML"),
    ],
)
def test_broken_yaml_is_explained_where_it_is_broken(text, line, column, said):
    found = problem(text)
    assert (found.message, found.spot.line, found.spot.column) == (said, line, column)


def test_the_first_of_two_equal_keys_counts_and_both_places_are_named():
    (document,) = loader.load(b"a: 1\na: 2\n").documents
    assert document.data == {"a": 1}
    assert document.problems[0].related[0][0].line == 1


def test_a_broken_document_spoils_neither_those_before_it_nor_those_after_it():
    text = "a: 1\n---\nb: [\n---\nc: 'x\n---\nd: 1\n"
    parsed = loader.load(text.encode())
    assert [document.data for document in parsed.documents] == [{"a": 1}, {"d": 1}]
    assert [found.spot.line for found in parsed.problems] == [4, 5]
    assert parsed.documents[1].root.spot.line == 7


def test_broken_documents_still_say_whom_they_are_about():
    text = (
        "kind: Batch\nmetadata:\n  labels: {name: no}\n  # a remark\n\n  name: eu\nspec: [\n"
        "---\nkind: Package\nmetadata: {name: 'x'}\nspec: 'x\n---\nspec: ]\n"
    )
    assert set(loader.load(text.encode()).names) >= {("Package", "x")}
    assert loader.names_in("kind: Batch\r\nmetadata:\r\n  name: eu\r\nspec: [") == (("Batch", "eu"),)
    assert loader.names_in("name: eu\nkind: Batch\nspec:\n  name: other\n") == ()


def test_aliases_are_followed_and_bombs_are_refused():
    assert data("a: &x {b: 1}\nc: *x\n") == {"a": {"b": 1}, "c": {"b": 1}}
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    assert problem(bomb).code is Code.TOO_COMPLEX


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "- " * 100_000,
        "a: &a0 [x]\n" + "".join(f"k{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 60)),
        "---\na: 1\n" * 1_001,
    ],
)
def test_depth_and_number_are_limited(text):
    began = time.perf_counter()
    assert problem(text).code is Code.TOO_COMPLEX
    assert time.perf_counter() - began < 5


def test_a_file_full_of_broken_documents_ends_in_good_time():
    parsed = loader.load(b"---\na: [\n" * 5_000)
    assert len(parsed.problems) == loader.PROBLEMS


@given(st.binary(max_size=200))
@example(b"\xc3\x28")
@example(b"%\x00")
def test_any_bytes_give_documents_or_problems(content):
    parsed = loader.load(content)
    assert isinstance(parsed.documents, tuple)


@given(st.text(alphabet="ab:-[]{}#&*!|>'\"%@`?,. \t\n0~", max_size=80))
def test_any_text_of_yaml_signs_gives_documents_or_problems(text):
    for found in loader.load(text.encode()).problems:
        assert found.message
        assert found.spot.line >= 1


_STARTS = st.sampled_from(["", "  ", "- ", "  - "])
_KEYS = st.sampled_from(["a: ", "b: ", ""])
_VALUES = st.sampled_from(
    ["", "x", "1.10", "yes", "{a: 1}", "[1, 'x']", "&a 1", "*a", "!x y", "---", "|\n  z"]
)
_LINE = st.builds("{}{}{}".format, _STARTS, _KEYS, _VALUES)


@given(st.lists(_LINE, max_size=8).map("\n".join))
@example("a: 1\n---\n\n---\n- b\n")
@example("a: &a [1]\nb: *a\n")
def test_the_quick_reader_says_what_the_close_one_says(text):
    found, problem = loader._read(text, 3, 10)
    closely, complaint = loader._read_closely(text, 3, 10)
    assert problem == complaint
    assert [repr((one.data, one.line, one.problems, one.root)) for one in found] == [
        repr((one.data, one.line, one.problems, one.root)) for one in closely
    ]


def test_the_quick_reader_reads_what_is_usual_and_leaves_limits_to_the_close_one(monkeypatch):
    monkeypatch.setattr(quick, "VALUES", 7)
    monkeypatch.setattr(quick, "DEPTH", 4)
    assert quick.read(loader._c_events("a: 1\nb: [2]\n---\n"), 2) == [({"a": 1, "b": [2]}, 0), (None, 3)]
    for text in ("{a: 1, b: 2, c: 3, d: 4}", "[[[1]]]", "--- 1\n--- 2\n--- 3\n"):
        with pytest.raises(quick.Unusual):
            quick.read(loader._c_events(text), 2)


def test_kinds_of_values_have_names():
    said = [named(value) for value in (None, True, 1.5, "x", [], {})]
    assert said == ["nothing", "the boolean true", "the number 1.5", "text", "a list", "a mapping"]


def test_scalars_share_what_they_do_not_have():
    (document,) = loader.load(b"a: 1\nb: 2\n").documents
    assert document.find(("a",))[0].children is document.find(("b",))[0].children
    assert documents._NO_CHILDREN == {}
