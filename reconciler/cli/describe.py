"""`reconciler describe`: everything about one object, device or task, and why it is so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import click

from reconciler.cli import documents, looking, names, options, tables
from reconciler.cli import events as log
from reconciler.cli.names import KINDS, Thing
from reconciler.domain import conditions
from reconciler.domain.resources import DEFAULT_MODULE, Protocol
from reconciler.store import about, devices, events, status, task_views
from reconciler.store.database import Connection

_EVENTS, _TASKS, _NAMES, _FEW = 20, 20, 10, 3
_WAITING = ("CONFIRM", "QUEUED")
"""Statuses of which a batch shows some tasks, with what they wait for."""


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@options.settings(*options.LOOK)
def command(kind: str, name: str | None, **flags: Any) -> None:
    """Everything about one object, device (PRODUCT/NAME) or task (BATCH/DEVICE)."""
    thing, name = names.split(kind, name)
    if not name:
        raise click.UsageError(f"name the {thing}")
    with looking.opened(flags) as database, database.reading() as connection:
        for line in _DESCRIBE.get(thing, _object)(connection, thing, name, looking.now()):
            click.echo(line)


def _object(connection: Connection, thing: Thing, name: str, now: datetime) -> Iterator[str]:
    """An object of Git: what it says, how it is, and what happened."""
    found = status.objects(connection, KINDS[thing], name)
    if not found:
        known = [item.name for item in status.objects(connection, KINDS[thing])]
        raise names.unknown(str(thing), name, known)
    item = found[0]
    facts = documents.facts_of(item)
    yield from _fields(
        {
            "Kind": item.kind,
            "Name": item.name,
            "Path": item.path,
            "Revision": item.revision,
            "Created": _ago(item.created_at, now),
            "Phase": conditions.stage(facts) if thing is Thing.BATCH else "",
            "Sync": str(conditions.sync(facts)),
            "Health": str(conditions.health(facts)),
            "Reason": item.reason,
            "Message": item.message,
            "Digest": item.digest or "none: it was never accepted",
            "Declared": item.declared_digest if item.declared_digest != item.digest else "",
        }
    )
    for title in ("labels", "annotations"):
        yield from _section(title.capitalize(), _nested(item.metadata.get(title, {})))
    yield from _section("Conditions", (_condition(given, now) for given in conditions.conditions(facts)))
    yield from _section("Spec", _nested(item.spec or {}))
    yield from _MORE[thing](connection, item, now)
    yield from _log(connection, _filter(item))


def _condition(given: conditions.Condition, now: datetime) -> str:
    said = f": {tables.printable(given.message)}" if given.message else ""
    return f"{given.type + ':':<13} {given.status!s:<6} {given.reason}, {_ago(given.since, now)}{said}"


def _product(connection: Connection, item: status.Object, _now: datetime) -> Iterator[str]:
    product = next((p for p in about.products(connection) if p.name == item.name), None)
    if product is None:
        return
    counted = about.device_count(connection, product.id)
    listed = ", ".join(f"{count} {state}" for state, count in sorted(counted.items()))
    modules_of = [DEFAULT_MODULE, *(module["name"] for module in (item.spec or {}).get("modules", ()))]
    yield from _fields(
        {
            "Product key": product.product_key,
            "Protocol": product.protocol,
            "Modules": ", ".join(dict.fromkeys(modules_of)),
            "Devices": listed or "none",
        }
    )
    modules: dict[str, list[tuple[str, int]]] = {}
    for module, version, count in devices.distribution(connection, product.id):
        modules.setdefault(module, []).append((version, count))
    for module, versions in modules.items():
        total = sum(count for _, count in versions)
        shares = (f"{version}: {count} ({count / total:.1%})" for version, count in versions)
        yield from _section(f"Versions of {module}", shares)


def _package(connection: Connection, item: status.Object, now: datetime) -> Iterator[str]:
    spec = item.spec or {}
    if item.digest is not None:
        yield from _fields(
            {
                "Product": spec.get("product", ""),
                "Version": spec.get("version", ""),
                "Module": spec.get("module", DEFAULT_MODULE),
            }
        )
    for file in about.files(connection, item.name).get(item.id, ()):
        yield from _section(
            f"File {file.name}",
            _fields({"Size": f"{file.size:,} bytes", "SHA-256": file.sha256, "MD5": file.md5}),
        )
    trial, run = documents.facts_of(item).trial, item.run
    if trial is not None and run is not None:
        yield from _section("Verification", _fields({"State": trial.stage, "Done": trial.share}))
        tasks = status.tasks(connection, status.TaskFilter(run_id=run.id), _TASKS)
        waits = task_views.Waits(connection, now)
        yield from _section(
            "Test devices", (f"{task.device}: {_standing(task, waits, now)}" for task in tasks)
        )
        yield from _section("Left out", (f"{reason}: {count}" for reason, count in run.left_out.items()))
    batches = status.objects(connection, KINDS[Thing.BATCH])
    using = [b for b in batches if (b.spec or {}).get("package") == item.name]
    yield from _section("Batches", (f"{b.name}: {_progress(b)}" for b in using))


def _progress(batch: status.Object) -> str:
    phase = conditions.stage(documents.facts_of(batch))
    return f"{phase}, {_pairs(batch.run.counts)}" if batch.run is not None and batch.run.counts else phase


def _inventory(connection: Connection, item: status.Object, _now: datetime) -> Iterator[str]:
    yield from _fields({"Product": (item.spec or {}).get("product", "")})
    yield from _fields({"Devices": str(about.declared_devices(connection).get(item.id, 0))})


def _group(connection: Connection, item: status.Object, _now: datetime) -> Iterator[str]:
    found = about.groups(connection, item.name).get(item.id)
    if found is None:
        return
    who = "members now" if found.dynamic else "names listed"
    type_ = "dynamic" if found.dynamic else "static"
    batches = ", ".join(found.batches) or ("none" if found.dynamic else "")
    yield from _fields({"Group": f"{type_}, {found.devices} {who}", "Dynamic batches": batches})
    yield from _strangers(about.strangers_of_group(connection, item.id, _NAMES))


def _strangers(found: about.Strangers) -> Iterator[str]:
    """Names in a static group's list that may be misspelt."""
    title = (
        "1 of the names is no device" if found.count == 1 else f"{found.count:,} of the names are no devices"
    )
    more = ("…",) if found.count > len(found.few) else ()
    yield from _section(title, (*found.few, *more))


