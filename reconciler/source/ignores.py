"""`# reconciler: ignore[OTA207] reason` at the end of a line: a warning that its author knows of, and lives with.

Read by `reading` with each file's bytes, applied by `validate` to the findings of a tree. Only warnings can be
ignored: what is an error keeps its object out of the fleet, whatever a comment says. An ignore that ignores nothing
is a finding itself, so that none outlives its reason; but while anything in the tree is an error, a warning may be
missing only because its object, or another that it is about, is left out, and so nothing is said.
"""

from __future__ import annotations

import bisect
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping

from reconciler.domain.diagnostics import Code, Diagnostic, Place, Severity
from reconciler.source import explain, loader

_MARK = b"reconciler:"
_COMMENT = re.compile(r"(?:^|(?<=\s))#\s*reconciler:\s*ignore\b(?:\[([^\]\n]*)\])?")
_CODES = frozenset(str(code) for code in Code)


@dataclasses.dataclass(frozen=True, slots=True)
class Ignore:
    """One comment: its line and columns, from 1, and the codes in its brackets."""

    line: int
    column: int
    end_column: int
    codes: tuple[str, ...]


def find(content: bytes) -> tuple[Ignore, ...]:
    """The comments of a file that ask for something to be ignored; what looks like one in a text is none."""
    if _MARK not in content:
        return ()
    text = content.decode("utf-8-sig", "replace")
    texts = list(loader.texts_with_signs(text))
    return tuple(
        Ignore(number + 1, match.start() + 1, match.end() + 1, _codes(match[1]))
        for number, line in enumerate(text.split("\n"))
        for match in _COMMENT.finditer(line)
        if not _is_in((number, match.start()), texts)
    )


_Spot = tuple[int, int]


def _is_in(spot: _Spot, texts: list[tuple[_Spot, _Spot]]) -> bool:
    """Whether a spot is in one of the texts, which are in their order."""
    before = bisect.bisect(texts, spot, key=lambda text: text[0])
    return before > 0 and spot < texts[before - 1][1]


def _codes(listed: str | None) -> tuple[str, ...]:
    parts = (part.strip() for part in (listed or "").split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def apply(found: Iterable[Diagnostic], ignores: Mapping[str, tuple[Ignore, ...]]) -> list[Diagnostic]:
    """The findings less the warnings that are ignored at their line, and what is wrong with the ignores.

    Args:
        found: the findings of a tree.
        ignores: the comments in its files, by path.
    """
    listed = list(found)
    asked = {
        (path, ignore.line, code)
        for path, comments in ignores.items()
        for ignore in comments
        for code in ignore.codes
    }
    left = [one for one in listed if one.severity is Severity.ERROR or _key(one) not in asked]
    warned = {_key(one) for one in listed if one.severity is Severity.WARNING}
    wrong = {_key(one) for one in listed if one.severity is Severity.ERROR}
    for path, comments in ignores.items():
        for comment in comments:
            left += _judged(path, comment, warned, wrong)
    return left


_Key = tuple[str, int, str]


def _key(found: Diagnostic) -> _Key:
    return (found.path, found.line, str(found.code))


def _judged(path: str, ignore: Ignore, warned: set[_Key], wrong: set[_Key]) -> Iterator[Diagnostic]:
    """What is wrong with a comment: each of its codes is to be that of a warning at its line."""
    place = Place(path, ignore.line, ignore.column, ignore.end_column)
    if not ignore.codes:
        remedy = "write it like `# reconciler: ignore[OTA207] reason`"
        yield _useless(place, "this does not say which code to ignore", remedy)
    for code in ignore.codes:
        key = (path, ignore.line, code)
        if code not in _CODES:
            remedy = explain.nearest(code, _CODES) or "codes look like OTA207"
            yield _useless(place, f"there is no code `{code}` to ignore", remedy)
        elif key in wrong:
            yield _useless(
                place, f"{code} is an error here, and only warnings can be ignored", "mend the error"
            )
        elif key not in warned and not wrong:
            yield _useless(place, f"there is no {code} on this line to ignore", "remove the comment")


def _useless(place: Place, message: str, remedy: str) -> Diagnostic:
    return Diagnostic(Code.IGNORE, explain.short(message), place, Severity.WARNING, help=remedy)
