"""Decides who is let in, at a bounded pace, before any session is touched (`engine.md` §1).

Takes clients that sent their CONNECT from the hall, one after the other: who waits, waits in order and costs
nothing. A wrong password reaches no further than this module, so a device that is connected under that name
notices nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses

from reconciler import errors
from reconciler.protocol import login as logins
from reconciler.protocol import topics
from reconciler.protocol.mqtt311 import access
from reconciler.protocol.mqtt311.packets import Connect, ConnectCode
from reconciler.protocol.topics import Address
from reconciler.transport import base
from reconciler.transport.endpoint.hall import Hall
from reconciler.transport.endpoint.limits import Cut
from reconciler.transport.endpoint.sessions import Phase, Session


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client is not let in: for the client, for the counters, for the log."""

    code: ConnectCode
    cut: Cut
    detail: str


class Admission:
    """The door.

    Args:
        hall: where clients wait, and where they are let in.
        authenticator: who knows the secrets; None lets everybody in under the name that they give.
    """

    def __init__(self, hall: Hall, authenticator: base.Authenticator | None) -> None:
        self.products: frozenset[str] | None = None
        """Which products are served; None while nobody has said it yet."""
        self._hall = hall
        self._authenticator = authenticator
        self._next = hall.loop.time()
        """When the next client's turn is."""

    async def run(self) -> None:
        """Lets clients in, for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._hall.limits.logins_at_once):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            session, connect = await self._hall.logins.get()
            if session.phase is Phase.LOGGING_IN:
                await self._turn()
                await self._hall.room()
                await self._decide(session, connect)

    async def _turn(self) -> None:
        """Waits for the next client's turn. After a quiet second, a second's worth of them come at once.

        Always lets the loop do something else: a burst of logins must not hold up those who are in.
        """
        rate, now = self._hall.limits.logins_per_second, self._hall.loop.time()
        if rate:
            self._next = max(self._next, now - 1.0) + 1.0 / rate
        await asyncio.sleep(max(self._next - now, 0.0))

    async def _decide(self, session: Session, connect: Connect) -> None:
        verdict = await self._judge(connect)
        if session.phase is not Phase.LOGGING_IN:
            return
        if isinstance(verdict, Refusal):
            session.refuse(verdict.code, verdict.cut, verdict.detail)
        else:
            self._hall.admit(session, connect, verdict)

    async def _judge(self, connect: Connect) -> Address | Refusal:
        """Who the client is, or why it isn't let in."""
        password = (connect.password or b"").decode(errors="replace")
        try:
            login = logins.parse(connect.client_id, connect.username or "", password)
        except logins.LoginError as error:
            return Refusal(ConnectCode.BAD_CREDENTIALS, Cut.CREDENTIALS, error.reason)
        if not topics.is_well_formed(login.address):
            return Refusal(ConnectCode.BAD_CREDENTIALS, Cut.CREDENTIALS, "malformed names in the user name")
        refusal = self._by_product(login.address) or await self._by_password(login)
        # Again, because products may have changed while the password was looked at.
        refusal = refusal or self._by_product(login.address)
        if refusal is None and not access.may_leave(login.address, connect.will):
            refusal = Refusal(ConnectCode.NOT_AUTHORIZED, Cut.WILL, "a will that it could not publish itself")
        return login.address if refusal is None else refusal

    def _by_product(self, address: Address) -> Refusal | None:
        if self.products is None:
            return Refusal(ConnectCode.UNAVAILABLE, Cut.UNAVAILABLE, "no products are known yet")
        if address.product_key not in self.products:
            return Refusal(ConnectCode.NOT_AUTHORIZED, Cut.PRODUCT, f"unknown product {address.product_key}")
        return None

    async def _by_password(self, login: logins.Login) -> Refusal | None:
        if self._authenticator is None:
            return None
        try:
            async with asyncio.timeout(self._hall.limits.connect_seconds):
                known = await self._authenticator.authenticate(login)
        except (errors.ReconcilerError, TimeoutError) as error:
            return Refusal(
                ConnectCode.UNAVAILABLE, Cut.UNAVAILABLE, f"the login could not be checked: {error}"
            )
        if known:
            return None
        return Refusal(ConnectCode.BAD_CREDENTIALS, Cut.CREDENTIALS, "unknown device or wrong password")
