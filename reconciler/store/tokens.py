"""Tokens of the API: who may ask the daemon what. Made, listed and deleted by the `token` command, checked by the API.

A token is 256 random bits. The database keeps its SHA-256 and not the token: a copy of the database opens nothing. No
slow hash and no salt is needed for that: there is no dictionary of such tokens, and nobody tries out 2^256 of them.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import hmac
import re
import secrets
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from reconciler.store import tables

PREFIX = "rct_"
"""What a token begins with, so that scanners for leaked secrets can tell it."""
_BYTES = 32
_TOKEN = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")


class Role(enum.StrEnum):
    """What a token is good for."""

    READ = "read"
    """To look, and to change nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A token, without what opens anything."""

    name: str
    role: Role
    created_at: datetime


def create(connection: Connection, name: str, role: Role, now: datetime) -> str:
    """Makes a token of a name that none has yet; what is returned is kept nowhere."""
    token = PREFIX + secrets.token_urlsafe(_BYTES)
    row = {"name": name, "role": str(role), "digest": _digest(token), "created_at": now}
    connection.execute(insert(tables.token).values(row))
    return token


def listed(connection: Connection) -> list[Token]:
    """All tokens, by name."""
    table = tables.token
    query = select(table.c.name, table.c.role, table.c.created_at).order_by(table.c.name)
    return [Token(row.name, Role(row.role), row.created_at) for row in connection.execute(query)]


def remove(connection: Connection, name: str) -> bool:
    """Makes a token worthless at once; False when there is none of that name."""
    return bool(connection.execute(delete(tables.token).where(tables.token.c.name == name)).rowcount)


def opens(connection: Connection, token: str, role: Role) -> bool:
    """Whether a token is one of ours and has a role. How long that takes tells nothing about the tokens we have."""
    if not _TOKEN.fullmatch(token):
        return False
    digest, table = _digest(token), tables.token
    rows = connection.execute(select(table.c.digest).where(table.c.role == str(role))).scalars()
    return sum(hmac.compare_digest(digest, known) for known in rows) > 0  # compares with all, whichever it is


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
