"""The device endpoint against clients that mean harm or are broken: nobody else notices (engine.md §1)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pathlib
import random
import socket

import pytest
from endpoints import PRODUCT, Raw, Served, certificate, device, eventually, hello, report, served

from reconciler.protocol import topics
from reconciler.protocol.mqtt311 import packets
from reconciler.protocol.mqtt311.packets import ConnectCode
from reconciler.protocol.topics import Address
from reconciler.transport import endpoint
from reconciler.transport.base import Delivery, Presence
from reconciler.transport.endpoint import sessions

ONE, TWO = device(1), device(2)
QUICK = endpoint.EndpointLimits(connect_seconds=0.6)


class Bystander:
    """A device that is there the whole time and must not notice anything."""

    def __init__(self, made: Served, raw: Raw, online: Presence) -> None:
        self._made, self._raw, self._online = made, raw, online
        self._number = 0

    @classmethod
    async def come(cls, made: Served, address: Address = ONE) -> Bystander:
        raw = await made.log_in(address)
        (online,) = await made.take(1)
        assert isinstance(online, Presence)
        return cls(made, raw, online)

    async def is_unharmed(self) -> None:
        """It reports, is acknowledged, is pushed, and was never gone."""
        address, self._number = self._online.address, self._number + 1
        self._raw.send(report(address, self._number, b"still here"))
        message = None
        while message is None:
            (item,) = await self._made.take(1)
            if isinstance(item, Presence):
                assert item.address != address
            elif item.address == address:
                message = item
        message.acknowledge()
        assert await self._raw.read() == packets.Puback(self._number)
        pushing = asyncio.create_task(self._made.endpoint.publish(address, topics.upgrade(address), b"{}"))
        push = await self._raw.read()
        self._raw.send(packets.Puback(push.packet_id))
        assert await pushing is Delivery.CONFIRMED


async def test_a_wrong_password_with_a_live_devices_client_id_is_not_noticed_by_it():
    async with served() as made:
        live = await Bystander.come(made)
        for _ in range(20):
            thief = await made.connect()
            thief.send(hello(ONE, password=b"0" * 64), report(ONE, 1, b"forged"))
            assert await thief.read() == packets.Connack(ConnectCode.BAD_CREDENTIALS)
            assert await thief.closed()
        assert len(made.intake) == 0
        await live.is_unharmed()
        assert made.endpoint.stats.refused == {"credentials": 20}


async def test_another_devices_client_id_is_nobodys_business():
    async with served() as made:
        live = await Bystander.come(made)
        await made.log_in(TWO, cid="thermostat.dev-0001")
        await made.log_in(device(3), cid="thermostat.dev-0001")
        assert made.endpoint.stats.refused == {}
        await live.is_unharmed()


@pytest.mark.parametrize("said", [b"", b"\x10", hello(ONE).encode()[:-1]], ids=["silence", "byte", "half"])
async def test_who_does_not_finish_a_connect_in_time_is_closed(said):
    async with served(QUICK) as made:
        live = await Bystander.come(made)
        raw = await made.connect()
        raw.writer.write(said)
        assert await raw.closed(within=3)
        assert made.endpoint.stats.refused == {"connect-timeout": 1}
        await live.is_unharmed()


async def test_a_connect_that_drips_in_does_not_buy_time():
    async with served(QUICK) as made:
        raw = await made.connect()
        loop = asyncio.get_running_loop()
        began = loop.time()
        for byte in hello(ONE).encode():
            raw.writer.write(bytes((byte,)))
            with contextlib.suppress(ConnectionError):
                await raw.writer.drain()
            if raw.reader.at_eof() or raw.reader.exception():  # by a reset, where a byte was on its way
                break
            await asyncio.sleep(0.05)
        assert loop.time() - began < 2
        assert made.endpoint.stats.refused == {"connect-timeout": 1}


async def test_half_a_tls_handshake_is_closed_in_time_and_plain_text_at_once(tmp_path):
    ours, _ = certificate(tmp_path)
    async with served(QUICK, tls=ours) as made:
        half, plain = await made.connect(), await made.connect()
        half.writer.write(b"\x16\x03\x01\x02\x00\x01")
        plain.send(hello(ONE))
        assert await raw_end(plain, within=0.5)
        assert await raw_end(half, within=3)
        assert made.endpoint.stats.refused == {"tls": 1, "connect-timeout": 1}
        assert made.endpoint.stats.malformed == 1


async def test_what_is_not_tls_after_a_login_over_tls_ends_that_connection_only(tmp_path):
    ours, theirs = certificate(tmp_path)
    async with served(tls=ours) as made:
        raw, other = await made.connect(tls=theirs), await made.connect(tls=theirs)
        for each, number in ((raw, 2), (other, 3)):
            each.send(hello(device(number)))
            assert await each.read() == packets.Connack(0)
        raw.send(report(TWO, 1))
        (message,) = await made.messages(1)
        raw.writer.transport._ssl_protocol._transport.write(b"\x17\x03\x03\x00\x05hello" * 5)
        message.acknowledge()
        await eventually(lambda: made.endpoint.stats.connections == 1)
        assert made.endpoint.stats.refused == {"tls": 1}
        other.send(packets.Pingreq())
        assert await other.read() == packets.Pingresp()


async def raw_end(raw: Raw, within: float) -> bool:
    """Waits until the server closed, whatever it sent before."""
    async with asyncio.timeout(within):
        with contextlib.suppress(ConnectionError):
            while await raw.reader.read(65536):
                pass
    return True


@pytest.mark.parametrize("logged_in", [False, True])
async def test_a_packet_of_95_mb_is_refused_when_it_is_announced(logged_in):
    async with served() as made:
        live = await Bystander.come(made)
        raw = await made.log_in(TWO) if logged_in else await made.connect()
        raw.writer.write((b"\x30" if logged_in else b"\x10") + bytes.fromhex("c0aba62d"))
        assert await raw.closed(within=3)
        assert made.endpoint.stats.malformed == 1
        await live.is_unharmed()


async def test_what_is_sent_while_a_login_is_decided_is_held_up_to_a_limit_only():
    async with served() as made:
        made.accounts.gate.clear()
        raw = await made.connect()
        raw.send(hello(TWO))
        await eventually(lambda: made.accounts.asked)
        raw.writer.transport.set_write_buffer_limits(high=0)
        flood = asyncio.create_task(push_forever(raw))
        await asyncio.sleep(0.5)
        assert not flood.done()
        (session,) = made.endpoint._hall._everybody
        assert session._mqtt.waiting < 200_000
        flood.cancel()
        await asyncio.wait([flood])


async def push_forever(raw: Raw) -> None:
    message = report(TWO, 1, bytes(10_000)).encode()
    while True:
        raw.writer.write(message)
        await raw.writer.drain()


async def test_a_reader_that_never_reads_is_cut_and_the_others_are_served():
    limits = endpoint.EndpointLimits(pushes=1000, puback_seconds=20)
    async with served(limits) as made:
        live = await Bystander.come(made)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", made.port))
        sock.sendall(hello(TWO).encode())
        await eventually(lambda: made.endpoint.stats.devices == 2)
        payload = bytes(100_000)
        pushes = [
            asyncio.create_task(made.endpoint.publish(TWO, topics.upgrade(TWO), payload)) for _ in range(150)
        ]
        assert set(await asyncio.gather(*pushes)) == {Delivery.OFFLINE}
        assert made.endpoint.stats.refused == {"slow-reader": 1}
        await eventually(lambda: made.endpoint.stats.connections == 1)
        await live.is_unharmed()
        sock.close()


async def test_what_nobody_reads_does_not_keep_a_replaced_connection_open(monkeypatch):
    monkeypatch.setattr(sessions, "LINGER_SECONDS", 0.3)
    async with served(endpoint.EndpointLimits(pushes=1000, write_buffer_bytes=100_000_000)) as made:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", made.port))
        sock.sendall(hello(TWO).encode())
        await eventually(lambda: made.endpoint.stats.devices == 1)
        publish = made.endpoint.publish(TWO, topics.upgrade(TWO), bytes(10_000_000))
        pushing = asyncio.create_task(publish)
        await asyncio.sleep(0.1)
        await made.log_in(TWO)
        assert await pushing is Delivery.OFFLINE
        assert made.endpoint.stats.connections == 2
        await eventually(lambda: made.endpoint.stats.connections == 1, within=3)
        sock.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes.fromhex("16030100c8010000c403"),
        b"\x00" * 1000,
        b"\xff" * 1000,
        b"\x10\xff\xff\xff\xff\xff",
        packets.frame(0x10, b"\0\4MQTT\5\2\0\0\0\0\0"),
        packets.Publish(topics.inform(ONE), b"without a login").encode(),
        packets.PINGREQ,
    ],
)
async def test_garbage_is_closed_and_counted(garbage):
    async with served() as made:
        live = await Bystander.come(made)
        raw = await made.connect()
        raw.writer.write(garbage)
        assert await raw.closed(within=3)
        assert made.endpoint.stats.refused == {"protocol": 1}
        await live.is_unharmed()


async def test_random_bytes_after_a_login_close_it_and_nobody_else():
    dice = random.Random(311)
    async with served() as made:
        live = await Bystander.come(made)
        for number in range(2, 60):
            raw = await made.log_in(device(number))
            raw.writer.write(dice.randbytes(dice.randrange(1, 500)))
            raw.writer.write_eof()
            await raw.closed(within=3)
        await live.is_unharmed()


async def test_a_flood_of_pings_is_read_at_the_devices_rate():
    async with served(endpoint.EndpointLimits(packets_per_second=50, packets_at_once=10)) as made:
        raw = await made.log_in(TWO)
        raw.writer.write(packets.PINGREQ * 100_000)
        await asyncio.sleep(0.5)
        answered = 0
        with contextlib.suppress(TimeoutError):
            while await raw.read(within=0.1) is not None:
                answered += 1
        assert 10 < answered < 100


async def test_a_storm_of_takeovers_ends_with_one_session():
    async with served() as made:
        raws = await asyncio.gather(*(made.connect() for _ in range(200)))
        for raw in raws:
            raw.send(hello(ONE))
        await eventually(lambda: made.endpoint.stats.connections == 1)
        events = await made.take(200)
        assert all(event.online for event in events)
        assert [event.session for event in events] == sorted(event.session for event in events)
        assert made.endpoint.stats.refused == {"replaced": 199}
        await asyncio.sleep(0.05)
        assert len(made.intake) == 0


async def test_more_connections_than_allowed_are_closed_and_told_once_and_those_inside_stay(caplog):
    async with served(endpoint.EndpointLimits(connections=10)) as made:
        live = await Bystander.come(made)
        raws = [await made.connect() for _ in range(30)]
        await eventually(lambda: made.endpoint.stats.refused.get("crowded") == 21)
        await live.is_unharmed()
        (said,) = caplog.messages
        assert said.startswith("10 connections are there, as many as may be; closed as they came, so far: 1.")
        for raw in raws:
            await raw.leave()
        await eventually(lambda: made.endpoint.stats.connections == 1)
        await made.log_in(TWO)


def open_files() -> int:
    return len([*pathlib.Path("/proc/self/fd").iterdir()])


def resident_bytes() -> int:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_two_thousand_connections_that_come_and_go_leave_nothing_behind():
    """Some say nothing, some half a CONNECT, some a wrong password; then all of them vanish, again and again."""
    said = [b"", hello(TWO).encode()[:-3], hello(Address(PRODUCT, "stranger")).encode()]
    async with served(endpoint.EndpointLimits(logins_per_second=0)) as made:
        live = await Bystander.come(made)
        files, memory = open_files(), []
        for _ in range(4):
            socks = []
            for number in range(2000):
                sock = socket.create_connection(("127.0.0.1", made.port))
                sock.sendall(said[number % 3])
                socks.append(sock)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            await eventually(lambda: made.endpoint.stats.connections > 1000)
            await live.is_unharmed()
            for sock in socks:
                sock.close()
            await eventually(lambda: made.endpoint.stats.connections == 1, within=20)
            await live.is_unharmed()
            gc.collect()
            memory.append(resident_bytes())
        assert open_files() <= files + 2
        assert memory[-1] - memory[0] < 4_000_000
