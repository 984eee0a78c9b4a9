"""Watches the time: starts and ends batches, fails tasks whose deadline has passed, notices clock jumps.

No device's deadline passes by our own downtime or by a clock that jumped: it counts only while we could have heard from
it (engine §5). Schedules are by the clock, and wait for nothing.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from reconciler import errors
from reconciler.domain import limits
from reconciler.services import backoff
from reconciler.services.bell import Bell
from reconciler.services.clock import Clock, Jumps
from reconciler.store import deadlines, devices, events, objects, pushes, rates, runs, tasks
from reconciler.store.database import Connection, Database
from reconciler.transport.base import Intake, Transport

PAUSE_SECONDS = 60.0
"""How long expiry waits after a jump, and after the devices' connection, the database or ingest came back."""
INTAKE_SECONDS = 5.0
"""Older messages than this wait: they may be what a deadline waits for."""
LONGEST_ABSENCE = timedelta(days=30)
"""More than this is rather a clock that was wrong: it is not given back to deadlines."""
_BEAT_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Sweep:
    """The daemon's sense of time.

    Args:
        database: the state.
        transport: tells whether devices could have been heard.
        intake: tells whether they have been.
        clock: time.
        jumps: notices that the clock was set.
        presence: makes pushes due at once.
        work: rung when a batch's time has come, so that its job is worked on.
        pushes_due: rung when there may be something to push.
    """

    def __init__(
        self,
        database: Database,
        transport: Transport,
        intake: Intake,
        clock: Clock,
        *,
        jumps: Jumps,
        presence: devices.Presence,
        work: Bell,
        pushes_due: Bell,
    ) -> None:
        self._database = database
        self._transport = transport
        self._intake = intake
        self._clock = clock
        self._presence = presence
        self._work = work
        self._pushes_due = pushes_due
        self._jumps = jumps
        self._paused_until = clock.monotonic()
        self._beaten = -_BEAT_SECONDS
        self._strayed_until = datetime.fromtimestamp(0, UTC)
        self.heartbeat = self._paused_until
        """Monotonic time at which the event loop lived."""
        self.seen_at = clock.now()
        """The same as wall time."""
        self.away: str | None = None
        """What keeps the database from being written, as the last round found it."""

    async def live(self) -> None:
        """Notes each second that the event loop lives, until cancelled. It waits for nothing else."""
        while True:
            self.heartbeat, self.seen_at = self._clock.monotonic(), self._clock.now()
            await asyncio.sleep(1.0)

    async def run(self) -> None:
        """One round a second, until cancelled; fewer while the database is away."""
        retry = backoff.Backoff(1.0, 10.0)
        while True:
            try:
                await self.round()
            except errors.ReconcilerError as error:
                self._pause()
                self.away = error.message
                _log.warning("timeouts wait: %s", error.message)
                await asyncio.sleep(retry.failed())
            else:
                self.away = None
                retry.succeeded()
                await asyncio.sleep(1.0)

    async def round(self) -> int:
        """Looks at the clocks, starts, ends and expires what is due; the number of expired tasks.

        Raises:
            TransientError: the database is away; what devices said meanwhile is heard before anything expires.
        """
        look = self._jumps.look()
        now = look.now
        if look.jump:
            self._pause()
            await self._database.write(_note_jump, look.jump, now)
        self._jumps.note(look)
        if look.steady - self._beaten >= _BEAT_SECONDS:
            await self._database.write(_beat, now)
            self._beaten = look.steady
        await self._schedule(now)
        if not self._could_have_heard():
            return 0
        # A message that is not committed yet came after this moment: too late for a deadline that passed before.
        heard_until = now - timedelta(seconds=self._intake.age())
        return await self._expire(now, heard_until) + await self._end_strayed(now, heard_until)

    async def _expire(self, now: datetime, heard_until: datetime) -> int:
        if not await self._database.read(deadlines.any_due, heard_until):
            return 0
        expired = 0
        while more := await self._database.write(deadlines.expire, self._presence, now, heard_until):
            expired += more
            self._pushes_due.ring()  # who waited behind may go on
        return expired

    async def _end_strayed(self, now: datetime, heard_until: datetime) -> int:
        since, ended = self._strayed_until, 0
        while found := await self._database.read(deadlines.strayed, since, heard_until):
            ended += await self._database.write(deadlines.end_strayed, self._presence, found, now)
            self._pushes_due.ring()
        self._strayed_until = heard_until
        return ended

    async def _schedule(self, now: datetime) -> None:
        """Batches whose time has come start or end: with a job, whose first chunk waits for nobody."""
        if not await self._database.read(deadlines.schedule_due, now):
            return
        if await self._database.write(_start_and_end, now):
            self._work.ring()
            self._pushes_due.ring()

    def _could_have_heard(self) -> bool:
        if self._intake.age() >= INTAKE_SECONDS:
            self._pause()
        connected = self._transport.connected_for() >= PAUSE_SECONDS
        return connected and self._clock.monotonic() >= self._paused_until

    def _pause(self) -> None:
        self._paused_until = self._clock.monotonic() + PAUSE_SECONDS


def _start_and_end(connection: Connection, now: datetime) -> bool:
    """In this order: a batch whose end has come too has no moment in which it could push."""
    ended = runs.end_due(connection, now)
    return runs.start_due(connection, now) or ended


def _beat(connection: Connection, now: datetime) -> None:
    """In a round that has noted how the clock jumped: what is old by it is old indeed."""
    objects.beat(connection, now)
    rates.forget(connection, int(now.timestamp()))


def _note_jump(connection: Connection, jump: timedelta, now: datetime) -> None:
    message = f"the clock jumped by {jump.total_seconds():+.0f} s; timeouts wait for {PAUSE_SECONDS:.0f} s"
    pushes.forget_future(connection, now)
    rates.move(connection, int((now - jump).timestamp()), round(jump.total_seconds()))
    events.append(connection, now, [events.Event(type=events.Type.CLOCK_JUMP, message=message)])


def take_over(
    connection: Connection,
    now: datetime,
    push_at: datetime | None,
    push_interval: timedelta = limits.DEFAULT.push_repeat_interval,
) -> int:
    """A daemon starts: its epoch. What an earlier one left half done is made due, and its absence is given back.

    Args:
        connection: a writing transaction.
        now: this moment.
        push_at: for a transport that can't tell who comes back, when unconfirmed pushes are due; else None.
        push_interval: how often a task may be pushed, at most.
    """
    epoch, heartbeat_at = objects.start_daemon(connection, now, push_interval)
    pushes.recover_claims(connection, epoch, push_at)
    if push_at is not None:
        tasks.due_for_present(connection, devices.ASSUMED_EPOCH, push_at)
    pushes.forget_future(connection, now)
    message = f"epoch {epoch}"
    absence = now - heartbeat_at if heartbeat_at else timedelta()
    if absence > LONGEST_ABSENCE:
        message += (
            f"; by the clock nobody was here for {absence.days} days: {LONGEST_ABSENCE.days} are given back"
        )
    if absence > timedelta():
        deadlines.extend_deadlines(connection, min(absence, LONGEST_ABSENCE))
    events.append(connection, now, [events.Event(type=events.Type.STARTED, message=message)])
    return epoch
