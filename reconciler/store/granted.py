"""Looks up what a download URL opens: a file, while the task that it was made for is not cancelled.

Called by the download server through the composition root, once for each request. The URL's signature was checked.
"""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection, and_, select

from reconciler.domain import lifecycle
from reconciler.store import tables


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """What may be downloaded."""

    sha256: str
    size: int
    """Bytes."""
    batch: str
    """Whose limits the download counts in."""


def find(connection: Connection, blob_id: int, task_id: int) -> File | None:
    """The file of a task's URL; None when there is no such file or task, or the task was cancelled.

    A task that ended otherwise may still fetch it: its URL is valid for as long as its device was told (device
    protocol §2), and a late success is worth something.
    """
    blob, task, run = tables.blob, tables.task, tables.run
    query = (
        select(blob.c.sha256, blob.c.size, run.c.batch)
        .select_from(task)
        .join(run, run.c.id == task.c.run_id)
        .join(blob, and_(blob.c.id == blob_id, blob.c.stored))
        .where(task.c.id == task_id, task.c.status != lifecycle.Status.CANCELED)
    )
    row = connection.execute(query).first()
    return File(row.sha256, row.size, row.batch) if row else None
