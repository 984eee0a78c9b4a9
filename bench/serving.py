"""What serves downloads and pushes, each in a process of its own: our HTTP server, nginx, the daemon's way to devices.

The daemon is real services and the real writer over an SQLite file, devices at the endpoint and downloads in the same
event loop; no Git.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.connection import Connection

import hosting
import processes
import seeding

from reconciler.artifacts.store import FileStore
from reconciler.protocol import topics, urls
from reconciler.services.clock import Jumps, SystemClock
from reconciler.services.dispatch import Dispatch
from reconciler.store import devices, granted, pushes
from reconciler.store.database import Database
from reconciler.transport import base, endpoint
from reconciler.web import app, downloads, server

KEY = b"k" * 32


def path(task_id: int = 1) -> str:
    """Of the file that a server has, for a task."""
    return f"/d/{urls.sign(KEY, 1, task_id, int(time.time()) + 3600)}/firmware.bin"


async def opened(file: pathlib.Path) -> int:
    """Opens a file for a download, as the daemon does it."""
    return await asyncio.to_thread(os.open, file, os.O_RDONLY)


def _http(find: downloads.Find) -> server.HttpServer:
    served = downloads.Downloads(KEY, find, lambda: int(time.time()))
    made = app.create(served, heartbeat_age=lambda: 0.0, checks=tuple, metrics=lambda: ("text/plain", b""))
    return server.HttpServer(made, "127.0.0.1", 0)


async def _until_told(pipe: Connection, *tasks: asyncio.Task[None]) -> None:
    """Until something comes through the pipe; one of the tasks that fails ends it all."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), told.set)
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    asyncio.get_running_loop().remove_reader(pipe.fileno())
    for task in tasks:
        if task.done():
            await task


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# -- downloads alone ----------------------------------------------------------------------------------------


def _serve(pipe: Connection, file: pathlib.Path, taken: pathlib.Path | None) -> None:
    """Serves a file; before that takes it into a store when there is a folder for one."""
    if taken is not None:
        store = FileStore(taken)
        store.prepare()
        began = time.monotonic()
        file = store.path(store.put(_chunks(file)).sha256)
        pipe.send(time.monotonic() - began)
        if store.found(file.name) is None:
            sys.exit("the store does not hold what was put")
    size = file.stat().st_size

    async def find(_: urls.Grant) -> downloads.Blob:
        return downloads.Blob(functools.partial(opened, file), size, "1" * 64)

    async def live() -> None:
        made = _http(find)
        pipe.send(made.bind())
        serving = asyncio.create_task(made.serve())
        await _until_told(pipe, serving)
        pipe.send(processes.megabytes("VmHWM"))
        await _end(serving)

    asyncio.run(live())


def _chunks(file: pathlib.Path) -> Iterator[bytes]:
    with file.open("rb", buffering=0) as opened:
        while chunk := opened.read(1 << 20):
            yield chunk


@contextlib.contextmanager
def ours(file: pathlib.Path) -> Iterator[int]:
    """Our HTTP server; its port."""
    with processes.playing(_serve, file, None) as pipe:
        yield pipe.recv()
        pipe.send("end")


@dataclasses.dataclass
class Whole:
    """A file's way through one process: taken in and digested, checked, and downloaded."""

    port: int
    seconds: float
    """It took to take the file in."""
    peak: float = 0.0
    """Megabytes, at the end."""


@contextlib.contextmanager
def from_source(file: pathlib.Path, folder: pathlib.Path) -> Iterator[Whole]:
    """A process that has taken a file in, and serves it."""
    with processes.playing(_serve, file, folder) as pipe:
        seconds = pipe.recv()
        found = Whole(pipe.recv(), seconds)
        yield found
        pipe.send("end")
        found.peak = pipe.recv()


