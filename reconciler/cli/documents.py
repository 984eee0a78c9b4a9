"""What is known about things as documents: `kind`, `metadata`, `spec`, `status` (conventions "Commands").

This is the machine-readable interface: fields are added, never renamed. Called by `get` and `describe`, which draw
their columns from the same documents.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from reconciler.domain import conditions, lifecycle, waiting
from reconciler.domain.actions import Reason
from reconciler.domain.actual import Phase, RunType, Verification
from reconciler.domain.resources import Kind
from reconciler.domain.targeting import LeftOut
from reconciler.store import status

Document = dict[str, Any]


def of_object(found: status.Object) -> Document:
    """A product, package, inventory, group or batch."""
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
    if facts.trial is not None:
        trial = facts.trial
        progress = {"state": str(trial.state), "done": trial.done, "total": trial.total}
        said |= {"verification": {**progress, "run": found.run.number if found.run is not None else None}}
    if found.kind == "Batch":
        said = {
            "phase": conditions.phase(facts),
            "draining": conditions.draining(facts),
            **said,
            **_run(found.run),
        }
    metadata = {"name": found.name, "path": found.path, "createdAt": time(found.created_at), **found.metadata}
    return {"kind": found.kind, "metadata": metadata, "spec": dict(found.spec or {}), "status": said}


def facts_of(found: status.Object) -> conditions.Facts:
    """What an object's status is worked out from."""
    run, work = found.run, None
    if run is not None and run.type is not RunType.VERIFY:
        work = conditions.Work(
            phase=Phase(run.phase),
            counts={lifecycle.Status(name): count for name, count in run.counts.items()},
            created_at=run.created_at,
            start_at=run.start_at,
            ended_at=run.ended_at,
            materializing=run.materializing,
            dynamic=run.type is RunType.DYNAMIC,
            cut_off=run.type is RunType.STATIC and run.phase == Phase.COMPLETED and run.chosen_at is None,
            canceled_by=run.canceled_by,
            suspension=_suspension(run),
            package=run.package,
            verification=run.verification,
        )
    return conditions.Facts(
        in_force=found.digest is not None,
        synced=found.synced,
        reason=found.reason,
        message=found.message,
        changed_at=found.updated_at,
        materializing=found.materializing,
        work=work,
        trial=_trial(found),
        unsigned=_unsigned(found),
    )


def _unsigned(found: status.Object) -> conditions.Unsigned | None:
    """Of a product; of a batch or a verification while it has something to push."""
    held, since = found.unsigned, found.updated_at
    if found.run is not None and any(found.run.counts.get(each) for each in lifecycle.UNFINISHED):
        held, since = found.run.unsigned, found.run.created_at
    return conditions.Unsigned(held.why, held.since or since) if held is not None else None


def _suspension(run: status.Run) -> conditions.Suspension | None:
    if run.suspended_since is None:
        return None
    return conditions.Suspension(by_git=run.suspended, by=run.suspended_by, since=run.suspended_since)


def _trial(found: status.Object) -> conditions.Trial | None:
    """How a package's verification stands; its devices that were on the target already ended well too.

    A package that was never accepted is held for its verification only: that has not begun.
    """
    run, state = found.run, found.verification
    if state is None and found.kind == Kind.PACKAGE and found.reason == Reason.FIRST_SIGHT:
        state = Verification.UNVERIFIED
    if state is None:
        return None
    if run is None:
        return conditions.Trial(state=state, since=found.updated_at)
    already = run.left_out.get(LeftOut.ALREADY, 0)
    done = run.counts.get(str(lifecycle.Status.SUCCEEDED), 0) + already
    since = run.ended_at or run.created_at
    total, suspension = run.total + already, _suspension(run)
    return conditions.Trial(state=state, done=done, total=total, since=since, suspension=suspension)


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
        "type": str(run.type),
        "jobs": sorted(run.jobs),
        "suspendedBy": run.suspended_by,
        "startAt": time(run.start_at),
        "endAt": time(run.end_at),
        "startedAt": time(run.started_at),
        "canceledBy": run.canceled_by,
        "createdAt": time(run.created_at),
        "endedAt": time(run.ended_at),
        "revision": run.revision,
    }
    return {**said, "run": about}


def of_task(found: status.Task, waits: waiting.Waiting | None) -> Document:
    """One device's part in a batch."""
    said = {
        "status": found.status,
        "hold": found.hold,
        "reason": found.reason,
        "waitsFor": str(waits.wait) if waits is not None else None,
        "waitsSince": time(waits.since) if waits is not None else None,
        "waitsUntil": time(waits.until) if waits is not None else None,
        "occupiedBy": found.facts.occupied_by,
        "why": why(found),
        "step": found.step,
        "stepDescription": found.step_description,
        "lateSuccess": found.late_success,
        "pushes": found.pushes,
        "attempt": found.attempt,
        "createdAt": time(found.created_at),
        "firstPushedAt": time(found.first_pushed_at),
        "startedAt": time(found.started_at),
        "deadlineAt": time(found.deadline_at),
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


def why(found: status.Task) -> str:
    """Why a task is as it is, and what to do about it."""
    reason = lifecycle.Reason(found.reason) if found.reason else None
    return waiting.why(found.facts, reason, step=found.step, late_success=found.late_success)


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
