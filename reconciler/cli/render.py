"""Diagnostics as text for a terminal, as one line each, and as JSON (`reports` has the formats of CI systems).

Used by the commands that show findings. It decides nothing about them: neither which there are nor the exit code.
Text from manifests is made safe for terminals here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import click

from reconciler.cli.tables import printable, width
from reconciler.domain.diagnostics import Diagnostic, Place, Severity

_WIDEST = 160
_COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}

Lines = Callable[[str], list[str]]
"""Gives the lines of a file by its path in diagnostics; none when it cannot be shown."""
Shown = Callable[[str], str]
"""Gives the name that a path is shown by."""


def text(diagnostics: Iterable[Diagnostic], shown: Shown, lines: Lines) -> Iterator[str]:
    """Each finding with the line it is about, a caret under it, and what to do."""
    for found in diagnostics:
        head = click.style(f"{found.severity}[{found.code}]", fg=_COLORS[found.severity], bold=True)
        yield f"{head}: {printable(found.message)}"
        margin = len(str(found.line))
        about = ", ".join(part for part in (found.object, found.field) if part)
        yield f"{' ' * margin}--> {_where(found.place, shown)}{f'  ({printable(about)})' if about else ''}"
        source = lines(found.path)
        if 0 < found.line <= len(source):
            yield from _excerpt(found, source[found.line - 1], margin)
        for other in found.related:
            yield f"{' ' * margin} = note: {printable(other.message)}: {_where(other.place, shown)}"
        if found.help:
            yield f"{' ' * margin} = {click.style('help', bold=True)}: {printable(found.help)}"
        yield ""


def concise(diagnostics: Iterable[Diagnostic], shown: Shown) -> Iterator[str]:
    """`path:line:col: CODE message`."""
    for found in diagnostics:
        yield f"{_where(found.place, shown)}: {found.code} {printable(found.message)}"


def _where(place: Place, shown: Shown) -> str:
    path = printable(shown(place.path))
    return f"{path}:{place.line}:{place.column}" if place.line else path


def _excerpt(found: Diagnostic, line: str, margin: int) -> Iterator[str]:
    """The line and a caret under what is meant, as far as a terminal is wide."""
    start = found.column - 1
    end = found.end_column - 1 if found.end_column else start + 1
    offset = max(0, start - _WIDEST // 2)
    visible = printable(line.rstrip()[offset : offset + _WIDEST])
    before = width(visible[: start - offset])
    carets = max(1, width(visible[start - offset : end - offset]))
    bar = f"{' ' * margin} |"
    yield bar
    yield f"{found.line} | {visible}"
    caret = click.style(f"{'^' * carets} {printable(found.label)}".rstrip(), fg=_COLORS[found.severity])
    yield f"{bar} {' ' * before}{caret}"
