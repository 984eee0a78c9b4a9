"""`reconciler confirm`: somebody's word for what waits for it.

Tasks of a batch with `confirm: true` are confirmed by device, or all of them (platform rules §5). Batches that an empty
database found in Git are released by name or all together; the cancellations of a commit that cancels most of what runs
are confirmed by their number (manifests "How a change is read").
"""

from __future__ import annotations

from typing import Any

import click

from reconciler import errors
from reconciler.cli import looking, names, options, orders
from reconciler.domain.actual import UNENDED
from reconciler.domain.plan import Reason
from reconciler.domain.resources import Kind
from reconciler.store import objects, status
from reconciler.store.database import Connection


@click.command()
@click.argument("batches", metavar="[NAME]...", nargs=-1)
@click.option("--device", "devices", multiple=True, help="The batch's task of this device; may be repeated.")
@click.option("--tasks", is_flag=True, help="Every task of the batch that is in CONFIRM.")
@click.option("--all", "everything", is_flag=True, help="Every batch and package that is held.")
@click.option(
    "--cancel", "cancels", type=click.IntRange(0), help="So many cancellations of the newest commit."
)
@click.option("--why", default="", help="Why; it is kept in the log.")
@orders.author_options
@options.settings(*options.LOOK)
def command(batches: tuple[str, ...], *, why: str, who: str, wait: str, **flags: Any) -> int:
    """Confirm tasks, release held batches, or confirm a commit's cancellations.

    \b
    confirm BATCH --device NAME   one device's task of a batch with `confirm: true`
    confirm BATCH --tasks         all of its tasks that wait for this
    confirm NAME…, --all          batches and verifications that are Held (FirstSight): they begin
    confirm --cancel N            a commit that cancels N batches (MassCancel)

    Tasks are confirmed inside of their batch's schedule only.
    """  # noqa: D301 - click looks for the character itself
    given = {name: flags.pop(name) for name in ("devices", "tasks", "everything", "cancels")}
    of_tasks = bool(given["devices"]) or given["tasks"]
    meanings = (bool(given["devices"]), given["tasks"], given["everything"], given["cancels"] is not None)
    named = len(batches) == 1 if of_tasks else bool(batches) is not any(meanings)
    if meanings.count(True) > 1 or not named:
        raise errors.UsageError(
            "say what is confirmed",
            remedy="Name one batch with --device or --tasks; or held batches, --all, or --cancel with a number.",
        )
    with looking.opened(flags) as database:
        with database.reading() as connection:
            if of_tasks:
                arguments = _tasks(connection, batches[0], given["devices"])
            elif given["cancels"] is not None:
                arguments = _cancels(connection, given["cancels"])
            else:
                arguments = _batches(connection, batches)
        return orders.give(database, "confirm", arguments, orders.Author(who, why, wait))


def _tasks(connection: Connection, name: str, devices: tuple[str, ...]) -> dict[str, Any]:
    """All of a batch's tasks, or those of some devices."""
    arguments = orders.subject(connection, (name,))
    if not devices:
        return {**arguments, "tasks": True}
    return {**arguments, "devices": [orders.device(connection, device) for device in devices]}


def _batches(connection: Connection, wanted: tuple[str, ...]) -> dict[str, Any]:
    """Those that are named, or every held one."""
    found = {batch.name: batch for batch in status.objects(connection, Kind.BATCH)}
    packages = status.objects(connection, Kind.PACKAGE)  # one that is to be tried out is held, too
    held = sorted({each.name for each in (*packages, *found.values()) if each.reason == Reason.FIRST_SIGHT})
    for name in wanted:
        if name not in found and name not in held:
            raise names.unknown("batch", name, held or found)
        if name not in held:
            raise errors.UserError(f"batch {name!r} is not held", remedy=_remedy(found[name], held))
    if not held:
        raise errors.UserError("no batch is held")
    return {"batches": list(wanted) or None}


def _remedy(batch: status.Object, held: list[str]) -> str:
    asking = batch.run.counts.get("CONFIRM", 0) if batch.run is not None else 0
    if asking:
        wait = "task waits" if asking == 1 else "tasks wait"
        return f"{asking} {wait} for a confirmation: give --tasks, or --device with a name."
    return f"Held are: {', '.join(held)}." if held else "No batch is held."


def _cancels(connection: Connection, cancels: int) -> dict[str, Any]:
    """The cancellations that the newest commit is held for."""
    held = [found for found in status.objects(connection) if found.reason == Reason.MASS_CANCEL]
    batches = [found for found in held if found.kind == Kind.BATCH]
    running = [found.name for found in batches if found.run is not None and found.run.phase in UNENDED]
    newest = objects.newest_revision(connection)
    if not held or newest is None:
        raise errors.UserError("no cancellation is held")
    if len(running) != cancels:
        remedy = f"They are {', '.join(running)}." if running else ""
        raise errors.UserError(f"{newest} cancels {len(running)} batches, not {cancels}", remedy=remedy)
    return {"cancels": cancels, "revision": newest.sha}
