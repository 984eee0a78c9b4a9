"""Each order of an operator, and when it is refused (platform rules §4 to §6). Called by `operate`, in its transaction.

A refusal is a `UserError`: it says what is in the way, and what to do. Nothing of a refused order is done.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from reconciler import errors
from reconciler.domain import actual, downloads, lifecycle, plan, requests, resources, targeting, waiting
from reconciler.domain.resources import Kind
from reconciler.store import blobs, devices, objects, operations, runs
from reconciler.store.commands import Command
from reconciler.store.database import Connection


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """One command, and where and when it is carried out."""

    connection: Connection
    command: Command
    request: requests.Request
    presence: devices.Presence
    now: datetime
    ways: downloads.Ways
    """Where devices can download."""
    chunk: int
    """How many tasks are confirmed in a transaction."""

    @property
    def author(self) -> operations.Author:
        """Who, and why."""
        return operations.Author(self.command.who, self.command.why)

    @property
    def subject(self) -> str:
        """How a message calls what the order is about."""
        name, of_package = self.request.name, self.request.kind is Kind.PACKAGE
        return f"verification of {name}" if of_package else f"batch {name}"

    def run(self) -> operations.Run:
        """Its newest run.

        Raises:
            UserError: there is none.
        """
        name = self.request.name
        found = operations.find(self.connection, self.request.kind, name) if name is not None else None
        if found is None:
            raise errors.UserError(f"there is no {self.subject} with a run")
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Unfinished:
    """An order that takes another transaction, with what that needs to know."""

    arguments: dict[str, Any]


# ------------------------------------------------------------------------------------------------ cancel


def cancel(order: Order, request: requests.Cancel) -> str:
    """Cancels a batch by its `onCancel`, a verification whole, or only what one device has of it."""
    if request.device is not None:
        return _cancel_device(order, request.device)
    run = order.run()
    if run.phase not in actual.UNENDED:
        raise errors.UserError(f"{order.subject} is {run.phase} already")
    total = operations.draining(order.connection, run.id)
    cancellation = runs.Cancellation(order.command.who, _statuses(run), order.command.why)
    ended = runs.cancel(order.connection, run.id, cancellation, order.now)
    left = total - ended
    ends = "1 task ends" if ended == 1 else f"{ended} tasks end"
    earlier = _unfinished(order, run) - total
    more = f"; {earlier} of earlier runs {'goes' if earlier == 1 else 'go'} on" if earlier else ""
    return f"cancelled: {ends}, {left} {'goes' if left == 1 else 'go'} on{more}"


def _unfinished(order: Order, run: operations.Run) -> int:
    """How many tasks of all lives of the batch have not ended."""
    ids = operations.lives(order.connection, run)
    return sum(operations.draining(order.connection, run_id) for run_id in ids)


def _statuses(run: operations.Run) -> tuple[lifecycle.Status, ...]:
    if run.is_trial:
        return lifecycle.UNFINISHED
    return plan.statuses_on_cancel(run.spec.get("onCancel", resources.DEFAULT_ON_CANCEL), run.life)


def _cancel_device(order: Order, name: str) -> str:
    run = order.run()
    device = _device(order, run, name)
    unwanted = operations.unfinished(order.connection, run, device.id)
    if not unwanted:
        raise errors.UserError(f"{_task_of(order, run, device, name)}: there is nothing to cancel")
    operations.cancel(order.connection, unwanted, order.author, order.presence, order.now)
    return f"cancelled the task of {name}"


def _device(order: Order, run: operations.Run, name: str) -> operations.Device:
    found = operations.device(order.connection, run, name)
    if found is None:
        raise errors.UserError(f"{order.subject} is for a product that has no device {name}")
    return found


def _task_of(order: Order, run: operations.Run, device: operations.Device, name: str) -> str:
    """Where a device's newest task is, in words."""
    task = operations.newest_task(order.connection, run, device.id)
    if task is None:
        return f"{order.subject} has no task for {name} (`reconciler trace {name}` says why)"
    reason = f" ({task.reason})" if task.reason else ""
    held = ", behind another task" if task.hold is lifecycle.Hold.BEHIND else ""
    return f"the task of {name} is {task.status}{reason}{held}"


# ----------------------------------------------------------------------------------------------- confirm


def confirm_cancels(order: Order, request: requests.ConfirmCancels) -> str:
    """Somebody knows that a commit cancels so much."""
    sha, cancels = request.revision, request.cancels
    objects.confirm_cancels(order.connection, sha, cancels, order.command.who, order.now)
    return f"confirmed {cancels} cancellations of {sha[:12]}"


