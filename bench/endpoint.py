"""How much the device endpoint takes, beside Mosquitto in the same run.

    python bench/endpoint.py                       100 and 3,000 connections, a table at the end
    python bench/endpoint.py --connections 500 --messages 50000

Devices are played by a process of its own: each connection keeps a few QoS 1 messages unacknowledged and sends
the next when an acknowledgement comes. The endpoint acknowledges after an empty commit: what stands for ingest
takes bursts and acknowledges them. Mosquitto is measured twice: with nobody listening (it acknowledges and
throws away), and with one subscriber that acknowledges, which is the endpoint's job done with a broker. Memory
is what the server's process grows by when so many idle devices connect.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from reconciler.protocol import topics
from reconciler.protocol.mqtt311 import decoding, packets
from reconciler.protocol.mqtt311.parser import Parser
from reconciler.transport import base, endpoint

PRODUCT = "thermostat"
PAYLOAD = b'{"id":"123","params":{"step":"50","desc":"downloading","module":"MCU"}}'
IN_FLIGHT = 3000
"""Unacknowledged messages of all devices together; a single device has 20 at most, like paho."""


# -- the servers --------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Server:
    """A running server process."""

    port: int
    process: subprocess.Popen[str]

    def memory(self) -> int:
        """Its resident bytes."""
        pages = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def start(*role: str) -> subprocess.Popen[str]:
    """This script in another role."""
    return subprocess.Popen([sys.executable, __file__, *role], stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def our_endpoint() -> Iterator[Server]:
    """The endpoint, with the stub of ingest."""
    process = start("--role", "serve")
    try:
        yield Server(int(said(process)), process)
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def mosquitto() -> Iterator[Server]:
    """Mosquitto, with queues that lose nothing."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        sys.exit("mosquitto is missing: install it (Debian: apt-get install mosquitto)")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "mosquitto.conf")
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\n"
            "max_queued_messages 0\nmax_inflight_messages 100\nlog_type none\nset_tcp_nodelay true\n"
        )
        process = subprocess.Popen([program, "-c", str(config)], text=True, stderr=subprocess.DEVNULL)
        try:
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.05)
            yield Server(port, process)
        finally:
            process.kill()
            process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    if process.stdout is None:
        raise AssertionError("its output is piped")
    return process.stdout.readline().strip()


async def serve() -> None:
    """The endpoint without limits on the pace, and what stands for ingest."""

    class Nobody:
        async def authenticate(self, login: object) -> bool:
            del login
            return False

    limits = endpoint.EndpointLimits(packets_per_second=0, logins_per_second=0)
    made = endpoint.Endpoint([endpoint.Bind(port=0)], Nobody(), limits=limits, allow_anonymous=True)
    made.set_products(frozenset({PRODUCT}))
    intake = base.Intake()
    serving = asyncio.create_task(made.serve(intake))
    await made.listening()
    print(made.bound_port, flush=True)
    while not serving.done():
        for item in await intake.take(500):
            if isinstance(item, base.Message):
                item.acknowledge()
        await asyncio.sleep(0)


# -- the clients --------------------------------------------------------------------------------------------


class Subscriber(asyncio.Protocol):
    """The platform behind a broker: hears everything, acknowledges each burst in one write."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.done = asyncio.Event()
        self._parser = Parser(decoding.FROM_SERVERS, 100_000)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Subscribes."""
        self.transport = transport
        hello = packets.Connect("platform", clean_session=True).encode()
        filters = tuple((name, 1) for name in topics.uplinks(PRODUCT))
        transport.write(hello + packets.Subscribe(1, filters).encode())

    def data_received(self, data: bytes) -> None:
        """Acknowledges."""
        self._parser.feed(data)
        answer = bytearray()
        for packet in self._parser:
            if type(packet) is packets.Publish:
                answer += b"\x40\x02" + packet.packet_id.to_bytes(2, "big")
                self.expected -= 1
            elif type(packet) is packets.Suback:
                print("subscribed", flush=True)
        self.transport.write(bytes(answer))
        if self.expected <= 0 and not self.done.is_set():
            print(time.time(), flush=True)
            self.done.set()


async def subscribe(port: int, messages: int) -> None:
    """Plays the platform until everything arrived."""
    subscriber = Subscriber(messages)
    await asyncio.get_running_loop().create_connection(lambda: subscriber, "127.0.0.1", port)
    await subscriber.done.wait()


