"""`reconciler cancel`: an operator ends a batch, a verification, or one device's task (platform rules §6).

A batch that was cancelled so stays cancelled while its spec stays the same.
"""

from __future__ import annotations

from typing import Any

import click

from reconciler.cli import looking, options, orders


@click.command()
@click.argument("words", metavar="[batch|package] NAME", nargs=-1, required=True)
@click.option("--device", help="Only the task of this device; the batch goes on.")
@click.option("--why", required=True, help="Why; it is kept in the log.")
@orders.author_options
@options.settings(*options.LOOK)
def command(words: tuple[str, ...], device: str | None, why: str, who: str, wait: str, **flags: Any) -> int:
    """Cancel a batch: unfinished tasks end as its onCancel says, the others go on to their end.

    The name of a package cancels its verification, which has failed then. With --device, only that device's task ends.
    """
    with looking.opened(flags) as database:
        with database.reading() as connection:
            arguments = orders.subject(connection, words)
            if device is not None:
                arguments["device"] = orders.device(connection, device)
        return orders.give(database, "cancel", arguments, orders.Author(who, why, wait))
