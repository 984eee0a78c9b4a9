"""`reconciler plan`: what the daemon would do with a commit, and whom that touches. Changes nothing."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from reconciler import bootstrap, errors
from reconciler.cli import findings, options, reach, render
from reconciler.domain import plan
from reconciler.domain.plan import Action, Plan, Verb
from reconciler.services import observe, preview, reconcile
from reconciler.services.clock import SystemClock
from reconciler.services.observe import Commit
from reconciler.services.preview import Reach
from reconciler.settings import Settings
from reconciler.source import validate
from reconciler.store import objects
from reconciler.store.database import Connection, Database

SIGNS: Mapping[Verb, tuple[str, str]] = {
    Verb.CREATE: ("+", "green"),
    Verb.CHANGE: ("~", "yellow"),
    Verb.CANCEL: ("-", "red"),
    Verb.REMOVE: ("-", "red"),
}
FORMAT_VERSION = "1.1"


@click.command()
@options.settings(*options.SOURCE, *options.LOOK, *options.WAYS, "bootstrap", "limits")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes.")
def command(*, output: str, detailed_exitcode: bool, **flags: Any) -> int:
    """What the daemon would do with the newest commit of the ref, against the state in the data directory.

    A branch is planned as if it were merged. Exit code 1: something is not valid, or refused. What is only held
    waits for `confirm` and is no mistake.
    """
    settings = options.load(flags)
    commit, planned, reaches, wrong = _plan(settings)
    if output == "json":
        _print_json(commit, planned, reaches)
    else:
        _print_text(commit, planned, reaches)
    if wrong or planned.refused:
        return 1
    return 2 if detailed_exitcode and planned.actions else 0


def _plan(settings: Settings) -> tuple[Commit, Plan, dict[Any, Reach], bool]:
    """Reads the commit through a mirror of its own, so that a running daemon notices nothing."""
    policy = dataclasses.replace(bootstrap.policy_of(settings), awaits_files=False)
    with tempfile.TemporaryDirectory(prefix="reconciler-plan-") as folder:
        repository = bootstrap.repository_of(settings, Path(folder))
        try:
            sha = repository.fetch()
            if sha is None:
                raise errors.UserError(
                    f"{repository.url} has no commit yet", remedy="Commit manifests, then look again."
                )
            commit = reconcile.read_commit(repository, sha, validate.Cache(), policy.limits)

            def look(connection: Connection) -> tuple[Plan, list[Reach]]:
                merged = _as_merged(connection, commit)
                seen = observe.make_plan(connection, merged, policy, SystemClock().now())
                return seen.plan, list(preview.reaches(connection, merged, seen, policy.limits))

            planned, reaches = _look(settings, look)
            wrong = findings.show(commit)
        finally:
            repository.close()
    return commit, planned, {found.key: found for found in reaches}, wrong


def _as_merged(connection: Connection, commit: Commit) -> Commit:
    """The commit as if it were where the daemon looks: a branch is planned to see what its merge would do."""
    followed = objects.followed_origin(connection)
    if followed in {None, commit.origin}:
        return commit
    print(f"note: this state follows {followed}; planned as if the commit were there", file=sys.stderr)
    return dataclasses.replace(commit, origin=followed or "")


def _look(settings: Settings, look: Any) -> tuple[Plan, list[Reach]]:
    """Against the live state; against an empty one where no daemon ever ran."""
    fresh = not settings.database and not (settings.data_dir / "state.db").exists()
    with tempfile.TemporaryDirectory(prefix="reconciler-plan-") as folder:
        url = f"sqlite:///{folder}/state.db" if fresh else settings.database_url
        if fresh:
            print(
                f"There is no state in {settings.data_dir} yet: planned against an empty one.",
                file=sys.stderr,
            )
        database = Database.open(url, upgrade=fresh)
        try:
            with database.reading() as connection:
                found: tuple[Plan, list[Reach]] = look(connection)
                return found
        finally:
            database.close()


def _print_text(commit: Commit, planned: Plan, reaches: Mapping[Any, Reach]) -> None:
    click.echo(f"{commit.revision}  {commit.revision.subject}")
    for action in planned.actions:
        sign, colour = SIGNS[action.verb]
        changed = f" ({', '.join(action.changed)})" if action.changed else ""
        click.echo(
            click.style(f"  {sign} {action.verb} {action.key}", fg=colour) + f": {action.why}{changed}"
        )
        found = reaches.get(action.key)
        for line in reach.lines(found) if found is not None else ():
            click.echo(f"        {line}")
        for warning in _warnings(action, found):
            click.echo(click.style("        warning: ", fg="yellow") + warning)
    for verdict in planned.verdicts:
        sign = "! held" if verdict.reason in plan.HOLDS else "! refused"
        click.echo(
            click.style(f"  {sign} {verdict.key}", fg="magenta") + f": {verdict.reason}: {verdict.message}"
        )
        for detail in verdict.details:
            click.echo(f"        {detail}")
    click.echo(reconcile.summary(planned))


def _warnings(action: Action, found: Reach | None) -> list[str]:
    """What the plan itself warns of, and what the devices show."""
    return [*action.warnings, *(found.warnings if found is not None else ())]


def _print_json(commit: Commit, planned: Plan, reaches: Mapping[Any, Reach]) -> None:
    import orjson

    actions = [
        {
            "verb": action.verb, "kind": action.key.kind, "name": action.key.name, "why": action.why,
            "changed": action.changed, "warnings": _warnings(action, reaches.get(action.key)),
            "reach": reach.document(reaches.get(action.key)),
        }
        for action in planned.actions
    ]  # fmt: skip
    verdicts = [
        {
            "kind": verdict.key.kind, "name": verdict.key.name, "reason": verdict.reason,
            "held": verdict.reason in plan.HOLDS, "message": verdict.message, "details": verdict.details,
        }
        for verdict in planned.verdicts
    ]  # fmt: skip
    document = {
        "formatVersion": FORMAT_VERSION,
        "revision": str(commit.revision),
        "actions": actions,
        "refused": verdicts,
        "summary": reconcile.summary(planned),
        "diagnostics": [render.plain(found, str) for found in commit.diagnostics],
    }
    click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
