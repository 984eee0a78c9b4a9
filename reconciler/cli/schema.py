"""`reconciler schema export`: the JSON schemas of the manifests, for editors and other tools."""

from __future__ import annotations

import pathlib

import click

from reconciler import errors
from reconciler.source import schemas


@click.group()
def command() -> None:
    """JSON schemas of the manifests."""


@command.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    help="Write one file for each kind, and one for all, into this folder.",
)
def export(folder: pathlib.Path | None) -> None:
    """Write the schemas. Without --dir, print the one for all kinds."""
    generated = schemas.generate()
    if folder is None:
        click.echo(generated[schemas.ALL], nl=False)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in generated.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as problem:
        raise errors.UserError(f"{problem.filename} cannot be written: {problem.strerror}") from problem
    click.echo(f"{len(generated)} schemas written to {folder}")
