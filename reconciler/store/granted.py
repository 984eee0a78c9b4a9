"""Looks up what a download URL opens: a file, while the task that it was made for is not cancelled.

Called by the download server through the composition root, once for each request. The URL's signature was checked.
"""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection, select

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
    """The file of a task's URL; None when the task has no such file, or was cancelled, or there is no such task.

    The file is one of those that the task's package has now: a number alone could name another one in a database that
    was lost and filled anew, while devices keep their URLs.
    A task that ended otherwise may still fetch it: its URL is valid for as long as its device was told (device
    protocol §2), and a late success is worth something.
    """
    blob, task, run, file = tables.blob, tables.task, tables.run, tables.package_file
    query = (
        select(blob.c.sha256, blob.c.size, run.c.batch)
        .select_from(task)
        .join(run, run.c.id == task.c.run_id)
        .join(file, file.c.package_id == run.c.package_id)
        .join(blob, blob.c.id == file.c.blob_id)
        .where(blob.c.id == blob_id, blob.c.stored, task.c.id == task_id)
        .where(task.c.status != lifecycle.Status.CANCELED)
    )
    row = connection.execute(query).first()
    return File(row.sha256, row.size, row.batch) if row else None