class Device:
    """One connection of the load, without asyncio: it must cost less than the server."""

    __slots__ = ("_acknowledged", "_cut", "_frames", "_length", "_window", "sock")

    def __init__(self, port: int, number: int, window: int) -> None:
        address = topics.Address(PRODUCT, f"dev-{number:05}")
        frames = [
            packets.Publish(topics.progress(address), PAYLOAD, 1, 1 + index).encode()
            for index in range(window)
        ]
        self._frames, self._length, self._window = b"".join(frames * 2), len(frames[0]), window
        self._acknowledged = self._cut = 0
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(packets.Connect(str(address), f"{address.device_name}&{PRODUCT}").encode())

    def log_in(self) -> None:
        """Waits until it is let in."""
        if self.sock.recv(4) != packets.Connack(0).encode():
            sys.exit("a device was not let in")

    def begin(self) -> None:
        """Sends as many messages as may be unacknowledged."""
        self.sock.sendall(self._frames[: self._length * self._window])

    def acknowledged(self) -> int:
        """Reads acknowledgements, and sends as many further messages."""
        came = len(self.sock.recv(65536)) + self._cut
        count, self._cut = divmod(came, 4)
        first = self._acknowledged % self._window
        self._acknowledged += count
        self.sock.sendall(self._frames[first * self._length : (first + count) * self._length])
        return count


def connect(port: int, connections: int) -> list[Device]:
    """So many devices that are logged in; a hundred at a time."""
    window = max(1, min(20, IN_FLIGHT // connections))
    devices: list[Device] = []
    for begin in range(0, connections, 100):
        block = [Device(port, number, window) for number in range(begin, min(begin + 100, connections))]
        for device in block:
            device.log_in()
        devices += block
    return devices


def load(port: int, connections: int, messages: int) -> None:
    """Plays the devices: prints when it began and when so many messages were acknowledged."""
    devices = {device.sock.fileno(): device for device in connect(port, connections)}
    poll = select.epoll()
    for number in devices:
        poll.register(number, select.EPOLLIN)
    began = time.time()
    for device in devices.values():
        device.begin()
    while messages > 0:
        for number, _ in poll.poll():
            messages -= devices[number].acknowledged()
    print(began, time.time(), flush=True)


# -- the measurements ---------------------------------------------------------------------------------------


def rate(server: Server, connections: int, messages: int, *, subscriber: bool) -> float:
    """Messages a second, until the last one is acknowledged and (with a subscriber) has arrived."""
    common = ("--port", str(server.port), "--messages", str(messages))
    listening = start("--role", "subscribe", *common) if subscriber else None
    if listening is not None and said(listening) != "subscribed":
        sys.exit("the subscriber was refused")
    loading = start("--role", "load", *common, "--connections", str(connections))
    began, ended = map(float, loading.communicate()[0].split())
    if listening is not None:
        ended = max(ended, float(listening.communicate()[0]))
    return messages / (ended - began)


def memory(server: Server, connections: int) -> float:
    """Bytes a connection."""
    warm = connect(server.port, 50)
    before = server.memory()
    devices = connect(server.port, connections + 50)[50:]
    time.sleep(0.5)
    grown = server.memory() - before
    for device in [*warm, *devices]:
        device.sock.close()
    return grown / connections


def measure(connections: list[int], messages: int, rounds: int) -> None:
    """Everything, in turns, as a table of the best rounds: others may use this machine, too."""
    print(
        f"QoS 1 messages of {len(PAYLOAD)} bytes, {messages:,} of them, best of {rounds}; {os.cpu_count()} cores\n"
    )
    print(
        f"{'connections':>11}  {'endpoint':>10}  {'mosquitto':>10}  {'ratio':>6}  {'nobody listens':>14}  {'ratio':>6}"
    )
    for count in connections:
        ours = theirs = bare = 0.0
        for _ in range(rounds):
            with our_endpoint() as server:
                ours = max(ours, rate(server, count, messages, subscriber=False))
            with mosquitto() as server:
                theirs = max(theirs, rate(server, count, messages, subscriber=True))
            with mosquitto() as server:
                bare = max(bare, rate(server, count, messages, subscriber=False))
        print(
            f"{count:>11,}  {ours:>8,.0f}/s  {theirs:>8,.0f}/s  {ours / theirs:>6.2f}"
            f"  {bare:>12,.0f}/s  {ours / bare:>6.2f}"
        )
    idle = max(connections)
    with our_endpoint() as server:
        ours = memory(server, idle)
    with mosquitto() as server:
        theirs = memory(server, idle)
    print(f"\nmemory a connection, {idle:,} idle: endpoint {ours:,.0f} bytes, mosquitto {theirs:,.0f} bytes")


def main() -> None:
    """Reads the command line; with `--role` it is one of the processes above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, nargs="+", default=[100, 3000])
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--role", choices=["serve", "subscribe", "load"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "serve":
        asyncio.run(serve())
    elif given.role == "subscribe":
        asyncio.run(subscribe(given.port, given.messages))
    elif given.role == "load":
        load(given.port, given.connections[0], given.messages)
    else:
        measure(given.connections, given.messages, given.rounds)


if __name__ == "__main__":
    main()
