"""Shows what is wrong in a commit, for the commands that read one (`plan`, `apply`)."""

from __future__ import annotations

import functools

import click

from reconciler.cli import render
from reconciler.domain.diagnostics import Severity
from reconciler.services.observe import Commit
from reconciler.source.tree import UnreadableError

_SHOWN_BYTES = 1 << 20


def show(commit: Commit) -> bool:
    """Prints a commit's findings to standard error, as `validate` does; True when one is an error."""

    @functools.cache
    def lines(path: str) -> list[str]:
        try:
            return commit.files.read(path, _SHOWN_BYTES).decode("utf-8-sig", "replace").split("\n")
        except UnreadableError:
            return []

    for line in render.text(commit.diagnostics, str, lines):
        click.echo(line, err=True)
    return any(found.severity is Severity.ERROR for found in commit.diagnostics)
