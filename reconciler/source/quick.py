"""A parser's events to plain data alone, as quickly as Python can: nearly every manifest has nothing to explain.

Used by `loader` first. Whatever is unusual, a mistake above all, is left to `documents.Builder`, which knows where each
value stands, takes twice the time, and is asked for the places of a good document, too, once somebody wants to know
them. Both say the same of the same text; a test compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ruamel.yaml import events

from reconciler.source.documents import DEPTH, VALUES, typed

_STARTS: dict[type, Callable[[], Any]] = {events.MappingStartEvent: dict, events.SequenceStartEvent: list}
_ENDS = frozenset({events.MappingEndEvent, events.SequenceEndEvent})
_OUTSIDE = frozenset(
    {events.StreamStartEvent, events.StreamEndEvent, events.DocumentStartEvent, events.DocumentEndEvent}
)


class Unusual(Exception):  # noqa: N818 - no error: another reader takes over
    """Something that needs a closer look: an anchor, a tag, a key that is no text or comes twice, a limit."""


def read(stream: Iterator[Any], most: int) -> list[tuple[Any, int]]:
    """The data of each document, and the line on which it starts, from 0.

    Args:
        stream: the parser's events.
        most: documents at most.

    Raises:
        Unusual: read it again, in the other way.
    """
    found = _documents(stream)
    if len(found) > most:
        raise Unusual
    return found


def _documents(stream: Iterator[Any]) -> list[tuple[Any, int]]:
    found: list[tuple[Any, int]] = []
    above: list[tuple[Any, str | None]] = []
    holder: Any = None
    key: str | None = None
    values = 0
    for event in stream:
        kind = type(event)
        if kind in _ENDS:
            holder, key = above.pop()
            continue
        if kind in _OUTSIDE:
            continue
        values += 1
        if values > VALUES or len(above) > DEPTH - 2:
            raise Unusual
        value = _value(event, kind)
        if type(holder) is list:
            holder.append(value)
        elif holder is None:
            found.append((value, event.start_mark.line))
        elif key is not None:
            holder[key] = value
            key = None
        else:
            if type(value) is not str or value in holder:
                raise Unusual
            key = value
            continue
        if kind in _STARTS:
            above.append((holder, key))
            holder, key = value, None
    return found


def _value(event: Any, kind: type) -> Any:
    """What a scalar says; an empty mapping or list where one starts."""
    if event.anchor is not None or event.tag is not None:
        raise Unusual
    if kind is events.ScalarEvent:
        text = event.value
        return typed(text) if event.implicit[0] else text
    return _STARTS[kind]()
