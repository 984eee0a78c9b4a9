"""What a burst of device messages changes: read once, stepped in arrival order, written once (engine §2).

Called by ingest inside one transaction, with messages that are parsed already. Whatever is done here can be done
again: a message that was committed and comes once more changes nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from reconciler.domain import lifecycle, resources
from reconciler.protocol import messages
from reconciler.protocol.topics import Address
from reconciler.store import devices, events, products, rates, seen, tasks
from reconciler.store.database import Connection
from reconciler.transport.base import Presence

Said = messages.Inform | messages.Progress | messages.FirmwareGet


class Result(enum.StrEnum):
    """What became of a message; a label of a metric."""

    ACCEPTED = "accepted"
    MALFORMED = "malformed"
    UNKNOWN = "unknown_device"
    REPEATED = "repeated"


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """One parsed message."""

    address: Address
    said: Said
    fingerprint: bytes
    duplicate: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What a device that asked is told, after the commit. No offer: there is nothing to do."""

    address: Address
    request_id: int | str
    task_id: int = 0
    offer: products.Offer | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """What the burst must know of the daemon.

    Attributes:
        presence_epoch: devices that carry it are online: this daemon's own, or `ASSUMED_EPOCH`.
        settle: how long after a device came its push is due: its own report is heard first.
        assumed_presence: the transport hears messages only; who was heard is taken to be there.
    """

    presence_epoch: int
    settle: timedelta
    assumed_presence: bool = False


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
        self._versions: dict[tuple[int, str], str] = {}
        self._reports: dict[tuple[int, str], devices.Report] = {}
        self._repeated: set[bytes] = set()
        self._newest: dict[tuple[int, str], Heard] = {}
        self._active: dict[int, lifecycle.Task] = {}
        self._ended: dict[tuple[int, str], lifecycle.Task] = {}
        self._before: dict[int, lifecycle.Task] = {}
        self._after: dict[int, lifecycle.Task] = {}
        self._lines: dict[int, list[events.Event]] = collections.defaultdict(list)
        self._log: list[events.Event] = []
        self._asked: list[tuple[Address, int | str, lifecycle.Task | None]] = []

    def process(self, heard: Sequence[Heard], presence: Sequence[Presence]) -> Outcome:
        """Applies who came, then messages, then who left.

        A message may undo the push that coming made due, and who left in the same burst was still heard.
        """
        last = self._meet(heard, presence)
        due = self._come(heard, last)
        self._read(heard)
        results = [self._hear(message) for message in heard]
        replies = self._replies()
        self._write([m for m, result in zip(heard, results, strict=True) if result is not Result.REPEATED])
        self._go(last)
        due = due or bool(replies) or any(task.push_due_at is not None for task in self._after.values())
        named = {message.address for message in heard} | {item.address for item in presence}
        return Outcome(tuple(results), tuple(replies), due, frozenset(named - self._devices.keys()))

    # ------------------------------------------------------------------------------------------ reading

    def _meet(self, heard: Sequence[Heard], presence: Sequence[Presence]) -> dict[Address, Presence]:
        """Finds or registers the devices; what was said last of the presence of each."""
        addresses = {message.address for message in heard} | {item.address for item in presence}
        self._devices = devices.find(self._connection, addresses, self._host.presence_epoch)
        self._register(message.address for message in heard)
        last: dict[Address, Presence] = {}
        for item in presence:
            # a late 'gone' of a connection that was replaced says nothing about the new one
            if item.address in self._devices and item.session >= last.get(item.address, item).session:
                last[item.address] = item
        return last

    def _read(self, heard: Sequence[Heard]) -> None:
        duplicates = [message.fingerprint for message in heard if message.duplicate]
        self._repeated = seen.among(self._connection, duplicates)
        known = [(self._devices[m.address].id, m) for m in heard if m.address in self._devices]
        self._newest = {(i, m.said.module): m for i, m in known if isinstance(m.said, messages.Inform)}
        ids = {device_id for device_id, _ in known}
        if ids:
            self._versions = devices.versions(self._connection, ids)
            self._active = tasks.active(self._connection, ids)
            self._ended = tasks.latest_ended(self._connection, ids)

    def _register(self, heard: Iterable[Address]) -> None:
        """Unknown devices of a product with registration Auto register by being heard (platform rules §2)."""
        unknown: dict[str, list[str]] = collections.defaultdict(list)
        for address in dict.fromkeys(heard):
            if address not in self._devices:
                unknown[address.product_key].append(address.device_name)
        if not unknown:
            return
        new = []
        for product_key, product in devices.products(self._connection, unknown).items():
            if product.auto_registration:
                names = unknown[product_key]
                devices.register(self._connection, product.id, names, self._now)
                new += [Address(product_key, name) for name in names]
        self._devices |= devices.find(self._connection, new, self._host.presence_epoch)
        self._log += [
            events.Event(
                type=events.Type.REGISTERED, device_id=self._devices[address].id, message="registered itself"
            )
            for address in new
        ]

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

    def _hear(self, message: Heard) -> Result:
        device = self._devices.get(message.address)
        if device is None:
            return Result.UNKNOWN
        if self._is_redelivery(message, device):
            return Result.REPEATED
        said = message.said
        if said.module != messages.DEFAULT_MODULE and said.module not in device.modules:
            return Result.MALFORMED
        if isinstance(said, messages.Inform):
            return self._inform(device, said)
        if isinstance(said, messages.Progress):
            self._step(device, said.module, lifecycle.progressed(said.step, said.desc))
        else:
            self._get(message.address, device, said)
        return Result.ACCEPTED

    def _inform(self, device: devices.Device, said: messages.Inform) -> Result:
        if device.numeric_versions and not resources.NUMERIC_VERSION.fullmatch(said.version):
            return Result.MALFORMED
        place = (device.id, said.module)
        known = self._versions.get(place)
        if known != said.version:
            self._versions[place] = said.version
            self._reports[place] = devices.Report(device.id, device.product_id, said.module, said.version)
            message = (
                f"{said.module}: {known} → {said.version}" if known else f"{said.module}: {said.version}"
            )
            self._log.append(events.Event(type=events.Type.VERSION, device_id=device.id, message=message))
        task = self._task(device.id, said.module)
        if task is not None:
            self._apply(task, lifecycle.reported(task, said.version))
        return Result.ACCEPTED

    def _step(self, device: devices.Device, module: str, event: lifecycle.Event) -> None:
        task = self._task(device.id, module)
        if task is not None:
            self._apply(task, event)

    def _get(self, address: Address, device: devices.Device, said: messages.FirmwareGet) -> None:
        task = self._task(device.id, said.module)
        if task is None or task.withdrawn or task.status in lifecycle.ENDED:
            self._asked.append((address, said.id, None))
            return
        self._apply(task, lifecycle.Event(lifecycle.Trigger.FETCHED))
        self._asked.append((address, said.id, task))

    def _task(self, device_id: int, module: str) -> lifecycle.Task | None:
        """The device's unfinished task for the module, else its newest ended one."""
        task = self._active.get(device_id)
        if task is not None and task.module == module:
            task = self._after.get(task.id, task)
            if task.status in lifecycle.UNFINISHED:
                return task
        else:
            task = None
        ended = task or self._ended.get((device_id, module))
        return self._after.get(ended.id, ended) if ended else None

    def _apply(self, task: lifecycle.Task, event: lifecycle.Event) -> None:
        step = lifecycle.step(task, event, self._now)
        if step.task == task:
            return
        self._before.setdefault(task.id, task)
        self._after[task.id] = step.task
        if step.note is not None:
            self._lines[task.id].append(_line(task, step))

    # ------------------------------------------------------------------------------------------ writing

    def _replies(self) -> list[Reply]:
        """Answers to `firmware/get`: each takes a slot of its run's rate, even when none is left."""
        asked = [task for _, _, task in self._asked if task is not None]
        if not asked:
            return [Reply(address, request) for address, request, _ in self._asked]
        offers = products.offers(self._connection, sorted({task.run_id for task in asked}))
        counted = collections.Counter(task.run_id for task in asked)
        rates.take(self._connection, int(self._now.timestamp()), counted)
        return [
            Reply(address, request, task.id, offers[task.run_id]) if task else Reply(address, request)
            for address, request, task in self._asked
        ]

    def _write(self, heard: Sequence[Heard]) -> None:
        connection, now = self._connection, self._now
        devices.report(connection, list(self._reports.values()), now)
        changes = [
            tasks.Change(before, self._after[task_id], tuple(self._lines[task_id]))
            for task_id, before in self._before.items()
            if self._after[task_id] != before
        ]
        events.append(connection, now, self._log)
        if changes:
            tasks.save(connection, changes, now)
        seen.remember(connection, [message.fingerprint for message in heard])

    # ----------------------------------------------------------------------------------------- presence

    def _come(self, heard: Sequence[Heard], last: Mapping[Address, Presence]) -> bool:
        """Who came, and who was heard; True when a push became due."""
        came = {self._devices[a].id: item.session for a, item in last.items() if item.online}
        known = [self._devices[m.address] for m in heard if m.address in self._devices]
        if self._host.assumed_presence:
            came |= {device.id: 0 for device in known if not device.online}
        if came:
            devices.came(self._connection, came, self._host.presence_epoch, self._now)
            tasks.due_again(self._connection, came, self._now + self._host.settle)
        stale = self._now - devices.LAST_SEEN_GRAIN
        old = {d.id for d in known if d.id not in came and (d.last_seen_at is None or d.last_seen_at < stale)}
        devices.touch(self._connection, old, self._now)
        return bool(came)

    def _go(self, last: Mapping[Address, Presence]) -> None:
        """Who left: nothing is due for them."""
        went = {self._devices[a].id: item.session for a, item in last.items() if not item.online}
        if went:
            gone = devices.went(self._connection, went, self._host.presence_epoch, self._now)
            tasks.not_due(self._connection, gone)


def _line(task: lifecycle.Task, step: lifecycle.Step) -> events.Event:
    late = step.task.status in lifecycle.ENDED and task.status is step.task.status
    return events.Event(
        type=events.Type.LATE if late else events.Type.TASK,
        run_id=task.run_id,
        task_id=task.id,
        device_id=task.device_id,
        from_status=task.status,
        to_status=step.task.status,
        reason=step.task.reason,
        message=step.note or "",
    )
