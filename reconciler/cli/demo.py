"""`reconciler demo`: a fleet in one command. The real daemon, a real repository, and devices that are simulated.

What is shown comes from where operators would look: the database, and the devices themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import click

from reconciler import bootstrap, errors
from reconciler.cli import demo_screen, logs, options
from reconciler.protocol.topics import Address
from reconciler.services.clock import SystemClock
from reconciler.settings import Settings
from reconciler.simulator.device import Behaviour
from reconciler.simulator.fleet import DeviceSpec, Fleet, FleetOptions
from reconciler.source import starter
from reconciler.source.scratch import ScratchRepository
from reconciler.store import devices, identities, materialization, status
from reconciler.store.database import Connection
from reconciler.transport.endpoint import Endpoint

_VERSIONS = ("1.3.0", "1.3.1")
_MOST = 10_000
_PATIENCE = 120.0
"""Seconds until the demo gives up on something that takes two."""


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running at the end, and print where to look.")
@options.settings()
@logs.flags
@click.pass_obj
def command(log_options: logs.Options, /, *, keep: bool, **flags: Any) -> int:
    """Upgrade 50 simulated thermostats by a commit, live, in under a minute."""
    logs.configure(
        dataclasses.replace(log_options, level="error" if log_options.level == "info" else log_options.level)
    )
    with _folder(keep=keep) as folder:
        chosen = {name: value for name, value in flags.items() if value is not None}
        defaults = {
            "repo": str(folder / "fleet"), "data_dir": folder / "data", "mqtt_bind": "127.0.0.1:0",
            "http_bind": "127.0.0.1:0", "settle_time": 1.0, "disk_reserve": 0,
        }  # fmt: skip
        settings = options.load({**defaults, **chosen})
        with bootstrap.opened(settings) as base:
            return asyncio.run(_Demo(base, keep=keep).run())


@contextlib.contextmanager
def _folder(*, keep: bool) -> Iterator[pathlib.Path]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="reconciler-demo-"))
    try:
        yield folder
    finally:
        if keep:
            click.echo(f"What it wrote stays in {folder}; `rm -r {folder}` removes it.")
        else:
            shutil.rmtree(folder, ignore_errors=True)


class _Demo:
    """One demo, from an empty folder to an upgraded fleet."""

    def __init__(self, base: bootstrap.Base, *, keep: bool) -> None:
        self._base = base
        self._keep = keep
        self._left_running = False
        self._screen = demo_screen.Screen()
        self._files = starter.files()
        self._repository = ScratchRepository(pathlib.Path(base.settings.repo), base.settings.ref)

    async def run(self) -> int:
        """The exit code: 0 when every device was upgraded, 130 when somebody had seen enough before that."""
        asking = asyncio.current_task()
        assert asking is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, asking.cancel)
        self._commit("Declare the thermostats and firmware 1.4.0", orders=False)
        daemon = bootstrap.Daemon(self._base)
        running = asyncio.create_task(daemon.run(), name="daemon")
        playing = asyncio.create_task(self._play(daemon), name="demo")
        try:
            await asyncio.wait([running, playing], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            return await playing
        except asyncio.CancelledError:
            return 0 if self._left_running else 130
        finally:
            for task in (playing, running):
                task.cancel()
            await asyncio.gather(playing, running, return_exceptions=True)

    def _commit(self, message: str, *, orders: bool) -> str:
        """Commits the batches, or everything else, of the repository that `init` makes; the commit's id."""
        part = {name: data for name, data in self._files.items() if name.startswith("batches/") is orders}
        starter.write(self._repository.folder, part)
        return self._repository.commit(message)

    async def _play(self, daemon: bootstrap.Daemon) -> int:
        await daemon.ready.wait()
        fleet = await self._fleet(daemon)
        total = len(fleet.devices)
        living = asyncio.create_task(fleet.run(), name="devices")
        try:
            self._screen.say(f"{total} simulated thermostats connect, on firmware {' and '.join(_VERSIONS)}")
            await self._until(self._all_reported, "every device reported its version")
            sha = self._commit("Upgrade every thermostat to 1.4.0", orders=True)
            self._screen.say(f"commit {sha[:12]} asks for 1.4.0; watch:")
            upgraded = await self._watch(fleet)
            if self._keep:
                self._screen.say(_where(self._base.settings, daemon, await daemon.devices_at(), fleet))
                self._left_running = upgraded == total
                await asyncio.Event().wait()
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
        self._screen.say(f"{upgraded} of {total} devices upgraded")
        return 0 if upgraded == total else 1

    async def _fleet(self, daemon: bootstrap.Daemon) -> Fleet:
        """Identities for the declared devices, and the devices that own them."""
        url = self._base.settings.mqtt
        if isinstance(daemon.transport, Endpoint):
            await daemon.transport.listening()
            url = f"mqtt://127.0.0.1:{daemon.transport.bound_port}"
        await self._until(self._all_declared, "the inventory became devices")
        secrets = await self._base.database.write(_make_identities, self._base.vault)
        specs = [
            DeviceSpec(key, name, _VERSIONS[number % len(_VERSIONS)], secret)
            for number, (key, name, secret) in enumerate(secrets)
        ]
        return Fleet(specs, url, Behaviour(), FleetOptions(digest_once=True))

    async def _all_declared(self) -> bool:
        due = await self._base.database.read(materialization.anything_due)
        return not due and bool(await self._base.database.read(status.devices_of, limit=1))

    async def _all_reported(self) -> bool:
        found = await self._base.database.read(status.devices_of, limit=_MOST)
        return all(each.versions and each.online for each in found)

    async def _until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not await condition():
            if time.monotonic() > deadline:
                raise errors.StalledError(f"waited {_PATIENCE:.0f} s in vain until {what}")
            await asyncio.sleep(0.1)

    async def _watch(self, fleet: Fleet) -> int:
        """Shows what happens until the batch has ended; how many devices it upgraded."""
        deadline = time.monotonic() + _PATIENCE
        with self._screen.live():
            while True:
                found = await self._base.database.read(status.objects, "Batch")
                run = found[0].run if found else None
                self._screen.show(run.counts if run else {}, fleet.summary(), len(fleet.devices))
                if (run and run.phase != "IN_PROGRESS") or time.monotonic() > deadline:
                    return run.counts.get("SUCCEEDED", 0) if run else 0
                await asyncio.sleep(0.2)


def _make_identities(connection: Connection, vault: identities.Vault) -> list[tuple[str, str, str]]:
    """Product key, device name and new secret of each device."""
    now = SystemClock().now()
    made = []
    for device in status.devices_of(connection, limit=_MOST):
        secret = identities.new_secret()
        found = devices.find(connection, [Address(device.product_key, device.name)], devices.ASSUMED_EPOCH)
        identities.put(connection, next(iter(found.values())).id, vault.seal(secret), now)
        made.append((device.product_key, device.name, secret))
    return made


def _where(settings: Settings, daemon: bootstrap.Daemon, devices_at: str, fleet: Fleet) -> str:
    """Where to look while everything is left running. The commands run as they are printed."""
    at = f"--data-dir {settings.data_dir}"
    me = "reconciler" if shutil.which("reconciler") else sys.argv[0]
    first = fleet.devices[0].address.device_name
    return f"""
Everything is left running; Ctrl-C ends it. Where to look:
  the repository      {daemon.follows}      (commit to it: the daemon follows)
  batches             {me} get batches {at}
  one device          {me} describe device {first} {at}
  what happened       {me} events {at}
  devices connect to  {devices_at}
  health, metrics     {daemon.public_url}/readyz?verbose  {daemon.public_url}/metrics
"""