_NGINX = """
daemon off; master_process off; worker_processes 1; pid pid; error_log error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; tcp_nopush on;
    client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
    server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""


@contextlib.contextmanager
def nginx(file: pathlib.Path, folder: pathlib.Path) -> Iterator[int]:
    """Nginx as Debian has it, with one process as we have; its port."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        sys.exit("nginx is missing: install it (Debian: apt-get install nginx-light)")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    own = folder / "nginx"
    own.mkdir(exist_ok=True)
    (own / "nginx.conf").write_text(_NGINX.format(port=port, folder=file.parent))
    process = subprocess.Popen([program, "-p", f"{own}/", "-c", "nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.05)
        else:
            sys.exit("nginx did not start")
        yield port
    finally:
        process.kill()
        process.wait()


# -- the daemon's way ---------------------------------------------------------------------------------------


class _Nobody:
    async def authenticate(self, login: object) -> bool:
        del login
        return False


def _endpoint() -> endpoint.Endpoint:
    made = endpoint.Endpoint([endpoint.Bind(port=0)], _Nobody(), limits=hosting.UNPACED, allow_anonymous=True)
    made.set_products(frozenset({seeding.PRODUCT_KEY}))
    return made


async def _daemon(pipe: Connection, database_path: pathlib.Path) -> None:
    database, transport, intake = (
        Database.open(seeding.url(database_path), upgrade=False),
        _endpoint(),
        base.Intake(),
    )
    ingest = hosting.ingest_of(database, transport, settle=timedelta(0))
    claimant = pushes.Claimant(seeding.EPOCH, devices.Presence(seeding.EPOCH, timedelta(0)))
    clock, offers = SystemClock(), hosting.offers()
    dispatch = Dispatch(
        database, transport, clock, claimant, jumps=Jumps(clock), offers=offers, intake=intake
    )

    async def find(grant: urls.Grant) -> downloads.Blob | None:
        found = await database.read(granted.find, grant.blob_id, grant.task_id)
        return (
            downloads.Blob(
                functools.partial(opened, pathlib.Path(found.sha256)), found.size, found.sha256, found.batch
            )
            if found
            else None
        )

    http = _http(find)
    http_port = http.bind()
    tasks = [
        asyncio.create_task(work)
        for work in (
            transport.serve(intake),
            ingest.run(intake),
            dispatch.run(ingest.pushes_due),
            http.serve(),
        )
    ]
    await transport.listening()
    pipe.send((transport.bound_port, http_port))
    await _until_told(pipe, *tasks)
    await _end(*tasks)
    database.close()


def _be_daemon(pipe: Connection, database_path: pathlib.Path) -> None:
    asyncio.run(_daemon(pipe, database_path))


@contextlib.contextmanager
def daemon(database_path: pathlib.Path) -> Iterator[tuple[int, int]]:
    """Endpoint, ingest, dispatch and downloads over a database; the ports of MQTT and HTTP.

    A blob of this database has the path of its file for a digest.
    """
    with processes.playing(_be_daemon, database_path) as pipe:
        yield pipe.recv()
        pipe.send("end")


# -- publishing alone ---------------------------------------------------------------------------------------


async def _publish(pipe: Connection, numbers: list[int], each: int, size: int) -> None:
    transport, intake, payload = _endpoint(), base.Intake(), bytes(size)
    serving = asyncio.create_task(transport.serve(intake))
    await transport.listening()
    pipe.send(transport.bound_port)
    await _until_told(pipe, serving)
    pipe.recv()

    async def publish(number: int) -> None:
        address = seeding.address(number)
        for _ in range(each):
            await transport.publish(address, topics.file_download_reply(address), payload)

    await asyncio.gather(*map(publish, numbers))
    await _until_told(pipe, serving)
    await _end(serving)


def _be_publisher(pipe: Connection, numbers: list[int], each: int, size: int) -> None:
    asyncio.run(_publish(pipe, numbers, each, size))


@contextlib.contextmanager
def publisher(numbers: list[int], each: int, size: int) -> Iterator[Connection]:
    """An endpoint that sends devices so many bytes so often, one message at a time; it says its port."""
    with processes.playing(_be_publisher, numbers, each, size) as pipe:
        yield pipe
        pipe.send("end")
