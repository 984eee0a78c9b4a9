"""`reconciler trace`: why a device was (not) upgraded, batch by batch, with the rules that were looked at, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import click

from reconciler import errors
from reconciler.cli import documents, looking, names, options, tables
from reconciler.cli import events as log
from reconciler.domain.trace_facts import Check
from reconciler.services import trace
from reconciler.services.trace import Traced
from reconciler.store import about, events, status, task_views
from reconciler.store.database import Connection


@click.command()
@click.argument("device")
@click.option("--product", help="Of this product (its name or its key), where several have such a device.")
@click.option("--batch", help="This batch only, or the verification of this package.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@options.settings(*options.LOOK, "limits")
def command(device: str, product: str | None, batch: str | None, output: str, **flags: Any) -> None:
    """Why a device was, or was not, upgraded: DEVICE is NAME or PRODUCT/NAME.

    For every batch of its product, newest first: each rule with what was compared (ok, or NO), and how it ended.
    """
    settings = options.load(flags)
    with looking.opened_by(settings) as database, database.reading() as connection:
        now = looking.now()
        found = _device(connection, device, product)
        traced = trace.device(connection, found.id, now, settings.limits, only=batch)
        if batch is not None and not traced:
            raise _absent(connection, batch, found.product)
        groups = about.groups_of(connection, found.id)
        if output == "json":
            looking.json_document(_document(found, groups, traced, task_views.Waits(connection, now)))
            return
        for line in _text(found, groups, traced, now):
            click.echo(line)


def _device(connection: Connection, name: str, product: str | None) -> status.Device:
    """The one device that is meant.

    Raises:
        UserError: none, or several products have such a device.
    """
    owner, _, alone = name.rpartition("/")
    wanted = owner or product or ""
    of = names.product(connection, wanted).name if wanted else None
    found = status.devices_of(connection, product=of, name=alone)
    if not found:
        raise names.unknown("device", alone, about.device_names(connection))
    if len(found) > 1:
        products = ", ".join(item.product for item in found)
        raise errors.UserError(
            f"several products have a device {alone!r}", remedy=f"Give --product: {products}."
        )
    return found[0]


def _absent(connection: Connection, batch: str, product: str) -> errors.UserError:
    """Nothing of the device's product has that name."""
    known = [item.name for item in status.objects(connection, names.KINDS[names.Thing.BATCH])]
    if batch in known:
        return errors.UserError(f"batch {batch!r} is for another product than {product}")
    return names.unknown("batch", batch, known)


# -------------------------------------------------------------------------------------------------- text


def _text(
    found: status.Device, groups: Sequence[str], traced: Sequence[Traced], now: datetime
) -> Iterator[str]:
    versions = ", ".join(f"{module} {version}" for module, version in sorted(found.versions.items()))
    presence = (
        "online" if found.online else f"offline, last seen {tables.moment(found.last_seen_at) or 'never'}"
    )
    yield tables.printable(f"{found.product}/{found.name}: {versions or 'reported no version'}; {presence}")
    if groups:
        yield tables.printable(f"in groups {', '.join(groups)}")
    if not traced:
        yield "no batch of its product"
    for one in traced:
        yield ""
        yield from _one(one, now)


def _one(one: Traced, now: datetime) -> Iterator[str]:
    what = "verification of " * (one.kind == "Package")
    run = f", run {one.run}, to {one.target_version}" if one.run is not None else ""
    yield f"{what}{click.style(tables.printable(one.name), bold=True)}{tables.printable(run)}"
    for check in one.trace.checks:
        yield _check(check)
    if one.task is not None:
        yield f"  task  {_times(one.task, now)}"
        yield from (f"        {_history(line)}" for line in one.history)
    yield click.style("  => ", bold=True) + tables.printable(one.trace.end)
    if one.trace.remedy:
        yield tables.printable(f"     {one.trace.remedy}")


def _check(check: Check) -> str:
    mark = click.style("ok", fg="green") if check.ok else click.style("NO", fg="red", bold=True)
    return f"  {mark}  {check.rule + ':':<16}{tables.printable(check.compared)}"


def _times(task: status.Task, now: datetime) -> str:
    """A task's times, as far as they came."""
    moments = {
        "made": task.created_at,
        "first pushed": task.first_pushed_at,
        "began": task.started_at,
        "ended": task.ended_at,
    }
    said = [f"{name} {tables.moment(at)}" for name, at in moments.items() if at is not None]
    hold = f"; hold {task.hold}" if task.hold != "none" else ""
    last = max(at for at in moments.values() if at is not None)
    return f"{task.status}{hold}: {', '.join(said)} ({tables.age(last, now)} ago)"


def _history(line: events.Line) -> str:
    time, _type, _thing, _device, moved, said, _revision = log.row(line)
    return "  ".join(filter(None, (time, tables.printable(moved), tables.printable(said))))


# -------------------------------------------------------------------------------------------------- JSON


def _document(
    found: status.Device, groups: Sequence[str], traced: Sequence[Traced], waits: task_views.Waits
) -> documents.Document:
    """The same for machines."""
    device = documents.of_device(found)
    device["status"]["groups"] = list(groups)
    return {"device": device, "batches": [_traced(one, waits) for one in traced]}


def _traced(one: Traced, waits: task_views.Waits) -> documents.Document:
    task = documents.of_task(one.task, waits.of(one.task)) if one.task is not None else None
    return {
        "kind": one.kind,
        "name": one.name,
        "run": one.run,
        "checks": [
            {"rule": str(check.rule), "ok": check.ok, "compared": check.compared, "remedy": check.remedy}
            for check in one.trace.checks
        ],
        "decidedBy": one.trace.decided_by and str(one.trace.decided_by),
        "end": one.trace.end,
        "remedy": one.trace.remedy,
        "task": task,
        "history": [log.document(line) for line in one.history],
    }
