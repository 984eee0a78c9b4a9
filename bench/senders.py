"""The devices that send, each role in a process of its own: through the endpoint, or all of them into a broker.

What they say is what devices say while they are upgraded: progress every 5 %, at last the new version. Neighbours in
the stream are different devices, so that nothing of it can be folded: each message changes a task.
"""

from __future__ import annotations

import collections
import select
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection

import seeding

from reconciler.protocol import topics
from reconciler.protocol.mqtt311 import packets

STEPS = 20
"""Messages of one device: progress 5 … 95, then its new version."""
_ACKNOWLEDGED = 4  # bytes of a PUBACK
_AHEAD = 1000  # messages that a broker may not have acknowledged


def payload(step: int) -> bytes:
    """What a device says at last, or on its way."""
    if step == STEPS:
        return b'{"id":"%d","params":{"version":"%s","module":"default"}}' % (step, seeding.TARGET.encode())
    return b'{"id":"%d","params":{"step":"%d","desc":"downloading","module":"default"}}' % (step, 5 * step)


def topic(number: int, step: int) -> str:
    """Where it says that."""
    address = seeding.address(number)
    return topics.inform(address) if step == STEPS else topics.progress(address)


def frame(number: int, step: int, packet_id: int) -> bytes:
    """The same as a packet."""
    return packets.Publish(topic(number, step), payload(step), 1, packet_id).encode()


def _greeting(number: int) -> bytes:
    """An old version reported once more: when it is acknowledged, the device is known to be there."""
    said = b'{"id":"0","params":{"version":"%s","module":"default"}}' % seeding.OLD.encode()
    return packets.Publish(topics.inform(seeding.address(number)), said, 1, 1000).encode()


# -- devices at the endpoint --------------------------------------------------------------------------------


def _connected(port: int, numbers: Iterable[int]) -> dict[int, tuple[socket.socket, int]]:
    """So many devices, each of which is logged in and was heard."""
    devices = {}
    for number in numbers:
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = seeding.address(number).device_name
        hello = packets.Connect(name, f"{name}&{seeding.PRODUCT_KEY}", clean_session=True)
        sock.sendall(hello.encode() + _greeting(number))
        devices[sock.fileno()] = (sock, number)
    for sock, _ in devices.values():
        missing = _ACKNOWLEDGED * 2
        while missing > 0:
            got = sock.recv(missing)
            if not got:
                sys.exit("a device was not let in")
            missing -= len(got)
    return devices


def through_endpoint(pipe: Connection, port: int, numbers: Sequence[int]) -> None:
    """Each device sends its next message when its last one was acknowledged.

    Says when everybody is there, begins when it is told to, and says how many seconds it took.
    """
    devices = _connected(port, numbers)
    poll = select.epoll()
    for fileno in devices:
        poll.register(fileno, select.EPOLLIN)
    steps = dict.fromkeys(devices, 1)
    frames = {
        fileno: [frame(number, step, step) for step in range(1, STEPS + 1)]
        for fileno, (_, number) in devices.items()
    }
    pipe.send(len(devices))
    pipe.recv()
    began = time.monotonic()
    for fileno, (sock, _) in devices.items():
        sock.sendall(frames[fileno][0])
    unfinished = len(devices)
    while unfinished:
        for fileno, _ in poll.poll():
            sock = devices[fileno][0]
            if len(sock.recv(64)) != _ACKNOWLEDGED:
                sys.exit("a device was cut off")
            done = steps[fileno]
            steps[fileno] += 1
            if done < STEPS:
                sock.sendall(frames[fileno][done])
            else:
                unfinished -= 1
    pipe.send(time.monotonic() - began)


def flood_endpoint(port: int, numbers: Sequence[int], each: int, seconds: float) -> int:
    """Devices that send without waiting for anything; how many of their messages were acknowledged meanwhile."""
    devices = _connected(port, numbers)
    waiting = {}
    poll = select.epoll()
    for fileno, (sock, number) in devices.items():
        sock.settimeout(0)
        said = b"".join(frame(number, 1 + step % (STEPS - 1), 1 + step) for step in range(each))
        waiting[fileno] = memoryview(said)
        poll.register(fileno, select.EPOLLIN | select.EPOLLOUT)
    acknowledged = 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for fileno, happened in poll.poll(0.1):
            sock = devices[fileno][0]
            if happened & select.EPOLLIN:
                acknowledged += len(sock.recv(65536)) // _ACKNOWLEDGED
            if happened & select.EPOLLOUT:
                waiting[fileno] = waiting[fileno][sock.send(waiting[fileno][:65536]) :]
                if not waiting[fileno]:
                    poll.modify(fileno, select.EPOLLIN)
    return acknowledged


# -- a fleet behind a broker --------------------------------------------------------------------------------


def _stream(fleets: Iterable[Sequence[int]]) -> Iterator[bytes]:
    """One fleet after the other is upgraded, all devices of one in step."""
    packet_id = 0
    for numbers in fleets:
        for step in range(1, STEPS + 1):
            for number in numbers:
                packet_id = packet_id % 65535 + 1
                yield frame(number, step, packet_id)


def into_broker(port: int, fleets: Iterable[Sequence[int]]) -> int:
    """Publishes what all of them say over one connection, and waits until the broker has it; how many it was."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(packets.Connect("everybody", clean_session=True).encode())
    if sock.recv(4) != packets.Connack(0).encode():
        sys.exit("the broker refused a client")
    sent = acknowledged = 0
    batch: collections.deque[bytes] = collections.deque()
    for encoded in _stream(fleets):
        batch.append(encoded)
        if len(batch) == 100:
            sock.sendall(b"".join(batch))
            sent += len(batch)
            batch.clear()
            while sent - acknowledged // _ACKNOWLEDGED > _AHEAD:
                acknowledged += len(sock.recv(65536))
    sock.sendall(b"".join(batch))
    sent += len(batch)
    while acknowledged < sent * _ACKNOWLEDGED:
        acknowledged += len(sock.recv(65536))
    sock.close()
    return sent
