"""Columns for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.cli.tables import Table, age, moment

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def test_columns_line_up_also_with_wide_characters(capsys):
    Table(["NAME", "WHAT"]).show([["温控器", "x"], ["lamp", ""]])
    assert capsys.readouterr().out.splitlines() == ["NAME     WHAT", "温控器   x", "lamp     -"]


def test_later_rows_come_without_headings_in_the_same_columns(capsys):
    table = Table(["NAME", "WHAT"])
    table.show([["a-long-name", "x"]])
    table.show([["b", "y"]])
    assert capsys.readouterr().out.splitlines() == [
        "NAME          WHAT",
        "a-long-name   x",
        "b             y",
    ]


def test_nothing_that_moves_a_cursor_is_printed(capsys):
    Table(["NAME"]).show([["a\x1b[2Jb\nc\u202ed"]])
    mark = "\N{REPLACEMENT CHARACTER}"
    assert capsys.readouterr().out == f"NAME\na{mark}[2Jb{mark}c{mark}d\n"


@pytest.mark.parametrize(
    ("span", "said"), [(0, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (86400 * 12, "12d"), (-5, "0s")]
)
def test_an_age_is_said_in_its_largest_unit(span, said):
    assert age(NOW - timedelta(seconds=span), NOW) == said


def test_what_never_was_has_no_age_and_no_moment():
    assert age(None, NOW) == moment(None) == ""
    assert moment(NOW) == "2026-11-01 12:00:00Z"
