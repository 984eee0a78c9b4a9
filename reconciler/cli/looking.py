"""What the commands that look share: the open database, this moment, formats, and looking again and again.

They open the database beside a running daemon, read for a moment, and never write.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import click

from reconciler.cli import options
from reconciler.domain import waiting
from reconciler.services.clock import SystemClock
from reconciler.settings import Settings
from reconciler.store import about
from reconciler.store.database import Database

WATCH_SECONDS = 1.0

watch_option = click.option(
    "-w", "--watch", is_flag=True, help="Look again every second; print what is new or changed."
)


@contextlib.contextmanager
def opened(flags: dict[str, Any]) -> Iterator[Database]:
    """The database that a command's flags name, as it is.

    Raises:
        UserError: there is none, or its schema is not this program's.
        TransientError: it can't be reached.
    """
    with opened_by(options.load(flags)) as database:
        yield database


@contextlib.contextmanager
def opened_by(settings: Settings) -> Iterator[Database]:
    """The same, for who needs other settings too."""
    database = Database.open(settings.database_url, upgrade=False)
    try:
        yield database
    finally:
        database.close()


def now() -> datetime:
    """This moment."""
    return SystemClock().now()


def is_silent(beaten: datetime | None) -> bool:
    """True when no daemon lives, by its last heartbeat."""
    return beaten is None or now() - beaten > waiting.SILENCE


def warn_of_silence(database: Database) -> None:
    """Says on standard error that presence may be old, because no daemon keeps it."""
    with database.reading() as connection:
        beaten = about.heartbeat(connection)
    if beaten is None:
        click.echo("note: no daemon has run on this database yet", err=True)
    elif is_silent(beaten):
        at = beaten.strftime("%Y-%m-%d %H:%M:%SZ")
        click.echo(f"note: no daemon is running; presence is as it was at {at}", err=True)


def json_document(data: object) -> None:
    """Prints indented JSON."""
    click.echo(json.dumps(data, ensure_ascii=False, indent=2))


def json_line(data: object) -> None:
    """Prints one JSON document in one line."""
    click.echo(json.dumps(data, ensure_ascii=False))


def yaml_document(data: object) -> None:
    """Prints YAML."""
    from reconciler.source import dump

    click.echo(dump.dump(data), nl=False)


def forever(look: Callable[[], None], pause: Callable[[float], None] = time.sleep) -> None:
    """Looks every second, until interrupted."""
    while True:
        look()
        pause(WATCH_SECONDS)


class Changes:
    """Remembers what was shown, and picks what is new or differs."""

    def __init__(self) -> None:
        self._seen: dict[str, object] = {}

    def pick(self, items: Sequence[tuple[str, object]]) -> list[int]:
        """The positions of items (name, content) that were not shown like this before."""
        changed = [number for number, (name, content) in enumerate(items) if self._seen.get(name) != content]
        self._seen.update(items)
        return changed
