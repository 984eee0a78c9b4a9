"""The state of everything in one number: every row of every table, and what every device runs."""

from __future__ import annotations

import hashlib

from sqlalchemy import select

from reconciler.store import tables
from reconciler.store.database import Connection

from .fleet import Fleet


def of(connection: Connection, fleet: Fleet) -> str:
    """Sixteen characters; nothing is left out, not even ids: the same seed numbers everything alike."""
    found = hashlib.sha256()
    for table in tables.metadata.sorted_tables:
        found.update(table.name.encode())
        for row in connection.exec_driver_sql(str(select(table).order_by(*table.primary_key))):
            found.update(repr(tuple(row)).encode())
    for device in fleet.devices:
        found.update(repr((device.address.device_name, sorted(device.versions.items()), device.on)).encode())
    return found.hexdigest()[:16]
