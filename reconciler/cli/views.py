"""How each kind is listed: what is read, and which columns are drawn from its documents. Called by `get`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from reconciler.cli import documents
from reconciler.cli.documents import Document
from reconciler.cli.names import KINDS, Thing
from reconciler.cli.tables import age
from reconciler.domain import conditions, lifecycle
from reconciler.domain.actual import Verification
from reconciler.domain.resources import DEFAULT_MODULE
from reconciler.domain.waiting import Waiting
from reconciler.store import about, status, task_views
from reconciler.store.database import Connection


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody wants to see."""

    now: datetime
    name: str | None = None
    product: str | None = None
    batch: str | None = None
    device: str | None = None
    status: str | None = None
    limit: int = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One thing: as a document, and as cells under the headings of its view."""

    document: Document
    cells: tuple[str, ...]
    wide: tuple[str, ...]
    """Further cells, for `-o wide`."""

    @property
    def name(self) -> str:
        """What the thing is called among those of its kind."""
        metadata = self.document["metadata"]
        if self.document["kind"] == "Device":
            return f"{metadata['product']}/{metadata['name']}"
        return str(metadata["name"])

    @property
    def reason(self) -> str:
        """Why an object is not what Git says; empty for what is no object of Git."""
        return str(self.document["status"]["reason"]) if self.document["kind"] in KINDS.values() else ""


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """How one kind is listed."""

    headings: tuple[str, ...]
    wide: tuple[str, ...]
    read: Callable[[Connection, Request], list[Item]]


_Object = tuple[status.Object, Document, tuple[str, ...], tuple[str, ...]]
"""An object, its document, and the cells that every object's line ends with."""


def _objects(thing: Thing, connection: Connection, request: Request) -> Iterator[_Object]:
    for item in status.objects(connection, KINDS[thing], request.name):
        document = documents.of_object(item)
        said = document["status"]
        last = (said["sync"], said["health"], age(item.created_at, request.now))
        yield item, document, last, (item.reason, _short(item.revision), item.path)


def _short(revision: str) -> str:
    name, _, sha = revision.rpartition(":")
    return f"{name}:{sha[:12]}"


_LAST, _LAST_WIDE = ("SYNC", "HEALTH", "AGE"), ("REASON", "REVISION", "PATH")


def _products(connection: Connection, request: Request) -> list[Item]:
    keys = {product.name: product.product_key for product in about.products(connection)}
    return [
        Item(document, (item.name, keys.get(item.name, ""), *last), wide)
        for item, document, last, wide in _objects(Thing.PRODUCT, connection, request)
    ]


def _packages(connection: Connection, request: Request) -> list[Item]:
    stored, items = about.files(connection, request.name), []
    for item, document, last, wide in _objects(Thing.PACKAGE, connection, request):
        files = stored.get(item.id, ())
        document["status"]["files"] = [
            {"name": file.name, "size": file.size, "sha256": file.sha256, "md5": file.md5} for file in files
        ]
        cells = (item.name, *_said(document, "product", "version"), _verified(item), *last)
        bytes_ = f"{sum(file.size for file in files):,}" if files else ""
        items.append(Item(document, cells, (str(len(files) or ""), bytes_, *wide)))
    return items


def _verified(item: status.Object) -> str:
    """How the package's verification stands, and how far it is."""
    trial = documents.facts_of(item).trial
    if trial is None:
        return ""
    if trial.state is not Verification.VERIFYING:
        return trial.stage
    return f"{trial.state} {trial.share}{', suspended' * (trial.suspended is not None)}"


def _said(document: Document, *fields: str) -> tuple[str, ...]:
    return tuple(str(document["spec"].get(field, "")) for field in fields)


def _inventories(connection: Connection, request: Request) -> list[Item]:
    declared = about.declared_devices(connection)
    items = []
    for item, document, last, wide in _objects(Thing.INVENTORY, connection, request):
        count = declared.get(item.id, 0)
        document["status"]["devices"] = count
        items.append(Item(document, (item.name, *_said(document, "product"), str(count), *last), wide))
    return items


def _groups(connection: Connection, request: Request) -> list[Item]:
    known = about.groups(connection, request.name)
    items = []
    for item, document, last, wide in _objects(Thing.GROUP, connection, request):
        found = known.get(item.id)
        if found is not None:
            said = {"type": "Dynamic" if found.dynamic else "Static", "devices": found.devices}
            document["status"] |= {**said, "dynamicBatches": list(found.batches)}
        count = str(found.devices) if found is not None else ""
        cells = (document["status"].get("type", ""), count, *last)
        more = (",".join(found.batches) if found is not None else "", *wide)
        items.append(Item(document, (item.name, *_said(document, "product"), *cells), more))
    return items


