"""A plan for a terminal, made of its JSON. Text from manifests is made safe for terminals here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from reconciler.cli import reach
from reconciler.cli.tables import printable

SIGNS: Mapping[str, tuple[str, str]] = {
    "create": ("+", "green"),
    "change": ("~", "yellow"),
    "cancel": ("-", "red"),
    "remove": ("-", "red"),
}
"""The sign and the colour of what an action does."""


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The plan, line by line; its notes and findings are for standard error."""
    yield printable(f"{document['revision']}  {document['subject']}")
    for action in document["actions"]:
        yield from _action(action)
    for verdict in document["refused"]:
        yield from _verdict(verdict)
    yield document["summary"]


def findings(document: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong in the commit, without its lines, for a plan that was made elsewhere."""
    for found in document["diagnostics"]:
        place = f"{found['path']}:{found['line']}:{found['column']}" if found["line"] else found["path"]
        yield printable(f"{place}: {found['severity']}[{found['code']}]: {found['message']}")
        if found["help"]:
            yield printable(f"  help: {found['help']}")


def _action(action: Mapping[str, Any]) -> Iterator[str]:
    sign, colour = SIGNS.get(action["verb"], ("?", "yellow"))
    changed = f" ({', '.join(action['changed'])})" if action["changed"] else ""
    head = click.style(f"  {sign} {action['verb']} {action['kind']}/{action['name']}", fg=colour)
    yield head + printable(f": {action['why']}{changed}")
    for line in reach.lines(action):
        yield printable(f"        {line}")
    for warning in action["warnings"]:
        yield click.style("        warning: ", fg="yellow") + printable(warning)


def _verdict(verdict: Mapping[str, Any]) -> Iterator[str]:
    sign = "! held" if verdict["held"] else "! refused"
    head = click.style(f"  {sign} {verdict['kind']}/{verdict['name']}", fg="magenta")
    yield head + printable(f": {verdict['reason']}: {verdict['message']}")
    for detail in verdict["details"]:
        yield printable(f"        {detail}")
    yield f"        {reach.leaves(verdict)}"
