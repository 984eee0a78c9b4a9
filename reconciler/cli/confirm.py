"""`reconciler confirm`: somebody's word for what is held (manifests "How a change is read").

Batches that an empty database found in Git are released by name or all together; the cancellations of a commit that
cancels most of what runs are confirmed by their number.
"""

from __future__ import annotations

from typing import Any

import click

from reconciler import errors
from reconciler.cli import looking, names, options, orders
from reconciler.domain.actual import Phase
from reconciler.domain.plan import Reason
from reconciler.domain.resources import Kind
from reconciler.store import objects, status
from reconciler.store.database import Connection


@click.command()
@click.argument("batches", metavar="[BATCH]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every batch that is held.")
@click.option(
    "--cancel", "cancels", type=click.IntRange(0), help="So many cancellations of the newest commit."
)
@click.option("--why", default="", help="Why; it is kept in the log.")
@orders.author_options
@options.settings(*options.LOOK)
def command(
    batches: tuple[str, ...],
    cancels: int | None,
    *,
    everything: bool,
    why: str,
    who: str,
    wait: str,
    **flags: Any,
) -> int:
    """Release batches that are held, or confirm a commit's cancellations."""
    if (bool(batches), everything, cancels is not None).count(True) != 1:
        raise errors.UsageError(
            "say what is confirmed", remedy="Name batches, or give --all, or --cancel with a number."
        )
    with looking.opened(flags) as database:
        with database.reading() as connection:
            arguments = _batches(connection, batches) if cancels is None else _cancels(connection, cancels)
        return orders.give(database, "confirm", arguments, orders.Author(who, why, wait))


def _batches(connection: Connection, wanted: tuple[str, ...]) -> dict[str, Any]:
    """Those that are named, or every held one."""
    found = {batch.name: batch.reason for batch in status.objects(connection, Kind.BATCH)}
    held = sorted(name for name, reason in found.items() if reason == Reason.FIRST_SIGHT)
    for name in wanted:
        if name not in found:
            raise names.unknown("batch", name, held or found)
        if name not in held:
            raise errors.UserError(f"batch {name!r} is not held", remedy=_listed(held))
    if not held:
        raise errors.UserError("no batch is held")
    return {"batches": list(wanted) or None}


def _listed(held: list[str]) -> str:
    return f"Held are: {', '.join(held)}." if held else "No batch is held."


def _cancels(connection: Connection, cancels: int) -> dict[str, Any]:
    """The cancellations that the newest commit is held for."""
    held = [found for found in status.objects(connection) if found.reason == Reason.MASS_CANCEL]
    running = [found.name for found in held if found.run is not None and found.run.phase == Phase.IN_PROGRESS]
    newest = objects.newest_revision(connection)
    if not held or newest is None:
        raise errors.UserError("no cancellation is held")
    if len(running) != cancels:
        remedy = f"They are {', '.join(running)}." if running else ""
        raise errors.UserError(f"{newest} cancels {len(running)} batches, not {cancels}", remedy=remedy)
    return {"cancels": cancels, "revision": newest.sha}
