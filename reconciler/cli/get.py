"""`reconciler get`: lists objects, devices and tasks, as a table or for machines; `-w` keeps looking."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import click

from reconciler import errors
from reconciler.cli import looking, names, options, tables
from reconciler.cli.names import KINDS, Thing
from reconciler.cli.views import STATUSES, VIEWS, Item, Request
from reconciler.store import about, status
from reconciler.store.database import Connection

_FORMATS = ["table", "wide", "json", "yaml", "name"]
_LIMIT = 1000


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@click.option("-o", "--output", type=click.Choice(_FORMATS), default="table", envvar="RECONCILER_OUTPUT")
@looking.watch_option
@click.option("--product", help="Devices of this product only (its name or its key).")
@click.option("--batch", help="Tasks of this batch's newest run only.")
@click.option("--device", help="Tasks of this device only.")
@click.option(
    "--status", type=click.Choice(STATUSES, case_sensitive=False), help="Tasks in this status only."
)
@click.option("--limit", type=click.IntRange(1), default=_LIMIT, help=f"Most rows; default {_LIMIT}.")
@options.settings(*options.LOOK)
def command(kind: str, name: str | None, output: str, *, watch: bool, **flags: Any) -> None:
    """List products, packages, inventories, groups, batches, devices or tasks.

    A device is named NAME or PRODUCT/NAME, a task BATCH/DEVICE. JSON and YAML are lists of objects with kind,
    metadata, spec and status; with -w, each change is one JSON line.
    """
    thing, name = names.split(kind, name)
    filters = {given: flags.pop(given) for given in ("product", "batch", "device", "status", "limit")}
    _check_filters(thing, filters)
    with looking.opened(flags) as database:

        def read() -> list[Item]:
            with database.reading() as connection:
                return _read(connection, thing, Request(now=looking.now(), name=name, **filters))

        show = _printer(thing, output, watch=watch)
        if not watch:
            items = read()
            show(items)
            _remark(thing, items, filters["limit"])
            if thing is Thing.DEVICE:
                looking.warn_of_silence(database)
            return
        changes = looking.Changes()

        def look() -> None:
            items = read()
            show([items[n] for n in changes.pick([(item.name, item.document) for item in items])])

        looking.forever(look)


def _check_filters(thing: Thing, filters: dict[str, Any]) -> None:
    """A filter that means nothing for a kind is refused instead of ignored."""
    meant = {"product": Thing.DEVICE, "batch": Thing.TASK, "device": Thing.TASK, "status": Thing.TASK}
    for given, for_thing in meant.items():
        if filters[given] is not None and thing is not for_thing:
            raise errors.UsageError(f"--{given} is for {for_thing}s only")


def _read(connection: Connection, thing: Thing, request: Request) -> list[Item]:
    """What was asked for.

    Raises:
        UserError: a name in it is unknown.
    """
    asked = request.name
    if thing is Thing.DEVICE:
        request = _of_product(connection, request)
    items = VIEWS[thing].read(connection, request)
    if items:
        return items
    if asked is not None:
        raise names.unknown(str(thing), asked, _known(connection, thing))
    if request.batch is not None and not status.objects(connection, KINDS[Thing.BATCH], request.batch):
        raise names.unknown("batch", request.batch, _known(connection, Thing.BATCH))
    if request.device is not None and not status.devices_of(connection, name=request.device, limit=1):
        raise names.unknown("device", request.device, _known(connection, Thing.DEVICE))
    return items


def _of_product(connection: Connection, request: Request) -> Request:
    """The request with the product of `PRODUCT/NAME` or `--product` looked up, by name or key."""
    product, _, name = (request.name or "").rpartition("/")
    product = product or request.product or ""
    found = names.product(connection, product).name if product else None
    return dataclasses.replace(request, product=found, name=name or None)


def _known(connection: Connection, thing: Thing) -> list[str]:
    if thing in KINDS:
        return [found.name for found in status.objects(connection, KINDS[thing])]
    return about.device_names(connection) if thing is Thing.DEVICE else []


class _Rows:
    """Items as rows of a table. Why an object is not what Git says has a column as soon as there is something in it."""

    def __init__(self, thing: Thing, *, wide: bool, watch: bool) -> None:
        self._thing = thing
        self._wide = wide
        self._watch = watch
        self._reasons = False
        self._table: tables.Table | None = None

    def show(self, items: list[Item]) -> None:
        """Prints some; the headings come with the first ones."""
        if not items:
            return
        if self._table is None:
            told = self._watch or any(item.reason for item in items)  # who watches may see one later
            self._reasons = told and self._thing in KINDS and not self._wide
            view = VIEWS[self._thing]
            headings = view.headings + view.wide * self._wide + ("REASON",) * self._reasons
            self._table = tables.Table(headings)
        self._table.show(
            [item.cells + item.wide * self._wide + (item.reason,) * self._reasons for item in items]
        )


def _printer(thing: Thing, output: str, *, watch: bool) -> Callable[[list[Item]], None]:
    """What prints items in a format."""

    def only_names(items: list[Item]) -> None:
        for item in items:
            click.echo(f"{thing}/{item.name}")

    def lines(items: list[Item]) -> None:
        for item in items:
            looking.json_line(item.document)

    def documents(items: list[Item]) -> None:
        show = looking.json_document if output == "json" else looking.yaml_document
        show([item.document for item in items])

    if output == "name":
        return only_names
    if output in {"table", "wide"}:
        return _Rows(thing, wide=output == "wide", watch=watch).show
    return lines if watch else documents


def _remark(thing: Thing, items: list[Item], limit: int) -> None:
    """What the list itself does not say, on standard error."""
    if not items:
        click.echo(f"no {names.plural(thing)}", err=True)
    elif thing in {Thing.DEVICE, Thing.TASK} and len(items) == limit:
        click.echo(f"note: the first {limit} only; see --limit", err=True)
