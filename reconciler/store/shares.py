"""Finds where a gray batch's share ends, in the order that the batch's name gives the devices (`domain.targeting`).

Called by `static` when a run begins and by `census` for a plan, each with its own query for the devices that fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select

from reconciler.domain import targeting
from reconciler.store import tables

_name = tables.device.c.name


def last(
    connection: Connection,
    fitting: Select[Any],
    key: ColumnElement[int],
    share: tuple[int, int],
    given: Mapping[str, Any] | None = None,
) -> tuple[int, str]:
    """Key and name of the last device that a share takes.

    Keys are spread evenly, as far as a hash does that: where so many of them end can be foreseen, and only what lies
    on this side of it is sorted. Whoever has made names for which that doesn't hold gets all of them sorted.

    Args:
        connection: a reading transaction, the one in which `share` was counted.
        fitting: the devices that fit, `tables.device` among its tables; its columns are replaced.
        key: `devices.gray_key` of the batch.
        share: how many devices it takes, at least one, of how many that fit.
        given: the parameters of `fitting` and `key`.
    """
    taken, base = share
    forward = 2 * taken <= base  # from the end that is nearer
    rank = taken if forward else base - taken + 1
    reach = targeting.MODULUS * (rank + 6 * math.isqrt(rank) + 10) // base
    order = (key, _name) if forward else (key.desc(), _name.desc())
    query = fitting.with_only_columns(key, _name).order_by(*order).limit(1).offset(rank - 1)
    near = key <= reach if forward else key >= targeting.MODULUS - reach
    row = connection.execute(query.where(near), given).first() or connection.execute(query, given).one()
    return row[0], row[1]
