"""`reconciler init [FOLDER]`: a fleet repository to start from, which passes its own checks."""

from __future__ import annotations

import pathlib

import click

from reconciler import errors


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=pathlib.Path))
@click.option(
    "--home",
    metavar="URL",
    help="The Git repository that CI, pre-commit and the compose file get this program from.",
)
@click.option("--keep", is_flag=True, help="Leave what is there as it is, and write the other files.")
def command(folder: pathlib.Path, home: str | None, *, keep: bool) -> None:
    """Write a fleet repository to start from: manifests, their schemas, CI for GitHub and GitLab, a compose file.

    Nothing is ever overwritten. A FOLDER that is in no Git repository becomes one, with a first commit; in an
    existing one the commit is yours. Default: this folder.
    """
    from reconciler.source import starter

    made = starter.files(home or starter.HOME)
    there = starter.existing(folder, made)
    if there and not keep:
        raise errors.UserError(
            f"{folder} has {', '.join(there)} already, and nothing is overwritten",
            remedy="Name a new folder, or write only what is missing: --keep.",
        )
    new = {name: content for name, content in made.items() if name not in there}
    starter.write(folder, new)
    begun = bool(new) and starter.begin(folder, new)
    click.echo(
        f"{len(new)} files written to {folder}{', a Git repository with a first commit' if begun else ''}"
    )
    for name in there:
        click.echo(f"kept as it is: {name}")
    unsaid = [name for name, content in new.items() if b"OWNER/" in content]
    if home is None and unsaid:
        click.echo(f"yours to fill in: OWNER, in {', '.join(unsaid)} (or begin with --home URL)")
    click.echo("README.md there says what each file is for, and what to do next")
