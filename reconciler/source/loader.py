"""Bytes of YAML to documents, whatever the bytes: the only place that parses manifests.

Called by `validate`. A broken document spoils neither the ones before it nor those after the next `---`, and
still says whom it is about as far as its text shows (`Parsed.names`). Events come from ruamel's C parser; its
composer is not used, because it recurses in C and kills the process on a deep document.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from _ruamel_yaml import CParser  # type: ignore[import-not-found]  # the C extension; ruamel without it is slow
from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from reconciler.domain.diagnostics import Code
from reconciler.source import quick
from reconciler.source.documents import DOCUMENTS, Broken, Builder, Document, Node
from reconciler.source.yaml_problems import Problem, Spot, explain

FILE_BYTES = 4_000_000
PROBLEMS = 20
_SLOW_TEXT = 400_000
"""Characters at most that are left to the slow parser: a few seconds."""

_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_DOCUMENT_START = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_KIND = re.compile(r"^kind:[ \t]*[\"']?([A-Za-z]+)", re.MULTILINE)
_METADATA = re.compile(r"^metadata:.*(?:\n(?:[ \t].*|#.*|\r?))*", re.MULTILINE)
_CONTENT = re.compile(r"^[ \t]*[^\s#%]", re.MULTILINE)
_NAME = re.compile(r"[\s{,]name:[ \t]*[\"']?([^\s\"'#,}]+)")


@dataclasses.dataclass(frozen=True, slots=True)
class Parsed:
    """A file: its documents, what is wrong between them, and the kinds and names in its unreadable parts.

    `unnamed`: some unreadable part does not show whom it is about.
    """

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    unnamed: bool = False


def load(content: bytes) -> Parsed:
    """Every document of a file. Any bytes give a result; none raises."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as mistake:
        return _unreadable(content.decode("utf-8", "replace"), _not_utf8(content, mistake.start))
    strange = _NOT_TEXT.search(text)
    if strange is not None:
        return _unreadable(text, _control_character(text, strange.start()))
    return _documents(text)


def _unreadable(text: str, problem: Problem) -> Parsed:
    names = names_in(text)
    return Parsed(problems=(problem,), names=names, unnamed=len(names) != _parts(text))


def names_in(text: str) -> tuple[tuple[str, str], ...]:
    """The kind and name of each manifest in text that is not valid YAML, where there is no doubt about them."""
    found = []
    for part in _DOCUMENT_START.split(text):
        kind, metadata = _KIND.search(part), _METADATA.search(part)
        names = _NAME.findall(metadata[0]) if metadata else []
        if kind and len(names) == 1:
            found.append((kind[1], names[0]))
    return tuple(found)


def _parts(text: str) -> int:
    """How many documents text may hold."""
    return sum(_CONTENT.search(part) is not None for part in _DOCUMENT_START.split(text))


def _not_utf8(content: bytes, index: int) -> Problem:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Problem(Code.ENCODING, "the file is UTF-16, not UTF-8", Spot(1, 1), help="save it as UTF-8")
    line_start = content.rfind(b"\n", 0, index) + 1
    column = len(content[line_start:index].decode("utf-8", "replace")) + 1
    spot = Spot(content.count(b"\n", 0, index) + 1, column, column + 1)
    return Problem(
        Code.ENCODING, f"byte 0x{content[index]:02x} is not UTF-8", spot, help="save the file as UTF-8"
    )


def _control_character(text: str, index: int) -> Problem:
    column = index - text.rfind("\n", 0, index)
    spot = Spot(text.count("\n", 0, index) + 1, column, column + 1)
    message = f"the character U+{ord(text[index]):04X} cannot be in YAML"
    return Problem(Code.ENCODING, message, spot, help="remove it, or write it as an escape in double quotes")


