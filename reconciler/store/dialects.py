"""The few expressions that differ between databases. Everything else is plain SQLAlchemy Core."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from sqlalchemy import BigInteger, ColumnElement, Select, String, bindparam, cast, func, select
from sqlalchemy.types import TypeEngine


def members(values: Iterable[int | str]) -> Select[tuple[int | str]]:
    """A list of values as a sub-select, for `column.in_(…)`: one bound parameter, however long the list is.

    An expanding IN has a limit of parameters and is compiled anew for each length.
    """
    listed = list(values)
    kind: TypeEngine[int] | TypeEngine[str] = (
        String() if listed and isinstance(listed[0], str) else BigInteger()
    )
    each = func.json_each(bindparam(None, orjson.dumps(listed).decode())).table_valued("value")
    return select(cast(each.c.value, kind))


def later_of(column: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
    """The larger of two numbers."""
    return func.max(column, other)


def earlier_of(column: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
    """The smaller of two numbers."""
    return func.min(column, other)
