"""Everybody who is connected: who is who, who replaces whom, who is told to the intake, who is written to.

One for each time that the endpoint serves. Called by sessions (it is their `Host`), by `admission` and by
`server`. It opens no socket and judges no password.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import itertools
import logging
import resource
import sys

from reconciler.protocol.mqtt311 import packets
from reconciler.protocol.topics import Address
from reconciler.transport import base
from reconciler.transport.endpoint.limits import Cut, EndpointLimits, Tally
from reconciler.transport.endpoint.sessions import LOGIN, ROOM, Phase, Session

READ_BUFFER_BYTES = 8 * 1024
"""What a connection keeps at most, unread, while the intake is full: thousands may be stopped at the same time."""
SWEEP_SECONDS = 0.25
_TURNS = 4
REPORT_SECONDS = 60.0
REPORTED_CLIENTS = 1000
"""How many clients are remembered as reported; others wait until some are forgotten."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class Reports:
    """Says whether a client may be logged again: once a minute each, and of a bounded number."""

    _last: dict[str, float] = dataclasses.field(default_factory=dict)

    def may(self, client: str, now: float) -> bool:
        """True when this client was not reported for a minute. Asking counts as reporting."""
        last = self._last.get(client)
        if last is not None and now - last < REPORT_SECONDS:
            return False
        if len(self._last) >= REPORTED_CLIENTS:
            self._last = {name: at for name, at in self._last.items() if now - at < REPORT_SECONDS}
        if len(self._last) >= REPORTED_CLIENTS:
            return False
        self._last[client] = now
        return True


