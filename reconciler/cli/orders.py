"""Orders of an operator: written down with who and why, carried out by the daemon, waited for here.

Used by `cancel`, `confirm`, `retry`, `suspend` and `resume`. Nothing is done twice, and nothing is lost when no daemon
runs: the order waits.
"""

from __future__ import annotations

import dataclasses
import getpass
import socket
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import click

from reconciler import errors
from reconciler.cli import looking, names
from reconciler.domain import resources
from reconciler.store import about, commands, status
from reconciler.store.database import Connection, Database

F = TypeVar("F", bound=Callable[..., Any])

_LOOKS_EVERY = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Author:
    """Who orders something, why, and how long they wait for it."""

    who: str
    why: str
    wait: str


def author_options(function: F) -> F:
    """Adds `--who` and `--wait`."""
    wait = click.option(
        "--wait", default="10s", metavar="DURATION", help="How long to wait for the daemon; default 10s."
    )
    who = click.option(
        "--who",
        envvar="RECONCILER_WHO",
        default=me,
        help="Who orders this; default user@host. [RECONCILER_WHO]",
    )
    return who(wait(function))


def me() -> str:
    """The user and machine, as `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def subject(connection: Connection, words: tuple[str, ...]) -> dict[str, Any]:
    """What an order is about, for its arguments: `NAME`, `batch NAME`, `package NAME`, or `KIND/NAME`.

    A name alone is a batch's; where there is no such batch, it is a package's, and the order about its verification.

    Raises:
        UsageError: something else is named.
        UserError: nothing has the name.
    """
    kind: names.Thing | None = None
    name: str | None = words[0]
    if len(words) > 1 or "/" in words[0]:
        kind, name = names.split(words[0], words[1] if len(words) > 1 else None)
    if kind not in {None, names.Thing.BATCH, names.Thing.PACKAGE} or not name or len(words) > 2:
        raise errors.UsageError(
            "an order is for one batch at a time", remedy="Write `batch NAME`, or `package NAME`."
        )
    batches = {found.name for found in status.objects(connection, resources.Kind.BATCH)}
    if kind is not names.Thing.PACKAGE and name in batches:
        return {"batch": name}
    packages = {found.name: found.run for found in status.objects(connection, resources.Kind.PACKAGE)}
    if kind is not names.Thing.BATCH and packages.get(name) is not None:
        return {"package": name}
    if kind is names.Thing.PACKAGE and name in packages:
        raise errors.UserError(f"package {name!r} has no verification")
    raise names.unknown(
        str(kind or names.Thing.BATCH), name, packages if kind is names.Thing.PACKAGE else batches
    )


def device(connection: Connection, name: str) -> str:
    """The name of a device that exists.

    Raises:
        UserError: no product has it.
    """
    if not status.devices_of(connection, name=name, limit=1):
        raise names.unknown("device", name, about.device_names(connection))
    return name


def give(database: Database, order: str, arguments: Mapping[str, Any], author: Author) -> int:
    """Writes an order down, waits for it, prints its result; the exit code."""
    patience = _patience(author.wait)
    with database.writing() as connection:
        number = commands.submit(
            connection, order, arguments, who=author.who, why=author.why, now=looking.now()
        )
        silent = looking.is_silent(about.heartbeat(connection))
    done = _wait(database, number, timedelta(0) if silent else patience)
    if done.done_at is None:
        why = "no daemon is running" if silent else "the daemon has not answered yet"
        whom = "it will be carried out by the daemon, or by the next `reconciler apply`"
        click.echo(f"{why}: the order is recorded; {whom}")
        return 0
    if not done.ok:
        click.secho(f"error: refused: {done.result}", fg="red", err=True)
        return 1
    click.echo(done.result)
    return 0


def _patience(text: str) -> timedelta:
    found = resources.duration(text)
    if found is None:
        raise errors.UsageError(f"--wait {text!r} is not a duration", remedy="Write it like 10s or 1m.")
    return found


def _wait(database: Database, number: int, patience: timedelta) -> commands.Command:
    """The order when it was carried out, or when patience is over."""
    until = time.monotonic() + patience.total_seconds()
    while True:
        with database.reading() as connection:
            found = commands.get(connection, number)
        if found.done_at is not None or time.monotonic() >= until:
            return found
        time.sleep(_LOOKS_EVERY)
