"""What a burst of device messages changes: read once, stepped in arrival order, written once (engine §2).

Called by ingest inside one transaction, with messages that are parsed already. Whatever is done here can be done
again: a message that was committed and comes once more changes nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from reconciler.domain import lifecycle, resources
from reconciler.domain.limits import DEFAULT, Limits
from reconciler.protocol import messages
from reconciler.protocol.topics import Address
from reconciler.store import deadlines, devices, events, matching, products, queue, rates, seen, tables, tasks
from reconciler.store.database import Connection
from reconciler.store.tasks import Place
from reconciler.transport.base import Presence

Said = messages.Inform | messages.Progress | messages.FirmwareGet


class Result(enum.StrEnum):
    """What became of a message; a label of a metric."""

    ACCEPTED = "accepted"
    MALFORMED = "malformed"
    UNKNOWN = "unknown_device"
    REPEATED = "repeated"
    ANOTHER_BATCH = "another_batch"
    """A SagooIOT device reports the progress of an upgrade that is not its newest."""


class Heard(NamedTuple):
    """One parsed message."""

    address: Address
    said: Said
    fingerprint: bytes
    duplicate: bool
    answer: Callable[[bytes], None] | None = None
    """As `transport.base.Message` has it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What a device that asked is told, after the commit. No offer: there is nothing to do."""

    asked: Asked
    task_id: int = 0
    offer: products.Offer | None = None


class Asked(NamedTuple):
    """Who asked for a package, and how he is answered."""

    address: Address
    request_id: int | str
    sagoo: bool
    answer: Callable[[bytes], None] | None
    """As `transport.base.Message` has it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """What the burst must know of the daemon.

    Attributes:
        presence_epoch: devices that carry it are online: this daemon's own, or `ASSUMED_EPOCH`.
        settle: how long after a device came its push is due: its own report is heard first.
        assumed_presence: the transport hears messages only; who was heard is taken to be there.
        limits: the operator's numbers.
    """

    presence_epoch: int
    settle: timedelta
    assumed_presence: bool = False
    limits: Limits = DEFAULT

    @property
    def presence(self) -> devices.Presence:
        """What makes the pushes of new tasks due at once."""
        return devices.Presence(self.presence_epoch, self.settle, self.limits)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a burst did."""

    results: tuple[Result, ...]
    """One for each message, in order."""
    replies: tuple[Reply, ...] = ()
    pushes_due: bool = False
    unknown: frozenset[Address] = frozenset()
    """Who came or went, or said something, and is no device of ours."""


class Burst:
    """One burst on its way through one transaction."""

    def __init__(self, connection: Connection, host: Host, now: datetime) -> None:
        self._connection = connection
        self._host = host
        self._now = now
        self._devices: dict[Address, devices.Device] = {}
        self._versions: dict[Place, str] = {}
        self._informed: dict[Place, matching.Reported] = {}
        self._repeated: set[bytes] = set()
        self._newest: dict[Place, Heard] = {}
        self._found: dict[int, tasks.Found] = {}
        self._slots: dict[Place, int] = {}
        self._behind: dict[Place, list[int]] = collections.defaultdict(list)
        self._ended: dict[Place, int] = {}
        self._noting: dict[Place, int] = {}
        """Those of the slots to whose tasks a step is nothing more."""
        self._steps: dict[int, tuple[int | None, str]] = {}
        """Newest steps of tasks that were told nothing else."""
        self._tasks: dict[int, lifecycle.Task] = {}
        """All others that were told something."""
        self._before: dict[int, lifecycle.Task] = {}
        self._lines: dict[int, list[events.Event]] = collections.defaultdict(list)
        self._log: list[events.Event] = []
        self._asked: list[tuple[Asked, lifecycle.Task | None]] = []

    def process(self, heard: Sequence[Heard], presence: Sequence[Presence]) -> Outcome:
        """Applies who came, then messages in their order; then what follows from them; then who left.

        A message may undo the push that coming made due, and who left in the same burst was still heard. Devices that
        became free are first given to who waits behind, then to dynamic batches.
        """
        last = self._meet(heard, presence)
        said = [(message, self._devices.get(message.address)) for message in heard]
        known = [(message, device) for message, device in said if device is not None]
        due = self._come(known, last)
        self._read(known)
        results = tuple(self._hear(message, device) if device else Result.UNKNOWN for message, device in said)
        replies = self._replies()
        self._write([m for m, result in zip(heard, results, strict=True) if result is not Result.REPEATED])
        due |= self._follow()
        self._go(last)
        due |= bool(replies) or any(self._tasks[changed].push_due_at for changed in self._before)
        unknown = {message.address for message, device in said if device is None}
        unknown |= {item.address for item in presence if item.address not in self._devices}
        return Outcome(results, tuple(replies), due, frozenset(unknown))

    # ------------------------------------------------------------------------------------------ reading

    def _meet(self, heard: Sequence[Heard], presence: Sequence[Presence]) -> dict[Address, Presence]:
        """Finds or registers the devices; what was said last of the presence of each."""
        addresses = {message.address for message in heard} | {item.address for item in presence}
        self._devices = devices.find(self._connection, addresses, self._host.presence_epoch)
        if len(self._devices) < len(addresses):
            self._register(message.address for message in heard if message.answer is None)
        last: dict[Address, Presence] = {}
        for item in presence:
            # a late 'gone' of a connection that was replaced says nothing about the new one
            if item.address in self._devices and item.session >= last.get(item.address, item).session:
                last[item.address] = item
        return last

    def _register(self, heard: Iterable[Address]) -> None:
        """Unknown devices of a product with registration Auto register by being heard (platform rules §2)."""
        unknown: dict[str, list[str]] = collections.defaultdict(list)
        for address in dict.fromkeys(heard):
            strange = resources.device_name_problem(address.device_name, self._host.limits)
            if address not in self._devices and not strange:
                unknown[address.product_key].append(address.device_name)
        new = []
        for product_key, product in devices.products(self._connection, unknown).items():
            if product.auto_registration:
                names = unknown[product_key]
                devices.register(self._connection, product.id, names, self._now)
                new += [Address(product_key, name) for name in names]
        if not new:
            return
        registered = devices.find(self._connection, new, self._host.presence_epoch)
        self._devices |= registered
        ids = [registered[address].id for address in new]
        line = events.Event(type=events.Type.REGISTERED, message="registered itself")
        lines = [line._replace(device_id=device_id) for device_id in ids]
        events.append(self._connection, self._now, lines)
        matching.arrived(self._connection, ids, self._host.presence, self._now)

    def _read(self, known: Sequence[tuple[Heard, devices.Device]]) -> None:
        self._repeated = seen.among(self._connection, [m.fingerprint for m, _ in known if m.duplicate])
        if not known:
            return
        for one in tasks.found(self._connection, {device.id for _, device in known}, self._now):
            task_id = one.id
            self._found[task_id] = one
            if one.is_behind:
                self._behind[one.place].append(task_id)
            else:
                self._slots[one.place] = task_id
                if one.notes_progress:
                    self._noting[one.place] = task_id
        others = [(m, device) for m, device in known if not isinstance(m.said, messages.Progress)]
        if others:
            self._versions = devices.versions(self._connection, {device.id for _, device in others})
            self._newest = {
                (device.id, m.said.module): m for m, device in others if isinstance(m.said, messages.Inform)
            }
        late = {
            place
            for m, device in known
            if (place := (device.id, m.said.module)) not in self._slots and self._may_be_late(place, m.said)
        }
        for place, task in tasks.latest_ended(self._connection, late).items():
            self._tasks[task.id] = task
            self._ended[place] = task.id

    def _may_be_late(self, place: Place, said: Said) -> bool:
        """It may be about a task that has ended, as none is on its way.

        Not when the device says the version that it said last: that was heard when it was news, and no task ends in a
        way that would make it news again.
        """
        if isinstance(said, messages.FirmwareGet):
            return False
        return not isinstance(said, messages.Inform) or self._versions.get(place) != said.version

    # ----------------------------------------------------------------------------------------- stepping

    def _is_redelivery(self, message: Heard, device: devices.Device) -> bool:
        """A progress that was committed. A report of a version only when it is no news, or when news follow.

        Ids start again at each boot, so what looks like an old report may be a new one whose first copy was lost:
        to miss that a device is back on its old version is worse than to note a version twice. A question is
        answered again.
        """
        said = message.said
        if not message.duplicate or message.fingerprint not in self._repeated:
            return False
        if isinstance(said, messages.Inform):
            place = (device.id, said.module)
            return self._versions.get(place) == said.version or self._newest[place] is not message
        return isinstance(said, messages.Progress)

    def _hear(self, message: Heard, device: devices.Device) -> Result:
        said = message.said
        if message.duplicate and self._is_redelivery(message, device):
            return Result.REPEATED
        if said.module != messages.DEFAULT_MODULE and said.module not in device.modules:
            return Result.MALFORMED
        place = (device.id, said.module)
        if isinstance(said, messages.Progress):
            if device.sagoo and said.strategy is not None and not self._is_of(place, said.strategy):
                return Result.ANOTHER_BATCH
            self._progress(place, said, message.fingerprint)
        elif isinstance(said, messages.FirmwareGet):
            asked = Asked(message.address, said.id, device.sagoo, message.answer)
            self._get(asked, place, message.fingerprint)
        elif device.numeric_versions and not resources.NUMERIC_VERSION.fullmatch(said.version):
            return Result.MALFORMED
        else:
            self._inform(device, place, said.version, message.fingerprint)
        return Result.ACCEPTED

    def _progress(self, place: Place, said: messages.Progress, mark: bytes) -> None:
        """Steps the module's task. Where the table would only note the step, it is noted without asking."""
        task_id = self._noting.get(place)
        if task_id is not None and said.step >= 0 and task_id not in self._tasks:
            self._steps[task_id] = said.step, said.desc
            return
        task = self._addressee(place)
        if task is not None:
            self._apply(task, lifecycle.progressed(said.step, said.desc, mark))

    def _is_of(self, place: Place, strategy: str) -> bool:
        """Whether the task that a progress would be for is of the batch that the device means."""
        task_id = self._slots.get(place)
        if task_id is not None:
            return str(self._found[task_id].run_id) == strategy
        ended = self._addressee(place)
        return ended is None or str(ended.run_id) == strategy

    def _inform(self, device: devices.Device, place: Place, version: str, mark: bytes) -> None:
        known = self._versions.get(place)
        is_news = known != version
        if is_news:
            self._versions[place] = version
            module = place[1]
            message = f"{module}: {known} → {version}" if known else f"{module}: {version}"
            self._log.append(events.Event(type=events.Type.VERSION, device_id=device.id, message=message))
        earlier = self._informed.pop(place, None)  # the newest report of a module has its place in the order
        is_changed = is_news or (earlier is not None and earlier.changed)
        self._informed[place] = matching.Reported(device.id, device.product_id, place[1], version, is_changed)
        task = self._addressee(place)
        for each in [*([task] if task else []), *map(self._task, self._behind.get(place, ()))]:
            self._apply(each, lifecycle.reported(each, version, mark))
            self._check_delta(self._tasks[each.id])

    def _check_delta(self, task: lifecycle.Task) -> None:
        """An attempt whose time came, and that waits for its device only, ends when that leaves the delta's source."""
        overdue = (
            task.hold is lifecycle.Hold.RETRY and task.retry_at is not None and task.retry_at <= self._now
        )
        if overdue and not self._is_on_source(task):
            self._apply(task, lifecycle.Event(lifecycle.Trigger.UNFIT), deadlines.STRAYED)

    def _get(self, asked: Asked, place: Place, mark: bytes) -> None:
        """The package at once, where the task may be pushed; as good as a push, for its clocks and for the rate."""
        task = self._addressee(place)
        if task is None or not self._is_offered(task):
            if task is not None and task.failure_mark is not None:  # a question is a message like any other
                self._put(task, task._replace(failure_mark=None))
            self._asked.append((asked, None))
            return
        self._apply(task, lifecycle.Event(lifecycle.Trigger.FETCHED, mark=mark))
        self._asked.append((asked, task))

    def _is_offered(self, task: lifecycle.Task) -> bool:
        may = not task.withheld and lifecycle.Trigger.FETCHED in lifecycle.TABLE[task.state]
        return may and self._is_on_source(task)

    def _is_on_source(self, task: lifecycle.Task) -> bool:
        """A delta is for who reports its source version, and nobody else (platform rules §4)."""
        return not task.delta or self._versions.get((task.device_id, task.module)) in task.source_versions

    def _addressee(self, place: Place) -> lifecycle.Task | None:
        """Whom a message is for: the module's task that occupies the device, else the newest that has ended."""
        task_id = self._slots.get(place) or self._ended.get(place)
        return self._task(task_id) if task_id is not None else None

    def _task(self, task_id: int) -> lifecycle.Task:
        """A task as it is by now."""
        task = self._tasks.get(task_id)
        if task is None:
            task = self._tasks[task_id] = self._found[task_id].task()
            if task_id in self._steps:
                step, description = self._steps.pop(task_id)
                task = self._put(task, task._replace(step=step, step_description=description))
        return task

    def _apply(self, task: lifecycle.Task, event: lifecycle.Event, why: str = "") -> None:
        step = lifecycle.step(task, event, self._now)
        if step.task is task or step.task == task:
            return
        self._put(task, step.task)
        if step.note is not None:
            self._lines[task.id].append(_line(task, step.task, why or step.note))

    def _put(self, task: lifecycle.Task, after: lifecycle.Task) -> lifecycle.Task:
        self._before.setdefault(task.id, task)
        self._tasks[task.id] = after
        return after

    # ------------------------------------------------------------------------------------------ writing

    def _replies(self) -> list[Reply]:
        """Answers to `firmware/get`: each takes a slot of its run's rate, even when none is left."""
        offered = [task for _, task in self._asked if task is not None]
        if not offered:
            return [Reply(asked) for asked, _ in self._asked]
        offers = products.offers(self._connection, sorted({task.run_id for task in offered}))
        counted = collections.Counter(task.run_id for task in offered)
        rates.take(self._connection, int(self._now.timestamp()), counted)
        return [
            Reply(asked, task.id, offers[task.run_id]) if task else Reply(asked)
            for asked, task in self._asked
        ]

    def _write(self, heard: Sequence[Heard]) -> None:
        connection, now = self._connection, self._now
        reports = [
            devices.Report(each.device_id, each.product_id, each.module, each.version)
            for each in self._informed.values()
            if each.changed
        ]
        devices.report(connection, reports, now)
        changes = [
            tasks.Change(before, self._tasks[task_id], tuple(self._lines.get(task_id, ())))
            for task_id, before in self._before.items()
            if self._tasks[task_id] != before
        ]
        events.append(connection, now, self._log)
        tasks.note_steps(connection, [(self._found[i], step) for i, step in self._steps.items()])
        if changes:
            tasks.save(connection, changes, now)
        seen.remember(connection, [message.fingerprint for message in heard])

    def _follow(self) -> bool:
        """Who waits behind gets the devices that became free; then dynamic batches look at all that was reported."""
        connection, presence, now = self._connection, self._host.presence, self._now
        free = [
            before.device_id
            for i, before in self._before.items()
            if before.holds and not self._tasks[i].holds
        ]
        begun = queue.promote(connection, dict.fromkeys(free), presence, now) if free else 0
        if self._informed:
            begun += matching.match(connection, list(self._informed.values()), presence, now)
        return begun > 0

    # ----------------------------------------------------------------------------------------- presence

    def _come(self, heard: Sequence[tuple[Heard, devices.Device]], last: Mapping[Address, Presence]) -> bool:
        """Who came, and who was heard; True when a push became due."""
        came = {self._devices[a].id: item.session for a, item in last.items() if item.online}
        if self._host.assumed_presence:
            came |= {d.id: 0 for message, d in heard if not d.online and message.answer is None}
        if came:
            devices.came(self._connection, came, self._host.presence_epoch, self._now)
            tasks.due_again(self._connection, came, self._now + self._host.settle)
        stale = tables.milliseconds(self._now - devices.LAST_SEEN_GRAIN)
        old = {d.id for _, d in heard if (d.last_seen is None or d.last_seen < stale) and d.id not in came}
        devices.touch(self._connection, old, self._now)
        return bool(came)

    def _go(self, last: Mapping[Address, Presence]) -> None:
        """Who left: nothing is due for them."""
        went = {self._devices[a].id: item.session for a, item in last.items() if not item.online}
        if went:
            gone = devices.went(self._connection, went, self._host.presence_epoch, self._now)
            if gone:
                tasks.not_due(self._connection, gone)


def _line(task: lifecycle.Task, after: lifecycle.Task, note: str) -> events.Event:
    late = after.status in lifecycle.ENDED and task.status is after.status
    if after.attempt > task.attempt and task.retry is not None:
        note += f"; retry {after.attempt} of {task.retry.limit} at {after.retry_at:%Y-%m-%d %H:%M:%S} UTC"
    return events.Event(
        type=events.Type.LATE if late else events.Type.TASK,
        run_id=task.run_id,
        task_id=task.id,
        device_id=task.device_id,
        from_status=task.status,
        to_status=after.status,
        reason=after.reason,
        message=note,
    )
