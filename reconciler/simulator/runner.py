"""Carries out what a device's model decides: keeps it connected, and works through its scripts.

One runner a device, started by the fleet. It decides only what a device's network stack would: when to
connect again, and to send again what was not acknowledged.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from reconciler.protocol import topics
from reconciler.simulator.blocks import BlockReader
from reconciler.simulator.client import Client, RefusedError
from reconciler.simulator.device import Device, State
from reconciler.simulator.download import DownloadError, Downloads
from reconciler.simulator.push import File, Push, Stream
from reconciler.simulator.script import Action, Away, Fetch, Flash, Reboot, Say, Script, Wait

_UNREACHED = -2
_FETCH_AGAIN = 0.5  # seconds

Received = Callable[[str, bytes], None]
Connect = Callable[[Received], Awaitable[Client]]
"""Makes a connection for the device; what comes in goes to the callback. Raises OSError or RefusedError."""


class Runner:
    """One device's life.

    Args:
        device: what it is.
        connect: how it connects.
        downloads: how it downloads.
        changed: called after each change to the device.
        rng: for the waits before it connects again. The device's own must not depend on the network.
    """

    def __init__(
        self,
        device: Device,
        connect: Connect,
        downloads: Downloads,
        changed: Callable[[Device], None],
        rng: random.Random,
    ) -> None:
        self.device = device
        self.trouble: str | None = None
        """Why the last try to connect failed; None since it succeeded."""
        self._connect = connect
        self._downloads = downloads
        self._changed = changed
        self._rng = rng
        self._client: Client | None = None
        self._present = asyncio.Event()
        self._present.set()
        self._online = asyncio.Event()
        self._unsaid: dict[Say, bool] = {}
        self._blocks = BlockReader(
            self._ask_for_block, device.behaviour.block_bytes, device.behaviour.block_patience
        )
        self._upgrade: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Lives until cancelled."""
        failures = 0
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                await self._present.wait()
                failures = 0 if await self._connection() else failures + 1
                if self._present.is_set():
                    await asyncio.sleep(self._wait_before_retry(failures))

    def _wait_before_retry(self, failures: int) -> float:
        behaviour = self.device.behaviour
        longest = behaviour.reconnect_min * 2.0 ** min(failures, 30)
        return self._rng.uniform(0.0, min(behaviour.reconnect_max, longest))

    async def _connection(self) -> bool:
        """One connection, from beginning to end; False when there was none."""
        try:
            client = await self._connect(self._heard)
        except (RefusedError, OSError) as error:
            self.trouble = str(error) or type(error).__name__
            self._changed(self.device)
            return False
        try:
            if self._present.is_set():  # it may have gone while it connected
                await self._live(client)
        finally:
            client.close()
            await asyncio.wait([client.ended], timeout=1.0)
        return True

    async def _live(self, client: Client) -> None:
        """From the login to the end of the connection."""
        self.trouble, self._client = None, client
        self._greet()
        asking = self._start(self._ask())
        try:
            await asyncio.shield(client.ended)
        finally:
            asking.cancel()
            self._client = None
            self._online.clear()
            if self.device.state is State.IDLE:
                self._become(State.OFFLINE)

    def _greet(self) -> None:
        """Sends again what was not acknowledged, then reports the version."""
        if self.device.state is State.OFFLINE:
            self._become(State.IDLE)
        for say, sent in list(self._unsaid.items()):
            self._send(say, duplicate=sent)
        self._say(self.device.inform())
        self._online.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._tasks is not None, "run began before anything is heard"
        return self._tasks.create_task(work)

    async def _ask(self) -> None:
        every = self.device.behaviour.ask_every
        while every is not None:
            if self.device.state is State.IDLE:
                self._say(self.device.ask())
            await asyncio.sleep(every)

    # What it hears and says

    def _heard(self, topic: str, payload: bytes) -> None:
        if topic == topics.file_download_reply(self.device.address):
            self._blocks.heard(payload)
            return
        script = self.device.hear(topic, payload)
        if all(isinstance(action, Say) for action in script):
            for action in script:
                assert isinstance(action, Say)
                self._say(action)
        else:
            self._become(State.UPGRADING)
            self._upgrade = self._start(self._carry_out(script))

    def _ask_for_block(self, question: bytes) -> None:
        if self._client is not None:
            self._client.publish(topics.file_download(self.device.address), question, qos=0)

    def _say(self, say: Say) -> None:
        if say.step is not None:
            self.device.progress = say.step
            self._changed(self.device)
        self._unsaid.pop(say, None)
        self._unsaid[say] = False
        self._send(say, duplicate=False)

    def _send(self, say: Say, *, duplicate: bool) -> None:
        if self._client is None:
            return
        self._unsaid[say] = True
        self._client.publish(say.topic, say.payload, duplicate=duplicate).add_done_callback(
            lambda acknowledged: None if acknowledged.cancelled() else self._acknowledged(say)
        )

    def _acknowledged(self, say: Say) -> None:
        self._unsaid.pop(say, None)

    # What it does

    async def _carry_out(self, script: Script) -> None:
        for action in script:
            if isinstance(action, Fetch):
                if not await self._fetched(action.push):
                    break
            else:
                await self._do(action)
        if self._upgrade is asyncio.current_task():  # after a reboot another may have begun
            self._become(State.OFFLINE if self._client is None else State.IDLE)

    async def _fetched(self, push: Push) -> bool:
        """Whether all the files of a push came; what came is not fetched again for one that did not."""
        now = asyncio.get_running_loop().time
        patient_until = now() + self.device.behaviour.download_patience
        missing = list(push.files)
        while missing:
            try:
                await self._fetch(missing[0])
            except DownloadError as error:
                if error.step != _UNREACHED or now() >= patient_until:
                    self._say(self.device.failure(push, error.step, error.description))
                    return False
                await asyncio.sleep(_FETCH_AGAIN)
            else:
                del missing[0]
        return True

    async def _fetch(self, file: File) -> None:
        pieces = self._blocks.read(file, file.source) if isinstance(file.source, Stream) else None
        await self._downloads.fetch(file, pieces)

    async def _do(self, action: Action) -> None:
        match action:
            case Say():
                self._say(action)
            case Wait():
                await asyncio.sleep(action.seconds)
            case Flash():
                self.device.write(action.version)
            case Away():
                await self._be_gone(action.seconds)
            case Reboot():
                self._become(State.REBOOTING)
                await self._be_gone(action.seconds, boots=True)

    async def _be_gone(self, seconds: float, *, boots: bool = False) -> None:
        """Without network for so long; with a boot, also until it is back and has reported its version."""
        self._present.clear()
        client = self._client
        if client is not None:
            if boots:
                client.close()
            else:
                client.abort()
            await asyncio.shield(client.ended)
        await asyncio.sleep(seconds)
        if boots:
            self._unsaid.clear()
            self.device.boot()
        self._present.set()
        if boots:
            await self._online.wait()

    def _become(self, state: State) -> None:
        self.device.state = state
        self._changed(self.device)
