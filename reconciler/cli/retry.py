"""`reconciler retry`: one device, whose task failed or was cancelled, is upgraded again (platform rules §5)."""

from __future__ import annotations

from typing import Any

import click

from reconciler.cli import looking, options, orders


@click.command()
@click.argument("words", metavar="[batch] NAME", nargs=-1, required=True)
@click.option("--device", required=True, help="Whose task.")
@click.option("--why", required=True, help="Why; it is kept in the log.")
@orders.author_options
@options.settings(*options.LOOK)
def command(words: tuple[str, ...], device: str, why: str, who: str, wait: str, **flags: Any) -> int:
    """Upgrade a device again whose task FAILED or was CANCELED: its attempts and clocks begin anew.

    Refused when the batch is cancelled, its schedule has ended, the device is on the target or not for this batch any
    more, or is busy with another task, unless the batch says `conflict: Wait` (it queues behind) or `Overwrite` (the
    other one is cancelled, unless it is at work). A batch that had completed goes on.
    """
    with looking.opened(flags) as database:
        with database.reading() as connection:
            arguments = orders.subject(connection, words)
            arguments["device"] = orders.device(connection, device)
        return orders.give(database, "retry", arguments, orders.Author(who, why, wait))
