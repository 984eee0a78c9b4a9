"""What operators ask for, as rows: written by the CLI, carried out by the daemon, kept with who and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from reconciler.store import tables

_command = tables.command


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """One order of an operator."""

    id: int
    type: str
    arguments: Mapping[str, Any]
    who: str
    why: str
    done_at: datetime | None = None
    result: str | None = None
    ok: bool | None = None


def submit(
    connection: Connection, type_: str, arguments: Mapping[str, Any], *, who: str, why: str, now: datetime
) -> int:
    """Writes an order down; its id."""
    result = connection.execute(
        insert(_command).values(type=type_, arguments=dict(arguments), who=who, why=why, created_at=now)
    )
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def waiting(connection: Connection) -> list[Command]:
    """The orders that nobody has carried out yet, oldest first."""
    rows = connection.execute(select(_command).where(_command.c.done_at.is_(None)).order_by(_command.c.id))
    return [Command(row.id, row.type, row.arguments, row.who, row.why) for row in rows]


def done(connection: Connection, command_id: int, *, ok: bool, result: str, now: datetime) -> None:
    """An order was carried out, or can't be."""
    connection.execute(
        update(_command).where(_command.c.id == command_id).values(done_at=now, ok=ok, result=result)
    )


def went_on(connection: Connection, command_id: int, arguments: Mapping[str, Any]) -> None:
    """A part of an order was carried out; its arguments say how far it is."""
    connection.execute(update(_command).where(_command.c.id == command_id).values(arguments=dict(arguments)))


def get(connection: Connection, command_id: int) -> Command:
    """One order, as it is now."""
    row = connection.execute(select(_command).where(_command.c.id == command_id)).one()
    return Command(row.id, row.type, row.arguments, row.who, row.why, row.done_at, row.result, row.ok)
