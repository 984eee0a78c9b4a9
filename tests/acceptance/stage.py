"""A whole deployment for one test: a Git repository, the daemon as a process, a broker or none, and devices.

Devices are simulated in the test's process, so that it can look at what each of them did. The daemon is only
looked at from outside: by HTTP, by its commands, and by its database.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import json
import pathlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from brokers import Mosquitto, free_port
from daemons import Daemon, cli

from reconciler.protocol.topics import Address
from reconciler.services.clock import SystemClock
from reconciler.simulator.device import Behaviour, Device
from reconciler.simulator.fleet import DeviceSpec, Fleet, FleetOptions
from reconciler.source.scratch import ScratchRepository
from reconciler.store import devices, identities, status
from reconciler.store.database import Connection, Database

PRODUCT_KEY = "a1ThermoKey"
VERSIONS = ("1.3.0", "1.3.1")
TARGET = "1.4.0"
PACKAGE = f"thermostat-{TARGET}"


def quick(**more: object) -> Behaviour:
    """A device that takes about two seconds for an upgrade, and comes back soon when it lost the daemon.

    As the SDKs in the field, it tries a download again when the server is away for a while.
    """
    chosen = {
        "download_seconds": 1.0,
        "reboot_seconds": 0.5,
        "reconnect_min": 0.2,
        "reconnect_max": 0.6,
        "download_patience": 60.0,
    }
    return Behaviour(**{**chosen, **more})


class Devices:
    """A living fleet, and what was seen of it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.pushes: list[tuple[float, str]] = []
        """When which device got a push, with every repetition."""
        self._living: asyncio.Task[object] | None = None
        for device in fleet.devices:
            device.hear = self._listening(device)  # type: ignore[method-assign]

    def _listening(self, device: Device) -> Callable[[str, bytes], object]:
        hear, name = device.hear, device.address.device_name

        def heard(topic: str, payload: bytes) -> object:
            self.pushes.append((time.monotonic(), name))
            return hear(topic, payload)

        return heard

    @property
    def all(self) -> list[Device]:
        return self.fleet.devices

    def come(self) -> Devices:
        self._living = asyncio.create_task(self.fleet.run())
        return self

    async def leave(self) -> None:
        if self._living is not None:
            living, self._living = self._living, None
            living.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await living

    def on(self, version: str) -> int:
        return sum(device.version == version for device in self.all)


