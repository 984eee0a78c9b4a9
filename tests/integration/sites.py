"""A download server on a real socket, for one test: what it serves, and the simplest of clients."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re

from reconciler import errors
from reconciler.protocol import urls
from reconciler.web import app, server
from reconciler.web.downloads import Blob, Downloads, Limits

KEY = b"k" * 32
NOW = 1_900_000_000
CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ETAG = f'"{SHA256}"'


class Site:
    """A running server with one blob (number 7), and one (8) of a size of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.now = NOW
        self.heartbeat_age = 0.0
        self.checks = [("git", True, "main@sha1:abc"), ("database", True, "fine")]
        (folder / "blob").write_bytes(CONTENT)
        self.blobs = {7: Blob(at(folder / "blob"), len(CONTENT), SHA256)}
        self.port = 0
        self.downloads = Downloads(KEY, self.find, lambda: self.now)
        self.busy = False
        self.delay = 0.0

    async def find(self, grant):
        await asyncio.sleep(self.delay)
        if self.busy:
            raise errors.TransientError("the database is busy")
        return self.blobs.get(grant.blob_id)

    def limited(self, **limits):
        self.downloads = Downloads(KEY, self.find, lambda: self.now, limits=Limits(**limits))
        return self

    def application(self):
        return app.create(
            self.downloads,
            heartbeat_age=lambda: self.heartbeat_age,
            checks=lambda: self.checks,
            metrics=lambda: ("text/plain; version=0.0.4", b"a 1\n"),
        )

    @contextlib.asynccontextmanager
    async def running(self, *, zero_copy=True, **options):
        application = self.application() if zero_copy else copying(self.application())
        running = server.HttpServer(application, "127.0.0.1", 0, **options)
        self.port = running.bind()
        task = asyncio.create_task(running.serve())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def path(self, blob_id=7, *, task=1, expires=NOW + 60):
        return f"/d/{urls.sign(KEY, blob_id, task, expires)}/app.bin"

    def url(self, blob_id=7):
        return f"http://127.0.0.1:{self.port}{self.path(blob_id)}"

    async def ask(self, request: str) -> tuple[bytes, bytes]:
        """Head and body of a raw answer, read to the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request.replace("\n", "\r\n").encode())
        raw = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        head, _, body = raw.partition(b"\r\n\r\n")
        return head, body

    async def get(self, path, *headers, method="GET", version="1.1"):
        lines = [f"{method} {path} HTTP/{version}", "Host: h", "Connection: close", *headers, "", ""]
        return await self.ask("\n".join(lines))


def at(place):
    """What opens the file that lies at a place, whatever is in it: here it needs no store that it must fit."""

    async def opening():
        return os.open(place, os.O_RDONLY)

    return opening


def copying(application):
    """As it is behind TLS: files pass through our memory."""

    async def wrapped(scope, receive, send):
        await application(scope | {"extensions": {}}, receive, send)

    return wrapped


def status(head):
    return int(head.split(b" ", 2)[1])


def header(head, name):
    """The header with just this spelling."""
    found = re.search(rb"\r\n" + name.encode() + rb": ([^\r]*)", head)
    return found[1].decode() if found else None