def confirm_held(order: Order, request: requests.ConfirmHeld) -> str:
    """Held batches are released, by name or all of them."""
    released = objects.confirm(order.connection, request.batches)
    missing = sorted(set(request.batches or ()) - set(released))
    if missing:
        raise errors.UserError(f"not held: {', '.join(missing)}")
    return f"confirmed {', '.join(released)}" if released else "nothing was held"


def confirm_devices(order: Order, request: requests.ConfirmDevices) -> str:
    """The tasks of some devices, whichever life of the batch made them; all of them or none."""
    run = order.run()
    asking, wrong = [], []
    for name in dict.fromkeys(request.devices):
        device = _device(order, run, name)
        own = operations.unfinished(order.connection, run, device.id)
        task = next((task for task in own if task.status is lifecycle.Status.CONFIRM), None)
        if task is None:
            wrong.append(_task_of(order, run, device, name))
        else:
            asking.append(task)
    if wrong:
        raise errors.UserError(f"nothing was confirmed: {'; '.join(wrong)}")
    for life in sorted({task.run_id for task in asking}):
        _check_confirmable(order, run if life == run.id else operations.life(order.connection, life), run)
    operations.confirm(order.connection, asking, order.author, order.presence, order.now)
    return _confirmed(len(asking))


def confirm_tasks(order: Order, request: requests.ConfirmTasks) -> str | Unfinished:
    """The tasks of the newest run, some in each transaction: the command says how far it is."""
    run = order.run()
    so_far, after = request.confirmed, request.after
    if request.run not in {None, run.id}:
        begun = f"{_confirmed(so_far)}, then run {run.number} of {order.subject} began"
        raise errors.UserError(f"{begun}: nobody has confirmed its tasks, confirm again for them")
    _check_confirmable(order, run, run)
    if not after and not operations.asking(order.connection, run.id):
        raise errors.UserError(f"no task of {order.subject} waits for a confirmation")
    count, last = operations.confirm_chunk(
        order.connection, run.id, after, order.author, order.presence, now=order.now, chunk=order.chunk
    )
    if last is not None and count == order.chunk:
        how_far = {"run": run.id, "confirmed": so_far + count, "after": last}
        return Unfinished({**order.command.arguments, **how_far})
    more = "; its tasks are still being made: confirm again for the others" if run.materializing else ""
    return _confirmed(so_far + count) + more


def _confirmed(count: int) -> str:
    return f"confirmed {count} task{'s' * (count != 1)}"


def _check_confirmable(order: Order, run: operations.Run, newest: operations.Run) -> None:
    """That a run, which may be an earlier one of the batch, is inside of its schedule.

    Raises:
        UserError: it has not started, or its schedule has ended.
    """
    subject = order.subject if run.id == newest.id else f"run {run.number} of {order.subject}"
    if run.schedule_ended or (run.end_at is not None and run.end_at <= order.now):
        ended = waiting.moment(run.end_at) if run.end_at is not None else "already"
        raise errors.UserError(f"the schedule of {subject} ended {ended}: write a new Batch")
    if run.phase is actual.Phase.COMPLETED and run.started_at is None:
        raise errors.UserError(f"{subject} was over before it started: write a new Batch")
    if run.started_at is None:
        raise errors.UserError(f"{subject} has not started: {_start(run, order.now)}")


def _start(run: operations.Run, now: datetime) -> str:
    """When a run starts, or what it waits for."""
    gate = not (run.is_trial or run.verification.opens)
    when = f"after {waiting.moment(run.start_at)}" if run.start_at is not None and run.start_at > now else ""
    if gate:
        passed = f"it starts when the verification of {run.package} has passed (it is {run.verification})"
        return f"{passed}, {when}" if when else passed
    if when:
        return f"it starts at {when.removeprefix('after ')}; confirm then"
    return "it is starting: confirm in a moment"


# ------------------------------------------------------------------------------------------------- retry


def retry(order: Order, request: requests.Retry) -> str:
    """One device is upgraded again: the conflict rule first, then as at its beginning (platform rules §5)."""
    run, name = order.run(), request.device
    if run.is_trial:
        raise errors.UserError(
            f"the {order.subject} is tried again as a whole: raise `verification.attempt` in Git"
        )
    _open(order, run)
    if blobs.are_gone(order.connection, run.id):  # a push would name a file that nobody can download
        raise errors.UserError(f"the files of {run.package} were removed: declare it in Git again first")
    why = downloads.unconfigured(run.download, order.ways)
    if why:  # with such a batch open, the daemon would not start again
        raise errors.UserError(f"{order.subject} {why}")
    device = _device(order, run, name)
    task = _ended_badly(order, run, device, name)
    entry, overwritten = _conflict(order, run, device, name)
    again = operations.Again(task, entry, device.version, tuple(overwritten))
    after = operations.upgrade_again(order.connection, again, order.author, order.presence, order.now)
    behind = ", behind the task that has the device" if after.hold is lifecycle.Hold.BEHIND else ""
    aside = f"; {len(overwritten)} other task{'s' * (len(overwritten) != 1)} overwritten" * bool(overwritten)
    return f"the task of {name} is {after.status} again{behind}{aside}"


