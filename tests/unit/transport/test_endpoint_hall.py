"""Those who are connected, and who gets a turn."""

from __future__ import annotations

import asyncio
import itertools

from reconciler.transport.base import Intake
from reconciler.transport.endpoint.hall import Hall
from reconciler.transport.endpoint.limits import EndpointLimits, Tally


class Client:
    """What the hall knows of a session; one that breaks whenever it gets its turn, or one that does not."""

    claim, peer = "dev-1", "127.0.0.1"

    def __init__(self, *, breaks: bool = False) -> None:
        self.writes = self.aborted = False
        self.turns = 0
        self._breaks = breaks

    def write(self) -> None:
        self.writes = False
        self.release(0)

    def release(self, hold: int) -> None:
        self.turns += 1
        if self._breaks:
            raise RuntimeError(hold)

    def abort(self) -> None:
        self.aborted = True


async def test_a_session_that_breaks_takes_nobody_else_s_turn(caplog):
    hall = Hall(Intake(), EndpointLimits(), Tally(), itertools.count(1))
    clients = [Client(), Client(breaks=True), Client()]
    for turns in (1, 2):
        for client in clients:
            hall.write_soon(client)
        await asyncio.sleep(0)
        assert [client.turns for client in clients] == [turns] * 3
    assert [client.aborted for client in clients] == [False, True, False]
    assert "the session of 'dev-1' broke" in caplog.text


async def test_a_session_that_breaks_leaves_those_who_wait_for_room_their_turn():
    hall = Hall(Intake(), EndpointLimits(), Tally(), itertools.count(1))
    clients = [Client(breaks=True), Client()]
    for client in clients:
        hall.wait_for_room(client)
    await asyncio.sleep(0)
    assert [client.turns for client in clients] == [1, 1]
