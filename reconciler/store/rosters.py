"""Long lists of device names, kept by the digest of their content.

Staged in chunks before the transaction that uses them, so that applying a list of a million names is one row.
Staging the same list twice, or again after a crash, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.sqlite import insert

from reconciler.store import tables

_roster, _entry = tables.roster, tables.roster_entry


def begin(connection: Connection, digest: str) -> tuple[int, bool]:
    """The id of the list with this digest, made when it is new; and whether it is complete."""
    connection.execute(
        insert(_roster)
        .values(digest=digest, complete=False)
        .on_conflict_do_nothing(index_elements=["digest"])
    )
    row = connection.execute(select(_roster.c.id, _roster.c.complete).where(_roster.c.digest == digest)).one()
    return row.id, row.complete


def add(
    connection: Connection, roster_id: int, entries: Iterable[tuple[str, Mapping[str, str] | None]]
) -> None:
    """Adds names, with their tags where the list has any."""
    rows = [
        {"roster_id": roster_id, "name": name, "tags": dict(tags) if tags else None} for name, tags in entries
    ]
    if rows:
        connection.execute(insert(_entry).on_conflict_do_nothing(), rows)


def complete(connection: Connection, roster_id: int) -> None:
    """The list is whole."""
    connection.execute(update(_roster).where(_roster.c.id == roster_id).values(complete=True))


def find(connection: Connection, digest: str) -> int | None:
    """The id of a complete list."""
    query = select(_roster.c.id).where(_roster.c.digest == digest, _roster.c.complete)
    return connection.execute(query).scalar_one_or_none()