def _documents(text: str) -> Parsed:
    """The documents of the whole text; after a broken one, reading goes on at the next `---`."""
    documents: list[Document] = []
    problems: list[Problem] = []
    names: list[tuple[str, str]] = []
    unnamed = False
    start: int | None = 0
    while start is not None:
        found, problem = _read(text[start:], text.count("\n", 0, start), DOCUMENTS - len(documents))
        if problem is None:
            documents += found
            break
        documents += [document for document in found if isinstance(document.data, dict)]
        problems.append(problem)
        begin, following = start, _next_document(text, start, problem)
        start, end = (following, following) if len(problems) < PROBLEMS else (None, None)
        unread = text[begin:end]
        named = _without(names_in(unread), found)
        unnamed |= _parts(unread) - sum(document.data is not None for document in found) != len(named)
        names += named
    return Parsed(tuple(documents), tuple(problems), tuple(names), unnamed)


def _without(names: Iterable[tuple[str, str]], found: Iterable[Document]) -> list[tuple[str, str]]:
    """The names less those of the documents that could be read."""
    left = list(names)
    for document in found:
        name = (str(_at(document, "kind")), str(_at(document, "metadata", "name")))
        if name in left:
            left.remove(name)
    return left


def _at(document: Document, *location: str) -> object:
    value = document.data
    for step in location:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _next_document(text: str, start: int, problem: Problem) -> int | None:
    """The index of the first `---` at or below the line where the problem was noticed."""
    line = max([problem.spot.line, *(spot.line for spot, _ in problem.related)])
    index = start
    for _ in range(line - 1 - text.count("\n", 0, start)):
        index = text.find("\n", index) + 1 or len(text)
    match = _DOCUMENT_START.search(text, max(index, start + 1))
    return None if match is None else match.start()


def _read(text: str, first_line: int, most: int) -> tuple[list[Document], Problem | None]:
    """The documents up to the end or to the first problem that ends the reading."""
    try:
        found = quick.read(_c_events(text), most)
    except (quick.Unusual, YAMLError):
        return _read_closely(text, first_line, most)
    places = _Places(text, first_line)
    documents = [
        Document(data, first_line + line + 1, functools.partial(places.root, number))
        for number, (data, line) in enumerate(found)
    ]
    return documents, None


class _Places:
    """Where the parts of a text's documents stand; found for all of them once somebody asks for one's."""

    def __init__(self, text: str, first_line: int) -> None:
        self._text = text
        self._first_line = first_line
        self._roots: list[Node] = []

    def root(self, number: int) -> Node:
        """Of one of the documents."""
        if not self._roots:
            documents, _ = _read_closely(self._text, self._first_line, DOCUMENTS)
            self._roots = [document.root for document in documents]
        return self._roots[number]


def _read_closely(text: str, first_line: int, most: int) -> tuple[list[Document], Problem | None]:
    """The same with the places and every problem."""
    builder = Builder(first_line, most)
    try:
        try:
            builder.take(_c_events(text))
        except MarkedYAMLError as mistake:
            # Inside brackets the C parser refuses `start: 02:00:00`, which YAML 1.2 allows. Ruamel's own parser
            # is forty times slower (and worse for long tags), and right.
            if mistake.problem != "found unexpected ':'" or len(text) > _SLOW_TEXT:
                raise
            builder = Builder(first_line, most)
            builder.take(YAML(typ="safe", pure=True).parse(text))
    except Broken as broken:
        return builder.documents, broken.problem
    except MarkedYAMLError as mistake:
        return builder.documents, explain(mistake, text, first_line)
    except YAMLError as mistake:
        return builder.documents, Problem(
            Code.SYNTAX, f"this is not YAML: {mistake}", Spot(first_line + 1, 1)
        )
    return builder.documents, None


def texts_with_signs(text: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """From where up to where the texts stand that have a `#` in them, which begins no comment there.

    Lines and columns from 0. What comes after a mistake is not looked at.
    """
    try:
        for event in _c_events(text):
            if isinstance(event, events.ScalarEvent) and "#" in event.value:
                start, end = event.start_mark, event.end_mark
                begins = (start.line + 1, 0) if event.style in {"|", ">"} else (start.line, start.column)
                yield begins, (end.line, end.column)
    except YAMLError:
        return


def _c_events(text: str) -> Iterator[Any]:
    return iter(CParser(text).get_event, None)