def _batch(connection: Connection, item: status.Object, now: datetime) -> Iterator[str]:
    run = item.run
    if run is None:
        return
    product = next((p for p in about.products(connection) if p.name == run.product), None)
    is_sagoo = product is not None and product.protocol == Protocol.SAGOO
    yield from _section(
        "Run",
        _fields(
            {
                "Number": str(run.number),
                "Strategy": str(run.id) if is_sagoo else "",
                "Revision": run.revision,
                "Package": run.package,
                "Product": run.product,
                "Target version": run.target_version,
                "Type": str(run.type),
                "Push rate": f"{run.push_rate} a minute",
                "Accepted": _ago(run.created_at, now),
                "Starts": tables.moment(run.start_at) if run.started_at is None else "",
                "Started": _ago(run.started_at, now),
                "Ends": tables.moment(run.end_at) if run.ended_at is None else "",
                "Under way": ", ".join(sorted(run.jobs)),
                "Ended": _ago(run.ended_at, now),
                "Canceled by": run.canceled_by or "",
            }
        ),
    )
    yield from _section("Tasks", (f"{name}: {count}" for name, count in run.counts.items()))
    yield from _section("Failures", (f"{reason}: {count}" for reason, count in run.failures.items()))
    waits = task_views.Waits(connection, now)
    for state in filter(run.counts.get, _WAITING):
        few = status.tasks(connection, status.TaskFilter(run_id=run.id, status=state), _FEW)
        title = f"{state} for example"
        yield from _section(title, (f"{task.device}: {_standing(task, waits, now)}" for task in few))
    yield from _section("Left out", (f"{reason}: {count}" for reason, count in run.left_out.items()))
    if (item.spec or {}).get("target", {}).get("group"):
        yield from _strangers(about.strangers_of_run(connection, run.id, _NAMES))


def _device(connection: Connection, _thing: Thing, name: str, now: datetime) -> Iterator[str]:
    """A device: what it runs, whether it is there, and why it was upgraded or not."""
    product, _, alone = name.rpartition("/")
    wanted = names.product(connection, product).name if product else None
    found = status.devices_of(connection, product=wanted, name=alone)
    if not found:
        raise names.unknown("device", alone, about.device_names(connection))
    beaten = about.heartbeat(connection)
    waits = task_views.Waits(connection, now)
    tasks = status.tasks(connection, status.TaskFilter(device=alone), _TASKS)
    for item in found:  # products may have devices of the same name
        presence = f"online since {_ago(item.online_since, now)}" if item.online else "offline"
        if item.online and looking.is_silent(beaten):
            presence = f"not known, no daemon is running; it was {presence}"
        yield from _fields(
            {
                "Kind": "Device",
                "Name": item.name,
                "Product": f"{item.product} ({item.product_key})",
                "State": item.state,
                "Presence": presence,
                "Last seen": _ago(item.last_seen_at, now) or "never",
                "Secret": "yes" if item.has_secret else "no",
                "Tags": _pairs(item.tags),
            }
        )
        yield from _section("Versions", (f"{m}: {v}" for m, v in sorted(item.versions.items())))
        yield from _section("Groups", about.groups_of(connection, item.id))
        own = [task for task in tasks if task.product == item.product]
        yield from _section("Tasks", (f"{task.batch}: {_standing(task, waits, now)}" for task in own))
        left = about.left_out(connection, item.id)
        yield from _section("Left out", (f"{out.batch}: {out.reason} ({out.version})" for out in left))
    yield from _log(connection, events.Filter(device=alone))


