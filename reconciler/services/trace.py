"""Answers "why was this device (not) upgraded?": reads the facts of one device, and has the domain look at them.

Called by `reconciler trace`. One device and the runs of its product are read, never the fleet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime

from reconciler.domain import lifecycle, trace, trace_facts, waiting
from reconciler.domain.actual import RunType
from reconciler.domain.limits import DEFAULT, Limits
from reconciler.store import events, evidence, status, task_views
from reconciler.store.database import Connection

_HISTORY, _TASKS = 8, 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Traced:
    """One batch, or verification, and what it has to do with the device."""

    name: str
    kind: str
    run: int | None
    """The number of its newest run; None: it never had one."""
    target_version: str
    trace: trace_facts.Trace
    task: status.Task | None = None
    history: tuple[events.Line, ...] = ()
    """The newest lines of the log about the task, oldest first."""


def device(
    connection: Connection,
    device_id: int,
    now: datetime,
    limits: Limits = DEFAULT,
    *,
    only: str | None = None,
) -> list[Traced]:
    """Every batch of a device's product, newest first, and then those that never began.

    Args:
        connection: a reading transaction.
        device_id: the device.
        now: this moment.
        limits: the operator's numbers.
        only: the one batch, or package, that is asked for. Without it, verifications of other devices and batches
            that left Git without a task for the device are left away.
    """
    of = evidence.device(connection, device_id)
    tasks = _newest(task_views.tasks(connection, status.TaskFilter(device_id=device_id), _TASKS))
    waits = task_views.Waits(connection, now)
    found = []
    for run in evidence.runs(connection, of, limits):
        several = tasks.get(run.id, [])
        if run.batch.name == only or (only is None and _concerns(run, several)):
            found.append(_traced(connection, of, run, several, waits=waits, now=now))
    held = [held for held in evidence.never_began(connection, of) if only in {None, held.name}]
    return [*found, *(_held(each) for each in held)]


def _newest(tasks: Sequence[status.Task]) -> dict[int, list[status.Task]]:
    """By run, newest first."""
    found: dict[int, list[status.Task]] = {}
    for task in tasks:
        found.setdefault(task.run_id, []).append(task)
    return found


def _concerns(run: evidence.Run, tasks: Sequence[status.Task]) -> bool:
    if tasks or run.batch.left_out is not None:
        return True
    return run.in_git and (run.batch.type is not RunType.VERIFY or run.batch.listed is not False)


def _traced(
    connection: Connection,
    of: evidence.Device,
    run: evidence.Run,
    tasks: Sequence[status.Task],
    *,
    waits: task_views.Waits,
    now: datetime,
) -> Traced:
    task = tasks[0] if tasks else None
    facts = _task(task, len(tasks), waits) if task is not None else None
    asked = run.batch.conditions
    return Traced(
        run.batch.name,
        run.kind,
        run.number,
        asked.target_version,
        trace.trace(of.of(asked.module), run.batch, facts, now),
        task,
        tuple(events.of_task(connection, of.id, task.id, _HISTORY)) if task is not None else (),
    )


def _task(task: status.Task, matches: int, waits: task_views.Waits) -> trace_facts.Task:
    reason = lifecycle.Reason(task.reason) if task.reason else None
    return trace_facts.Task(
        facts=waits.facts(task),
        reason=reason,
        why=waiting.why(task.facts, reason, step=task.step, late_success=task.late_success),
        source_version=task.source_version,
        ended_at=task.ended_at,
        pushes=task.pushes,
        last_pushed_at=task.last_pushed_at,
        matches=matches,
    )


def _held(held: evidence.Held) -> Traced:
    return Traced(held.name, "Batch", None, "", trace.never_began(held.reason, held.message))
