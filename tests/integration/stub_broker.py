"""A broker that misbehaves as it is told to: for what no real broker does on demand."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from typing import Self

from reconciler.protocol.mqtt311 import decoding, packets
from reconciler.protocol.mqtt311.parser import Parser


@dataclasses.dataclass
class StubBroker:
    """Answers logins and subscriptions, and whatever else a test sets."""

    connect_code: int | None = 0
    """None: never answers a login."""
    greeting: bytes = b""
    """What comes in the same breath as the answer to a login."""
    refused: frozenset[str] = frozenset()
    acknowledges: bool = True
    answers_pings: bool = True
    tls: ssl.SSLContext | None = None
    connects: list[packets.Connect] = dataclasses.field(default_factory=list)
    subscribed: list[str] = dataclasses.field(default_factory=list)
    unsubscribed: list[str] = dataclasses.field(default_factory=list)
    published: list[packets.Publish] = dataclasses.field(default_factory=list)
    acknowledged: list[int] = dataclasses.field(default_factory=list)
    pings: int = 0
    _writers: list[asyncio.StreamWriter] = dataclasses.field(default_factory=list)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        await self._server.wait_closed()
        await asyncio.sleep(0.05)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"mqtt{'s' if self.tls else ''}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def send(self, data: bytes) -> None:
        """Sends bytes to the newest client."""
        self._writers[-1].write(data)

    def unsent(self) -> int:
        """Bytes that the newest client's system has not taken yet."""
        return self._writers[-1].transport.get_write_buffer_size()

    def drop(self) -> None:
        """Closes every connection."""
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        parser = Parser({**decoding.FIRST_FROM_CLIENTS, **decoding.FROM_CLIENTS}, 1_000_000)
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                for packet in parser:
                    answer = self._answer(packet)
                    if answer is not None:
                        behind = self.greeting if isinstance(packet, packets.Connect) else b""
                        writer.write(answer.encode() + behind)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _answer(self, packet: packets.Packet) -> packets.Packet | None:
        answer: packets.Packet | None = None
        match packet:
            case packets.Connect():
                self.connects.append(packet)
                answer = None if self.connect_code is None else packets.Connack(self.connect_code)
            case packets.Subscribe():
                names = [name for name, _ in packet.filters]
                self.subscribed += names
                codes = tuple(packets.FAILURE if name in self.refused else 1 for name in names)
                answer = packets.Suback(packet.packet_id, codes)
            case packets.Unsubscribe():
                self.unsubscribed += packet.filters
                answer = packets.Unsuback(packet.packet_id)
            case packets.Publish():
                self.published.append(packet)
                answer = packets.Puback(packet.packet_id) if self.acknowledges else None
            case packets.Puback():
                self.acknowledged.append(packet.packet_id)
            case packets.Pingreq():
                self.pings += 1
                answer = packets.Pingresp() if self.answers_pings else None
            case _:
                pass
        return answer
