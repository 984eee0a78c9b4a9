"""What is known about things as documents: `kind`, `metadata`, `spec`, `status` (conventions "Commands").

This is the machine-readable interface: fields are added, never renamed. Called by `get` and `describe`, which draw
their columns from the same documents.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from reconciler.domain import conditions, lifecycle, waiting
from reconciler.domain.actual import Phase
from reconciler.store import rates, status
from reconciler.store.database import Connection

Document = dict[str, Any]


def of_object(found: status.Object) -> Document:
    """A product, package, inventory or batch."""
    facts = facts_of(found)
    said: Document = {
        "sync": str(conditions.sync(facts)),
        "health": str(conditions.health(facts)),
        "reason": found.reason,
        "message": found.message,
        "observedDigest": found.digest,
        "declaredDigest": found.declared_digest,
        "revision": found.revision,
        "updatedAt": time(found.updated_at),
        "conditions": [_condition(given) for given in conditions.conditions(facts)],
    }
    if found.kind == "Batch":
        said = {
            "phase": conditions.phase(facts),
            "draining": conditions.draining(facts),
            **said,
            **_run(found.run),
        }
    metadata = {"name": found.name, "path": found.path, "createdAt": time(found.created_at)}
    return {"kind": found.kind, "metadata": metadata, "spec": dict(found.spec or {}), "status": said}


def facts_of(found: status.Object) -> conditions.Facts:
    """What an object's status is worked out from."""
    run, work = found.run, None
    if run is not None:
        work = conditions.Work(
            phase=Phase(run.phase),
            counts={lifecycle.Status(name): count for name, count in run.counts.items()},
            created_at=run.created_at,
            ended_at=run.ended_at,
            materializing=run.materializing,
            canceled_by=run.canceled_by,
        )
    return conditions.Facts(
        in_force=found.digest is not None,
        synced=found.synced,
        reason=found.reason,
        message=found.message,
        changed_at=found.updated_at,
        materializing=found.materializing,
        work=work,
    )


def _condition(given: conditions.Condition) -> Document:
    return {**dataclasses.asdict(given), "status": str(given.status), "since": time(given.since)}


def _run(run: status.Run | None) -> Document:
    """A batch's newest run. Every status is counted, also those of no task."""
    counts = run.counts if run is not None else {}
    said: Document = {
        "counts": {str(name): counts.get(name, 0) for name in lifecycle.Status},
        "total": run.total if run is not None else 0,
        "failures": dict(run.failures) if run is not None else {},
        "leftOut": dict(run.left_out) if run is not None else {},
    }
    if run is None:
        return {**said, "run": None}
    about = {
        "number": run.number,
        "package": run.package,
        "product": run.product,
        "targetVersion": run.target_version,
        "pushRatePerMinute": run.push_rate,
        "canceledBy": run.canceled_by,
        "createdAt": time(run.created_at),
        "endedAt": time(run.ended_at),
        "revision": run.revision,
    }
    return {**said, "run": about}


class Waits:
    """Works out what QUEUED tasks wait for; asks the database once for each run."""

    def __init__(self, connection: Connection, heartbeat_at: datetime | None, now: datetime) -> None:
        self._connection = connection
        self._heartbeat_at = heartbeat_at
        self._now = now
        self._pushed: dict[int, dict[int, int]] = {}

    def of(self, task: status.Task) -> str | None:
        """What a task waits for; None when it is not QUEUED."""
        if task.status != lifecycle.Status.QUEUED:
            return None
        if task.run_id not in self._pushed:
            second = int(self._now.timestamp())
            self._pushed[task.run_id] = rates.recent(self._connection, task.run_id, second)
        facts = waiting.Facts(
            heartbeat_at=self._heartbeat_at,
            push_delivery=task.push_delivery,
            online=task.online,
            push_due_at=task.push_due_at,
            push_rate=task.push_rate,
            pushed=self._pushed[task.run_id],
        )
        return str(waiting.waits_for(facts, self._now))


def of_task(found: status.Task, waits: str | None) -> Document:
    """One device's part in a batch."""
    reason = lifecycle.Reason(found.reason) if found.reason else None
    state = lifecycle.Status(found.status)
    said = {
        "status": found.status,
        "reason": found.reason,
        "waitsFor": waits,
        "why": waiting.why(state, reason, step=found.step, late_success=found.late_success),
        "step": found.step,
        "stepDescription": found.step_description,
        "lateSuccess": found.late_success,
        "pushes": found.pushes,
        "createdAt": time(found.created_at),
        "firstPushedAt": time(found.first_pushed_at),
        "startedAt": time(found.started_at),
        "endedAt": time(found.ended_at),
        "revision": found.revision,
    }
    names = {"batch": found.batch, "run": found.run, "product": found.product, "device": found.device}
    spec = {
        "module": found.module,
        "sourceVersion": found.source_version,
        "targetVersion": found.target_version,
    }
    return {
        "kind": "Task",
        "metadata": {"name": f"{found.batch}/{found.device}", **names},
        "spec": spec,
        "status": said,
    }


def of_device(found: status.Device) -> Document:
    """One device."""
    said = {
        "state": found.state,
        "online": found.online,
        "onlineSince": time(found.online_since) if found.online else None,
        "lastSeenAt": time(found.last_seen_at),
        "versions": dict(found.versions),
        "hasSecret": found.has_secret,
    }
    metadata = {
        "name": found.name,
        "product": found.product,
        "productKey": found.product_key,
        "tags": dict(found.tags),
    }
    return {"kind": "Device", "metadata": metadata, "spec": {}, "status": said}


def time(at: datetime | None) -> str | None:
    """A moment as machines read it: RFC 3339, UTC, milliseconds."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at is not None else None
