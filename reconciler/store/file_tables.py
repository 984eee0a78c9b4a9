"""The tables of files: those in the content-addressed store, and those that are to come from outside.

Part of `tables`, through which everybody uses them.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, String, Table, Text, UniqueConstraint, text

from reconciler.store.columns import Id, Moment, metadata, one_of

# A file in the content-addressed store.
blob = Table(
    "blob",
    metadata,
    Column("id", Id, primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("md5", String(32), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False),
    # False: it was collected, because nothing needed it any more, or went missing.
    Column("stored", Boolean, nullable=False, server_default=text("1")),
    # Since when nothing needs it. NULL: something does.
    Column("unused_since", Moment),
)

# A file from outside that the newest commit names: the intent to have it, which lasts as long as Git names it, and how
# far it is. It is here as soon as its blob is stored.
fetch = Table(
    "fetch",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    # What the manifest says; NULL: nothing.
    Column("size", BigInteger),
    Column("received", BigInteger, nullable=False, server_default=text("0")),
    Column("total", BigInteger),
    # Attempts in a row that brought nothing, and when the next one is.
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("retry_at", Moment),
    # Final: what is there is another file (`mismatch`), or may not be fetched (`refused`, until the next start).
    Column("failure", String(8)),
    Column("message", Text, nullable=False, server_default=""),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("sha256", "source"),
    one_of("failure", ["mismatch", "refused"], "failure"),
)
