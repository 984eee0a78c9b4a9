"""Carries out what operators asked for with the CLI: rows of the `command` table, each done once, kept with its result.

The daemon looks every second; `reconciler apply` looks once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from reconciler import errors
from reconciler.domain import actual, plan, resources
from reconciler.domain.desired import Key
from reconciler.domain.resources import Kind
from reconciler.services import backoff
from reconciler.services.clock import Clock
from reconciler.store import commands, events, objects, runs
from reconciler.store.commands import Command
from reconciler.store.database import Connection, Database

_log = logging.getLogger(__name__)


async def run(database: Database, clock: Clock, changed: Callable[[], None]) -> None:
    """Carries out commands as they come, until cancelled. `changed` is called after each."""
    retry = backoff.Backoff(1.0, 10.0)
    while True:
        try:
            if await database.read(commands.waiting):
                await database.write(carry_out_all, clock.now())
                changed()
        except errors.ReconcilerError as error:
            _log.warning("commands wait: %s", error.message)
            await asyncio.sleep(retry.failed())
        else:
            retry.succeeded()
            await asyncio.sleep(1.0)


def carry_out_all(connection: Connection, now: datetime) -> int:
    """Every waiting command, in order, in one transaction; the number of them."""
    waiting = commands.waiting(connection)
    for command in waiting:
        try:
            result, ok = _carry_out(connection, command, now), True
        except errors.UserError as error:
            result, ok = error.message, False
        commands.done(connection, command.id, ok=ok, result=result, now=now)
        line = events.Event(
            type=events.Type.COMMAND,
            kind="Batch",
            name=command.arguments.get("batch"),
            message=f"{command.type} by {command.who}: {result}"
            + (f" ({command.why})" if command.why else ""),
        )
        events.append(connection, now, [line])
    return len(waiting)


def _carry_out(connection: Connection, command: Command, now: datetime) -> str:
    known = _CARRY_OUT.get(command.type)
    if known is None:
        raise errors.UserError(
            f"this daemon knows no command {command.type}: it is older than the program that sent it"
        )
    return known(connection, command, now)


def _cancel(connection: Connection, command: Command, now: datetime) -> str:
    """Cancels a batch by its `onCancel`. It stays so while its spec stays the same."""
    name = command.arguments["batch"]
    stored = objects.load(connection).objects.get(Key(Kind.BATCH, name))
    if stored is None or stored.run is None:
        raise errors.UserError(f"there is no batch {name} with a run")
    if stored.run.phase is not actual.Phase.IN_PROGRESS:
        raise errors.UserError(f"batch {name} is {stored.run.phase} already")
    scopes = (stored.spec or {}).get("onCancel", resources.DEFAULT_ON_CANCEL)
    cancellation = runs.Cancellation(command.who, plan.statuses_on_cancel(scopes), command.why)
    ended = runs.cancel(connection, stored.run.id, cancellation, now)
    left = stored.run.draining - ended
    return f"cancelled, {ended} task{'s' * (ended != 1)} ended, {left} {'goes' if left == 1 else 'go'} on"


def _confirm(connection: Connection, command: Command, now: datetime) -> str:
    """Releases held batches, or confirms the cancellations of the newest commit."""
    cancels = command.arguments.get("cancels")
    if cancels is not None:
        sha = command.arguments["revision"]
        objects.confirm_cancels(connection, sha, cancels, command.who, now)
        return f"confirmed {cancels} cancellations of {sha[:12]}"
    names = command.arguments.get("batches")
    released = objects.confirm(connection, names)
    missing = sorted(set(names or ()) - set(released))
    if missing:
        raise errors.UserError(f"not held: {', '.join(missing)}")
    return f"confirmed {', '.join(released)}" if released else "nothing was held"


_CARRY_OUT: Mapping[str, Callable[[Connection, Command, datetime], str]] = {
    "cancel": _cancel,
    "confirm": _confirm,
}
