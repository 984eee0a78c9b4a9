"""Carries out what operators asked for with the CLI: rows of the `command` table, each done once, kept with its result.

The daemon looks every second; `reconciler apply` looks once. What each order does, and when it is refused, is `orders`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from reconciler import errors
from reconciler.services import backoff, orders
from reconciler.services.clock import Clock
from reconciler.store import commands, devices, events
from reconciler.store.database import Connection, Database

_log = logging.getLogger(__name__)


async def run(
    database: Database, clock: Clock, presence: devices.Presence, changed: Callable[[], None]
) -> None:
    """Carries out commands as they come, until cancelled. `changed` is called when all are."""
    retry = backoff.Backoff(1.0, 10.0)
    while True:
        try:
            if await database.read(commands.waiting):
                while await database.write(carry_out_all, presence, clock.now()):
                    pass  # between two parts of a large one, ingest has its turn at the writer
                changed()
        except errors.ReconcilerError as error:
            _log.warning("commands wait: %s", error.message)
            await asyncio.sleep(retry.failed())
        else:
            retry.succeeded()
            await asyncio.sleep(1.0)


def carry_out_all(connection: Connection, presence: devices.Presence, now: datetime) -> int:
    """Every waiting command, in order, in one transaction; the number of them.

    One that is too large for a transaction stays, with how far it is: call again. Those after it do not wait for it,
    but for confirmations of whole batches, which are as large.
    """
    waiting = commands.waiting(connection)
    is_full = False
    for command in waiting:
        if is_full and command.arguments.get("tasks"):
            continue
        order = orders.Order(connection, command, presence, now)
        try:
            result, ok = _carry_out(order), True
        except errors.UserError as error:
            result, ok = error.message, False
        if isinstance(result, orders.Unfinished):
            commands.went_on(connection, command.id, result.arguments)
            is_full = True
            continue
        commands.done(connection, command.id, ok=ok, result=result, now=now)
        _note(order, result)
    return len(waiting)


def _note(order: orders.Order, result: str) -> None:
    """The log's line: what was asked, by whom, why, and what came of it."""
    command = order.command
    line = events.Event(
        type=events.Type.COMMAND,
        kind=str(order.kind),
        name=command.arguments.get("package") or command.arguments.get("batch"),
        message=f"{command.type} by {command.who}: {result}" + (f" ({command.why})" if command.why else ""),
    )
    events.append(order.connection, order.now, [line])


def _carry_out(order: orders.Order) -> str | orders.Unfinished:
    known = _CARRY_OUT.get(order.command.type)
    if known is None:
        raise errors.UserError(
            f"this daemon knows no command {order.command.type}: it is older than the program that sent it"
        )
    try:
        return known(order)
    except (KeyError, TypeError) as error:
        raise errors.UserError(
            f"this daemon does not understand the arguments of {order.command.type} ({error!r}):"
            " the program that sent it is of another version"
        ) from error


_CARRY_OUT: Mapping[str, Callable[[orders.Order], str | orders.Unfinished]] = {
    "cancel": orders.cancel,
    "confirm": orders.confirm,
    "resume": orders.resume,
    "retry": orders.retry,
    "suspend": orders.suspend,
}
