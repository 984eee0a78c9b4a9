"""Many devices in one process: who they are, how fast they connect, and what has become of them.

Made by `simulate` and `demo`, and by tests. It decides nothing that a device decides for itself.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import pathlib
import random
import ssl
from collections.abc import Callable, Iterable, Sequence

from reconciler import errors
from reconciler.protocol import broker_url, login, topics
from reconciler.simulator import client as clients
from reconciler.simulator.device import Behaviour, Device
from reconciler.simulator.download import Downloads
from reconciler.simulator.runner import Connect, Received, Runner

_LOOK_EVERY = 0.05  # seconds, at most so often is `until` asked


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device that is to be simulated."""

    product_key: str
    name: str
    version: str
    secret: str | None = dataclasses.field(default=None, repr=False)
    """None: it logs in without a password, or with the broker URL's user."""


@dataclasses.dataclass(frozen=True, slots=True)
class FleetOptions:
    """What the devices of a fleet share. Times are in seconds."""

    seed: int = 0
    connects_a_second: float = 500.0
    downloads_at_once: int = 50
    digest_once: bool = False
    """Check each different file once, not once a device."""
    keepalive: int = 60
    ca_file: pathlib.Path | None = None
    """Certificates to trust, with mqtts:// and https://, instead of the system's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """What has become of a fleet."""

    devices: int
    versions: dict[str, int]
    """Devices by the version they run."""
    states: dict[str, int]
    """Devices by what they are doing."""
    flashes: int
    """How often any device was written to."""
    most_flashes: int
    """How often the device that was written to most often was."""
    downloads: int
    failing: int
    """Devices whose last try to connect failed."""
    failing_because: str | None
    """Why, for one of them."""


class Fleet:
    """Simulated devices and the network they are in.

    Args:
        devices: who they are.
        broker: `mqtt://…` or `mqtts://…`: a broker, or our own endpoint.
        behaviour: how they behave.
        options: what they share.
        on_change: called after each change of a device.

    Raises:
        UserError: the URL, a name or the CA file can't be used.
    """

    def __init__(
        self,
        devices: Sequence[DeviceSpec],
        broker: str,
        behaviour: Behaviour | None = None,
        options: FleetOptions | None = None,
        on_change: Callable[[Device], None] | None = None,
    ) -> None:
        self._url = broker_url.parse(broker)
        self._behaviour = behaviour or Behaviour()
        self._options = options or FleetOptions()
        self._on_change = on_change
        self._tls = _trust(self._options.ca_file)
        self._downloads = Downloads(
            self._options.downloads_at_once, digest_once=self._options.digest_once, tls=self._tls
        )
        self._dirty = asyncio.Event()
        self._next_connect = 0.0
        self._runners = [self._runner(spec) for spec in devices]

    @property
    def devices(self) -> list[Device]:
        """All devices, in the order in which they were given."""
        return [runner.device for runner in self._runners]

    async def run(self, until: Callable[[Summary], bool] | None = None) -> Summary:
        """Lets the devices live until `until` says that it is enough, or until cancelled; says how they were."""
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(runner.run()) for runner in self._runners]
            while not (until and until(self.summary())):
                await self._dirty.wait()
                self._dirty.clear()
                await asyncio.sleep(_LOOK_EVERY)
            summary = self.summary()
            for life in lives:
                life.cancel()
        return summary

    def summary(self) -> Summary:
        """What has become of the devices so far."""
        devices = self.devices
        troubles = [runner.trouble for runner in self._runners if runner.trouble is not None]
        flashes = [len(device.flashes) for device in devices]
        return Summary(
            devices=len(devices),
            versions=_counted(device.version for device in devices),
            states=_counted(device.state.value for device in devices),
            flashes=sum(flashes),
            most_flashes=max(flashes, default=0),
            downloads=self._downloads.count,
            failing=len(troubles),
            failing_because=troubles[0] if troubles else None,
        )

    def _runner(self, spec: DeviceSpec) -> Runner:
        address = topics.Address(spec.product_key, spec.name)
        if not topics.is_well_formed(address):
            raise errors.UserError(
                f"{address} is no device on the wire",
                remedy="1 to 64 characters for a product key, and for a name, of A-Z a-z 0-9 _ . : @ -",
            )
        seed = f"{self._options.seed}/{address}"
        device = Device(address, spec.version, self._behaviour, _random(seed))
        connect = self._connecting(address, spec.secret)
        return Runner(device, connect, self._downloads, self._changed, _random(f"{seed}/network"))

    def _changed(self, device: Device) -> None:
        self._dirty.set()
        if self._on_change is not None:
            self._on_change(device)

    def _connecting(self, address: topics.Address, secret: str | None) -> Connect:
        session = self._session(address, secret)

        async def connect(received: Received) -> clients.Client:
            await self._turn()
            return await clients.connect(self._url, session, received, self._tls)

        return connect

    def _session(self, address: topics.Address, secret: str | None) -> clients.Session:
        client_id = f"{address.product_key}.{address.device_name}"
        username, password = self._url.username, self._url.password
        if secret is not None:
            made = login.make(address, secret)
            client_id, username, password = made.client_id, made.username, made.password
        elif username is None:
            username = f"{address.device_name}&{address.product_key}"
        subscribed = (
            topics.upgrade(address),
            topics.firmware_get_reply(address),
            topics.file_download_reply(address),
        )
        return clients.Session(
            client_id=client_id,
            username=username,
            password=password,
            keepalive=self._options.keepalive,
            filters=subscribed if self._behaviour.subscribe else (),
        )

    async def _turn(self) -> None:
        """Waits for the next place in the row of connects."""
        now = asyncio.get_running_loop().time()
        turn = max(now, self._next_connect)
        self._next_connect = turn + 1.0 / self._options.connects_a_second
        await asyncio.sleep(turn - now)


def _trust(ca_file: pathlib.Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # an SSLError is one too
        raise errors.UserError(
            f"the CA file {ca_file} can't be used: {error}", remedy="give a readable PEM file"
        ) from error


def _random(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - reproducible on purpose, and nothing secret


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(collections.Counter(values).items()))
