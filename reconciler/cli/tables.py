"""Rows in columns for people, the same on a terminal and in a pipe; only the colours differ, which click decides.

Used by the commands that list things. Text that comes from devices and manifests is made safe for terminals here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import click

_GAP = "   "
_COLORS = {
    "Healthy": "green",
    "Degraded": "red",
    "Progressing": "cyan",
    "Suspended": "yellow",
    "OutOfSync": "yellow",
    "Unknown": "yellow",
    "COMPLETED": "green",
    "SUCCEEDED": "green",
    "FAILED": "red",
    "CANCELED": "yellow",
    "IN_PROGRESS": "cyan",
    "NOTIFIED": "cyan",
}
"""Words that are worth a colour wherever they fill a cell."""


class Table:
    """Prints rows below headings. Rows that come later (`-w`) keep the columns of the first."""

    def __init__(self, headings: Sequence[str]) -> None:
        self._headings = headings
        self._widths: list[int] = []

    def show(self, rows: Iterable[Sequence[str]]) -> None:
        """Prints some rows; the headings come with the first ones."""
        listed = [[printable(cell) or "-" for cell in row] for row in rows]
        first = not self._widths
        shown = [list(self._headings), *listed] if first else listed
        columns = zip(*shown, strict=True) if shown else ()
        widths = [max(map(width, column)) for column in columns]
        self._widths = [
            max(pair) for pair in zip(widths, self._widths or widths, strict=True)
        ] or self._widths
        for number, row in enumerate(shown):
            click.echo(self._line(row, heading=first and number == 0))

    def _line(self, row: Sequence[str], *, heading: bool) -> str:
        last = len(row) - 1
        cells = []
        for number, (cell, wide) in enumerate(zip(row, self._widths, strict=True)):
            padding = " " * (wide - width(cell)) if number != last else ""
            cells.append(_styled(cell, heading=heading) + padding)
        return _GAP.join(cells).rstrip()


def _styled(cell: str, *, heading: bool) -> str:
    if heading:
        return click.style(cell, bold=True)
    color = _COLORS.get(cell)
    return click.style(cell, fg=color) if color else cell


def printable(value: str) -> str:
    """Text without anything that would move a terminal's cursor or break the line."""
    return "".join(
        sign if sign.isprintable() else " " if sign == "\t" else "\N{REPLACEMENT CHARACTER}" for sign in value
    )


def width(value: str) -> int:
    """Columns on a terminal: Chinese and Japanese characters take two."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in value)


def age(since: datetime | None, now: datetime) -> str:
    """How long ago something was, in its largest unit: `42s`, `5m`, `3h`, `12d`; empty for never."""
    if since is None:
        return ""
    span = max(now - since, timedelta(0))
    for unit, letter in ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "m")):
        if span >= unit:
            return f"{span // unit}{letter}"
    return f"{span.seconds}s"


def moment(at: datetime | None) -> str:
    """A moment in UTC, to the second; empty for never."""
    return at.strftime("%Y-%m-%d %H:%M:%SZ") if at is not None else ""