def _standing(task: status.Task, waits: task_views.Waits, now: datetime) -> str:
    """A task's status, and its reason in words, or what it waits for and since when."""
    return f"{task.status}, {_why(task, waits, now)}"


def _why(task: status.Task, waits: task_views.Waits, now: datetime) -> str:
    waited = waits.of(task)
    if waited is not None:
        since = f", for {tables.age(waited.since, now)}" if waited.since is not None else ""
        tried = f"; attempt {task.attempt} of {task.retry_limit}" if task.attempt else ""
        return tables.printable(f"{waited}{since}{tried}")
    reason = f"{task.reason}: " if task.reason else ""
    step = f"; step {task.step} {task.step_description}".rstrip() if task.step is not None else ""
    return tables.printable(f"{reason}{documents.why(task)}{step}")


def _task(connection: Connection, _thing: Thing, name: str, now: datetime) -> Iterator[str]:
    """A device's part in a batch's newest run."""
    batch, _, device = name.partition("/")
    found = status.tasks(connection, status.TaskFilter(batch=batch, device=device or None), 2)
    if not device or not found:
        raise names.unknown("task", name, [], otherwise="Write BATCH/DEVICE; `get tasks` lists them.")
    waits = task_views.Waits(connection, now)
    for task in found:
        yield from _fields(
            {
                "Kind": "Task",
                "Batch": f"{task.batch} (run {task.run})",
                "Device": f"{task.product}/{task.device}",
                "Module": task.module,
                "Status": task.status,
                "Why": _why(task, waits, now),
                "Source version": task.source_version or "not known",
                "Target version": task.target_version,
                "Revision": task.revision,
                "Pushes": str(task.pushes),
                "Attempt": f"{task.attempt} of {task.retry_limit} retries" if task.retry_limit else "",
                "Created": _ago(task.created_at, now),
                "First pushed": _ago(task.first_pushed_at, now),
                "Began": _ago(task.started_at, now),
                "Deadline": tables.moment(task.deadline_at),
                "Ended": _ago(task.ended_at, now),
            }
        )
    yield from _log(connection, events.Filter(batch=batch, device=device))


_DESCRIBE: Mapping[Thing, Callable[[Connection, Thing, str, datetime], Iterator[str]]] = {
    Thing.DEVICE: _device,
    Thing.TASK: _task,
}
_MORE: Mapping[Thing, Callable[[Connection, status.Object, datetime], Iterator[str]]] = {
    Thing.PRODUCT: _product,
    Thing.PACKAGE: _package,
    Thing.INVENTORY: _inventory,
    Thing.GROUP: _group,
    Thing.BATCH: _batch,
}


def _filter(item: status.Object) -> events.Filter:
    if item.kind == KINDS[Thing.BATCH]:
        return events.Filter(batch=item.name)
    return events.Filter(kind=item.kind, name=item.name)


def _log(connection: Connection, wanted: events.Filter) -> Iterator[str]:
    lines = (log.row(line) for line in events.read(connection, wanted, _EVENTS))
    yield from _section("Events", ("  ".join(filter(None, map(tables.printable, row))) for row in lines))


def _fields(values: Mapping[str, str]) -> Iterator[str]:
    """`Name:  value` lines; empty values are left away."""
    for name, value in values.items():
        if value:
            yield f"{name + ':':<16} {tables.printable(value)}"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    """A title with lines below; nothing when there are none."""
    listed = list(lines)
    if listed:
        yield click.style(f"{title}:", bold=True)
        yield from (f"  {line}" for line in listed)


def _nested(value: object, depth: int = 0) -> Iterator[str]:
    """A spec as indented lines."""
    pad = "  " * depth
    pairs = value.items() if isinstance(value, Mapping) else ()
    for name, inner in pairs:
        if isinstance(inner, Mapping) and inner:
            yield f"{pad}{tables.printable(str(name))}:"
            yield from _nested(inner, depth + 1)
        elif isinstance(inner, list) and inner:
            yield f"{pad}{tables.printable(str(name))}:"
            yield from _listed(inner, depth + 1)
        else:
            said = str(inner).lower() if isinstance(inner, bool) else inner
            yield tables.printable(f"{pad}{name}: {said}")


def _listed(values: list[object], depth: int) -> Iterator[str]:
    """A list as lines with dashes."""
    pad = "  " * depth
    for value in values:
        if isinstance(value, Mapping) and value:
            first, *others = _nested(value)
            yield f"{pad}- {first}"
            yield from (f"{pad}  {line}" for line in others)
        else:
            yield tables.printable(f"{pad}- {value}")


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _ago(at: datetime | None, now: datetime) -> str:
    return f"{tables.moment(at)} ({tables.age(at, now)} ago)" if at is not None else ""
