"""`reconciler simulate`: devices that speak the wire, against our endpoint or any broker.

Reads flags, runs a fleet of the simulator, and prints what becomes of it. What devices do is not decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import dataclasses
import json
import math
import pathlib
import resource
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict

import click

from reconciler import errors

if TYPE_CHECKING:
    from reconciler.simulator.device import Behaviour, Device
    from reconciler.simulator.fleet import DeviceSpec, Fleet, FleetOptions, Summary

_EVERY_ON_A_TERMINAL = 0.2  # seconds between two summaries
_EVERY_ELSEWHERE = 5.0
_RATE = click.FloatRange(0.0, 1.0)


class _Seconds(click.ParamType[float]):
    """A time span, as the daemon's settings take it."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`90s`, `5m`, or a number of seconds."""
        from reconciler.domain import resources

        span = resources.duration(value) if isinstance(value, str) else None
        with contextlib.suppress(ValueError):
            seconds = float(value) if span is None else span.total_seconds()
            if 0 <= seconds < math.inf:
                return seconds
        raise click.BadParameter(
            f"{value!r} is not a time: write 30s, 5m, or a number of seconds", ctx, param
        )


_SECONDS = _Seconds()

_FAULTS = (
    ("silent", "never answers a push"),
    ("fail-upgrade", "reports -1"),
    ("fail-download", "reports -2"),
    ("fail-verify", "reports -3"),
    ("fail-burn", "reports -4"),
    ("reboot", "reboots half-way, with its old version"),
    ("offline", "loses the network half-way"),
    ("wrong-version", "ends with a version that nobody asked for"),
    ("repeat", "says a message twice"),
    ("reorder", "says a report later than it should"),
)


class Flags(TypedDict):
    """The command's flags, as click hands them over."""

    product: str
    count: int | None
    broker: str
    prefix: str
    width: int
    start: int
    versions: str
    module: str
    secret: str | None
    secrets_file: pathlib.Path | None
    ca_file: pathlib.Path | None
    subscribe: bool
    ask_every: float | None
    download_seconds: float
    reboot_seconds: float
    offline_seconds: float
    version_instead: str
    connect_rate: float
    downloads_at_once: int
    digest_once: bool
    seed: int
    duration: float | None
    until_version: str | None
    output: str


def _fault_flags(command: Callable[..., None]) -> Callable[..., None]:
    for name, what in reversed(_FAULTS):
        share = "messages" if name == "repeat" else "upgrades"
        text = f"Share of {share}, 0 to 1, in which a device {what}."
        command = click.option(f"--{name}", type=_RATE, default=0.0, metavar="SHARE", help=text)(command)
    return command


@click.command("simulate")
@click.option("--product", required=True, metavar="KEY", help="Product key, as devices say it on the wire.")
@click.option("--count", type=click.IntRange(min=1), help="How many devices; 10, or all of --secrets-file.")
@click.option(
    "--broker",
    default="mqtt://127.0.0.1:1883",
    show_default=True,
    metavar="URL",
    help="Where they connect: our endpoint or a broker, mqtt://[user[:password]@]host[:port] or mqtts://.",
)
@click.option("--prefix", default="thermo-", show_default=True, help="What device names begin with.")
@click.option(
    "--width", type=click.IntRange(1, 10), default=3, show_default=True, help="Digits of the number."
)
@click.option("--start", type=click.IntRange(min=0), default=1, show_default=True, help="The first number.")
@click.option("--versions", default="1.3.0,1.3.1", show_default=True, help="What they run, in turn.")
@click.option("--module", default="default", show_default=True, help="The module that they have.")
@click.option(
    "--secret", metavar="SECRET", help="The secret of all devices; without one, no password is sent."
)
@click.option(
    "--secrets-file",
    type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path),
    help="CSV file of names and secrets, with the header name,secret. Only devices in it are simulated.",
)
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path),
    help="Certificates to trust with mqtts:// and https://.",
)
@click.option(
    "--subscribe/--no-subscribe",
    default=True,
    show_default=True,
    help="Whether they subscribe. Some SDKs don't; our endpoint reaches them, a broker doesn't.",
)
@click.option("--ask-every", type=_SECONDS, metavar="SECONDS", help="Ask for the package (pull) so often.")
@click.option("--download-seconds", type=_SECONDS, default=3.0, show_default=True, help="From 0 to 100 %.")
@click.option("--reboot-seconds", type=_SECONDS, default=2.0, show_default=True, help="Gone for so long.")
@_fault_flags
@click.option("--offline-seconds", type=_SECONDS, default=5.0, show_default=True, help="For --offline.")
@click.option("--version-instead", default="0.0.0", show_default=True, help="For --wrong-version.")
@click.option(
    "--connect-rate",
    type=click.FloatRange(min=0.1),
    default=500.0,
    show_default=True,
    help="Connections made a second.",
)
@click.option("--downloads-at-once", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--digest-once", is_flag=True, help="Check each different file's digest once, not per device.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed, the same behaviour.")
@click.option(
    "--duration", type=_SECONDS, metavar="SECONDS", help="Stop after so long; 1 if nobody ever connected."
)
@click.option(
    "--until-version", metavar="VERSION", help="Stop when all devices run it; 1 if --duration is over."
)
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Of the last summary."
)
def command(**flags: Any) -> None:
    """Simulate devices that speak the wire.

    They connect, report their version, follow pushes: download over HTTP, report progress, reboot, report again.
    """
    given = Flags(**flags)  # type: ignore[typeddict-item]
    _allow_sockets()
    try:
        reached = asyncio.run(_simulate(given))
    except KeyboardInterrupt:
        sys.exit(130)
    if not reached:
        sys.exit(1)


