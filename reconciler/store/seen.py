"""The newest messages' hashes: tells a redelivery after a crash from a message that a device sent again (engine §2)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from reconciler.store import tables

RING = 8192
"""How many are kept at least: more than the transports leave unacknowledged at any time."""
_SIZE = 12

_seen = tables.seen_message


def fingerprint(topic: str, payload: bytes) -> bytes:
    """What a message is recognised by."""
    return hashlib.blake2b(topic.encode() + b"\0" + payload, digest_size=_SIZE).digest()


def among(connection: Connection, hashes: Collection[bytes]) -> set[bytes]:
    """Those of some messages that were committed already."""
    if not hashes:
        return set()
    wanted, found = set(hashes), set()
    for burst in connection.execute(select(_seen.c.hashes)).scalars():
        found |= wanted.intersection(burst[at : at + _SIZE] for at in range(0, len(burst), _SIZE))
    return found


_newest = select(func.coalesce(func.max(_seen.c.id), 0)).scalar_subquery()
_add = insert(_seen).values(id=_newest + bindparam("count"), hashes=bindparam("burst"))
_forget = delete(_seen).where(_seen.c.id <= _newest - bindparam("ring"))


def remember(connection: Connection, hashes: Sequence[bytes], ring: int = RING) -> None:
    """Adds the messages of this transaction, and forgets the bursts that left the ring."""
    if hashes:
        connection.execute(_add, {"count": len(hashes), "burst": b"".join(hashes)})
        connection.execute(_forget, {"ring": ring})
