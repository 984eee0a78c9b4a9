"""How one task moves: the table of platform-rules.md §5, row by row, with the amendments A1-A9 that go with it.

Each function is one event on one task at the moment `now`. Whether the event reaches this task is the model's business.
"""

from __future__ import annotations

from reference import judgement
from reference.words import CANCELED, CONFIRM, FAILED, IN_PROGRESS, NOTIFIED, QUEUED, SUCCEEDED

STEPS = {-1: "upgrade-failed", -2: "download-failed", -3: "verify-failed", -4: "burn-failed"}


def end(task, status, reason=None):
    """A task ends; nothing that it waited for is left."""
    task.status, task.reason, task.hold, task.retry_at = status, reason, None, None
    task.push_again = task.push_tolerated = False


def failed(task, reason, now):
    """Rows `progress -1..-4` and `unexpected-version`: FAILED; with retries left it stays, hold retry, from now on."""
    retry = task.run.spec.retry
    if retry is None or task.retries >= retry[1]:
        end(task, FAILED, reason)
        return
    task.retries += 1
    task.hold, task.retry_at = "retry", now + retry[0]
    task.push_again = task.push_tolerated = False


def _start_clock(task, now):
    """§4 timeout: from the first progress, never restarted; a changed timeout is for tasks that start later."""
    if task.clock_started:
        return
    task.clock_started, task.no_response_at = True, None
    if task.run.spec.timeout is not None:
        task.timeout_at = now + task.run.spec.timeout


def progressed(task, step, now):
    """A progress message: 0..100 or -1..-4."""
    if task.hold is not None or task.status == CONFIRM:
        return  # rows `hold retry | progress` and `hold behind | progress`; CONFIRM has no row
    _start_clock(task, now)
    task.step = step
    if step < 0:
        failed(task, STEPS[step], now)
    else:
        task.push_tolerated = task.push_tolerated or task.status == QUEUED  # the first push may be on its way
        task.status = IN_PROGRESS


def reported(task, version, now):
    """A version report of the task's module."""
    run = task.run
    if version == run.package.version:
        end(task, SUCCEEDED)  # row 9, A3, A4: the target version counts wherever the task stands
    elif task.hold == "behind":
        return  # A4
    elif not run.spec.allow_downgrade and judgement.lower(run.package.version, version):
        _reported_downgrade(task)
    elif task.hold == "retry":
        task.source = version  # A3
    elif task.source is None or version == task.source:
        task.source = version  # `A source not yet known is learned from the first report`
        task.push_again = task.push_again or task.status in (NOTIFIED, IN_PROGRESS)
    elif task.status == IN_PROGRESS:
        failed(task, "unexpected-version", now)
        _learn(task, version)
    else:
        _new_source(task, version, now)


def _reported_downgrade(task):
    """A2: the device is above the target now."""
    if task.status == IN_PROGRESS and task.hold is None:
        end(task, FAILED, "unexpected-version")
    else:
        end(task, CANCELED, "downgrade")


def _new_source(task, version, now):
    """Row `QUEUED, NOTIFIED | the same`, and A1 for CONFIRM: another version before any progress."""
    if not task.run.sources or version in task.run.sources:
        task.push_tolerated = task.status == NOTIFIED  # it is its source now; the document asks for no push
    elif task.status == CONFIRM:
        end(task, FAILED, "unexpected-version")
    else:
        failed(task, "unexpected-version", now)
    _learn(task, version)


def _learn(task, version):
    """A task that goes on has the version as its source; one that ended says from where it was to be upgraded."""
    if task.unfinished:
        task.source = version


def pushed(task, now):
    """Rows `claimed for a push, or fetched` and `hold retry | its time comes`: the package goes out."""
    if task.status == QUEUED:
        task.status = NOTIFIED
    task.hold = task.retry_at = None
    task.push_again = task.push_tolerated = False
    task.last_push = now
    task.run.pushes.append(now)
    if task.first_push is None:
        task.first_push = now
        if task.run.spec.no_response is not None and not task.clock_started:
            task.no_response_at = (
                now + task.run.spec.no_response
            )  # from the first push; re-pushes don't restart it


def first_push_lost(task):
    """A9: the device was gone; the no-response clock has not started."""
    task.first_push = task.no_response_at = None


def enter(task):
    """Rows `(new)`: QUEUED, or CONFIRM when the batch asks for it."""
    task.status, task.hold = (CONFIRM if task.run.spec.confirm else QUEUED), None


def refiltered(task, verdict):
    """A4 and A8: a task is held against its device's present version again. Says whether it still stands."""
    if verdict == judgement.ALREADY:
        end(task, SUCCEEDED)
    elif verdict == judgement.SOURCE:
        end(task, FAILED, "unexpected-version")
    elif verdict == judgement.DOWNGRADE:
        end(task, CANCELED, "downgrade")
    return task.unfinished


def cleared(task):
    """Row `upgraded again by an operator`: clocks, attempts, reason and step are cleared; it has no past."""
    task.reason = task.step = task.retry_at = task.timeout_at = task.no_response_at = task.first_push = None
    task.ended_at = None
    task.clock_started, task.retries, task.late_success, task.failure_mark = False, 0, False, None
