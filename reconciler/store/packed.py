"""Many rows as one value: a list of lists in JSON, into the database and out of it.

Ingest and dispatch move hundreds of rows beside a busy event loop. The driver lets go of the interpreter's lock at
each row that it fetches or writes one by one, and may wait for milliseconds each time until it has it back: 500 updates
took three seconds beside a busy thread, and 20 ms as one statement over a packed list. Statements over packed lists are
also the same text for any number of rows, so that they are compiled once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Subquery,
    Text,
    bindparam,
    func,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.types import TypeEngine


def pack(values: Iterable[Any]) -> str:
    """A list for a parameter; moments go in as milliseconds."""
    return orjson.dumps(values if isinstance(values, list) else list(values)).decode()


def members(parameter: str) -> Select[Any]:
    """A packed list of values, for `column.in_(…)`."""
    each = func.json_each(bindparam(parameter)).table_valued("value")
    return select(each.c.value)


def table(parameter: str, columns: Mapping[str, TypeEngine[Any]]) -> Subquery:
    """A packed list of rows as a table, for joins and `UPDATE … FROM`."""
    return in_order(parameter, columns).order_by(None).subquery(parameter)


def in_order(parameter: str, columns: Mapping[str, TypeEngine[Any]]) -> Select[Any]:
    """The same in the order of the list, for `INSERT … SELECT`."""
    each = func.json_each(bindparam(parameter)).table_valued("key", "value")
    found = [
        type_coerce(each.c.value.op("->>")(literal_column(str(place))), kind).label(name)
        for place, (name, kind) in enumerate(columns.items())
    ]
    return select(*found).order_by(each.c.key)


def rows(*columns: ColumnElement[Any]) -> ColumnElement[str]:
    """All rows of a query as one value; types are the database's own (moments are milliseconds)."""
    return func.json_group_array(func.json_array(*columns), type_=Text())


def read(connection: Connection, query: Select[Any], parameters: Mapping[str, Any]) -> Sequence[list[Any]]:
    """The rows of a query that selects `rows(…)`."""
    return cast("list[list[Any]]", orjson.loads(connection.execute(query, parameters).scalar_one()))
