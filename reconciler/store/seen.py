"""The newest messages' hashes: tells a redelivery after a crash from a message that a device sent again (engine §2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, func, insert, select

from reconciler.store import tables

RING = 8192
"""How many are kept: more than the transports leave unacknowledged at any time."""

_seen = tables.seen_message


def fingerprint(topic: str, payload: bytes) -> bytes:
    """What a message is recognised by."""
    return hashlib.blake2b(
        payload, digest_size=12, key=hashlib.blake2b(topic.encode(), digest_size=32).digest()
    ).digest()


def among(connection: Connection, hashes: Iterable[bytes]) -> set[bytes]:
    """Those of some messages that were committed already."""
    listed = list(hashes)
    if not listed:
        return set()
    return set(connection.execute(select(_seen.c.hash).where(_seen.c.hash.in_(listed))).scalars())


def remember(connection: Connection, hashes: Sequence[bytes]) -> None:
    """Adds the messages of this transaction, and forgets those that left the ring."""
    if hashes:
        connection.execute(insert(_seen), [{"hash": value} for value in hashes])
        newest = select(func.max(_seen.c.id)).scalar_subquery()
        connection.execute(delete(_seen).where(_seen.c.id <= newest - RING))
