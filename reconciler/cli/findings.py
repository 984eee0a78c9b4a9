"""Shows what is wrong in a commit, for the commands that read one (`plan`, `apply`)."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import click

from reconciler.cli import render
from reconciler.domain.diagnostics import Diagnostic, Severity
from reconciler.source.tree import Tree, UnreadableError

_SHOWN_BYTES = 1 << 20


def show(diagnostics: Iterable[Diagnostic], files: Tree) -> bool:
    """Prints a commit's findings to standard error, as `validate` does; True when one is an error.

    Args:
        diagnostics: the findings.
        files: the commit's, for the lines they are about.
    """

    @functools.cache
    def lines(path: str) -> list[str]:
        try:
            return files.read(path, _SHOWN_BYTES).decode("utf-8-sig", "replace").split("\n")
        except UnreadableError:
            return []

    listed = list(diagnostics)
    for line in render.text(listed, str, lines):
        click.echo(line, err=True)
    return any(found.severity is Severity.ERROR for found in listed)
