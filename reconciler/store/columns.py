"""What tables are made of: how moments and durations are kept, how constraints are called, how rows are numbered.

Moments are whole milliseconds, ordered, the same in every database. Used by the tables, and by statements that
calculate with times.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, CheckConstraint, Integer, MetaData
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def milliseconds(moment: datetime) -> int:
    """An aware moment as the database keeps it: whole milliseconds since 1970 in UTC."""
    return (moment - _EPOCH) // MILLISECOND


def moment(stored: int) -> datetime:
    """The aware moment that the database keeps as milliseconds."""
    return _EPOCH + timedelta(milliseconds=stored)


class Moment(TypeDecorator[datetime]):
    """An aware UTC moment, kept as integer milliseconds: small, ordered, the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Into the database."""
        del dialect
        return None if value is None else milliseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Out of it."""
        del dialect
        return None if value is None else moment(value)


class Span(TypeDecorator[timedelta]):
    """A duration, kept as integer milliseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:
        """Into the database."""
        del dialect
        return None if value is None else value // MILLISECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:
        """Out of it."""
        del dialect
        return None if value is None else timedelta(milliseconds=value)


Number = BigInteger()
"""The bare integer under a Moment or a Span, for arithmetic in SQL."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column that is exactly INTEGER."""


def one_of(column: str, values: Iterable[str], name: str) -> CheckConstraint:
    """A column has one of these values."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name)
