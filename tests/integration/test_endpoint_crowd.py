"""Five thousand devices that reconnect at once: no storm, no loss (issue 1, faults it must survive)."""

from __future__ import annotations

import asyncio
import collections

from endpoints import Served, device, eventually, hello, report, served

from reconciler.protocol.mqtt311 import decoding, packets
from reconciler.protocol.mqtt311.parser import Parser
from reconciler.transport import endpoint
from reconciler.transport.base import Message

CROWD = 5000


class Small(asyncio.Protocol):
    """A device that logs in, reports once, and waits for the acknowledgement."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._parser = Parser(decoding.FROM_SERVERS, 1000)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(hello(device(self.number)).encode())

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        for packet in self._parser:
            if packet == packets.Connack(0):
                self.transport.write(report(device(self.number), 1).encode())
            elif packet == packets.Puback(1) and not self.done.done():
                self.done.set_result(True)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(False)


class Ingest:
    """Takes bursts, acknowledges, and counts who reported."""

    def __init__(self, made: Served) -> None:
        self.reports: collections.Counter[str] = collections.Counter()
        self.fullest = 0
        self._made = made

    async def run(self) -> None:
        intake = self._made.intake
        while True:
            self.fullest = max(self.fullest, len(intake))
            for item in await intake.take(200):
                if isinstance(item, Message):
                    self.reports[item.address.device_name] += 1
                    item.acknowledge()
            await asyncio.sleep(0.001)


async def test_five_thousand_devices_reconnect_twice_at_once_and_nothing_is_lost_or_doubled():
    limits = endpoint.EndpointLimits(logins_per_second=2500)
    loop = asyncio.get_running_loop()
    async with served(limits, capacity=1000) as made:
        ingest = Ingest(made)
        task = asyncio.create_task(ingest.run())
        for time in (1, 2):
            crowd = [Small(number) for number in range(CROWD)]
            coming = [
                loop.create_connection(lambda each=each: each, "127.0.0.1", made.port) for each in crowd
            ]
            async with asyncio.timeout(60):
                await asyncio.gather(*coming)
                assert all(await asyncio.gather(*(each.done for each in crowd)))
            assert made.endpoint.stats.devices == CROWD
            assert len(ingest.reports) == CROWD
            assert set(ingest.reports.values()) == {time}
            for each in crowd:
                each.transport.abort()
        await eventually(lambda: not made.endpoint.stats.connections, within=20)
        task.cancel()
        assert made.endpoint.stats.refused == {}
        assert made.endpoint.stats.admitted == 2 * CROWD
        assert ingest.fullest < 1000 + 100 + CROWD  # that devices left is said even when the intake is full
        assert made.accounts.most_at_once <= limits.logins_at_once
