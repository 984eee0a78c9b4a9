"""`reconciler events`: the log of everything that happened, oldest first; `-w` keeps looking."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import click

from reconciler.cli import documents, looking, names, options, tables
from reconciler.cli.names import KINDS
from reconciler.store import events
from reconciler.store.database import Connection

_LIMIT = 100
_HEADINGS = ("TIME", "TYPE", "OBJECT", "DEVICE", "STATUS", "MESSAGE", "REVISION")


@click.command()
@click.option("--batch", help="Of this batch and its tasks only.")
@click.option("--device", help="Of this device only.")
@click.option("--kind", help="Of objects of this kind only.")
@click.option("--name", help="Of objects with this name only.")
@click.option(
    "--limit", type=click.IntRange(1), default=_LIMIT, help=f"The newest so many; default {_LIMIT}."
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
@looking.watch_option
@options.settings(*options.LOOK)
def command(limit: int, output: str, *, watch: bool, **flags: Any) -> None:
    """What happened, oldest first, with the commit that asked for it."""
    given = {field: flags.pop(field) for field in ("batch", "device", "kind", "name")}
    if given["kind"] is not None:
        thing = names.thing(given["kind"])
        given["kind"] = str(KINDS.get(thing, thing))
    wanted = events.Filter(**given)
    show = _printer(output, watch=watch)
    with looking.opened(flags) as database:

        def look() -> None:
            nonlocal wanted
            with database.reading() as connection:
                lines = read(connection, wanted, limit)
            if lines:
                wanted = dataclasses.replace(wanted, after=lines[-1].id)
            show(lines)

        if watch:
            looking.forever(look)
        look()
        if not wanted.after:
            click.echo("no events", err=True)


def _printer(output: str, *, watch: bool) -> Callable[[list[events.Line]], None]:
    """What prints lines of the log in a format."""
    table = tables.Table(_HEADINGS)

    def rows(lines: list[events.Line]) -> None:
        if lines:
            table.show([row(line) for line in lines])

    def each(lines: list[events.Line]) -> None:
        for line in lines:
            looking.json_line(document(line))

    if output == "table":
        return rows
    return each if watch else lambda lines: looking.json_document([document(line) for line in lines])


def read(connection: Connection, wanted: events.Filter, limit: int) -> list[events.Line]:
    """The newest lines that fit; after a first look all that are new."""
    return events.read(connection, wanted, limit if not wanted.after else 100_000)


def row(line: events.Line) -> tuple[str, ...]:
    """A line of the log as cells."""
    kind, name = (line.kind, line.name) if line.name else ("Package" if line.trial else "Batch", line.batch)
    thing = f"{kind}/{name}" if name else ""
    moved = " → ".join(dict.fromkeys(s for s in (line.from_status, line.to_status) if s))
    said = ": ".join(part for part in (line.reason, line.message) if part)
    name, _, sha = (line.revision or "").rpartition(":")
    revision = f"{name}:{sha[:12]}" if sha else ""
    return tables.moment(line.at), line.type, thing, line.device or "", moved, said, revision


def document(line: events.Line) -> dict[str, Any]:
    """A line of the log for machines."""
    return {
        "id": line.id,
        "time": documents.time(line.at),
        "type": line.type,
        "kind": line.kind,
        "name": line.name,
        "batch": line.batch,
        "device": line.device,
        "fromStatus": line.from_status,
        "toStatus": line.to_status,
        "reason": line.reason,
        "message": line.message,
        "revision": line.revision,
    }
