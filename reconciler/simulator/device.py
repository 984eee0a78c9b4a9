"""Decides what a device does: which pushes it follows, and what it does and says for them, as a script.

A script is a sequence of actions that the runner carries out; so the model needs no clock and no sockets, and
how things go wrong is a change to a script (`faults`). Whatever a device draws by lot comes from its own
generator, so that a fleet behaves the same for the same seed, however its devices are interleaved.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import random

from reconciler.protocol import topics
from reconciler.simulator import push as pushes
from reconciler.simulator.faults import Faults, afflict
from reconciler.simulator.script import Action, Fetch, Flash, Reboot, Say, Script, Wait


class State(enum.StrEnum):
    """What a device is doing."""

    OFFLINE = "offline"
    IDLE = "idle"
    UPGRADING = "upgrading"
    REBOOTING = "rebooting"


@dataclasses.dataclass(frozen=True, slots=True)
class Behaviour:
    """How devices behave. Times are in seconds, and vary by up to 30 % from one upgrade to the next."""

    module: str = "default"
    download_seconds: float = 3.0
    """From the first progress to 100, however fast the network is."""
    download_patience: float = 0.0
    """How long a download is tried again, when the server can't be reached or breaks off, before that is a failure."""
    block_bytes: int = 5120
    """Of a download over MQTT: how much it asks for at a time."""
    block_patience: float = 10.0
    """Of a download over MQTT: how long it waits for a block before it asks again; six times is a failure."""
    delta_source: str | None = None
    """The version that deltas are made for: on another one it can't burn them. None: it doesn't check."""
    reboot_seconds: float = 2.0
    reports: int = 4
    """Progress reports of a download, up to and with 100."""
    subscribe: bool = True
    """False: like the Python SDK and the C SDK 4 (trap 1), which only our own endpoint delivers to."""
    ask_every: float | None = None
    """Asks for its package (`firmware/get`) so often, and when it connects; None: waits for a push."""
    reconnect_min: float = 1.0
    """The longest wait before the first try to connect again; doubled with each failure."""
    reconnect_max: float = 15.0
    faults: Faults = dataclasses.field(default_factory=Faults)


class Device:
    """One device with one module, over all its reboots.

    Args:
        address: its product key and name.
        version: what it runs at first.
        behaviour: how it behaves.
        rng: its own source of chance.
    """

    def __init__(
        self, address: topics.Address, version: str, behaviour: Behaviour, rng: random.Random
    ) -> None:
        self.address = address
        self.version = version
        self.behaviour = behaviour
        self.state = State.OFFLINE
        self.progress: int | None = None
        """The step that was last reported; None since the last boot."""
        self.flashes: list[str] = []
        """Every version that was ever written to its memory, in order."""
        self.ignored = 0
        """Messages from the server that an SDK would drop."""
        self._written = version
        self._rng = rng
        self._last_id = 0

    def inform(self) -> Say:
        """The report of its version: at boot, and when it is connected again."""
        return Say(topics.inform(self.address), self._payload({"version": self.version}))

    def ask(self) -> Say:
        """The question for its package."""
        payload = self._payload({}, version="1.0", method="thing.ota.firmware.get")
        return Say(topics.firmware_get(self.address), payload)

    def hear(self, topic: str, payload: bytes) -> Script:
        """What it does about a message; nothing, when an SDK would do nothing."""
        push = pushes.parse(payload) if pushes.is_push_topic(topic, self.address) else None
        if push is None or push.module != self.behaviour.module:
            self.ignored += 1
            return ()
        if self.state in {State.UPGRADING, State.REBOOTING}:
            return ()
        if push.version == self.version:
            return (self.inform(),)
        fail = functools.partial(self.failure, push)
        return afflict(self._upgrade(push), self.behaviour.faults, self._rng, fail)

    def failure(self, push: pushes.Push, step: int, description: str) -> Say:
        """What it says when the upgrade goes wrong: step -1..-4 (device protocol §2)."""
        return self._progress(push, step, description)

    def write(self, version: str) -> None:
        """The moment in which another firmware is in its memory. It runs with the next boot."""
        self.flashes.append(version)
        self._written = version

    def boot(self) -> None:
        """Begins again with what is in its memory; what it was doing is forgotten."""
        self.version = self._written
        self.state = State.OFFLINE
        self.progress = None

    def _upgrade(self, push: pushes.Push) -> Script:
        behaviour = self.behaviour
        pause = self._about(behaviour.download_seconds) / behaviour.reports
        reports: list[Action] = []
        for number in range(1, behaviour.reports + 1):
            reports += [Wait(pause), self._progress(push, number * 100 // behaviour.reports)]
        reboot = Reboot(self._about(behaviour.reboot_seconds))
        if push.is_delta and behaviour.delta_source not in {None, self.version}:
            failed = self.failure(push, -4, f"the delta is for {behaviour.delta_source}")
            return (self._progress(push, 0), Fetch(push), *reports, failed)
        return (self._progress(push, 0), Fetch(push), *reports, Flash(push.version), reboot)

    def _progress(self, push: pushes.Push, step: int, description: str = "") -> Say:
        params = {"step": str(step), "desc": description}
        if push.strategy is not None:
            params["strategy"] = push.strategy
        return Say(topics.progress(self.address), self._payload(params), step)

    def _payload(self, params: dict[str, str], **others: str) -> bytes:
        self._last_id += 1
        if self.behaviour.module != "default":
            params["module"] = self.behaviour.module
        message = {"id": str(self._last_id), "params": params, **others}
        return json.dumps(message, separators=(",", ":")).encode()

    def _about(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.7, 1.3)
