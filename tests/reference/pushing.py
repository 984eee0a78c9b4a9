"""When a task may be pushed, what it waits for, and the push rate: platform-rules.md §4 push rate, §5 and its notes."""

from __future__ import annotations

from reference.words import CONFIRM, MINUTE, QUEUED, REPEAT, SETTLE


def offered(task):
    """Whether the run gives this task's package out now: §5 `firmware/get is answered with {} while the task waits`."""
    run = task.run
    if not task.holds or task.status == CONFIRM or run.started_at is None or run.suspended:
        return False
    if task.status == QUEUED and run.schedule_ended:
        return False
    source = run.package.source  # A7: a delta only to a device that reports its source version
    return source is None or task.device.versions.get(task.module) == source


def may_push(task, now):
    """Whether the reconciler may push this task at this moment by itself."""
    since = task.device.online_since
    if not offered(task) or task.run.spec.delivery != "Push" or since is None:
        return False
    if now < since + SETTLE or (task.last_push is not None and now < task.last_push + REPEAT):
        return False
    if task.hold == "retry":
        return now >= task.retry_at
    return task.status == QUEUED or task.push_again or task.push_tolerated


def owed(task):
    """Whether a push that may be made must be made too (a tolerated one need not)."""
    return task.status == QUEUED or task.hold == "retry" or task.push_again


def rate_problem(run, now):
    """What is wrong with the push that this run just made; None when the rate is kept."""
    in_window = sum(1 for moment in run.pushes if now - MINUTE < moment <= now)
    if in_window > run.spec.rate:
        return f"{in_window} pushes within 60 s at a rate of {run.spec.rate}"
    in_second = sum(1 for moment in run.pushes if int(moment) == int(now))
    if in_second > -(-run.spec.rate // 60):
        return (
            f"{in_second} pushes within one second at a rate of {run.spec.rate}: not spread over the minute"
        )
    return None


def waits_for(task, *, verified):
    """§5: what a QUEUED task waits for, the first that holds (there are no maintenance windows yet)."""
    run = task.run
    if run.suspended:
        return "suspended"
    if run.started_at is None and not verified:
        return "waits for verification"
    if task.hold == "behind":
        return "waits behind another task"
    if run.started_at is None:
        return "scheduled"
    return "device offline" if task.device.online_since is None else "rate limited"
