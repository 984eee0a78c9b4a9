"""`reconciler plan`: what the daemon would do with a commit, and whom that touches. Changes nothing.

The plan is made against the live state here, or asked of a daemon, or made from Git alone. All three give the same
JSON, and text and Markdown are made of that. Only what a way needs is imported: from Git alone no database is.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from reconciler import errors
from reconciler.cli import options
from reconciler.settings import Settings

_MAJOR = "1"
_SERVER_SECONDS = 180.0
_OFFLINE = frozenset({"repo", "limits", "config"})
"""The settings that mean something for a plan from Git alone."""
_SERVER = frozenset({"ref", "config"})
"""The settings that mean something for who asks a daemon."""


@click.command()
@click.option(
    "--offline",
    metavar="BASE..HEAD",
    help="From Git alone, without state or credentials: what HEAD changes against BASE (BASE...HEAD: since the two "
    "parted). --repo is a checkout here; default: this folder.",
)
@click.option(
    "--server", metavar="URL", envvar="RECONCILER_SERVER", help="Ask the daemon there. [RECONCILER_SERVER]"
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="RECONCILER_TOKEN_FILE",
    help="The token for it; or RECONCILER_TOKEN holds it. [RECONCILER_TOKEN_FILE]",
)
@options.settings(*options.SOURCE, *options.LOOK, *options.WAYS, "bootstrap", "limits")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    help="How to print it. markdown: the comment for a pull request.",
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    offline: str | None,
    server: str | None,
    token_file: Path | None,
    output: str,
    detailed_exitcode: bool,
    **flags: Any,
) -> int:
    """What the daemon would do with the newest commit of the ref, and whom that touches.

    Against the state in the data directory, or that of a daemon elsewhere (--server), or from Git alone (--offline).
    A ref is planned as if it were the one that the daemon follows: nothing is merged. What a branch lacks of what is in
    force so shows as deleted, and a note says it where the history is at hand. Then bring the branch up to date, plan
    the merge that a forge keeps (--ref refs/pull/N/merge), or compare from where the two parted
    (--offline origin/main...HEAD).

    Exit code 1: something is not valid, or refused. What is only held waits for `confirm` and is no mistake.
    """
    typed = click.core.ParameterSource.COMMANDLINE
    if offline is not None:
        _only(_OFFLINE, flags, "--offline")
        if ctx.get_parameter_source("server") is typed:
            raise errors.UsageError(
                "--offline and --server exclude each other", remedy="From Git alone, or of a daemon?"
            )
    if (offline is not None or server is None) and ctx.get_parameter_source("token_file") is typed:
        raise errors.UsageError("--token-file means nothing without --server", remedy="Leave it away.")
    if offline is not None:
        document = _from_git(offline, options.load(flags))
    elif server is not None:
        document = _asked(server, token_file, flags)
    else:
        document = _live(options.load(flags))
    _print(document, output)
    wrong = any(found["severity"] == "error" for found in document["diagnostics"])
    if wrong or not all(verdict["held"] for verdict in document["refused"]):
        return 1
    return 2 if detailed_exitcode and document["actions"] else 0


def _only(meant: frozenset[str], flags: Mapping[str, Any], way: str) -> None:
    """Refuses flags that would be ignored.

    Raises:
        UsageError: one was given.
    """
    for name, value in flags.items():
        if value is not None and name not in meant:
            flag = f"--{name.replace('_', '-')}"
            raise errors.UsageError(f"{flag} means nothing with {way}", remedy=f"Leave {flag} away.")


def _from_git(asked: str, settings: Settings) -> dict[str, Any]:
    """What one commit changes against another."""
    from reconciler.cli import findings
    from reconciler.services import offline
    from reconciler.services.clock import SystemClock
    from reconciler.source import history

    with tempfile.TemporaryDirectory(prefix="reconciler-plan-") as folder:
        here = history.History(settings.repo or ".", Path(folder))
        try:
            base, head = offline.read(here, asked, settings.limits)
            document = offline.compare(base, head, settings.limits, SystemClock().now())
            findings.show(head.diagnostics, head.files)
        finally:
            here.close()
    return document


def _asked(server: str, token_file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """What a daemon says."""
    from reconciler.cli import ask, plan_text

    _only(_SERVER, flags, "--server")
    settings = options.load(flags)
    token = ask.token(token_file, os.environ.get("RECONCILER_TOKEN"))
    query = {"ref": settings.ref} if "ref" in settings.model_fields_set else {}  # else the daemon's own
    document = ask.Daemon(server, token, _SERVER_SECONDS).get("/api/v1/plan", query)
    version = str(document.get("formatVersion", ""))
    if version.partition(".")[0] != _MAJOR:
        raise errors.UserError(
            f"{server} speaks format {version or 'of its own'}, and this program {_MAJOR}",
            remedy="Take a program of the daemon's version.",
        )
    for line in plan_text.findings(document):
        click.echo(line, err=True)
    return document


def _live(settings: Settings) -> dict[str, Any]:
    """The plan against the live state. Reads the commit through a mirror of its own: a daemon notices nothing."""
    from reconciler import choices
    from reconciler.cli import findings
    from reconciler.services import planning
    from reconciler.services.clock import SystemClock
    from reconciler.source import validate
    from reconciler.store.database import Database

    policy = choices.policy_of(settings)
    is_fresh = not settings.database and not (settings.data_dir / "state.db").exists()
    notes = (f"there is no state in {settings.data_dir} yet: planned against an empty one",) * is_fresh
    with tempfile.TemporaryDirectory(prefix="reconciler-plan-") as folder:
        repository = choices.repository_of(settings, Path(folder) / "mirror")
        try:
            commit = planning.fetch(repository, validate.Cache(), policy)
            url = f"sqlite:///{folder}/state.db" if is_fresh else settings.database_url
            database = Database.open(url, upgrade=is_fresh)
            try:
                notes += planning.behind(database, repository, commit)
                with database.reading() as connection:
                    document = planning.live(connection, commit, policy, SystemClock().now(), notes=notes)
            finally:
                database.close()
            findings.show(commit.diagnostics, commit.files)
        finally:
            repository.close()
    return document


def _print(document: Mapping[str, Any], output: str) -> None:
    if output == "json":
        import orjson

        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    if output == "markdown":
        from reconciler.cli import plan_markdown

        click.echo(plan_markdown.render(document), nl=False)
        return
    from reconciler.cli import plan_text, tables

    for note in document["notes"]:
        click.echo(f"note: {tables.printable(note)}", err=True)
    for line in plan_text.lines(document):
        click.echo(line)
