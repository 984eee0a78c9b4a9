"""The reference: a fleet and its batches, read from platform-rules.md §4-§7 as naively as it can be said.

One method for each thing that can happen, at the moment `self.now`. Loops over everything, no index, no database.
notes.md says how it is used, and where the document left a choice.
"""

from __future__ import annotations

import contextlib

from reference import commits, judgement, matching, moves, pushing, queueing
from reference.words import (
    CANCELED,
    COMPLETED,
    CONFIRM,
    FAILED,
    IN_PROGRESS,
    NOTIFIED,
    PLANNED,
    QUEUED,
    REPEAT,
    SETTLE,
    SUCCEEDED,
    UNFINISHED,
    Device,
    Run,
)

SCOPES = {"Unconfirmed": CONFIRM, "Queued": QUEUED, "Notified": NOTIFIED, "InProgress": IN_PROGRESS}


class Fleet:
    """Everything there is. Devices are named `product/name`, batches by their manifest's name."""

    def __init__(self, gray_parameters=judgement.gray_parameters):
        self.now = 0.0
        self.devices, self.groups, self.packages = {}, {}, {}
        self.open_products = frozenset()
        self.batches, self.trials, self.unborn = {}, {}, {}
        self.runs, self.tasks = [], []
        self.members = {}
        self.gray_parameters = gray_parameters
        self.expiry_paused_until = 0.0
        self._triggers = {}
        self._moved = set()
        self._in_burst = False

    # ---- looking ----

    def tasks_of(self, device):
        """A device's tasks, the oldest first."""
        return [task for task in self.tasks if task.device is device]

    def tasks_in(self, run):
        return [task for task in self.tasks if task.run is run]

    def draining(self, run):
        """§4: how many tasks of a cancelled run are still on their way."""
        return sum(task.unfinished for task in self.tasks_in(run))

    def declared(self, product, name):
        device = self.devices.get(f"{product}/{name}")
        return device is not None and device.declared

    def verification(self, name):
        """§3: not-required, verifying, verified or failed."""
        run = self.trials.get(name)
        if run is None:
            return "not-required"
        if run.running:
            return "verifying"
        tasks = self.tasks_in(run)
        well = all(task.status == SUCCEEDED for task in tasks) and "downgrade" not in run.left_out.values()
        return "verified" if well and len(tasks) + run.already_there > 0 else "failed"

    def holder(self, device, module):
        """The unfinished task that occupies this module of the device: what its messages are about."""
        return next((task for task in self.tasks_of(device) if task.holds and task.module == module), None)

    # ---- commits ----

    def commit(self, desired):
        """Git says something new; returns {name: [why it was refused]}."""
        refused = commits.commit(self, desired)
        self.tick(self.now)  # an end that was moved into the past has come
        return refused

    def add_run(self, owner, number, type_, spec, package):
        run = Run(len(self.runs) + 1, owner, number, type_, spec, package, created_at=self.now)
        self.runs.append(run)
        return run

    def cancel_run(self, run, scopes=(), *, whole=False):
        """§6: what happens to unfinished tasks is declared; a dynamic batch stops matching in any case."""
        self.end_of(run, UNFINISHED if whole else self.ending(run, scopes))
        run.phase = CANCELED

    def ending(self, run, scopes):
        """The statuses of the tasks that `onCancel` ends."""
        if run.type == "Static" and run.started_at is None and "Scheduled" in scopes:
            return set(UNFINISHED)
        return {SCOPES[scope] for scope in scopes if scope in SCOPES}

    def end_of(self, run, statuses):
        for task in self.tasks_in(run):
            if task.unfinished and task.status in statuses:
                moves.end(task, CANCELED, "cancelled")

    # ---- devices ----

    def online(self, key):
        """A device connects: what it was notified of is repeated (§5, after the settle time)."""
        device = self.devices.setdefault(key, Device(*key.split("/")))
        device.online_since = self.now
        for task in self.tasks_of(device):
            if task.status in (NOTIFIED, IN_PROGRESS) and task.hold is None:
                task.push_again = True
        self.settle()

    def offline(self, key):
        self.devices[key].online_since = None
        self.settle()

    def inform(self, key, version, module="default", message_id="0"):
        """A device reports a module's version."""
        device = self._heard(key)
        changed = device.versions.get(module) != version
        device.versions[module] = version
        if changed and self.holder(device, module) is None:
            self._late_success(device, module, version)
        for task in self.tasks_of(device):
            if (
                task.module == module
                and task.unfinished
                and not self._repeated(task, ("inform", message_id, version))
            ):
                self._stepped(task, ("inform", message_id, version), moves.reported, version)
        for run in self.runs:
            of_it = run.type == "Dynamic" and run.phase == IN_PROGRESS and run.package.module == module
            if of_it and run.spec.new_reports_only:
                self.trigger(device, ("heard", run))
                if changed:
                    run.heard.add(device.key)
        if changed:
            self._moved.add(device.key)
            self.trigger(device, ("changed", module))
        self.settle()

    @contextlib.contextmanager
    def burst(self):
        """Messages of one moment: what follows from them follows when all were heard."""
        self._in_burst = True
        yield
        self._in_burst = False
        self.settle()

    def progress(self, key, step, module="default", message_id="0"):
        """A device reports 0..100 or -1..-4."""
        task = self.holder(self._heard(key), module)
        mark = ("progress", message_id, step)
        if task is not None and not self._repeated(task, mark):
            self._stepped(task, mark, moves.progressed, step)
        self.settle()

    def ask(self, key, module="default"):
        """`firmware/get`: the target version of the package that it is answered with, or None for `{}`."""
        task = self.holder(self._heard(key), module)
        if task is None:
            return None
        task.failure_mark = None
        if not pushing.offered(task):
            return None
        moves.pushed(task, self.now)
        self.settle()
        return task.run.package.version

    def meet(self, device):
        """A stranger may be there for long: nothing that it said was heard until now."""
        if device.online_since is not None:
            device.online_since = self.now

    def _heard(self, key):
        """§2: a device that never was in Git registers by being heard, where its product's registration is Auto."""
        device = self.devices[key]
        if not device.known and device.product in self.open_products:
            self.meet(device)
            device.declared = True
            matching.refresh(self, device)
            self.trigger(device, ("registered", None))
        return device

    def _repeated(self, task, mark):
        """A5: the device's own repeat of the failure that it sent last is no second failure."""
        return task.failure_mark == mark

    def _stepped(self, task, mark, move, value):
        before = (task.retries, task.status)
        move(task, value, self.now)
        failed = task.retries > before[0] or (task.status == FAILED != before[1])
        task.failure_mark = mark if failed else None

    def _late_success(self, device, module, version):
        """The task that ended last; the device never heard of one that failed as a conflict."""
        ended = [task for task in self.tasks_of(device) if task.module == module and not task.unfinished]
        mine = [task for task in ended if task.reason != "conflict"]
        if not mine:
            return
        last = max(mine, key=lambda task: (self.now if task.ended_at is None else task.ended_at, task.id))
        if last.status == FAILED and last.run.package.version == version:
            last.late_success = True

    # ---- pushes, which the engine makes and the model judges ----

    def may_push(self):
        """The tasks that may be pushed at this moment."""
        return [task for task in self.tasks if pushing.may_push(task, self.now)]

    def pushed(self, key, version, module="default"):
        """The engine pushed this version of this module to this device; returns what is wrong with that, or None."""
        task = self.holder(self.devices[key], module)
        if task is None or task.run.package.version != version:
            return f"{key} has no task to {version}"
        if not pushing.may_push(task, self.now):
            return (
                f"{key} may not be pushed to now: {task.status}, hold {task.hold}, last push {task.last_push}"
            )
        moves.pushed(task, self.now)
        problem = pushing.rate_problem(task.run, self.now)
        self.settle()
        return problem

    def push_lost(self, key, module="default"):
        """A9: the first push was never confirmed, as the device was gone."""
        task = self.holder(self.devices[key], module)
        if task is not None:
            moves.first_push_lost(task)

    def overdue(self, grace):
        """The tasks whose push was due for longer than `grace` seconds (while the rate is ample) and was not made."""
        return [
            task
            for task in self.tasks
            if task.may_push_since is not None and self.now - task.may_push_since > grace
        ]

    # ---- operators ----

    def cancel_batch(self, name):
        run = self.batches[name].run
        if not run.running:
            return "the batch has ended"
        self.cancel_run(run, self.batches[name].spec.on_cancel)
        run.stopped_by_operator = True
        self.settle()
        return None

    def suspend(self, name, *, resume=False):
        """An operator's suspension, or its end. Of what has ended nothing can be suspended."""
        runs, run = self.batches[name].runs, self.batches[name].run
        if resume and not any(one.suspended_by_operator for one in runs):
            return "not suspended by an operator"
        if not resume and run.suspended_by_operator:
            return "suspended already"
        if not resume and not run.running and not any(self.draining(one) for one in runs):
            return "the batch has ended"
        for one in runs:  # every life that has unfinished tasks
            if resume or one is run or self.draining(one):
                one.suspended_by_operator = not resume
        self.settle()
        return None

    def confirm(self, name, key):
        """Confirmation, inside its own schedule only; also of what an earlier life of the batch has left."""
        asking = [task for task in self._unfinished(name, key) if task.status == CONFIRM]
        if not asking:
            return "nothing to confirm"
        run = asking[0].run
        if run.started_at is None or run.schedule_ended:
            return "outside of its schedule"
        asking[0].status = QUEUED
        self.settle()
        return None

    def cancel_task(self, name, key):
        """Everything that a device has of the batch, whichever life of it made it."""
        unwanted = self._unfinished(name, key)
        for task in unwanted:
            moves.end(task, CANCELED, "cancelled")
        self.settle()
        return None if unwanted else "nothing to cancel"

    def _unfinished(self, name, key):
        runs = self.batches[name].runs
        return [task for task in self.tasks_of(self.devices[key]) if task.unfinished and task.run in runs]

    def again(self, name, key):
        """Upgraded again: the newest task of that device in the batch; returns why it was refused, or None."""
        task = self._newest(name, key)
        if task is None or task.status not in (FAILED, CANCELED):
            return "nothing to upgrade again"
        run, present = task.run, task.device.versions.get(task.module)
        refusal = self._closed(self.batches[name], run) or judgement.judge(run, present)
        if refusal or not task.device.declared:
            return refusal or "declared no more"
        verdict = queueing.conflict(self, run, task.device, besides=task)
        if verdict == "conflict":
            return "busy"
        moves.cleared(task)
        task.source = present
        queueing.place(self, task, verdict)
        if run.phase == COMPLETED:
            run.phase = PLANNED if run.started_at is None else IN_PROGRESS
        self.settle()
        return None

    def _closed(self, batch, run):
        """Why nothing of a run is upgraded again, whichever device it is."""
        if run.phase == CANCELED or run is not batch.run:
            return "the batch is cancelled"
        if not batch.in_git or batch.spec.state == "Canceled":
            return "Git wants it no more"
        return "its schedule has ended" if run.schedule_ended else None

    def _newest(self, name, key):
        mine = [
            task
            for task in self.tasks_of(self.devices[key])
            if task.run.owner == name and task.run.type != "Verify"
        ]
        return mine[-1] if mine else None

    # ---- time ----

    def downtime(self, seconds):
        """The reconciler was away: device deadlines are extended by that, schedules are not (engine.md §5)."""
        for task in self.tasks:
            if task.timeout_at is not None:
                task.timeout_at += seconds
            if task.no_response_at is not None:
                task.no_response_at += seconds

    def tick(self, now):
        """Time passes; whatever falls due happens in the order of its moments."""
        while due := [one for one in self._due() if one[0] <= now]:
            moment, _, happen, what = min(due, key=lambda one: one[:2])
            self.now = max(self.now, moment)
            happen(what)
            self.settle()
        self.now = now
        self.settle()

    def due_moments(self):
        """The moments ahead at which something happens, or a push becomes allowed: where a comparison should look."""
        moments = {one[0] for one in self._due()}
        for task in self.tasks:
            since = task.device.online_since
            if task.holds and since is not None:
                moments |= {since + SETTLE} | (
                    {task.last_push + REPEAT} if task.last_push is not None else set()
                )
        return sorted(moment for moment in moments if moment > self.now)

    def _due(self):
        """What time will do: (moment, order among equals, what to do, to whom)."""
        for run in self.runs:
            if run.spec.end is not None and not run.schedule_ended:
                yield run.spec.end, 0, self._schedule_ends, run
            if run.started_at is None and run.start_at is not None and run.start_at > self.now:
                yield run.start_at, 2, self._start_comes, run
        for task in self.tasks:
            if not task.unfinished:
                continue
            if task.timeout_at is not None:
                yield max(task.timeout_at, self.expiry_paused_until), 1, self._timed_out, task
            if task.no_response_at is not None and task.status == NOTIFIED:
                yield max(task.no_response_at, self.expiry_paused_until), 1, self._not_answered, task
            if task.hold == "retry" and task.retry_at > self.now:
                yield task.retry_at, 3, self._retry_comes, task

    def _schedule_ends(self, run):
        """§4 schedule: tasks that have not been notified are cancelled; those notified or in progress go on."""
        run.schedule_ended = True
        for task in self.tasks_in(run):
            if task.status in (CONFIRM, QUEUED):
                moves.end(task, CANCELED, "schedule-ended")

    def _start_comes(self, run):
        """The start has come: settle() starts what may start."""

    def _timed_out(self, task):
        moves.end(task, FAILED, "timeout")

    def _not_answered(self, task):
        moves.end(task, FAILED, "no-response")

    def _retry_comes(self, task):
        """Row `hold retry | its time comes`: settle() holds deltas against A7; the push itself is the engine's."""

    # ---- what follows from what happened ----

    def trigger(self, device, why):
        self._triggers.setdefault(device.key, set()).add(why)

    def scan(self, run):
        """A dynamic run looks at the whole fleet."""
        for device in self.devices.values():
            self.trigger(device, ("scan", run))

    def settle(self):
        """Everything that follows at once, until nothing follows any more."""
        if self._in_burst:
            return
        moved, self._moved = self._moved, set()
        for key in sorted(moved):
            matching.refresh(self, self.devices[key])
        before = None
        while before != (before := self._fingerprint()):
            for device in self.devices.values():
                queueing.promote(self, device)
            for run in self.runs:
                self._complete(run)
            for run in self.runs:
                self.start(run)
            self._drop_stale_deltas()
            pending, self._triggers = self._triggers, {}
            for key in sorted(pending):
                matching.match(self, self.devices[key], pending[key])
        for task in self.tasks:
            due = pushing.may_push(task, self.now) and pushing.owed(task)
            if not task.unfinished and task.ended_at is None:
                task.ended_at = self.now
            task.may_push_since = (
                (self.now if task.may_push_since is None else task.may_push_since) if due else None
            )

    def _fingerprint(self):
        states = [(task.status, task.hold) for task in self.tasks]
        return [*states, *((run.phase, run.started_at) for run in self.runs), len(self._triggers)]

    def _complete(self, run):
        """§4 batch status: a static batch is COMPLETED when all its tasks ended; a dynamic one never is by itself."""
        over = run.started_at is not None or run.schedule_ended
        if run.type != "Dynamic" and run.running and over and not self.draining(run):
            run.phase = COMPLETED

    def start(self, run):
        """Runs start when their time has come and their package is verified; what is left of a cancelled one too."""
        waits = run.type != "Verify" and self.verification(run.package.name) not in (
            "not-required",
            "verified",
        )
        if run.started_at is not None or run.phase == COMPLETED or waits:
            return
        if run.start_at is not None and run.start_at > self.now:
            return
        run.started_at = self.now
        run.phase = IN_PROGRESS if run.phase == PLANNED else run.phase
        for task in self.tasks_in(run):
            if task.status in (CONFIRM, QUEUED) and task.hold is None:  # A8: filtered again at the start
                moves.refiltered(task, judgement.judge(run, task.device.versions.get(task.module)))
        if run.type == "Dynamic" and run.phase == IN_PROGRESS and not run.spec.new_reports_only:
            self.scan(run)

    def _drop_stale_deltas(self):
        """A7: a retry's time has come, and the device is not on the delta's source version."""
        for task in self.tasks:
            if task.hold == "retry" and task.retry_at <= self.now and not self._on_source(task):
                moves.end(task, FAILED, "unexpected-version")

    def _on_source(self, task):
        source = task.run.package.source
        return source is None or task.device.versions.get(task.module) == source

    # ---- the comparison ----

    def snapshot(self):
        """What is compared with the engine: per device and batch the tasks, per batch its run's phase and counts."""
        return {"tasks": self._task_rows(), "batches": self._batch_rows()}

    def _task_rows(self):
        rows = {}
        for task in self.tasks:
            kind = "Verify" if task.run.type == "Verify" else "Batch"
            place = (task.device.key, kind, task.run.owner, task.run.number, task.module)
            row = (task.match_no, task.status, task.hold, task.reason, task.source, task.retries)
            rows.setdefault(place, []).append(row)
        return {place: sorted(found, key=lambda row: row[0]) for place, found in rows.items()}

    def _batch_rows(self):
        rows = {}
        for run in self.runs:
            kind = "Verify" if run.type == "Verify" else "Batch"
            counts = {}
            for task in self.tasks_in(run):
                counts[task.status] = counts.get(task.status, 0) + 1
            rows[kind, run.owner, run.number] = (run.phase, counts)
        return rows
