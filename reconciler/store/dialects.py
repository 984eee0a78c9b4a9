"""The few expressions that differ between databases. Everything else is plain SQLAlchemy Core."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    String,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.sql.selectable import CTE
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


def holds(task: FromClause) -> ColumnElement[bool]:
    """A task occupies its device: written as the partial indexes have it, or they are not used."""
    return task.c.holds == literal_column("1")


def waits(task: FromClause) -> ColumnElement[bool]:
    """A task waits for its device: the value stands in the text, because no parameter makes a partial index usable."""
    return task.c.hold == literal_column("'behind'")


def asks(task: FromClause) -> ColumnElement[bool]:
    """A task waits to be confirmed; in the text, too."""
    return task.c.status == literal_column("'CONFIRM'")


def once(query: Select[Any], name: str) -> CTE:
    """A query whose rows are worked out once, however often their columns are used."""
    return query.cte(name).prefix_with("MATERIALIZED")


def pairs(values: Iterable[tuple[int, str]]) -> Select[int, str]:
    """A list of numbers with texts as a sub-select, for `tuple_(…).in_(…)`: one bound parameter, like `members`."""
    listed = [list(pair) for pair in values]
    each = func.json_each(bindparam(None, orjson.dumps(listed).decode())).table_valued("value")
    first, second = (each.c.value.op("->>")(literal_column(place)) for place in ("0", "1"))
    return select(type_coerce(first, BigInteger()), type_coerce(second, String()))
