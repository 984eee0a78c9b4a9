"""`reconciler apply`: one pass of the daemon's own, then exit. Drives no devices: that is `run`."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import click

from reconciler import bootstrap, choices, errors
from reconciler.cli import findings, logs, options
from reconciler.domain.plan import Reason
from reconciler.services import materialize, operate, planned
from reconciler.services.clock import SystemClock
from reconciler.settings import Settings
from reconciler.store import devices, objects
from reconciler.store.database import Connection

_AWAITED = frozenset({Reason.FETCHING, Reason.FETCH_FAILED})
"""What one attempt may settle: also what an earlier one was not allowed to fetch."""


@click.command()
@options.settings(*options.SOURCE, *options.LOOK, *options.FILES, *options.WAYS, "bootstrap", "limits")
@logs.flags
@click.pass_obj
def command(log_options: logs.Options, /, **flags: Any) -> int:
    """Apply the newest commit of the ref to the state in the data directory. Refused while a daemon owns it.

    Exit code 1: something is not valid, or refused. What is only held waits for `confirm` and is no mistake.
    """
    logs.configure(log_options)
    settings = options.load(flags)
    if not settings.data_dir.exists():
        _look(settings)
    with bootstrap.opened(settings) as base:
        return asyncio.run(_apply(base))


def _look(settings: Settings) -> None:
    """Fetches once, into a folder that goes away: what is no repository leaves no data directory behind."""
    with tempfile.TemporaryDirectory(prefix="reconciler-apply-") as folder:
        repository = choices.repository_of(settings, Path(folder))
        try:
            repository.fetch()
        finally:
            repository.close()


async def _apply(base: bootstrap.Base) -> int:
    clock = SystemClock()
    repository = choices.repository_of(base.settings)
    await base.database.write(_prepare)
    try:
        settle = choices.settle_of(base.settings)
        nobody = devices.Presence(devices.NO_EPOCH, settle, base.settings.limits)
        ways = choices.ways_of(base.settings)
        while await base.database.write(operate.carry_out_all, nobody, clock.now(), ways):
            pass  # one that is too large for a transaction takes several
        service = bootstrap.reconcile_of(base, repository, clock)
        applied = await service.run_pass()
        if applied is None:
            raise errors.UserError(
                f"{repository.url} has no commit yet", remedy="Commit manifests, then apply again."
            )
        if any(verdict.reason in _AWAITED for verdict in applied.plan.verdicts):
            click.echo(f"{planned.summary(applied.plan)} Now files are fetched.")
            await bootstrap.fetching_of(base, clock, service.wake).once()
            applied = await service.run_pass() or applied
        await materialize.everything(base.database, clock, nobody)
        commit = service.state.commit
        assert commit is not None
        wrong = findings.show(commit.diagnostics, commit.files)
    finally:
        repository.close()
    for action in applied.plan.actions:
        for warning in action.warnings:
            click.echo(f"  warning: {action.key}: {warning}")
    for verdict in applied.plan.verdicts:
        click.echo(f"  ! {verdict.key}: {verdict.reason}: {verdict.message}")
    click.echo(f"{commit.revision}: {planned.summary(applied.plan)}")
    return 1 if wrong or applied.plan.refused else 0


def _prepare(connection: Connection) -> None:
    objects.ensure_daemon(connection)
