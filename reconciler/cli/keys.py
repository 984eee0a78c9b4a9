"""`reconciler keys`: the private key that signs a product's packages, and its public half for the firmware.

The private key is written once, for its owner only, never over anything, and never printed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from reconciler import errors
from reconciler.cli import looking, names, options
from reconciler.services import signing
from reconciler.store import products, signing_keys
from reconciler.store.signing_keys import SigningKey, Type

_FORMATS = ("pem", "der", "raw", "hex", "c")


@click.group()
def command() -> None:
    """Keys that sign packages (secure upgrade)."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--type",
    "type_",
    type=click.Choice([str(type_) for type_ in Type]),
    default=str(Type.RSA),
    show_default=True,
    help="rsa: 2048 bits, which AliOS Things' updater verifies. ed25519: small and fast, for firmware of your own.",
)
def create(file: Path, type_: str) -> None:
    """Make a private key in FILE, which must not exist, and print its public key for the firmware."""
    text = signing_keys.make(Type(type_)).encode()
    try:
        _write_new(file, text)
    except FileExistsError as error:
        raise errors.UserError(
            f"{file} exists already: a key is never overwritten",
            remedy="Devices in the field trust the public half of a key: choose another name.",
        ) from error
    except OSError as error:
        raise errors.UserError(f"{file} can't be written: {error.strerror}") from error
    click.echo(signing_keys.read(text, str(file)).public_pem(), nl=False)
    click.echo(
        f"The private key is in {file}: keep it out of Git, and keep a copy; lost keys can't be made again.\n"
        f"In the product's manifest: signing: {{privateKeyFrom: {{file: {file.absolute()}}}}}",
        err=True,
    )


def _write_new(file: Path, text: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as private:
            private.write(text)
            private.flush()
            os.fsync(private.fileno())
    except OSError:
        file.unlink()  # half a key is none
        raise


@command.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--env", help="Read the private key from this environment variable instead of a FILE.")
@click.option("--product", help="Read the private key that this product names, as the daemon does.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(_FORMATS),
    default="pem",
    show_default=True,
    help="der: the same in bytes. raw, hex, c: the bare key (RSA: the modulus, in c with the exponent).",
)
@options.settings(*options.LOOK)
def show(file: Path | None, env: str | None, product: str | None, format_: str, **flags: Any) -> None:
    """Print the public key, for the firmware, of a private key in FILE."""
    if sum(given is not None for given in (file, env, product)) != 1:
        raise click.UsageError("give one of FILE, --env and --product")
    if file is not None:
        reference = f"file:{file}"
    else:
        reference = f"env:{env}" if env is not None else _reference(str(product), flags)
    key = signing_keys.read(signing.load(reference, os.environ), reference.partition(":")[2])
    if format_ not in {"der", "raw"}:
        click.echo(_text(key, format_), nl=False)
        return
    if sys.stdout.isatty():
        raise errors.UserError(
            f"{format_} is not for a terminal", remedy="Redirect it into a file: > key.bin"
        )
    click.echo(key.public_der() if format_ == "der" else key.public_numbers()[0], nl=False)


def _reference(name: str, flags: dict[str, Any]) -> str:
    with looking.opened(flags) as database, database.reading() as connection:
        found = names.product(connection, name)
        asked = next((each for each in products.signing(connection) if each.product_id == found.id), None)
    if asked is None:
        raise errors.UserError(
            f"product {found.name} doesn't sign its packages",
            remedy="Its manifest names a key: `signing: {privateKeyFrom: {file: …}}`.",
        )
    return asked.key


def _text(key: SigningKey, format_: str) -> str:
    bare, exponent = key.public_numbers()
    if format_ == "pem":
        return key.public_pem()
    if format_ == "hex":
        return f"{bare.hex()}\n"
    if not exponent:
        return _array("ota_public_key", bare)
    return f"{_array('ota_pubn_buf', bare)}{_array('ota_pube_buf', exponent)}"


def _array(name: str, data: bytes) -> str:
    """An array in C, under the names that AliOS Things' updater gives to RSA's modulus and exponent."""
    rows = [data[at : at + 12] for at in range(0, len(data), 12)]
    lines = "\n".join(f"    {' '.join(f'0x{byte:02x},' for byte in row)}" for row in rows)
    return f"static const unsigned char {name}[{len(data)}] = {{\n{lines}\n}};\n"
