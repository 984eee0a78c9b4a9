"""How devices behave: a small state machine each, played by one class over all of them.

A device boots, reports, sleeps at night, drops off the net for hours, and acts on a push: it downloads for a while,
says how far it is, and ends well, fails a step, falls silent, comes back on its old version or on a wrong one, or
reboots in the middle. What it says goes through the faults: lost, late, twice.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

import orjson

from reconciler.protocol.topics import Address, Route

from . import campaign
from .faults import Faults
from .wire import Wire

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
DEFAULT = "default"


@dataclasses.dataclass(slots=True)
class Job:
    """An upgrade as its device goes through it."""

    module: str
    version: str
    percents: Sequence[int]
    ending: str
    """One of `ENDINGS`."""


ENDINGS = {
    "well": 82, "fails": 7, "silent": 3, "falls back": 3, "reboots": 3, "goes elsewhere": 1, "unsaid": 1,
}  # fmt: skip
"""How upgrades go, in percent."""
_PERCENTS = ((100,), (), (40, 100), (50,), (), (0,))
_OUTAGES = 10 * DAY
"""Between two outages of a device, on average."""


@dataclasses.dataclass(slots=True, eq=False)
class Device:
    """One device: what it runs, and where it is in its day."""

    address: Address
    versions: dict[str, str]
    night: float | None
    """When it is switched off each day, in seconds of the day; None: it never sleeps."""
    asks: bool
    """It asks for its package when it boots."""
    on: bool = False
    linked: bool = False
    life: int = 0
    """Counts what makes everything that was planned void: boots and switching off."""
    said: int = 0
    job: Job | None = None
    outbox: list[tuple[Route, bytes]] = dataclasses.field(default_factory=list)


class Fleet:
    """All devices.

    Args:
        size: how many.
        dice: the simulation's.
        faults: what becomes of messages.
        wire: the way to the engine.
        later: plans a call, so many seconds from now.
    """

    def __init__(
        self,
        size: int,
        dice: random.Random,
        *,
        faults: Faults,
        wire: Wire,
        later: Callable[..., None],
    ) -> None:
        self._dice, self._faults, self._wire, self._later = dice, faults, wire, later
        self.devices = [self._born(f"dev-{number:05d}", number) for number in range(size)]
        self._by_address = {device.address: device for device in self.devices}
        self._endings, self._weights = list(ENDINGS), list(ENDINGS.values())
        self.is_calm = False

    def _born(self, name: str, number: int) -> Device:
        versions = {module: self._dice.choice(some) for module, some in campaign.INITIAL.items()}
        if number % 6:
            del versions["radio"]
        if number % 3:
            del versions["mcu"]
        sleeps = self._dice.random() < 0.05
        night = self._dice.uniform(0, DAY) if sleeps else None
        return Device(Address(campaign.PRODUCT_KEY, name), versions, night, asks=self._dice.random() < 0.04)

    def begin(self) -> None:
        """Devices come in the first hours; some come days later."""
        for device in self.devices:
            rare = self._dice.random() < 0.02
            self._later(self._dice.uniform(0, 5 * DAY if rare else 5 * HOUR), self._boot, device, device.life)
            self._later(self._dice.expovariate(1 / _OUTAGES), self._outage, device)
            if device.night is not None:
                self._later(device.night, self._sleep, device)

    # ------------------------------------------------------------------------------------ on, off and linked

    def _boot(self, device: Device, life: int) -> None:
        """It starts: message ids begin again, and what it runs is reported."""
        if device.on or device.life != life:
            return
        device.on, device.said = True, 0
        device.life += 1
        self._link(device)
        self._report(device, everything=self.is_calm or device.life < 3 or self._dice.random() < 0.2)
        if device.asks:
            self.ask(device, self._dice.choice(list(device.versions)))

    def _off(self, device: Device, seconds: float, *, forgets: bool = True) -> None:
        """It is switched off, and comes back later; an upgrade may be forgotten with it."""
        if device.linked:
            self._wire.disconnect(device.address)
        device.on = device.linked = False
        device.life += 1
        if forgets:
            device.job = None
        self._later(seconds, self._boot, device, device.life)

    def _sleep(self, device: Device) -> None:
        if self.is_calm:
            return
        self._later(DAY, self._sleep, device)
        if device.on:
            self._off(device, self._dice.uniform(6 * HOUR, 10 * HOUR))

    def _outage(self, device: Device) -> None:
        if self.is_calm:
            return
        self._later(self._dice.expovariate(1 / _OUTAGES), self._outage, device)
        if device.on:
            hours = self._dice.choice((0.1, 0.5, 2.0, 12.0))
            self._off(device, hours * HOUR * self._dice.uniform(0.5, 1.5))

    def _link(self, device: Device) -> None:
        """It connects, if there is anybody to connect to, and says what it could not say before."""
        if self._wire.intake is None or device.linked or not device.on:
            return
        device.linked = True
        self._wire.connect(device.address)
        unsaid, device.outbox = device.outbox, []
        for route, payload in unsaid:
            self._deliver(device, route, payload)

    def cut(self) -> None:
        """The engine died: every connection broke."""
        for device in self.devices:
            device.linked = False

    def come_back(self) -> None:
        """The engine is there again: devices find out, each in its own time."""
        for device in self.devices:
            if device.on:
                self._later(self._dice.uniform(1, 20 * MINUTE), self._relink, device, device.life)

    def _relink(self, device: Device, life: int) -> None:
        if device.life == life and not device.linked:
            self._link(device)
            if self._dice.random() < 0.1:
                self._report(device)

    # --------------------------------------------------------------------------------------- what it says

    def _report(self, device: Device, *, everything: bool = False) -> None:
        for module in device.versions if everything else (DEFAULT,):
            self._inform(device, module, device.versions[module])

    def _inform(self, device: Device, module: str, version: str) -> None:
        of = f',"module":"{module}"' if module != DEFAULT else ""
        self._say(device, Route.INFORM, f'{{"version":"{version}"{of}}}')

    def _progress(self, device: Device, module: str, step: int) -> None:
        self._say(device, Route.PROGRESS, f'{{"step":"{step}","desc":"","module":"{module}"}}')

    def ask(self, device: Device, module: str) -> None:
        """It asks for a package."""
        self._say(device, Route.FIRMWARE_GET, f'{{"module":"{module}"}}')

    def _say(self, device: Device, route: Route, params: str) -> None:
        device.said += 1
        payload = f'{{"id":"{device.said}","params":{params}}}'.encode()
        if self._faults.happens("lost"):
            return
        if self._faults.happens("late"):
            self._later(self._dice.uniform(1, 20 * MINUTE), self._deliver, device, route, payload)
            return
        self._deliver(device, route, payload)
        if self._faults.happens("twice"):
            self._deliver(device, route, payload)

    def _deliver(self, device: Device, route: Route, payload: bytes) -> None:
        if device.linked:
            self._wire.send(device.address, route, payload, redelivered=self._faults.happens("redelivered"))
        else:
            device.outbox.append((route, payload))

    # ------------------------------------------------------------------------------------ what it is told

    def reached(self, address: Address, payload: bytes) -> None:
        """A push, or an answer, arrived."""
        data = orjson.loads(payload)["data"]
        device = self._by_address[address]
        if not data:
            return
        module, version = data.get("module", DEFAULT), data["version"]
        if device.versions.get(module) == version:
            self._later(MINUTE, self._say_again, device, module, device.life)
            return
        doing = device.job
        if (
            doing is not None
            and (doing.module, doing.version) == (module, version)
            and self._dice.random() < 0.8
        ):
            return
        ending = "well" if self.is_calm else self._dice.choices(self._endings, self._weights)[0]
        if data.get("isDiff") and device.versions.get(module) != "3.0.0":
            ending = "fails"
        device.job = job = Job(module, version, self._dice.choice(_PERCENTS), ending)
        self._later(self._pace(), self._go_on, device, job, 0)

    def _say_again(self, device: Device, module: str, life: int) -> None:
        if device.life == life:
            self._inform(device, module, device.versions[module])

    def _pace(self) -> float:
        return self._dice.choice((20.0, MINUTE, 4 * MINUTE, 15 * MINUTE)) * self._dice.uniform(0.5, 1.5)

    def _go_on(self, device: Device, job: Job, place: int) -> None:
        """The next thing of an upgrade, unless something else came between."""
        if device.job is not job or not device.on:
            return
        if place < len(job.percents):
            self._progress(device, job.module, job.percents[place])
            self._later(self._pace(), self._go_on, device, job, place + 1)
            return
        device.job = None
        self._end(device, job)

    def _end(self, device: Device, job: Job) -> None:
        if job.ending == "fails":
            self._progress(device, job.module, -self._dice.randint(1, 4))
        elif job.ending == "goes elsewhere":
            device.versions[job.module] = self._dice.choice(("1.0.0", "2.5.0", "beta"))
            self._inform(device, job.module, device.versions[job.module])
        elif job.ending == "falls back":
            self._inform(device, job.module, device.versions.setdefault(job.module, "1.0.0"))
        elif job.ending == "reboots":
            self._off(device, self._dice.uniform(1, 20) * MINUTE)
        elif job.ending != "silent":
            device.versions[job.module] = job.version
            if job.ending == "unsaid":  # it says so when it boots
                self._off(device, self._dice.uniform(1, 9) * HOUR)
            elif job.module == DEFAULT and self._dice.random() < 0.3:
                self._off(device, self._dice.uniform(0.5, 3) * MINUTE)
            else:
                self._inform(device, job.module, job.version)

    # --------------------------------------------------------------------------------------------- the end

    def calm(self) -> None:
        """From now on every device is there, and well."""
        self.is_calm = True
        for device in self.devices:
            self._later(self._dice.uniform(0, HOUR), self._be_well, device)

    def _be_well(self, device: Device) -> None:
        device.job = None
        if device.on:
            self._report(device, everything=True)
        else:
            self._boot(device, device.life)

    def wanted(self, asking: Sequence[tuple[str, str]]) -> None:
        """Devices for which a package lies ready that nobody pushes ask for it."""
        for name, module in asking:
            self.ask(self._device(name), module)

    def restart(self, names: Sequence[str]) -> None:
        """Somebody switches these off and on, unless they are at work."""
        for name in names:
            device = self._device(name)
            if device.on and device.job is None:
                self._off(device, MINUTE)

    def _device(self, name: str) -> Device:
        return self._by_address[Address(campaign.PRODUCT_KEY, name)]
