"""Rows of the table `job`: work on a run's devices or tasks that is still to be done, chunk by chunk.

Written by whoever decides that there is work (`runs`, `groups`), read by `jobs`, which does it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, insert, select, update

from reconciler.store import devices, tables

_job = tables.job

CHUNK = 2_000
"""Devices or tasks a transaction: what others wait for the writer at most (engine §3)."""


class Type(enum.StrEnum):
    """What is to be done."""

    CREATE = "create"
    """A static run's tasks are made; the cursor is a device's name."""
    START = "start"
    """A run starts: who does not fit any more is filtered out; the cursor is a device's id, as in those that follow."""
    CANCEL = "cancel"
    """Tasks in some statuses end: `{"statuses": […], "message": "…"}`."""
    END = "end"
    """The schedule is over."""
    SCAN = "scan"
    """A dynamic run looks for devices that match already; the cursor is a device's id, or a name."""


COMPLETING = (Type.CREATE, Type.START, Type.SCAN)
"""While one of these is open, a run's last task may still come: it does not complete."""


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """One chunk of one job: everything that its work needs."""

    connection: Connection
    job: Row[*tuple[Any, ...]]
    run: Row[*tuple[Any, ...]]
    presence: devices.Presence
    now: datetime
    size: int


def add(connection: Connection, run_id: int, type_: str, arguments: Mapping[str, Any] | None = None) -> None:
    """Gives a run work. One that is open already starts anew, with the new arguments.

    But for a cancellation: a further one comes beside it, as it ends other tasks, for a reason of its own.
    """
    if type_ != Type.CANCEL:
        drop(connection, run_id, (type_,))
    values = {"run_id": run_id, "type": str(type_), "arguments": dict(arguments or {})}
    connection.execute(insert(_job).values(**values))


def drop(connection: Connection, run_id: int, types: tuple[str, ...]) -> None:
    """Takes work from a run that is not wanted any more."""
    connection.execute(delete(_job).where(_job.c.run_id == run_id, _job.c.type.in_([str(t) for t in types])))


def any_open(connection: Connection) -> bool:
    """A cheap look: whether any work is open."""
    return bool(connection.execute(select(exists(select(_job.c.id)))).scalar())


def move(connection: Connection, job_id: int, cursor: str | int | None) -> None:
    """How far it is now; None: done."""
    if cursor is None:
        connection.execute(delete(_job).where(_job.c.id == job_id))
    else:
        connection.execute(update(_job).where(_job.c.id == job_id).values(cursor=str(cursor)))
