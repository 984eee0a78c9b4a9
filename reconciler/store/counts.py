"""Counts of a run's tasks by status and reason: moved with the tasks, so that nobody ever counts a fleet."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping

from sqlalchemy import ColumnElement, Connection, FromClause, bindparam, exists, func, select, update
from sqlalchemy.dialects.sqlite import insert

from reconciler.domain import lifecycle
from reconciler.store import dialects, tables

_count = tables.task_count

_less = (
    update(_count)
    .where(
        _count.c.run_id == bindparam("run"),
        _count.c.status == bindparam("is"),
        _count.c.reason == bindparam("why"),
    )
    .values(count=_count.c.count - bindparam("by"))
)
_more = insert(_count).values(
    run_id=bindparam("run"), status=bindparam("is"), reason=bindparam("why"), count=bindparam("by")
)
_more = _more.on_conflict_do_update(
    index_elements=["run_id", "status", "reason"], set_={"count": _count.c.count + _more.excluded.count}
)

Place = tuple[int, lifecycle.Status, lifecycle.Reason | None]
"""Run, status and reason: where a task is counted."""


class Moves:
    """Collects what a transaction moves, to be written once, last, in sorted order."""

    def __init__(self) -> None:
        self._by: collections.Counter[Place] = collections.Counter()

    def add(self, to: Place, count: int = 1) -> None:
        """New tasks."""
        self._by[to] += count

    def move(self, origin: Place, to: Place, count: int = 1) -> None:
        """Tasks that changed their status."""
        self._by[origin] -= count
        self._by[to] += count

    def write(self, connection: Connection) -> frozenset[int]:
        """Writes the counters; the runs that changed."""
        rows = [
            {"run": run, "is": str(status), "why": str(reason or ""), "by": by}
            for (run, status, reason), by in self._by.items()
            if by
        ]
        rows.sort(key=lambda row: (row["run"], row["is"], row["why"]))
        less = [{**row, "by": -row["by"]} for row in rows if row["by"] < 0]  # type: ignore[operator]
        more = [row for row in rows if row["by"] > 0]  # type: ignore[operator]
        if less:
            connection.execute(_less, less)
        if more:
            connection.execute(_more, more)
        return frozenset(run for run, _, _ in self._by)


def read(connection: Connection, run_ids: Iterable[int]) -> Mapping[int, Mapping[lifecycle.Status, int]]:
    """Counts by status of each run; runs without tasks are absent."""
    query = (
        select(_count.c.run_id, _count.c.status, func.sum(_count.c.count).label("count"))
        .where(_count.c.run_id.in_(dialects.members(run_ids)), _count.c.count > 0)
        .group_by(_count.c.run_id, _count.c.status)
    )
    found: dict[int, dict[lifecycle.Status, int]] = {}
    for row in connection.execute(query):
        found.setdefault(row.run_id, {})[lifecycle.Status(row.status)] = int(row[2])
    return found


def failures(connection: Connection, run_id: int) -> Mapping[str, int]:
    """How many tasks of a run failed, by reason."""
    query = select(_count.c.reason, _count.c.count).where(
        _count.c.run_id == run_id, _count.c.status == lifecycle.Status.FAILED, _count.c.count > 0
    )
    return {row.reason: row[1] for row in connection.execute(query)}


def goes_on(run: FromClause = tables.run) -> ColumnElement[bool]:
    """A run has tasks that have not ended."""
    return exists().where(
        _count.c.run_id == run.c.id, _count.c.status.in_(lifecycle.UNFINISHED), _count.c.count > 0
    )


def unfinished(counted: Mapping[lifecycle.Status, int]) -> dict[lifecycle.Status, int]:
    """Of a run's counts, those of tasks that have not ended."""
    return {status: count for status, count in counted.items() if status in lifecycle.UNFINISHED}
