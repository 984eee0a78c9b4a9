"""Those who download, and devices that are sent something, each role in a process of its own; all without asyncio."""

from __future__ import annotations

import collections
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

import orjson
import seeding

from reconciler.protocol import topics
from reconciler.protocol.mqtt311 import packets

_ROUNDS = 100
"""Looks at the slow clients in a second."""


# -- HTTP ---------------------------------------------------------------------------------------------------


def _asked(port: int, path: str, last: int | None, buffer: int | None = None) -> socket.socket:
    sock = socket.socket()
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.connect(("127.0.0.1", port))
    wanted = "" if last is None else f"Range: bytes=0-{last}\r\n"
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n{wanted}Connection: close\r\n\r\n".encode())
    return sock


def download(port: int, path: str, clients: int, each: int) -> float:
    """So many clients download so many bytes each at the same time; bytes a second."""
    began = time.perf_counter()
    poll = select.epoll()
    left = {}
    for _ in range(clients):
        sock = _asked(port, path, each - 1)
        left[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLIN)
    buffer, came = bytearray(1 << 20), 0
    while left:
        for number, _ in poll.poll():
            count = left[number].recv_into(buffer)
            came += count
            if not count:
                left.pop(number).close()
    took = time.perf_counter() - began
    if came < clients * each:
        sys.exit("a download ended too early")
    return came / took


def slow(pipe: Connection, port: int, path: str, clients: int, rate: int) -> None:
    """So many clients take so many bytes a second each, until told to stop; says how many bytes came."""
    socks = [_asked(port, path, None, buffer=4 * rate) for _ in range(clients)]
    for sock in socks:
        sock.recv(1000)  # each is being served
    pipe.send("under way")
    came, turn, began = 0, 0, time.monotonic()
    while not pipe.poll():
        for sock in socks[turn % _ROUNDS :: _ROUNDS]:
            sock.setblocking(False)  # noqa: FBT003 - the standard library's
            try:
                came += len(sock.recv(rate))
            except BlockingIOError:
                continue
        turn += 1
        time.sleep(max(0.0, began + turn / _ROUNDS - time.monotonic()))
    pipe.send(came / (time.monotonic() - began))
    for sock in socks:
        sock.close()


# -- MQTT ---------------------------------------------------------------------------------------------------


class _Device:
    """A connection, and what comes over it."""

    def __init__(self, port: int, number: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = seeding.address(number)
        name = self.address.device_name
        self.sock.sendall(packets.Connect(name, f"{name}&{seeding.PRODUCT_KEY}", clean_session=True).encode())
        self._came = bytearray()
        self._task_id = self._left = self._each = self._size = 0

    def begin(self, task_id: int, each: int, size: int) -> None:
        """Wants so many messages of so many bytes: blocks of its task's file, or, without a size, what comes."""
        self._task_id, self._left, self._each, self._size = task_id, each, each, size
        if size:
            self._ask()

    def is_over(self) -> bool:
        """Takes what came, and asks for more; True when it was the last."""
        for payload in self.published():
            if payload.startswith(b"{"):
                continue  # its push
            if len(payload) < self._size:
                sys.exit(f"a block was refused: {payload!r}")
            self._left -= 1
            if self._left and self._size:
                self._ask()
        return not self._left

    def _ask(self) -> None:
        turn = self._each - self._left
        file = {"streamId": self._task_id, "fileId": 1}
        block = {"size": self._size, "offset": turn * self._size}
        said = {"id": str(turn), "params": {"fileToken": "default", "fileInfo": file, "fileBlock": block}}
        self.sock.sendall(
            packets.Publish(topics.file_download(self.address), orjson.dumps(said), 0, 0).encode()
        )

    def published(self) -> Iterator[bytes]:
        """Each message that came, which is acknowledged."""
        came = self._came
        came += self.sock.recv(1 << 18)
        while (whole := _whole(came)) is not None:
            head, end = whole
            if came[0] >> 4 == 3:  # PUBLISH
                topic = int.from_bytes(came[head : head + 2], "big")
                at = head + 2 + topic
                self.sock.sendall(b"\x40\x02" + came[at : at + 2])
                yield bytes(came[at + 2 : end])
            del came[:end]


def _whole(came: bytearray) -> tuple[int, int] | None:
    """Where the first packet's body begins and ends; None while it has not come whole."""
    length = shift = 0
    for at in range(1, min(len(came), 5)):
        length |= (came[at] & 127) << shift
        shift += 7
        if came[at] < 128:
            end = at + 1 + length
            return (at + 1, end) if len(came) >= end else None
    return None


def pushed(port: int, numbers: Sequence[int], rate: float) -> list[float]:
    """Devices come one by one, at a rate, and go when they are pushed; the milliseconds that each waited."""
    poll = select.epoll()
    devices: dict[int, tuple[_Device, float]] = {}
    waited: list[float] = []
    coming = collections.deque(enumerate(numbers))
    began = time.perf_counter()
    while len(waited) < len(numbers):
        now = time.perf_counter() - began
        if now > len(numbers) / rate + 60:
            sys.exit(f"{len(numbers) - len(waited)} devices were not pushed")
        while coming and coming[0][0] / rate <= now:
            turn, number = coming.popleft()
            device = _Device(port, number)
            devices[device.sock.fileno()] = (device, began + turn / rate)
            poll.register(device.sock.fileno(), select.EPOLLIN)
        for fileno, _ in poll.poll(0.001):
            device, due = devices[fileno]
            if any(True for _ in device.published()):
                waited.append(1000 * (time.perf_counter() - due))
                poll.unregister(fileno)
                devices.pop(fileno)[0].sock.close()
    return waited


def blocks(pipe: Connection, port: int, numbers: Sequence[int], each: int, size: int) -> None:
    """Devices take blocks of their files, the next when one has come; or, without a size, what they are sent.

    Says when everybody is there, begins when it is told to, and says how many messages a second came.
    """
    devices = {}
    poll = select.epoll()
    for number in numbers:
        device = _Device(port, number)
        devices[device.sock.fileno()] = device
        poll.register(device.sock.fileno(), select.EPOLLIN)
        if device.sock.recv(4) != packets.Connack(0).encode():
            sys.exit("a device was not let in")
    pipe.send("there")
    pipe.recv()
    began = time.perf_counter()
    for task_id, device in enumerate(devices.values(), 1):
        device.begin(task_id, each, size)
    unfinished = len(devices)
    while unfinished:
        unfinished -= sum(devices[fileno].is_over() for fileno, _ in poll.poll())
    pipe.send(len(devices) * each / (time.perf_counter() - began))
