"""A whole upgrade of a thousand simulated devices, through the endpoint and through Mosquitto, in the same run.

    python bench/fleet.py                     1,000 devices
    python bench/fleet.py --devices 5000

Measured from the commit of the batch to the moment when the daemon knows that every device runs the new version:
each device was pushed, downloaded 64 KiB over HTTP, reported progress three times, rebooted, logged in again and
reported its version. All of it costs the daemon a dozen messages, a download and two database rows a device. The
push rate is not what is measured: the batch asks for 1,000,000 a minute, which --limits allows. Devices
are in a process of their own, and take no time for what real ones take minutes for; still, a second of the wall
time is the settle time after a commit and after a reboot.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import subprocess
import tempfile
import time

from deployment import TARGET, Deployment, mosquitto, usage, wait_for

INSTANT = ("--download-seconds", "0", "--reboot-seconds", "0", "--digest-once", "--connect-rate", "2000")
UNTIL = ("--until-version", TARGET, "-o", "json")


@dataclasses.dataclass(frozen=True)
class Result:
    """What one upgrade of a fleet took."""

    through: str
    devices: int
    seconds: float
    cpu: float
    """Of the daemon, in seconds."""
    peak: float
    """Of the daemon, in megabytes."""
    players: float
    """CPU seconds of the simulated devices: on a small machine they are in the way."""
    broker: float
    """CPU seconds of Mosquitto."""


def measure(
    through: str, count: int, broker: str = "", server: subprocess.Popen[bytes] | None = None
) -> Result:
    """One upgrade."""
    with tempfile.TemporaryDirectory() as folder:
        fleet = Deployment(pathlib.Path(folder), count, broker)
        with fleet.daemon() as daemon, fleet.devices(*INSTANT) as players:
            wait_for("everybody reported", lambda: fleet.ask("SELECT count(*) FROM device_version") == count)
            processes = [daemon, players, *([server] if server else [])]
            before = [usage(process).cpu for process in processes]
            began = time.monotonic()
            fleet.upgrade()
            done = f"SELECT count(*) FROM device_version WHERE version = '{TARGET}'"
            wait_for("everybody is upgraded", lambda: fleet.ask(done) == count)
            seconds = time.monotonic() - began
            spent = [usage(process).cpu - earlier for process, earlier in zip(processes, before, strict=True)]
            peak = usage(daemon).peak
            failed = fleet.ask("SELECT count(*) FROM task WHERE status != 'SUCCEEDED'")
    if failed:
        raise SystemExit(f"{failed} devices were not upgraded: this measures nothing")
    return Result(through, count, seconds, spent[0], peak, spent[1], spent[2] if server else 0.0)


def main() -> None:
    """Both ways, and a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=1000)
    count = parser.parse_args().devices
    results = [measure("endpoint", count)]
    with tempfile.TemporaryDirectory() as folder, mosquitto(pathlib.Path(folder)) as (url, server):
        results.append(measure("mosquitto", count, url, server))
    print(f"{count:,} simulated devices from commit to upgraded; {os.cpu_count()} cores\n")
    print(
        "through     devices/s   wall   daemon: CPU  a device    peak   devices: CPU   broker: CPU\n"
        "---------   ---------  ------  -----------  --------  ------   ------------   -----------"
    )
    for each in results:
        print(
            f"{each.through:<9}   {each.devices / each.seconds:9.0f}  {each.seconds:4.1f} s  {each.cpu:9.1f} s"
            f"  {1000 * each.cpu / each.devices:5.1f} ms  {each.peak:3.0f} MB   {each.players:10.1f} s"
            + (f"   {each.broker:9.1f} s" if each.broker else "")
        )


if __name__ == "__main__":
    main()