def _open(order: Order, run: operations.Run) -> None:
    """Refuses a batch that was cancelled or is over, and one that ended and that Git wants no more."""
    if run.phase is actual.Phase.CANCELED:
        raise errors.UserError(f"{order.subject} is CANCELED: a new batch upgrades the device")
    if run.removed or run.spec.get("state") == resources.State.CANCELED:
        unwanted = "has left Git" if run.removed else "is cancelled in Git"
        raise errors.UserError(f"{order.subject} {unwanted}: a new batch upgrades the device")
    if run.schedule_ended or (run.end_at is not None and run.end_at <= order.now):
        ended = f" at {waiting.moment(run.end_at)}" if run.end_at is not None else ""
        raise errors.UserError(
            f"the schedule of {order.subject} ended{ended}: a new batch upgrades the device"
        )


def _ended_badly(order: Order, run: operations.Run, device: operations.Device, name: str) -> lifecycle.Task:
    """The device's task, which may be upgraded again as far as the device itself is concerned."""
    task = operations.newest_task(order.connection, run, device.id)
    if task is None or task.status not in {lifecycle.Status.FAILED, lifecycle.Status.CANCELED}:
        raise errors.UserError(
            f"{_task_of(order, run, device, name)}: only what FAILED or was CANCELED is retried"
        )
    if device.removed:
        raise errors.UserError(f"{name} is declared no more: add it to an inventory first")
    left_out = targeting.judge(run.conditions, device.version)
    if left_out is not None:
        raise errors.UserError(f"{name} is on {device.version or 'no known version'}: {_SAYS[left_out]}")
    return task


_SAYS = {
    targeting.LeftOut.ALREADY: "that is the target already",
    targeting.LeftOut.SOURCE: "the batch is for other source versions",
    targeting.LeftOut.DOWNGRADE: "the target is lower, and the batch has no `allowDowngrade: true`",
}


def _conflict(
    order: Order, run: operations.Run, device: operations.Device, name: str
) -> tuple[lifecycle.Entry, list[lifecycle.Task]]:
    """How the task enters, and which others that ends (platform rules §4 "conflict").

    Raises:
        UserError: the device is busy, and the batch does not wait. The task keeps its reason.
    """
    found = operations.occupants(order.connection, run, device.id)
    if not found:
        return lifecycle.Entry.FREE, []
    earlier = all(other.object_id == run.object_id for other in found)
    if run.conflict is resources.Conflict.WAIT or earlier:
        return lifecycle.Entry.BEHIND, []
    at_work = [other for other in found if other.task.status is lifecycle.Status.IN_PROGRESS]
    if run.conflict is resources.Conflict.OVERWRITE and not at_work:
        return lifecycle.Entry.FREE, [other.task for other in found]
    holder = (at_work or found)[0]
    raise errors.UserError(
        f"{name} is busy: its task of batch {holder.batch} is {holder.task.status}; wait for it, or "
        f"`reconciler cancel {holder.batch} --device {name}`"
    )


# ---------------------------------------------------------------------------------------- suspend, resume


def suspend(order: Order, _: requests.Suspend) -> str:
    """Nothing of the batch is pushed or offered until it is resumed. What devices have begun goes on."""
    run = order.run()
    left = _unfinished(order, run)
    if run.phase not in actual.UNENDED and not left:
        raise errors.UserError(f"{order.subject} is {run.phase} already: there is nothing to suspend")
    if run.suspended_by is not None:
        since = f" since {waiting.moment(run.suspended_at)}" if run.suspended_at is not None else ""
        raise errors.UserError(f"{order.subject} is suspended by {run.suspended_by}{since} already")
    operations.suspend(order.connection, run, order.author, order.now)
    return f"suspended; {left} unfinished task{'s' * (left != 1)}"


def resume(order: Order, _: requests.Resume) -> str:
    """The operator's suspension is over. Git's is not."""
    run = order.run()
    in_git = f"Git suspends it: set `suspend: false` in {run.path}"
    by = operations.suspender(order.connection, run)
    if by is None:
        raise errors.UserError(in_git if run.suspended else f"{order.subject} is not suspended")
    operations.resume(order.connection, run)
    return f"the suspension by {by} is over, but {in_git}" if run.suspended else "resumed"
