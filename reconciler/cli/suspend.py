"""`reconciler suspend`: an operator stops a batch for a while (platform rules §4)."""

from __future__ import annotations

from typing import Any

import click

from reconciler.cli import looking, options, orders


@click.command()
@click.argument("words", metavar="[batch|package] NAME", nargs=-1, required=True)
@click.option("--why", required=True, help="Why; it is kept in the log.")
@orders.author_options
@options.settings(*options.LOOK)
def command(words: tuple[str, ...], why: str, who: str, wait: str, **flags: Any) -> int:
    """Suspend a batch: nothing of it is pushed, pushed again, or offered until `resume`.

    What devices have begun goes on, and so do deadlines. It is a suspension beside `suspend` in Git: either is enough.
    The name of a package suspends its verification.
    """
    with looking.opened(flags) as database:
        with database.reading() as connection:
            arguments = orders.subject(connection, words)
        return orders.give(database, "suspend", arguments, orders.Author(who, why, wait))
