"""`reconciler device`: identities and secrets of devices, which are never in Git. Works beside a running daemon.

A secret is printed when it is made, and later only where somebody asks for it with `device show --reveal`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from reconciler import errors
from reconciler.cli import looking, names, options, secret_file, tables
from reconciler.domain import resources
from reconciler.domain.limits import Limits
from reconciler.store import about, devices, identities, status
from reconciler.store.database import Connection, Database

_SHORTEST_SECRET = 8


@click.group()
def command() -> None:
    """Identities and secrets of devices."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Desk:
    """What the commands below work with."""

    database: Database
    vault: identities.Vault
    limits: Limits
    now: datetime


@contextlib.contextmanager
def _desk(flags: dict[str, Any]) -> Iterator[_Desk]:
    from reconciler import bootstrap  # all of the daemon: not for --help

    settings = options.load(dict(flags))
    with looking.opened(flags) as database:
        yield _Desk(database, bootstrap.vault_of(settings), settings.limits, looking.now())


_secret_option = click.option("--secret", help="The secret to use; default: a random one.")


@command.command()
@click.argument("product")
@click.argument("name")
@_secret_option
@options.settings(*options.LOOK)
def create(product: str, name: str, secret: str | None, **flags: Any) -> None:
    """Give a device an identity, and print its secret (`device show --reveal` shows it again)."""
    with _desk(flags) as desk, desk.database.writing() as connection:
        complaint = resources.device_name_problem(name, desk.limits)
        if complaint:
            raise errors.UserError(complaint)
        found = names.product(connection, product)
        device_id = devices.enrol(connection, found.id, [name], desk.now)[name]
        if identities.exists(connection, device_id):
            raise errors.UserError(
                f"device {found.name}/{name} has a secret already",
                remedy="`reconciler device rotate` replaces it; `device show --reveal` shows it.",
            )
        secret = _put(connection, desk, device_id, secret)
        _, device = _device(connection, found.name, name)
    _print(found, name, secret)
    if device.state != "declared":
        click.echo(
            f"note: {name} is in no DeviceInventory: batches reach it all the same, but it has no tags, and "
            "Git doesn't list it",
            err=True,
        )


@command.command()
@click.argument("product")
@click.argument("name")
@_secret_option
@options.settings(*options.LOOK)
def rotate(product: str, name: str, secret: str | None, **flags: Any) -> None:
    """Replace a device's secret, and print the new one. A connection that is open stays open."""
    with _desk(flags) as desk, desk.database.writing() as connection:
        found, device = _device(connection, product, name)
        if not device.has_secret:
            raise errors.UserError(
                f"device {found.name}/{name} has no secret", remedy="`reconciler device create` makes one."
            )
        secret = _put(connection, desk, device.id, secret)
    _print(found, name, secret)


@command.command()
@click.argument("product")
@click.argument("name")
@click.option("--reveal", is_flag=True, help="Print the secret too.")
@options.settings(*options.LOOK)
def show(product: str, name: str, *, reveal: bool, **flags: Any) -> None:
    """Show a device's identity. Its secret is shown only with --reveal."""
    with _desk(flags) as desk, desk.database.reading() as connection:
        found, device = _device(connection, product, name)
        identity = about.identity(connection, device.id)
        click.echo(f"product:       {found.name}\nproductKey:    {found.product_key}\ndeviceName:    {name}")
        click.echo(f"state:         {device.state}")
        if identity is None:
            click.echo("secret:        none; `reconciler device create` makes one")
            return
        rotated = f", replaced {tables.moment(identity.rotated_at)}" if identity.rotated_at else ""
        click.echo(f"secret:        made {tables.moment(identity.created_at)}{rotated}")
        if reveal:
            click.echo(f"deviceSecret:  {desk.vault.open(identity.secret)}")


@command.command(name="import")
@click.argument("product")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options.settings(*options.LOOK)
def import_(product: str, file: Path, **flags: Any) -> int:
    """Give devices the secrets in a CSV file of lines NAME,SECRET. Doing it again changes nothing.

    Lines that can't be used are listed, the others are imported.
    """
    with _desk(flags) as desk:
        with desk.database.reading() as connection:
            found = names.product(connection, product)
        result = secret_file.Import(desk.database, desk.vault, found.id, desk.limits, desk.now).run(file)
    for line, message in result.flaws:
        click.echo(f"{file}:{line}: {tables.printable(message)}", err=True)
    if result.refused > len(result.flaws):
        click.echo(f"… and {result.refused - len(result.flaws)} more lines", err=True)
    click.echo(
        f"{result.imported} imported, {result.unchanged} had this secret already, {result.refused} refused"
    )
    return 1 if result.refused else 0


def _put(connection: Connection, desk: _Desk, device_id: int, secret: str | None) -> str:
    """Keeps a secret, a random one when none is given; returns it."""
    secret = secret if secret is not None else identities.new_secret()
    complaint = secret_file.secret_problem(secret)
    if (
        not complaint and len(secret) < _SHORTEST_SECRET
    ):  # an import takes what the factory wrote into devices
        complaint = f"the secret is shorter than {_SHORTEST_SECRET} characters"
    if complaint:
        raise errors.UserError(complaint)
    identities.put(connection, device_id, desk.vault.seal(secret), desk.now)
    return secret


def _device(connection: Connection, product: str, name: str) -> tuple[about.Product, status.Device]:
    found = names.product(connection, product)
    listed = status.devices_of(connection, product=found.name, name=name)
    if not listed:
        raise names.unknown(f"device of {found.name}", name, about.device_names(connection))
    return found, listed[0]


def _print(product: about.Product, name: str, secret: str) -> None:
    click.echo(f"productKey:    {product.product_key}\ndeviceName:    {name}\ndeviceSecret:  {secret}")
