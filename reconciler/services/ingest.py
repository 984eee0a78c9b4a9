"""Takes what devices say from the transport into the database: bursts, one transaction each, then acknowledgements.

A burst that can't be committed is tried again until it can: nothing is acknowledged before, so nothing is lost,
and the full intake slows the senders down meanwhile.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

from reconciler import errors
from reconciler.protocol import blocks, messages, topics
from reconciler.protocol.topics import Address
from reconciler.services import backoff, burst, reading
from reconciler.services.bell import Bell
from reconciler.services.blocks import Blocks
from reconciler.services.clock import Clock
from reconciler.services.offers import Offers
from reconciler.services.quiet import QuietLog
from reconciler.store.database import Connection, Database
from reconciler.transport.base import Intake, Message, Presence, Transport

LIMIT = 500
"""Messages a transaction."""

_log = logging.getLogger(__name__)
_ROUTES: Mapping[type[burst.Said], topics.Route] = {
    messages.Inform: topics.Route.INFORM,
    messages.Progress: topics.Route.PROGRESS,
    messages.FirmwareGet: topics.Route.FIRMWARE_GET,
}
_WHY: Mapping[burst.Result, str] = {
    burst.Result.UNKNOWN: "unknown device",
    burst.Result.MALFORMED: "its product doesn't allow {}",
    burst.Result.ANOTHER_BATCH: "the device's newest upgrade is of another batch: {}",
}
"""What is logged, besides being counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Taken:
    """One burst from the intake: what is to be acknowledged, what of it may change something, who came and went."""

    received: list[Message]
    said: list[Message]
    presence: list[Presence]


class Ingest:
    """The one consumer of an intake."""

    def __init__(
        self,
        database: Database,
        transport: Transport,
        clock: Clock,
        host: burst.Host,
        *,
        offers: Offers,
        blocks: Blocks,
    ) -> None:
        self._database = database
        self._transport = transport
        self._clock = clock
        self._host = host
        self._offers = offers
        self._blocks = blocks
        self._quiet = QuietLog(_log)
        self._replying: set[asyncio.Task[None]] = set()
        self._strangers: dict[Address, Presence] = {}
        self._one_at_a_time = asyncio.Lock()
        self.pushes_due = Bell()
        self.counted: collections.Counter[tuple[str, str]] = collections.Counter()
        """Messages by route and result, for the metrics."""
        self.away: str | None = None
        """What keeps messages from being committed right now."""

    async def run(self, intake: Intake) -> None:
        """Takes burst after burst, until cancelled.

        One after the other: to work on a burst while the one before it is being committed only makes two threads
        wait for the same interpreter.
        """
        retry = backoff.Backoff(0.2, 10.0)
        while True:
            taken = self._sort(await intake.take(LIMIT))
            while True:
                try:
                    await self._store(taken)
                except errors.ReconcilerError as error:
                    self.away = error.message
                    _log.warning("messages wait: %s", error.message)
                    await asyncio.sleep(retry.failed())
                else:
                    break
            intake.committed()
            _acknowledge(taken.received)
            self.away = None
            retry.succeeded()

    async def process(self, items: Sequence[Message | Presence]) -> None:
        """Commits one burst, acknowledges it, and answers those who asked.

        Raises:
            TransientError: the database is away; nothing was acknowledged.
        """
        taken = self._sort(items)
        await self._store(taken)
        _acknowledge(taken.received)

    def _sort(self, items: Sequence[Message | Presence]) -> _Taken:
        received = [item for item in items if isinstance(item, Message)]
        said = []
        for message in received:
            if message.route is topics.Route.FILE_DOWNLOAD:
                self._ask(message)
            else:
                said.append(message)
        return _Taken(received, said, [item for item in items if isinstance(item, Presence)])

    async def recognise(self) -> None:
        """Devices were declared: those of them that had come before are there from now on.

        Raises:
            TransientError: the database is away.
        """
        async with self._one_at_a_time:
            if self._strangers:
                await self._commit(_Taken([], [], list(self._strangers.values())))

    async def _store(self, taken: _Taken) -> None:
        async with self._one_at_a_time:
            if taken.said or taken.presence:
                await self._commit(taken)

    async def _commit(self, taken: _Taken) -> None:
        """One transaction. Who came as a stranger comes again with its first message: that may register it."""
        addresses = {message.address for message in taken.said} if self._strangers else set()
        earlier = [self._strangers[address] for address in addresses & self._strangers.keys()]
        presence = [*earlier, *taken.presence]
        (heard, dropped), outcome = await self._database.write_first(
            _commit, taken.said, presence, self._host, self._clock.now()
        )
        for each in dropped:
            self._drop(each)
        for item in presence:
            if item.online and item.address in outcome.unknown:
                self._strangers[item.address] = item
            else:
                self._strangers.pop(item.address, None)
        self._count(heard, outcome)
        self._answer(outcome.replies)
        if outcome.pushes_due:
            self.pushes_due.ring()

    def _ask(self, message: Message) -> None:
        """A block of a file changes nothing: it is asked for beside the burst."""
        try:
            request = blocks.parse_request(message.payload)
        except messages.Malformed as error:
            self._drop(reading.malformed(message, str(error)))
            return
        if not topics.is_well_formed(message.address):
            self._drop(reading.malformed(message, "the names in the topic are malformed"))
        elif self._blocks.ask(message.address, request):
            self.counted[message.route, burst.Result.ACCEPTED] += 1
        else:
            why = "too many blocks wait to be acknowledged by the device"
            self._drop(reading.Dropped(message, "busy", why))

    def _drop(self, dropped: reading.Dropped) -> None:
        message, result, why = dropped
        self.counted[message.route, result] += 1
        text = f"{message.address}: {message.route} message dropped: {why}"
        self._quiet.warning((message.address, result), self._clock.monotonic(), text)

    def _count(self, heard: Sequence[burst.Heard], outcome: burst.Outcome) -> None:
        routes = [_ROUTES[type(message.said)] for message in heard]
        self.counted.update(zip(routes, outcome.results, strict=True))
        for message, route, result in zip(heard, routes, outcome.results, strict=True):
            if result in _WHY:
                why = _WHY[result].format(message.said)
                text = f"{message.address}: {route} message dropped: {why}"
                self._quiet.warning((message.address, result), self._clock.monotonic(), text)

    def _answer(self, replies: Sequence[burst.Reply]) -> None:
        """Replies are not retried: a device that misses one asks again."""
        now = self._clock.now()
        for reply in replies:
            try:
                payload = self._offers.answer(reply, now)
            except (
                errors.StalledError
            ) as error:  # what the others said is in the database: only this one waits
                text = f"{reply.asked.address} was not answered: {error.message}"
                self._quiet.warning((reply.asked.address, "offer"), self._clock.monotonic(), text)
                continue
            if reply.asked.answer is not None:
                reply.asked.answer(payload)
                continue
            sending = asyncio.create_task(self._send(reply.asked.address, payload))
            self._replying.add(sending)
            sending.add_done_callback(self._replying.discard)

    async def _send(self, address: Address, payload: bytes) -> None:
        await self._transport.publish(address, topics.firmware_get_reply(address), payload)


def _acknowledge(received: Sequence[Message]) -> None:
    for message in received:
        message.acknowledge()


def _commit(
    connection: Connection,
    said: Sequence[Message],
    presence: Sequence[Presence],
    host: burst.Host,
    now: datetime,
) -> tuple[reading.Read, burst.Outcome]:
    read = reading.read(said)
    return read, burst.Burst(connection, host, now).process(read.heard, presence)
