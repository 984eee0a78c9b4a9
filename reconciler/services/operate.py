"""Carries out what operators asked for with the CLI: rows of the `command` table, each done once, kept with its result.

The daemon looks every second; `reconciler apply` looks once. What an order says is read by `domain.requests`; what
each does, and when it is refused, is `orders`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from reconciler import errors
from reconciler.domain import downloads, requests
from reconciler.services import backoff, orders
from reconciler.services.clock import Clock
from reconciler.store import commands, devices, events, jobs
from reconciler.store.database import Connection, Database

_log = logging.getLogger(__name__)


async def run(
    database: Database,
    clock: Clock,
    presence: devices.Presence,
    ways: downloads.Ways,
    changed: Callable[[], None],
) -> None:
    """Carries out commands as they come, until cancelled. `changed` is called when all are."""
    retry = backoff.Backoff(1.0, 10.0)
    while True:
        try:
            if await database.read(commands.waiting):
                while await database.write(carry_out_all, presence, clock.now(), ways):
                    pass  # between two parts of a large one, ingest has its turn at the writer
                changed()
        except errors.ReconcilerError as error:
            _log.warning("commands wait: %s", error.message)
            await asyncio.sleep(retry.failed())
        else:
            retry.succeeded()
            await asyncio.sleep(1.0)


def carry_out_all(
    connection: Connection,
    presence: devices.Presence,
    now: datetime,
    ways: downloads.Ways,
    *,
    chunk: int = jobs.CHUNK,
) -> int:
    """Every waiting command, in order, in one transaction; the number of them.

    One that is too large for a transaction stays, with how far it is: call again. Those after it do not wait for it,
    but for confirmations of whole batches, which are as large.

    Args:
        connection: a writing transaction.
        presence: who is there.
        now: this moment.
        ways: where devices can download.
        chunk: how many tasks are confirmed at most.
    """
    waiting = commands.waiting(connection)
    is_full = False
    for command in waiting:
        request = None
        try:
            request = requests.read(command.type, command.arguments)
            if is_full and isinstance(request, requests.ConfirmTasks):
                continue
            order = orders.Order(connection, command, request, presence, now, ways, chunk)
            result, ok = _CARRY_OUT[type(request)](order, request), True
        except errors.UserError as error:
            result, ok = error.message, False
        if isinstance(result, orders.Unfinished):
            commands.went_on(connection, command.id, result.arguments)
            is_full = True
            continue
        commands.done(connection, command.id, ok=ok, result=result, now=now)
        events.append(connection, now, [_line(command, request, result)])
    return len(waiting)


def _line(command: commands.Command, request: requests.Request | None, result: str) -> events.Event:
    """The log's line: what was asked, by whom, why, and what came of it."""
    why = f" ({command.why})" if command.why else ""
    return events.Event(
        type=events.Type.COMMAND,
        kind=str(request.kind) if request is not None else None,
        name=request.name if request is not None else None,
        message=f"{command.type} by {command.who}: {result}{why}",
    )


_CARRY_OUT: Mapping[type[requests.Request], Callable[[orders.Order, Any], str | orders.Unfinished]] = {
    requests.Cancel: orders.cancel,
    requests.ConfirmTasks: orders.confirm_tasks,
    requests.ConfirmDevices: orders.confirm_devices,
    requests.ConfirmCancels: orders.confirm_cancels,
    requests.ConfirmHeld: orders.confirm_held,
    requests.Resume: orders.resume,
    requests.Retry: orders.retry,
    requests.Suspend: orders.suspend,
}
