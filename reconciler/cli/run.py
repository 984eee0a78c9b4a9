"""`reconciler run`: the daemon. Ends within ten seconds on SIGTERM or Ctrl-C, and says why when it can't go on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import Any

import click

from reconciler import bootstrap
from reconciler.cli import logs, options

_log = logging.getLogger(__name__)


@click.command()
@options.settings()
@logs.flags
@click.pass_obj
def command(log_options: logs.Options, /, **flags: Any) -> int:
    """Follow a repository and drive the devices until every one reports the version it should have."""
    logs.configure(log_options)
    settings = options.load(flags)
    with bootstrap.opened(settings) as base:
        return asyncio.run(_run(base))


async def _run(base: bootstrap.Base) -> int:
    daemon = bootstrap.Daemon(base)
    running = asyncio.create_task(daemon.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    _log.info("following %s", daemon.follows)
    saying = asyncio.create_task(_say_where(daemon))
    with contextlib.suppress(asyncio.CancelledError):
        await running
    saying.cancel()
    _log.info("stopped")
    return 0


async def _say_where(daemon: bootstrap.Daemon) -> None:
    _log.info("devices: %s; downloads: %s", await daemon.devices_at(), daemon.public_url)
