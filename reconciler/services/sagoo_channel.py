"""Lets SagooIOT devices ask and report over HTTP: what they say goes through the intake, as all that devices say.

Called by `web.sagoo`. A question is a report of the device's version and a `firmware/get`; nothing is decided here, and
nothing is known of tasks. Whoever comes this way is not connected: nobody is pushed because of it, and nobody
registers himself, as that needs a login.
"""

from __future__ import annotations

import asyncio

from reconciler import errors
from reconciler.protocol import sagoo
from reconciler.protocol.topics import Address, Route
from reconciler.store import devices, runs
from reconciler.store.database import Database
from reconciler.transport.base import Intake, Message

PATIENCE = 10.0
"""Seconds that a device waits for the database; what it said is kept, and has its effect later."""
_AGAIN = 5.0


class UnknownError(errors.UserError):
    """There is no device of that name, or there are several."""


class SagooChannel:
    """The way in.

    Args:
        database: knows the devices by name: SagooIOT's know no product key.
        intake: where ingest takes messages from.
        patience: see `PATIENCE`.
    """

    def __init__(self, database: Database, intake: Intake, patience: float = PATIENCE) -> None:
        self._database = database
        self._intake = intake
        self._patience = patience

    async def ask(self, question: sagoo.Question) -> bytes:
        """A device says its version and asks for its package; the answer's JSON.

        Raises:
            UnknownError: it is no device of a SagooIOT product, or of several, or its product has no such module.
            TransientError: there is too much to do, or the database is away.
        """
        address = await self._address(question.device, question.product_key)
        if question.version is not None:
            inform = sagoo.inform_payload(question.version, question.module)
            self._intake.offer(Message(address, Route.INFORM, inform, answer=_ignore))
        answer = await self._say(address, Route.FIRMWARE_GET, sagoo.firmware_get_payload(question.module))
        if answer is None:
            raise UnknownError(f"the product of device {question.device} has no module {question.module}")
        return answer

    async def report(self, report: sagoo.Report) -> None:
        """A device says how far it got. It says of which batch, which says of which module.

        Raises:
            UnknownError: it is no device of a SagooIOT product, or of several.
            TransientError: there is too much to do, or the database is away.
        """
        address = await self._address(report.device, report.product_key)
        run_id = sagoo.run_of(report.said.strategy)
        module = None if run_id is None else await self._database.read(runs.module_of, run_id)
        payload = sagoo.progress_payload(report.said, module or report.said.module)
        await self._say(address, Route.PROGRESS, payload)

    async def _address(self, name: str, product_key: str | None) -> Address:
        if self._intake.full:
            raise errors.TransientError("too many messages wait", retry_after=_AGAIN)
        found = await self._database.read(devices.sagoo, name, product_key)
        if not found:
            raise UnknownError(f"no product of SagooIOT devices has a device {name}")
        if len(found) > 1:
            raise UnknownError(f"{len(found)} products have a device {name}: give productKey, too")
        return found[0]

    async def _say(self, address: Address, route: Route, payload: bytes) -> bytes | None:
        """Says something, and waits until it is in the database; what was answered."""
        answered: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def settle(answer: bytes | None = None) -> None:
            if not answered.done():
                answered.set_result(answer)

        self._intake.offer(Message(address, route, payload, acknowledge=settle, answer=settle))
        try:
            return await asyncio.wait_for(answered, self._patience)
        except TimeoutError:
            raise errors.TransientError("the database is away", retry_after=_AGAIN) from None


def _ignore(answer: bytes) -> None:
    """Of what is no question."""
    del answer