def _batches(connection: Connection, request: Request) -> list[Item]:
    items = []
    for item, document, last, wide in _objects(Thing.BATCH, connection, request):
        said = document["status"]
        counts, run = said["counts"], item.run
        done = f"{counts['SUCCEEDED']}/{said['total']}" if run is not None else ""
        target = run.target_version if run is not None else ""
        cells = (
            item.name,
            target,
            conditions.stage(documents.facts_of(item)),
            done,
            str(counts["FAILED"]),
            *last,
        )
        rate = str(run.push_rate) if run is not None else ""
        left = str(sum(said["leftOut"].values()))
        items.append(Item(document, cells, (*(str(counts[s]) for s in _MORE), left, rate, *wide)))
    return items


_MORE = ("CONFIRM", "QUEUED", "NOTIFIED", "IN_PROGRESS", "CANCELED")


def _devices(connection: Connection, request: Request) -> list[Item]:
    found = status.devices_of(connection, product=request.product, name=request.name, limit=request.limit)
    return [_device(item, request) for item in found]


def _device(item: status.Device, request: Request) -> Item:
    seen = "" if item.online else age(item.last_seen_at, request.now)
    presence = "online" if item.online else "offline"
    others = {module: v for module, v in item.versions.items() if module != DEFAULT_MODULE}
    cells = (item.product, item.name, item.versions.get(DEFAULT_MODULE, ""), presence, seen, item.state)
    wide = (_pairs(others), _pairs(item.tags), "yes" if item.has_secret else "no")
    return Item(documents.of_device(item), cells, wide)


def _pairs(values: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(values.items()))


def _tasks(connection: Connection, request: Request) -> list[Item]:
    batch, device = request.batch, request.device
    if request.name is not None:
        batch, _, device = request.name.partition("/")
    wanted = status.TaskFilter(batch=batch, device=device or None, status=request.status)
    waits = task_views.Waits(connection, request.now)
    found = status.tasks(connection, wanted, request.limit)
    return [_task(item, waits.of(item), request) for item in found]


def _task(item: status.Task, waits: Waiting | None, request: Request) -> Item:
    step = "" if item.step is None else f"{item.step}%" if item.step >= 0 else str(item.step)
    reason = "late success" if item.late_success else item.reason or str(waits or "")
    versions = f"{item.source_version or '?'} → {item.target_version}"
    moved = item.ended_at or item.started_at or item.first_pushed_at or item.created_at
    cells = (item.batch, item.device, item.status, reason, step, versions, age(moved, request.now))
    waited = age(waits.since, request.now) if waits is not None else ""
    wide = (waited, item.product, item.module, str(item.run), str(item.pushes), item.step_description)
    return Item(documents.of_task(item, waits), cells, (*wide, _short(item.revision)))


VIEWS: Mapping[Thing, View] = {
    Thing.PRODUCT: View(("NAME", "KEY", *_LAST), _LAST_WIDE, _products),
    Thing.PACKAGE: View(
        ("NAME", "PRODUCT", "VERSION", "VERIFICATION", *_LAST), ("FILES", "BYTES", *_LAST_WIDE), _packages
    ),
    Thing.INVENTORY: View(("NAME", "PRODUCT", "DEVICES", *_LAST), _LAST_WIDE, _inventories),
    Thing.GROUP: View(
        ("NAME", "PRODUCT", "TYPE", "DEVICES", *_LAST), ("DYNAMIC-BATCHES", *_LAST_WIDE), _groups
    ),
    Thing.BATCH: View(
        ("NAME", "TARGET", "PHASE", "DONE", "FAILED", *_LAST),
        (*_MORE, "LEFT-OUT", "RATE", *_LAST_WIDE),
        _batches,
    ),
    Thing.DEVICE: View(
        ("PRODUCT", "NAME", "VERSION", "PRESENCE", "SEEN", "STATE"), ("MODULES", "TAGS", "SECRET"), _devices
    ),
    Thing.TASK: View(
        ("BATCH", "DEVICE", "STATUS", "REASON", "STEP", "VERSIONS", "AGE"),
        ("WAITED", "PRODUCT", "MODULE", "RUN", "PUSHES", "STEP-SAYS", "REVISION"),
        _tasks,
    ),
}
STATUSES = [str(name) for name in lifecycle.Status]
