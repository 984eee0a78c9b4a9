"""A deployment to measure: a repository, the daemon, a broker or none, and devices in a process of their own."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

from reconciler.source.scratch import ScratchRepository

PRODUCT_KEY = "a1ThermoKey"
TARGET = "1.4.0"
CLI = (sys.executable, "-c", "from reconciler.cli import main; main()", "--log-level", "warning")
_WITHIN = 300.0


def environment() -> dict[str, str]:
    """Ours, without settings that somebody may have exported, and with compiled modules."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a process took so far."""

    cpu: float
    """Seconds."""
    peak: float
    """Resident megabytes, at most."""


def usage(process: subprocess.Popen[bytes]) -> Usage:
    """What a running process took so far."""
    folder = pathlib.Path(f"/proc/{process.pid}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    peak = re.search(r"VmHWM:\s+(\d+) kB", (folder / "status").read_text())
    ticks = int(fields[11]) + int(fields[12])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(peak[1]) / 1000 if peak else 0.0)


def wait_for(what: str, holds: object) -> None:
    """Waits until a callable says yes."""
    deadline = time.monotonic() + _WITHIN
    while not holds():  # type: ignore[operator]
        if time.monotonic() > deadline:
            sys.exit(f"waited {_WITHIN:.0f} s in vain until {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def mosquitto(folder: pathlib.Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A broker that loses nothing, and its URL."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        sys.exit("mosquitto is missing: install it (Debian: apt-get install mosquitto)")
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n"
        f"persistence_location {folder}/\nmax_queued_messages 0\nmax_inflight_messages 100\nlog_type none\n"
    )
    with _process(program, "-c", str(config)) as process:
        wait_for("mosquitto listens", lambda: _listens(port))
        yield f"mqtt://127.0.0.1:{port}", process


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


class Deployment:
    """A fleet that is declared, not yet started.

    Args:
        folder: an empty one.
        count: how many devices.
        broker: its URL; empty for our own endpoint.
    """

    def __init__(self, folder: pathlib.Path, count: int, broker: str) -> None:
        self.names = [f"thermo-{number:05}" for number in range(1, count + 1)]
        self.repository = ScratchRepository(folder / "fleet")
        self.data = folder / "data"
        self.secrets = folder / "secrets.csv"
        mqtt = free_port()
        self.url = broker or f"mqtt://127.0.0.1:{mqtt}"
        self._http = free_port()
        self._arguments = [
            *("run", "--repo", str(self.repository.folder), "--data-dir", str(self.data)),
            *(
                "--http-bind",
                f"127.0.0.1:{self._http}",
                "--settle-time",
                "0.5",
                "--limits",
                "push-rate-highest=1000000",
            ),
            *(("--mqtt", broker) if broker else ("--mqtt-bind", f"127.0.0.1:{mqtt}")),
        ]
        self._declare()

    def manifest(self, kind: str, name: str, spec: dict[str, object]) -> None:
        """Writes one; JSON is YAML, too."""
        text = {"apiVersion": "ota/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        (self.repository.folder / f"{kind}-{name}.yaml").write_text(json.dumps(text))

    def _declare(self) -> None:
        image = hashlib.shake_128(b"firmware").digest(65536)
        (self.repository.folder / "image.bin").write_bytes(image)
        (self.repository.folder / "devices.csv").write_text("\n".join(["name", *self.names, ""]))
        self.manifest("Product", "thermostat", {"productKey": PRODUCT_KEY})
        inventory = {"product": "thermostat", "devicesFrom": {"file": "devices.csv"}}
        self.manifest("DeviceInventory", "thermostats", inventory)
        file = {"name": "image.bin", "source": "image.bin", "sha256": hashlib.sha256(image).hexdigest()}
        package = {"product": "thermostat", "version": TARGET, "files": [file]}
        self.manifest("Package", f"thermostat-{TARGET}", package)
        self.repository.commit("Declare the fleet")
        lines = [f"{name},{hashlib.md5(name.encode()).hexdigest()}" for name in self.names]
        self.secrets.write_text("\n".join(["name,secret", *lines, ""]))

    def upgrade(self) -> None:
        """Commits a batch for everybody, at a rate that holds nobody up."""
        spec: dict[str, object] = {"package": f"thermostat-{TARGET}", "target": {"all": {}}}
        self.manifest("Batch", "everybody", {**spec, "pushRatePerMinute": 1_000_000})
        self.repository.commit("Upgrade everybody")

    @contextlib.contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """The daemon, with an identity for every device, when it is ready."""
        where = ("--data-dir", str(self.data))
        self._command("apply", "--repo", str(self.repository.folder), *where)
        self._command("device", "import", "thermostat", str(self.secrets), *where)
        with _process(*CLI, *self._arguments) as process:
            wait_for("the daemon is ready", self._is_ready)
            yield process

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._http}/readyz", timeout=5):
                return True
        except OSError:  # an HTTPError is one, too
            return False

    def _command(self, *arguments: str) -> None:
        subprocess.run([*CLI, *arguments], env=environment(), check=True, stdout=subprocess.DEVNULL)

    @contextlib.contextmanager
    def devices(self, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
        """All devices, in a process of their own."""
        arguments = ("--product", PRODUCT_KEY, "--secrets-file", str(self.secrets), "--broker", self.url)
        with _process(*CLI, "simulate", *arguments, *flags) as process:
            yield process

    def ask(self, query: str) -> int:
        """A number from the database."""
        with contextlib.closing(sqlite3.connect(self.data / "state.db", timeout=15)) as connection:
            return int(connection.execute(query).fetchone()[0])
