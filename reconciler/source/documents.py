"""A parser's events to documents: plain data beside a tree that knows where each value stands.

Used by `loader`. Typing follows the core schema of YAML 1.2: `yes` and `on` are text, `1.10` is a number whose
spelling is kept. Only strings, numbers, booleans, None, dicts and lists are made. The stack is a list, not the
call stack, and depth, values (aliases counted as often as they are used) and documents are limited.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from ruamel.yaml import events

from reconciler.domain.diagnostics import Code
from reconciler.source.yaml_problems import Problem, Spot

DEPTH = 50
VALUES = 500_000
DOCUMENTS = 1_000

_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,100}")
_OCTAL = re.compile(r"0o[0-7]{1,100}")
_HEXADECIMAL = re.compile(r"0x[0-9A-Fa-f]{1,100}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class Broken(Exception):  # noqa: N818 - it ends the reading of a file, and carries what to tell
    """The document cannot be read any further."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


_NO_CHILDREN: dict[str | int, Node] = {}
"""Shared by all scalars, which are most of the nodes. Never written to."""


@dataclasses.dataclass(slots=True)
class Node:
    """A value's place, and those of the values below it.

    Attributes:
        spot: where the value stands.
        key: where its key stands; None in a list and at the root.
        text: how a plain scalar is spelled in the file; None for what is quoted or composed.
        children: by key or index.
        weight: the values in it, itself included.
        height: the levels in it, itself included.
    """

    spot: Spot
    key: Spot | None = None
    text: str | None = None
    children: dict[str | int, Node] = dataclasses.field(default_factory=lambda: _NO_CHILDREN)
    weight: int = 1
    height: int = 1


class Document:
    """One document: plain data, where each part of it stands, and what is wrong with its YAML.

    Args:
        data: the plain data.
        line: where it starts.
        root: the places; or what finds them when they are asked for, which is seldom.
        problems: what is wrong.
    """

    def __init__(
        self, data: Any, line: int, root: Node | Callable[[], Node], problems: tuple[Problem, ...] = ()
    ) -> None:
        self.data = data
        self.line = line
        self.problems = problems
        self._root = root

    @property
    def root(self) -> Node:
        """Where the document stands, and everything in it."""
        if not isinstance(self._root, Node):
            self._root = self._root()
        return self._root

    def find(self, location: tuple[int | str, ...]) -> tuple[Node, bool]:
        """The node at a location, or the nearest one above it; and whether it is exactly that one."""
        node = self.root
        for step in location:
            below = node.children.get(step)
            if below is None:
                return node, False
            node = below
        return node, True


@dataclasses.dataclass(slots=True)
class _Frame:
    """A mapping or list that is being read; `key` waits for its value (and drops it when it is no text)."""

    value: dict[str, Any] | list[Any]
    node: Node
    anchor: str | None
    is_mapping: bool
    key: tuple[str | None, Spot] | None = None


