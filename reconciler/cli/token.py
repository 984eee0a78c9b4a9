"""`reconciler token`: who may ask the daemon over HTTP. Works beside a running daemon.

A token is printed once, when it is made; nobody can show it again.
"""

from __future__ import annotations

import re
from typing import Any

import click

from reconciler import errors
from reconciler.cli import looking, options, tables
from reconciler.store import tokens
from reconciler.store.tokens import Role

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@click.group()
def command() -> None:
    """Tokens for the daemon's API."""


@command.command()
@click.option(
    "--role",
    type=click.Choice([str(role) for role in Role]),
    required=True,
    help="What it is good for. read: to look, and to change nothing.",
)
@click.option("--name", help="What it is listed and deleted by. Default: the role and a number.")
@options.settings(*options.LOOK)
def create(role: str, name: str | None, **flags: Any) -> None:
    """Make a token, and print it: once. Whoever has it may ask the daemon, until `token delete`."""
    if name is not None and not _NAME.fullmatch(name):
        raise errors.UsageError(
            f"{name!r} can't be a token's name", remedy="Take letters, digits, dots, - and _; at most 64."
        )
    with looking.opened(flags) as database, database.writing() as connection:
        taken = {token.name for token in tokens.listed(connection)}
        if name in taken:
            raise errors.UserError(
                f"there is a token {name} already",
                remedy="`reconciler token delete` it, or take another name.",
            )
        free = (f"{role}-{number}" for number in range(1, len(taken) + 2))
        name = name or next(each for each in free if each not in taken)
        made = tokens.create(connection, name, Role(role), looking.now())
    click.echo(made)
    click.echo(f"note: this is the token {name}; it is not shown again", err=True)


@command.command(name="list")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print it."
)
@options.settings(*options.LOOK)
def list_(output: str, **flags: Any) -> None:
    """List the tokens, without what opens anything."""
    with looking.opened(flags) as database, database.reading() as connection:
        found = tokens.listed(connection)
    if output == "json":
        looking.json_document(
            [
                {"name": token.name, "role": str(token.role), "createdAt": token.created_at.isoformat()}
                for token in found
            ]
        )
        return
    rows = [(token.name, str(token.role), tables.moment(token.created_at)) for token in found]
    tables.Table(("NAME", "ROLE", "MADE")).show(rows)


@command.command()
@click.argument("name")
@options.settings(*options.LOOK)
def delete(name: str, **flags: Any) -> None:
    """Make a token worthless, at once."""
    with looking.opened(flags) as database, database.writing() as connection:
        if not tokens.remove(connection, name):
            raise errors.UserError(
                f"there is no token {name!r}", remedy="`reconciler token list` lists them."
            )
    click.echo(f"deleted: the token {name} opens nothing any more")
