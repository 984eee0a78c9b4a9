"""Pushes what is due: claimed in one transaction, published, confirmed in the next (engine §4).

Never above a batch's rate, never while the transport is down, nor between a jump of the clock and sweep's note of it
(what was pushed before would not count), and with a bounded number of pushes unconfirmed. A crash between claim and
confirmation leaves a claim of an older epoch, which the next daemon pushes again.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging

from reconciler import errors
from reconciler.domain import throttle
from reconciler.protocol import topics
from reconciler.services import backoff
from reconciler.services.bell import Bell
from reconciler.services.clock import Clock, Jumps
from reconciler.services.offers import Offers
from reconciler.store import products, pushes, rates
from reconciler.store.database import Connection, Database
from reconciler.store.pushes import Claim, Claimant, Outcome
from reconciler.transport.base import Delivery, Intake, PresenceKind, Transport

MOST_UNCONFIRMED = 200
"""Pushes on their way, at most; those that are unacknowledged for long don't count, or a few would stop all."""
SLOW_SECONDS = 5.0
BACKLOG_SECONDS = 5.0
"""Messages that wait for longer are a backlog: it is heard before anybody is pushed (engine §5)."""

_log = logging.getLogger(__name__)
_OUTCOMES = {
    Delivery.CONFIRMED: Outcome.CONFIRMED,
    Delivery.OFFLINE: Outcome.GONE,
    Delivery.TIMED_OUT: Outcome.LATER,
    Delivery.BUSY: Outcome.LATER,
}


class Dispatch:
    """The one who pushes."""

    def __init__(
        self,
        database: Database,
        transport: Transport,
        clock: Clock,
        claimant: Claimant,
        *,
        jumps: Jumps,
        offers: Offers,
        intake: Intake,
    ) -> None:
        self._database = database
        self._transport = transport
        self._clock = clock
        self._claimant = claimant
        self._jumps = jumps
        self._offers = offers
        self._intake = intake
        self._outcomes: list[tuple[Claim, Outcome]] = []
        self._pushing: dict[asyncio.Task[None], tuple[Claim, float]] = {}
        self._bell = Bell()
        exact = transport.presence is PresenceKind.EXACT
        # Whom a broker's client could not reach never "comes back": nobody would say so.
        self._outcome_of = _OUTCOMES if exact else {**_OUTCOMES, Delivery.OFFLINE: Outcome.LATER}
        self.counted: collections.Counter[str] = collections.Counter()
        """Pushes by how they ended, for the metrics."""

    async def run(self, bell: Bell) -> None:
        """Pushes whenever something is due, at least looking once a second, until cancelled."""
        retry = backoff.Backoff(0.2, 10.0)
        self._bell = bell
        while True:
            await bell.wait(1.0)
            try:
                await self.round()
            except errors.ReconcilerError as error:
                _log.warning("pushes wait: %s", error.message)
                await asyncio.sleep(retry.failed())
            else:
                retry.succeeded()

    async def round(self) -> int:
        """Settles what was acknowledged, claims what is due, starts publishing it; the number of new pushes.

        Raises:
            TransientError: the database is away; what was acknowledged is settled in the next round.
        """
        reachable = self._reachable()
        due = await self._database.read(pushes.runs_due, self._clock.now()) if reachable else []
        if not due and not self._outcomes:
            return 0
        settled = self._outcomes[:]
        room = self._room() if reachable else 0
        round_ = _Round(self._claimant, self._jumps, tuple(settled), room)
        made = await self._database.write(_cycle, round_)
        del self._outcomes[: len(settled)]
        if made.is_more:
            self._bell.ring()
        for claim in made.claims:
            pushing = asyncio.create_task(self._push(claim, made.offers[claim.run_id]))
            self._pushing[pushing] = claim, self._clock.monotonic()
            pushing.add_done_callback(self._pushed)
        return len(made.claims)

    def _reachable(self) -> bool:
        """Devices can be pushed, and what they said before could be heard: it may make a push needless."""
        settled = self._transport.connected_for() >= self._claimant.presence.settle.total_seconds()
        return settled and self._intake.age() < BACKLOG_SECONDS and self._transport.health().ok

    def _room(self) -> int:
        patient = self._clock.monotonic() - SLOW_SECONDS
        return MOST_UNCONFIRMED - sum(since > patient for _, since in self._pushing.values())

    async def _push(self, claim: Claim, offer: products.Offer) -> None:
        payload = self._offers.push(offer, claim.task_id, self._clock.now())  # fails for this claim alone
        delivery = await self._transport.publish(claim.address, topics.upgrade(claim.address), payload)
        self.counted[delivery.value] += 1
        self._outcomes.append((claim, self._outcome_of[delivery]))

    def _pushed(self, pushing: asyncio.Task[None]) -> None:
        claim, _ = self._pushing.pop(pushing)
        if not pushing.cancelled() and pushing.exception() is not None:
            _log.error("a push failed", exc_info=pushing.exception())
            self._outcomes.append((claim, Outcome.LATER))
        self._bell.ring()


@dataclasses.dataclass(frozen=True, slots=True)
class _Round:
    """What one transaction settles and claims."""

    claimant: Claimant
    jumps: Jumps
    settled: tuple[tuple[Claim, Outcome], ...]
    room: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Made:
    """What one transaction claimed, what those devices are offered, and whether the next one is to come at once."""

    claims: tuple[Claim, ...]
    offers: dict[int, products.Offer]
    is_more: bool


def _cycle(connection: Connection, this: _Round) -> _Made:
    """One transaction: what was acknowledged, then new claims within each run's rate.

    The time is that of the transaction: it may have waited for the writer, and pushes count when they go out. Where a
    run's due pushes have to be cleared away first, the next run waits for the next transaction.
    """
    look = this.jumps.look()
    now, room = look.now, 0 if look.jump else this.room
    pushes.settle_pushes(connection, this.claimant.epoch, this.settled, now + this.claimant.presence.settle)
    claims: list[Claim] = []
    is_more = False
    second = int(now.timestamp())
    for run in pushes.runs_due(connection, now) if room else []:
        allowed = throttle.allowance(run.push_rate, rates.recent(connection, run.run_id, second), second)
        limit = min(allowed, room - len(claims))
        if limit > 0:
            found = pushes.claim(connection, run.run_id, this.claimant, now, limit)
            claims += found.taken
            is_more = found.is_more
        if is_more:
            break
    offers = products.offers(connection, sorted({claim.run_id for claim in claims}))
    return _Made(tuple(claims), offers, is_more)
