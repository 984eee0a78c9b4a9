"""`reconciler resume`: an operator's suspension of a batch is over (platform rules §4)."""

from __future__ import annotations

from typing import Any

import click

from reconciler.cli import looking, options, orders


@click.command()
@click.argument("words", metavar="[batch|package] NAME", nargs=-1, required=True)
@click.option("--why", default="", help="Why; it is kept in the log.")
@orders.author_options
@options.settings(*options.LOOK)
def command(words: tuple[str, ...], why: str, who: str, wait: str, **flags: Any) -> int:
    """End an operator's suspension of a batch, or of a package's verification.

    `suspend: true` in Git suspends a batch still; that is said then.
    """
    with looking.opened(flags) as database:
        with database.reading() as connection:
            arguments = orders.subject(connection, words)
        return orders.give(database, "resume", arguments, orders.Author(who, why, wait))
