"""`reconciler init [FOLDER]`: a fleet repository to start from, which passes its own checks."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping

import click

from reconciler import errors

_NAMED = 3
"""Files that are named where many are there already."""


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
    existing one the commit is yours (with --keep, the first one is made). Default: this folder.
    """
    from reconciler.source import starter

    made = starter.files(home or starter.HOME)
    there = starter.existing(folder, made)
    if there and not keep:
        more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
        raise errors.UserError(
            f"{folder} has {', '.join(there[:_NAMED])}{more} already, and nothing is overwritten",
            remedy="Name a new folder, or write only what is missing: --keep.",
        )
    new = {name: content for name, content in made.items() if name not in there}
    starter.write(folder, new)
    ours, root = starter.same(folder, made), starter.root(folder)
    unborn = keep and root == folder.resolve() and not starter.has_commit(folder)
    first = bool(ours) and (root is None or unborn)
    if first:
        starter.begin(folder, ours)
    click.echo(
        f"{len(new)} files written to {folder}{', a Git repository with a first commit' if first else ''}"
    )
    for name in there:
        if name not in ours:
            click.echo(f"kept as it is: {name}")
    for line in _left(folder, new, None if first else root):
        click.echo(line)
    if starter.WORKFLOW not in made:
        click.echo(f"no workflow for GitHub is written: it would look for {home} at github.com")
    click.echo("README.md there says what each file is for, and what to do next")


def _left(folder: pathlib.Path, new: Mapping[str, bytes], root: pathlib.Path | None) -> Iterator[str]:
    """What the user has to do about new files: put in a name, and move what only the repository's root can have."""
    from reconciler.source import starter

    unsaid = [name for name, content in new.items() if starter.OWNER.encode() in content]
    if unsaid:
        yield f"yours to fill in: {starter.OWNER}, in {', '.join(unsaid)} (or begin with --home URL)"
    low = [name for name in starter.AT_THE_ROOT if (folder / name).exists()]
    if root not in {None, folder.resolve()} and low:
        yield f"CI's files are read at the repository's root only: move them to {root}: {', '.join(low)}"
