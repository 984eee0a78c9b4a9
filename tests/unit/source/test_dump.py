"""Plain data as YAML: what is printed is read back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from reconciler.source.dump import dump

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc.-", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
def test_what_is_printed_is_read_back_as_it_was(data):
    assert YAML(typ="safe", pure=True).load(dump(data)) == data


def test_keys_keep_their_order_and_everything_is_in_block_style():
    data = {"zebra": 1, "apple": {"list": ["a", "b"]}}
    assert dump(data) == "zebra: 1\napple:\n  list:\n  - a\n  - b\n"


@pytest.mark.parametrize("text", ["1.10", "yes", "off", "null", "true", "0x1F", "1e3", "~", "2026-11-01", ""])
def test_a_string_that_looks_like_something_else_is_quoted_for_readers_of_any_yaml(text):
    assert dump({"version": text}) == f"version: '{text}'\n"


def test_long_lines_are_not_broken():
    assert dump({"message": "word " * 100}).count("\n") == 1
