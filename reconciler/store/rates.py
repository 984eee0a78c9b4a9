"""How many pushes each second of each run took: the memory of the push rate (engine §4)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from reconciler.domain import throttle
from reconciler.store import tables

_slot = tables.rate_slot


def recent(connection: Connection, run_id: int, second: int) -> dict[int, int]:
    """Pushes by Unix second in the window that ends with `second`."""
    query = select(_slot.c.second, _slot.c.pushed).where(
        _slot.c.run_id == run_id, _slot.c.second > second - throttle.WINDOW_SECONDS
    )
    return {row.second: row.pushed for row in connection.execute(query)}


_add = insert(_slot).values(run_id=bindparam("run"), second=bindparam("at"), pushed=bindparam("more"))
_add = _add.on_conflict_do_update(
    index_elements=["run_id", "second"], set_={"pushed": _slot.c.pushed + _add.excluded.pushed}
)


def move(connection: Connection, second: int, jump: int) -> None:
    """The clock jumped: what was pushed in the window that ended with `second` was pushed as long ago as before.

    Args:
        connection: a writing transaction.
        second: the last one by the clock as it was.
        jump: seconds; the past of a clock that was set forward comes after it.
    """
    window = _slot.c.second.between(second - throttle.WINDOW_SECONDS, second)
    moved = connection.execute(select(_slot.c.run_id, _slot.c.second, _slot.c.pushed).where(window)).all()
    connection.execute(delete(_slot).where(window))
    rows = [{"run": run_id, "at": at + jump, "more": pushed} for run_id, at, pushed in moved]
    if rows:
        connection.execute(_add, rows)


def take(connection: Connection, second: int, pushed: Mapping[int, int]) -> None:
    """Records pushes by run."""
    rows = [{"run": run_id, "at": second, "more": count} for run_id, count in sorted(pushed.items()) if count]
    if rows:
        connection.execute(_add, rows)


def forget(connection: Connection, second: int) -> None:
    """Forgets seconds that no rate looks at any more; not before a jump of the clock was noted (`move`)."""
    connection.execute(delete(_slot).where(_slot.c.second < second - 2 * throttle.WINDOW_SECONDS))