class Builder:
    """Makes documents of the events of one run of a parser.

    Args:
        first_line: how many lines of the file stand before the parsed text.
        most: documents at most.
    """

    def __init__(self, first_line: int = 0, most: int = DOCUMENTS) -> None:
        self.documents: list[Document] = []
        self._first_line = first_line
        self._most = most
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, Node]] = {}
        self._problems: list[Problem] = []
        self._values = 0

    def take(self, stream: Iterator[Any]) -> None:
        """Reads events to the end.

        Raises:
            Broken: a limit is exceeded, or an alias leads nowhere.
        """
        for event in stream:
            match event:
                case events.ScalarEvent():
                    self._scalar(event)
                case events.MappingStartEvent() | events.SequenceStartEvent():
                    self._start(event)
                case events.MappingEndEvent() | events.SequenceEndEvent():
                    self._end()
                case events.AliasEvent():
                    self._alias(event)
                case events.DocumentStartEvent():
                    self._values, self._anchors, self._problems = 0, {}, []

    def _spot(self, event: Any) -> Spot:
        start, end = event.start_mark, event.end_mark
        line = start.line
        last = end.column + 1 if end.line == line else None
        return Spot(self._first_line + line + 1, start.column + 1, last)

    def _refuse_tag(self, tag: object, spot: Spot) -> None:
        message = f"manifests use no tags like `{tag}`"
        self._problems.append(Problem(Code.BAD_KEY, message, spot, help="remove it, or quote the text"))

    def _scalar(self, event: Any) -> None:
        spot, text, plain = self._spot(event), event.value, event.implicit[0]
        if event.tag is not None:
            self._refuse_tag(event.tag, spot)
        value = typed(text) if plain else text
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.key is None and frame.is_mapping:
            self._key(frame, value, text, spot)
        else:
            self._put(value, Node(spot, None, text if plain else None, _NO_CHILDREN), event.anchor)

    def _start(self, event: Any) -> None:
        spot = self._spot(event)
        if event.tag is not None:
            self._refuse_tag(event.tag, spot)
        if len(self._stack) >= DEPTH:
            raise _too_deep(spot)
        if self._awaits_key():
            self._bad_key(
                "a mapping or list cannot be a key", spot, "quote the text; templates must be filled in first"
            )
        value: dict[str, Any] | list[Any] = {} if isinstance(event, events.MappingStartEvent) else []
        self._stack.append(_Frame(value, Node(spot, children={}), event.anchor, isinstance(value, dict)))

    def _end(self) -> None:
        frame = self._stack.pop()
        if self._awaits_key():
            self._stack[-1].key = (None, frame.node.spot)
        else:
            self._put(frame.value, frame.node, frame.anchor)

    def _alias(self, event: Any) -> None:
        spot = self._spot(event)
        known = self._anchors.get(event.anchor)
        if known is None:
            message = f"`*{event.anchor}` refers to an anchor that is not complete above it"
            raise Broken(Problem(Code.SYNTAX, message, spot, help="quote the text if no alias is meant"))
        if self._awaits_key():
            self._bad_key("an alias cannot be a key", spot, "write the key itself")
            self._stack[-1].key = (None, spot)
            return
        value, node = known
        self._put(value, dataclasses.replace(node, spot=spot, key=None), None)

    def _awaits_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].is_mapping and self._stack[-1].key is None

    def _bad_key(self, message: str, spot: Spot, remedy: str) -> None:
        self._problems.append(Problem(Code.BAD_KEY, message, spot, help=remedy))

    def _key(self, frame: _Frame, value: object, text: str, spot: Spot) -> None:
        if not isinstance(value, str):
            self._bad_key(
                f"the key `{text}` is read as {named(value)}, not as text", spot, f'quote it: "{text}"'
            )
        earlier = frame.node.children.get(text)
        if earlier is not None:
            first = ((earlier.key or earlier.spot, "first here"),)
            self._problems.append(
                Problem(
                    Code.DUPLICATE_KEY,
                    f"`{text}` is given twice",
                    spot,
                    help="remove one of them",
                    related=first,
                )
            )
        frame.key = (text, spot)

    def _put(self, value: Any, node: Node, anchor: str | None) -> None:
        self._values += node.weight
        if self._values > VALUES:
            message = f"a document has more than {VALUES:,} values, those behind aliases counted each time"
            remedy = "use fewer aliases; a long list of devices goes into a CSV file (`devicesFrom`)"
            raise Broken(Problem(Code.TOO_COMPLEX, message, node.spot, help=remedy))
        if anchor is not None:
            self._anchors[anchor] = (value, node)
        if not self._stack:
            self._finish(value, node)
            return
        frame = self._stack[-1]
        holder = frame.node
        holder.weight += node.weight
        if node.height >= holder.height:
            holder.height = node.height + 1
            if holder.height > DEPTH:
                raise _too_deep(node.spot)
        if isinstance(frame.value, list):
            holder.children[len(frame.value)] = node
            frame.value.append(value)
        elif frame.key is not None:
            key, node.key = frame.key
            frame.key = None
            if key is not None and key not in frame.value:
                frame.value[key] = value
                holder.children[key] = node

    def _finish(self, value: Any, node: Node) -> None:
        if len(self.documents) >= self._most:
            message, remedy = f"a file has more than {DOCUMENTS:,} documents", "split it into several files"
            raise Broken(Problem(Code.TOO_COMPLEX, message, node.spot, help=remedy))
        self.documents.append(Document(value, node.spot.line, node, tuple(self._problems)))


def _too_deep(spot: Spot) -> Broken:
    message = f"values are nested more than {DEPTH} levels deep"
    return Broken(Problem(Code.TOO_COMPLEX, message, spot, help="look for brackets or indentation too many"))


def typed(text: str) -> Any:
    """What a plain scalar means in YAML 1.2; numbers too long to be meant as such stay text."""
    if text in _WORDS:
        return _WORDS[text]
    if not text[0].isdigit() and text[0] not in "+-.":
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) and len(text) <= 100 else text


def named(value: object) -> str:
    """What kind of thing a value is, with its article, for messages."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a mapping"