class Stage:
    """Everything that a deployment is made of.

    Args:
        folder: an empty folder.
        broker: what devices connect to; None for our own endpoint.
        flags: of `reconciler run`, besides those that every test has.
    """

    def __init__(self, folder: pathlib.Path, broker: Mosquitto | None = None, *flags: str) -> None:
        self.folder = folder
        self.broker = broker
        self.data = folder / "data"
        self.repository = ScratchRepository(folder / "fleet")
        self.secrets: dict[str, str] = {}
        self.present: list[Devices] = []
        self.names: list[str] = []
        http_port, mqtt_port = free_port(), free_port()
        self.url = broker.url if broker else f"mqtt://127.0.0.1:{mqtt_port}"
        self.look = ["--data-dir", str(self.data)]
        self.source = ["--repo", str(self.repository.folder), *self.look]
        arguments = [
            *(*self.source, "--http-bind", f"127.0.0.1:{http_port}"),
            *(("--mqtt", broker.url) if broker else ("--mqtt-bind", f"127.0.0.1:{mqtt_port}")),
            *("--settle-time", "0.3", "--interval", "1", *flags),
        ]
        self.daemon = Daemon(arguments, folder / "daemon.log", http_port)

    async def close(self) -> None:
        for each in self.present:
            await each.leave()
        await self.daemon.close()

    # What is in Git

    def manifest(self, path: str, kind: str, name: str, spec: Mapping[str, object]) -> None:
        """Writes one. JSON is YAML, too."""
        text = {"apiVersion": "ota/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.write(path, json.dumps(text, indent=2))

    def write(self, path: str, text: str) -> None:
        place = self.repository.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def delete(self, path: str) -> None:
        (self.repository.folder / path).unlink()

    def commit(self, message: str) -> str:
        return self.repository.commit(message)

    def package(self, version: str = TARGET, size: int = 4096, **spec: object) -> None:
        """A package of a file in the repository."""
        content = hashlib.shake_128(version.encode()).digest(size)
        file = self.repository.folder / f"artifacts/{version}.bin"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        source = {
            "name": "thermostat.bin", "source": f"../artifacts/{version}.bin", "size": size, "sha256": digest,
        }  # fmt: skip
        chosen = {"product": "thermostat", "version": version, "files": [source], **spec}
        self.manifest(f"packages/{version}.yaml", "Package", f"thermostat-{version}", chosen)

    def batch(self, name: str = "upgrade", **spec: object) -> None:
        """A batch for everybody, at 6,000 a minute; None leaves a field out."""
        chosen = {"package": PACKAGE, "target": {"all": {}}, "pushRatePerMinute": 6000, **spec}
        fields = {field: value for field, value in chosen.items() if value is not None}
        self.manifest(f"batches/{name}.yaml", "Batch", name, fields)

    def declare(self, count: int, **product: object) -> None:
        """Commits a product with so many devices and a package, applies it, and gives every device a secret."""
        self.names = [f"thermo-{number:04}" for number in range(1, count + 1)]
        self.manifest("product.yaml", "Product", "thermostat", {"productKey": PRODUCT_KEY, **product})
        inventory = {"product": "thermostat", "devicesFrom": {"file": "thermostats.csv"}}
        self.manifest("devices/inventory.yaml", "DeviceInventory", "thermostats", inventory)
        self.write("devices/thermostats.csv", "\n".join(["name", *self.names, ""]))
        self.package()
        self.commit("Declare the thermostats and firmware 1.4.0")
        applied = cli("apply", *self.source)
        assert applied.returncode == 0, applied.stderr + applied.stdout
        if self.broker is None:
            self._make_identities()

    def _make_identities(self) -> None:
        vault = identities.Vault(identities.load_or_make_key(self.data / "secret.key"))
        now = SystemClock().now()

        def put(connection: Connection) -> None:
            addresses = [Address(PRODUCT_KEY, name) for name in self.names]
            for address, device in devices.find(connection, addresses, devices.NO_EPOCH).items():
                self.secrets[address.device_name] = identities.new_secret()
                identities.put(connection, device.id, vault.seal(self.secrets[address.device_name]), now)

        database = self._database()
        with database.writing() as connection:
            put(connection)
        database.close()

    # Devices

    def devices(
        self,
        behaviour: Behaviour | None = None,
        *,
        names: Iterable[str] | None = None,
        version: str | None = None,
        seed: int = 0,
        connects_a_second: float = 1000.0,
        on_change: Callable[[Device], None] | None = None,
    ) -> Devices:
        """Devices that connect now, all or some of the declared."""
        specs = [
            DeviceSpec(PRODUCT_KEY, name, version or VERSIONS[index % 2], self.secrets.get(name))
            for index, name in enumerate(self.names if names is None else names)
        ]
        options = FleetOptions(seed=seed, digest_once=True, connects_a_second=connects_a_second)
        found = Devices(Fleet(specs, self.url, behaviour or quick(), options, on_change))
        self.present.append(found)
        return found.come()

    # What the database says

    def _database(self) -> Database:
        return Database.open(f"sqlite:///{self.data / 'state.db'}", upgrade=False)

    def ask(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Rows of the database, by plain SQL."""
        with contextlib.closing(sqlite3.connect(self.data / "state.db", timeout=15)) as connection:
            return connection.execute(query, values).fetchall()

    def object(self, kind: str, name: str) -> status.Object:
        database = self._database()
        with database.reading() as connection:
            found = status.objects(connection, kind, name)
        database.close()
        assert found, f"there is no {kind} {name}"
        return found[0]

    def counts(self, batch: str = "upgrade") -> collections.Counter[str]:
        """Tasks of a batch's newest run, by status: counted, not as the counters say."""
        newest = "SELECT max(id) FROM run WHERE batch = ?"
        rows = self.ask(f"SELECT status, count(*) FROM task WHERE run_id = ({newest}) GROUP BY 1", batch)
        return collections.Counter({str(name): int(str(count)) for name, count in rows})

    def phase(self, batch: str = "upgrade") -> str:
        """Of its newest run; empty when there is none."""
        rows = self.ask("SELECT phase FROM run WHERE batch = ? ORDER BY id DESC LIMIT 1", batch)
        return str(rows[0][0]) if rows else ""

    def reported(self) -> int:
        """Devices whose version is known."""
        return int(str(self.ask("SELECT count(*) FROM device_version")[0][0]))

    async def until(
        self, what: Callable[[], object] | Callable[[], Awaitable[object]], within: float = 30.0
    ) -> None:
        """Waits until something holds; fails with what is known, when it doesn't in time."""
        deadline = time.monotonic() + within
        while True:
            holds = what()
            if isinstance(holds, Awaitable):
                holds = await holds
            if holds:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within} s\n{self.story()}")
            await asyncio.sleep(0.05)

    async def until_ended(self, batch: str = "upgrade", within: float = 60.0) -> None:
        """The batch has ended, and so has the work that its end gives."""
        ended = {"COMPLETED", "CANCELED"}
        await self.until(lambda: self.phase(batch) in ended and not self.ask("SELECT id FROM job"), within)

    def story(self) -> str:
        """What a failing test should show."""
        tasks = "SELECT batch, phase, status, count(*) FROM run JOIN task ON run_id = run.id GROUP BY 1, 2, 3"
        fleets = [each.fleet.summary() for each in self.present]
        return f"{self.ask(tasks)}\n{fleets}\n{self.daemon.tail()}"