def _allow_sockets() -> None:
    """Lets this process open as many sockets as it may: many systems begin with 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _simulate(flags: Flags) -> bool:
    """Runs the fleet. False when its devices did not reach the version in time, or none of them ever connected."""
    from reconciler.simulator.device import State
    from reconciler.simulator.fleet import Fleet

    came = asyncio.Event()

    def changed(device: Device) -> None:
        if device.state is not State.OFFLINE:
            came.set()

    fleet = Fleet(_specs(flags), flags["broker"], _behaviour(flags), _options(flags), changed)
    goal = _goal(flags["until_version"])
    running = asyncio.create_task(fleet.run(goal))
    printing = asyncio.create_task(_print_live(fleet))
    try:
        await asyncio.wait([running], timeout=flags["duration"])
    finally:
        summary = running.result() if running.done() else fleet.summary()
        for task in (running, printing):
            task.cancel()
        await asyncio.gather(running, printing, return_exceptions=True)
        _print_last(summary, flags["output"])
    return came.is_set() if goal is None else goal(summary)


def _goal(version: str | None) -> Callable[[Summary], bool] | None:
    if version is None:
        return None
    return lambda summary: summary.versions.get(version, 0) == summary.devices


def _specs(flags: Flags) -> list[DeviceSpec]:
    from reconciler.simulator.fleet import DeviceSpec

    versions = [version.strip() for version in flags["versions"].split(",") if version.strip()]
    if not versions:
        raise errors.UsageError("--versions names no version", remedy="give one or more, with commas between")
    if flags["secrets_file"] is None:
        secrets, numbers = {}, range(flags["start"], flags["start"] + (flags["count"] or 10))
        names = [f"{flags['prefix']}{number:0{flags['width']}}" for number in numbers]
    else:
        secrets = _secrets(flags["secrets_file"])
        names = list(secrets)[: flags["count"]]
    return [
        DeviceSpec(
            flags["product"], name, versions[index % len(versions)], secrets.get(name, flags["secret"])
        )
        for index, name in enumerate(names)
    ]


def _secrets(path: pathlib.Path) -> dict[str, str]:
    """Names and secrets from a CSV file, in its order.

    Raises:
        UserError: it is no text, has no header or no devices, or a line has not both.
    """
    remedy = "write a line name,secret, then one line a device"
    secrets: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"name", "secret"} <= set(rows.fieldnames or ()):
                raise errors.UserError(f"{path}: the header name,secret is missing", remedy=remedy)
            for row in rows:
                if not row["name"] or not row["secret"]:
                    raise errors.UserError(f"{path}:{rows.line_num}: a field is missing", remedy=remedy)
                secrets[row["name"]] = row["secret"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise errors.UserError(f"{path} can't be read: {error}", remedy=remedy) from error
    if not secrets:
        raise errors.UserError(f"{path} names no device", remedy=remedy)
    return secrets


def _behaviour(flags: Flags) -> Behaviour:
    from reconciler.simulator.device import Behaviour
    from reconciler.simulator.faults import Faults

    fields = {field.name for field in dataclasses.fields(Faults)}
    faults: dict[str, Any] = {name: value for name, value in flags.items() if name in fields}
    return Behaviour(
        module=flags["module"],
        download_seconds=flags["download_seconds"],
        reboot_seconds=flags["reboot_seconds"],
        subscribe=flags["subscribe"],
        ask_every=flags["ask_every"],
        faults=Faults(**faults),
    )


def _options(flags: Flags) -> FleetOptions:
    from reconciler.simulator.fleet import FleetOptions

    return FleetOptions(
        seed=flags["seed"],
        connects_a_second=flags["connect_rate"],
        downloads_at_once=flags["downloads_at_once"],
        digest_once=flags["digest_once"],
        ca_file=flags["ca_file"],
    )


async def _print_live(fleet: Fleet) -> None:
    """One line that changes on a terminal, else a line now and then; on stderr, so that stdout is the result."""
    terminal = sys.stderr.isatty()
    began = time.monotonic()
    try:
        while True:
            line = f"{time.monotonic() - began:6.0f}s  {_line(fleet.summary())}"
            click.echo(f"\r\x1b[2K{line[:160]}" if terminal else line, nl=not terminal, err=True)
            await asyncio.sleep(_EVERY_ON_A_TERMINAL if terminal else _EVERY_ELSEWHERE)
    finally:
        if terminal:
            click.echo(err=True)


def _line(summary: Summary) -> str:
    states = ", ".join(f"{number} {state}" for state, number in summary.states.items())
    versions = ", ".join(f"{version}: {number}" for version, number in summary.versions.items())
    text = f"{summary.devices} devices: {states} | {versions} | {summary.downloads} downloads"
    if summary.failing:
        text += f" | {summary.failing} can't connect: {summary.failing_because}"
    return text


def _print_last(summary: Summary, output: str) -> None:
    if output == "json":
        click.echo(json.dumps(dataclasses.asdict(summary), indent=2))
    else:
        click.echo(_line(summary))