class Hall:
    """The sessions of one endpoint while it serves.

    Args:
        intake: where messages and presence go.
        limits: how much is allowed.
        tally: what is counted.
        numbers: gives each session its number, growing within the process.
    """

    def __init__(
        self, intake: base.Intake, limits: EndpointLimits, tally: Tally, numbers: itertools.count[int]
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.intake = intake
        self.limits = limits
        self.tally = tally
        cost = 1.0 / limits.packets_per_second if limits.packets_per_second else 0.0
        self.pace = (cost, cost * limits.packets_at_once)
        self.read_buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self.logins: asyncio.Queue[tuple[Session, packets.Connect]] = asyncio.Queue()
        """Clients that said who they are and wait to be let in."""
        self._numbers = numbers
        self._everybody: set[Session] = set()
        self._devices: dict[Address, Session] = {}
        self._to_write: list[Session] = []
        self._to_read: collections.deque[Session] = collections.deque()
        self._reports = Reports()
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = limits.most_connections(sys.maxsize if descriptors < 0 else descriptors)
        self._closing = False
        self._empty = asyncio.Event()

    # -- what sessions call ---------------------------------------------------------------------------------

    def enter(self, session: Session) -> None:
        """A connection was made."""
        self._everybody.add(session)
        if self._closing:
            session.cut(Cut.CROWDED)
        elif len(self._everybody) > self._most:
            session.cut(Cut.CROWDED)
            self._report_crowd()

    def log_in(self, session: Session, connect: packets.Connect) -> None:
        """A client says who it is: it waits for its turn."""
        session.claim = connect.username or ""
        self.logins.put_nowait((session, connect))

    def write_soon(self, session: Session) -> None:
        """One write for a session in a turn of the loop, whatever it has to say; one call for all sessions."""
        if session.writes:
            return
        session.writes = True
        if not self._to_write:
            self.loop.call_soon(self._write)
        self._to_write.append(session)

    def wait_for_room(self, session: Session) -> None:
        """Sessions go on in the order in which they were stopped."""
        if not self._to_read:
            self.intake.when_room(self._read_soon)
        self._to_read.append(session)

    def end(self, session: Session) -> None:
        """The session is over: what it left to say is said, then that it went, unless another took its place."""
        if not session.number or self._closing:
            return
        will = session.will
        if will is not None:
            self.intake.offer(base.Message(session.address, will.route, will.payload))
        if self._devices.get(session.address) is session:
            del self._devices[session.address]
            self.intake.offer(base.Presence(session.address, online=False, session=session.number))

    def leave(self, session: Session) -> None:
        """The socket is gone."""
        self._everybody.discard(session)
        if self._closing and not self._everybody:
            self._empty.set()

    def report(self, session: Session, what: str) -> None:
        """Logs what a client did wrong, once a minute."""
        who = session.claim or session.peer
        if self._reports.may(who, self.loop.time()):
            _log.warning("device %.100r from %s: %.300s", who, session.peer, what)

    # -- what admission and the server call -----------------------------------------------------------------

    def admit(self, session: Session, connect: packets.Connect, address: Address) -> None:
        """Lets a client in that proved who it is. Whoever was here under that name is replaced.

        The old session's end is then no presence event: the new session's number tells the two apart.
        """
        old = self._devices.get(address)
        self._devices[address] = session
        if old is not None:
            old.cut(Cut.REPLACED)
        self.tally.admitted += 1
        session.accept(connect, address, next(self._numbers))
        self.intake.offer(base.Presence(address, online=True, session=session.number))
        session.release(LOGIN)

    async def room(self) -> None:
        """Waits until the intake has room."""
        if self.intake.full:
            roomy = asyncio.Event()
            self.intake.when_room(roomy.set)
            await roomy.wait()

    def find(self, address: Address) -> Session | None:
        """The session of a device that is logged in."""
        return self._devices.get(address)

    def evict(self, products: frozenset[str]) -> None:
        """Ends the sessions of devices of all other products."""
        for session in [*self._devices.values()]:
            if session.address.product_key not in products:
                session.cut(Cut.PRODUCT, "the product is not served any more")

    def count(self) -> tuple[int, int]:
        """How many are connected, and how many of them are logged in."""
        return len(self._everybody), len(self._devices)

    async def sweep(self) -> None:
        """Ends silent sessions, for ever: looks at each once a second, at a part of them at a time."""
        while True:
            everybody = [*self._everybody]
            for turn in range(_TURNS):
                await asyncio.sleep(SWEEP_SECONDS)
                now = self.loop.time()
                for session in everybody[turn::_TURNS]:
                    session.check(now)

    async def close(self, grace: float) -> None:
        """Ends all sessions, without presence events: we leave, not they. Aborts what lingers."""
        self._closing = True
        for session in [*self._everybody]:
            if session.phase is not Phase.OVER:
                session.close()
        self._devices.clear()
        if self._everybody:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._empty.wait()
        for session in [*self._everybody]:
            session.abort()

    # -- what it does by itself -----------------------------------------------------------------------------

    def _report_crowd(self) -> None:
        """Says once a minute that clients are turned away: not of each of them, as all are for the same reason."""
        if self._reports.may("", self.loop.time()):
            _log.warning(
                "%s connections are there, as many as may be; closed as they came, so far: %s. More: --limits"
                " endpoint-connections=…, and as many open files (ulimit -n)",
                f"{self._most:,}",
                f"{self.tally.cuts[Cut.CROWDED]:,}",
            )

    def _write(self) -> None:
        sessions, self._to_write = self._to_write, []
        for session in sessions:
            try:
                session.write()
            except Exception:  # noqa: BLE001 - whatever it is, it is logged and stays with this session
                self._broke(session)

    def _read_soon(self) -> None:
        """Out of the way of ingest, which is in the middle of taking a burst."""
        self.loop.call_soon(self._read)

    def _read(self) -> None:
        waiting, self._to_read = self._to_read, collections.deque()
        while waiting and not self.intake.full:
            session = waiting.popleft()
            try:
                session.release(ROOM)
            except Exception:  # noqa: BLE001 - the same
                self._broke(session)
        if waiting and not self._to_read:
            self.intake.when_room(self._read_soon)
        self._to_read.extendleft(reversed(waiting))

    def _broke(self, session: Session) -> None:
        """A session on which we fail ends; those behind it in the queue get their turn."""
        _log.exception("the session of %.100r broke", session.claim or session.peer)
        session.abort()
