"""A second look at tasks: whether their devices still fit (platform rules §4 "at the start", §5 "hold behind").

Called when a batch starts, and when a waiting task's turn comes. A version is judged once for each run, not for each
device.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select, tuple_

from reconciler.domain import lifecycle, targeting
from reconciler.store import bulk, dialects, tables

_task, _run, _version = tables.task, tables.run, tables.device_version

_MEANS = {
    targeting.LeftOut.ALREADY: (
        lifecycle.Trigger.REPORTED_TARGET,
        "its device is on the target version already",
    ),
    targeting.LeftOut.SOURCE: (
        lifecycle.Trigger.UNFIT,
        "its device is on none of the batch's source versions",
    ),
    targeting.LeftOut.DOWNGRADE: (
        lifecycle.Trigger.WOULD_DOWNGRADE,
        "its device is on a higher version by now",
    ),
}
"""What it means to a task that its device would be left out, and what the log says."""

reported: ColumnElement[str | None] = (
    select(_version.c.version)
    .where(_version.c.device_id == _task.c.device_id, _version.c.module == _task.c.module)
    .scalar_subquery()
)
"""What a task's device reports for its module."""

_known = func.coalesce(reported, "")

Verdicts = Mapping[targeting.LeftOut | None, list[tuple[int, str]]]
"""Runs and versions by what the run's conditions say of the version; None: it fits."""


def judge(connection: Connection, which: ColumnElement[bool]) -> Verdicts:
    """What the runs of some tasks say of the versions that their devices report now; empty when there are none."""
    asked = select(_task.c.run_id, _known.label("version")).where(which).distinct().subquery()
    query = select(
        asked.c.run_id,
        asked.c.version,
        _run.c.module,
        _run.c.target_version,
        _run.c.source_versions,
        _run.c.allow_downgrade,
    ).join(_run, _run.c.id == asked.c.run_id)
    found: dict[targeting.LeftOut | None, list[tuple[int, str]]] = collections.defaultdict(list)
    for row in connection.execute(query):
        verdict = targeting.judge(conditions(row), row.version or None)
        found[verdict].append((row.run_id, row.version))
    return found


def conditions(run: Row[*tuple[Any, ...]]) -> targeting.Conditions:
    """What a row of `run` asks of a device's version."""
    return targeting.Conditions(
        run.module, run.target_version, tuple(run.source_versions), allow_downgrade=run.allow_downgrade
    )


def fits(verdicts: Verdicts) -> ColumnElement[bool]:
    """A task's device may be upgraded by its run."""
    return _given(verdicts, None)


def _given(verdicts: Verdicts, verdict: targeting.LeftOut | None) -> ColumnElement[bool]:
    return tuple_(_task.c.run_id, _known).in_(dialects.pairs(verdicts.get(verdict, [])))


def end(connection: Connection, which: ColumnElement[bool], verdicts: Verdicts, now: datetime) -> bulk.Ended:
    """Ends those of the judged tasks whose devices don't fit any more."""
    ended = bulk.Ended()
    for verdict, (trigger, message) in _MEANS.items():
        if verdicts.get(verdict):
            here = and_(which, _given(verdicts, verdict))
            ended |= bulk.end(connection, here, trigger, now, message=message)
    return ended
