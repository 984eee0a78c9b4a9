"""`reconciler cancel`: an operator ends a batch. It stays so while its spec stays the same (platform rules §6)."""

from __future__ import annotations

from typing import Any

import click

from reconciler import errors
from reconciler.cli import looking, names, options, orders
from reconciler.domain.resources import Kind
from reconciler.store import status
from reconciler.store.database import Connection


@click.command()
@click.argument("words", metavar="[batch] NAME", nargs=-1, required=True)
@click.option("--why", required=True, help="Why; it is kept in the log.")
@orders.author_options
@options.settings(*options.LOOK)
def command(words: tuple[str, ...], why: str, who: str, wait: str, **flags: Any) -> int:
    """Cancel a batch: unfinished tasks end as its onCancel says, the others go on to their end."""
    name = _name(words)
    with looking.opened(flags) as database:
        with database.reading() as connection:
            _check(connection, name)
        return orders.give(database, "cancel", {"batch": name}, orders.Author(who, why, wait))


def _name(words: tuple[str, ...]) -> str:
    """`NAME`, `batch NAME` or `batch/NAME`."""
    if len(words) == 1 and "/" not in words[0]:
        return words[0]
    kind, name = names.split(words[0], words[1] if len(words) > 1 else None)
    if kind is not names.Thing.BATCH or not name or len(words) > 2:
        raise errors.UsageError(
            "only one batch can be cancelled at a time", remedy="Write `cancel batch NAME`."
        )
    return name


def _check(connection: Connection, name: str) -> None:
    batches = status.objects(connection, Kind.BATCH)
    if name not in {batch.name for batch in batches}:
        raise names.unknown("batch", name, [batch.name for batch in batches])
