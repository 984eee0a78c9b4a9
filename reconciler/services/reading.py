"""What the messages of a burst say: parsed, or why they have no effect.

Called by ingest in the writer's thread, because parsing takes a fifth of what a message costs, and the event loop has
the most to do as it is. Nothing is changed here, so it can be done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from reconciler.protocol import messages, topics
from reconciler.services import burst
from reconciler.store import seen
from reconciler.transport.base import Message

_PARSERS: Mapping[topics.Route, Callable[[bytes], burst.Said]] = {
    topics.Route.INFORM: messages.parse_inform,
    topics.Route.PROGRESS: messages.parse_progress,
    topics.Route.FIRMWARE_GET: messages.parse_firmware_get,
}


class Dropped(NamedTuple):
    """A message without effect: it is counted and acknowledged, and that is all."""

    message: Message
    result: str
    why: str


class Read(NamedTuple):
    """What some messages say, in their order."""

    heard: list[burst.Heard]
    dropped: list[Dropped]


def read(said: Iterable[Message]) -> Read:
    """Parses messages."""
    heard: list[burst.Heard] = []
    dropped: list[Dropped] = []
    for message in said:
        address, route, payload, duplicate, _, answer = message
        parser = _PARSERS.get(route)
        if parser is None:
            dropped.append(Dropped(message, "unsupported", f"{route} is not supported yet"))
        elif not topics.is_well_formed(address):
            dropped.append(malformed(message, "the names in the topic are malformed"))
        else:
            try:
                parsed = parser(payload)
            except messages.Malformed as error:
                dropped.append(malformed(message, str(error)))
            else:
                product_key, device_name = address
                fingerprint = seen.fingerprint(f"{route}/{product_key}/{device_name}", payload)
                heard.append(burst.Heard(address, parsed, fingerprint, duplicate, answer))
    return Read(heard, dropped)


def malformed(message: Message, why: str) -> Dropped:
    """It is not what the protocol says."""
    return Dropped(message, burst.Result.MALFORMED, why)
