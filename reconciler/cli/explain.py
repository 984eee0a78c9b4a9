"""`reconciler explain CODE`: what a finding of `validate` is about, why it is so, and how to mend it."""

from __future__ import annotations

import difflib
import textwrap

import click

from reconciler import errors
from reconciler.domain import catalogue
from reconciler.domain.diagnostics import Code

_WIDTH = 88


@click.command()
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """What a code like OTA113 is about, and how to mend it. Without CODE: all of them, a line each."""
    if code is None:
        for known in Code:
            click.echo(f"{known}  {known.meaning}")
        return
    found = _find(code)
    click.secho(f"{found}: {found.meaning}", bold=True)
    click.echo()
    for line in textwrap.wrap(catalogue.PAGES[found], _WIDTH, break_long_words=False, break_on_hyphens=False):
        click.echo(line)


def _find(code: str) -> Code:
    """The code, however it is written: OTA113, ota113, 113."""
    asked = code.upper()
    asked = asked if asked.startswith("OTA") else f"OTA{asked}"
    known = {str(one): one for one in Code}
    if asked in known:
        return known[asked]
    near = difflib.get_close_matches(asked, known, 3)
    remedy = f"did you mean {', '.join(near)}?" if near else "`reconciler explain` lists all"
    raise errors.UsageError(f"there is no code {code!r}", remedy=remedy)
