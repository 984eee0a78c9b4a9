"""A YAML parser's complaints in our own words, with the place where a person would look first.

Used by `documents` and `loader`. It only translates; what to do about a broken file is decided elsewhere.
"""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple

from ruamel.yaml.error import MarkedYAMLError

from reconciler.domain.diagnostics import Code


class Spot(NamedTuple):
    """Where something stands in its file; lines and columns count from 1.

    A tuple, as it is made once for every value of ten thousand manifests.
    """

    line: int
    column: int
    end_column: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the YAML itself."""

    code: Code
    message: str
    spot: Spot
    label: str = ""
    help: str = ""
    related: tuple[tuple[Spot, str], ...] = ()


_QUOTE = ("the quote that opens here is never closed", "close it, or remove it")
_BRACKET = "the bracket that opens here is never closed"
_ENTRIES = (_BRACKET, "put `,` between the entries, and the closing bracket at the end")
_AT_CONTEXT = {
    "found unexpected end of stream": _QUOTE,
    "found unexpected document indicator": _QUOTE,
    "did not find expected ',' or ']'": (_BRACKET, "put `,` between the entries and `]` at the end"),
    "did not find expected ',' or '}'": (_BRACKET, "put `,` between the entries and `}` at the end"),
    "expected ',' or ']'": _ENTRIES,
    "expected ',' or '}'": _ENTRIES,
    "could not find expected ':'": ("there is text without a `:` where a key must be", "write `key: value`"),
}
"""Complaints that are noticed late: the mistake is where the quote or bracket opens."""

_AT_PROBLEM = {
    "found a tab character that violates indentation": (
        "a tab is used for indentation",
        "indent with spaces",
    ),
    "did not find expected key": (
        "this line is indented differently from the lines it belongs to",
        "start it in the same column as its neighbours",
    ),
    "did not find expected '-' indicator": (
        "a list is followed by something that is no entry of it",
        "start each entry with `-`, in the same column, and indent what is not part of the list less",
    ),
    "block sequence entries are not allowed in this context": (
        "a list cannot start here",
        "put the first `-` on a line of its own",
    ),
    "did not find expected alphabetic or numeric character": (
        "`*` and `&` have a meaning of their own in YAML",
        "quote the text",
    ),
    "found unexpected ':'": (
        "a text with a `:` stands inside of brackets",
        "quote the text, or split the file",
    ),
    "found unknown escape character": (
        "this escape does not exist in double quotes",
        "write `\\\\` for a backslash, or use single quotes",
    ),
    "found undefined tag handle": ("a text that starts with `!` is a tag", "quote the text"),
    "found incompatible YAML document": ("the document asks for another version of YAML", "remove `%YAML`"),
}

_TAG = ("a text that starts with `!` is a tag", "quote the text")
_ESCAPE = (
    "this escape in double quotes is no character",
    "write `\\\\` for a backslash, or use single quotes",
)
_DIRECTIVE = ("a line that starts with `%` is a directive of YAML", "remove it, or quote the text")
_NO_KEY = ("a key cannot stand here", "check its indentation, or quote the text")
_AFTER_MARK = ("only a line break can follow here", "put the text on a new line")
_ABOUT = (
    ("expected <block end>", _AT_PROBLEM["did not find expected key"]),
    ("node content", ("a value is missing here", "write it, or remove the `,` or bracket before it")),
    ("<document start>", ("text stands after the end of a document", "begin the next one with `---`")),
    ("comment or line break", _AFTER_MARK),
    ("chomping or indentation", _AFTER_MARK),
    ("keys are not allowed", _NO_KEY),
    ("entries are not allowed", _AT_PROBLEM["block sequence entries are not allowed in this context"]),
    ("cannot start any token", ("a text cannot start with this sign", "quote the text")),
    ("escape sequence", _ESCAPE),
    ("hexdecimal number", _ESCAPE),
    ("Unicode character escape", _ESCAPE),
    ("URI", _TAG),
    ("tag handle", _TAG),
    ("expected '>'", _TAG),
    ("whitespace or line break", _TAG),
    ("alphabetic or numeric", _AT_PROBLEM["did not find expected alphabetic or numeric character"]),
    ("directive", _DIRECTIVE),
    ("expected '!'", _DIRECTIVE),
    ("non-alphabetical", _DIRECTIVE),
)
"""Words in the complaints of either parser, which says the same in other words; the first that are found count."""

_STARTERS = {
    "\t": ("a tab is used for indentation", "indent with spaces"),
    "@": ("a text cannot start with `@`", "quote the text"),
    "`": ("a text cannot start with a backtick", "quote the text"),
    "%": ("a text cannot start with `%`", "quote the text"),
}


_CONFLICT = re.compile(r"^(<<<<<<< .*|=======$|>>>>>>> .*)", re.MULTILINE)


def explain(mistake: MarkedYAMLError, text: str, first_line: int) -> Problem:
    """What the parser said, where, in words for the person who wrote the file.

    Args:
        mistake: the parser's error.
        text: what was parsed.
        first_line: how many lines of the file stand before the text.
    """
    conflict = _CONFLICT.search(text)
    if conflict is not None:
        spot = Spot(first_line + text.count("\n", 0, conflict.start()) + 1, 1, 8)
        remedy = "resolve it, and remove the lines with the marks"
        return Problem(Code.SYNTAX, "the file holds an unresolved merge conflict", spot, help=remedy)
    said = str(mistake.problem).partition(", but ")[0]
    place = mistake.problem_mark or mistake.context_mark
    line, column = (place.line, place.column) if place else (0, 0)
    if said in _AT_CONTEXT and mistake.context_mark is not None:
        opening = mistake.context_mark
        noticed = (Spot(first_line + line + 1, column + 1), "noticed here")
        message, remedy = _AT_CONTEXT[said]
        spot = Spot(first_line + opening.line + 1, opening.column + 1, opening.column + 2)
        return Problem(Code.SYNTAX, message, spot, help=remedy, related=(noticed,))
    message, remedy = _at_problem(said, _line(text, line), column)
    spot = Spot(first_line + line + 1, column + 1, column + 2)
    return Problem(Code.SYNTAX, message, spot, help=remedy)


def _at_problem(said: str, line: str, column: int) -> tuple[str, str]:
    if said.endswith("that cannot start any token") and line[column : column + 1] in _STARTERS:
        return _STARTERS[line[column]]
    if said.startswith("mapping values are not allowed"):
        if ": " in line[:column]:
            return (
                "a second `: ` stands in one line",
                "quote the text, or put the inner key on a line of its own",
            )
        return (
            "a key cannot stand here",
            "check its indentation, and that the line above ends in `:` or is a complete `key: value`",
        )
    about = (explained for words, explained in _ABOUT if words in said)
    return _AT_PROBLEM.get(said) or next(about, (f"this is not YAML: {said}", "look at the lines above, too"))


def _line(text: str, number: int) -> str:
    lines = text.split("\n", number + 1)
    return lines[number] if number < len(lines) else ""
