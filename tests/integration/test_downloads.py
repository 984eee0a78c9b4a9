"""The download server on real sockets, asked by curl, by a device that speaks HTTP/1.0, and by people with bad aims."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pathlib
import re
import resource
import socket
import ssl
import subprocess

import pytest
from certificates import Certificates

from reconciler import errors
from reconciler.protocol import urls
from reconciler.web import app, server
from reconciler.web.downloads import Blob, Downloads

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
        self.blobs = {7: Blob(folder / "blob", len(CONTENT), SHA256)}
        self.port = 0

    async def find(self, blob_id):
        return self.blobs.get(blob_id)

    def application(self):
        return app.create(
            Downloads(KEY, self.find, lambda: self.now),
            heartbeat_age=lambda: self.heartbeat_age,
            checks=lambda: self.checks,
            metrics=lambda: ("text/plain; version=0.0.4", b"a 1\n"),
        )

    @contextlib.asynccontextmanager
    async def running(self, **options):
        running = server.HttpServer(self.application(), "127.0.0.1", 0, **options)
        self.port = running.bind()
        task = asyncio.create_task(running.serve())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def path(self, blob_id=7, *, task=1, expires=NOW + 60):
        return f"/d/{urls.sign(KEY, blob_id, task, expires)}/app.bin"

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


@pytest.fixture
async def site(tmp_path):
    async with Site(tmp_path).running() as running:
        yield running


def status(head):
    return int(head.split(b" ", 2)[1])


def header(head, name):
    """The header with just this spelling."""
    found = re.search(rb"\r\n" + name.encode() + rb": ([^\r]*)", head)
    return found[1].decode() if found else None


# --- whole files and ranges ---


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_file_comes_whole_with_the_exact_header_and_never_chunked(site, version):
    head, body = await site.get(site.path(), version=version)
    assert status(head) == 200
    assert body == CONTENT
    assert header(head, "Content-Length") == str(len(CONTENT))
    assert header(head, "ETag") == ETAG
    assert header(head, "Accept-Ranges") == "bytes"
    assert header(head, "Content-Type") == "application/octet-stream"
    assert b"chunked" not in head.lower()


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-", 0, 299_999),
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=299999-", 299_999, 299_999),
        ("bytes=100-99999999", 100, 299_999),
        ("bytes=-1", 299_999, 299_999),
        ("bytes=-999999999", 0, 299_999),
        (" bytes=5-6 ", 5, 6),
    ],
)
async def test_a_range_is_answered_with_just_that_part(site, wanted, first, last):
    head, body = await site.get(site.path(), f"Range: {wanted}")
    assert status(head) == 206
    assert body == CONTENT[first : last + 1]
    assert header(head, "Content-Range") == f"bytes {first}-{last}/300000"
    assert header(head, "Content-Length") == str(last - first + 1)


@pytest.mark.parametrize(
    "wanted",
    ["bytes=0-1,5-6", "bytes=5-4", "bytes=", "bytes=a-b", "items=0-1", "bytes=-", "bytes=٣-٤", "x" * 999],
)
async def test_several_ranges_or_none_that_we_know_are_answered_with_the_whole(site, wanted):
    head, body = await site.get(site.path(), f"Range: {wanted}")
    assert (status(head), len(body)) == (200, len(CONTENT))


@pytest.mark.parametrize(
    "wanted", ["bytes=300000-", "bytes=300000-300001", "bytes=-0", "bytes=999999999999999999-"]
)
async def test_a_range_past_the_end_is_416_and_says_the_size(site, wanted):
    head, body = await site.get(site.path(), f"Range: {wanted}")
    assert (status(head), body) == (416, b"")
    assert header(head, "Content-Range") == "bytes */300000"
    assert header(head, "Content-Length") == "0"


async def test_a_range_counts_only_if_the_file_is_still_the_same(site):
    for condition, expected in ((ETAG, 206), ('"other"', 200), ("Sat, 01 Jan 2028 00:00:00 GMT", 200)):
        head, _ = await site.get(site.path(), "Range: bytes=5-", f"If-Range: {condition}")
        assert status(head) == expected


async def test_head_says_what_get_would_and_sends_no_body(site):
    head, body = await site.get(site.path(), method="HEAD")
    assert (status(head), body, header(head, "Content-Length")) == (200, b"", "300000")
    head, body = await site.get(site.path(), "Range: bytes=5-9", method="HEAD")
    assert (status(head), body, header(head, "Content-Length")) == (206, b"", "5")


async def test_an_empty_file_can_be_downloaded(site, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    site.blobs[8] = Blob(tmp_path / "empty", 0, hashlib.sha256().hexdigest())
    head, body = await site.get(site.path(8))
    assert (status(head), body, header(head, "Content-Length")) == (200, b"", "0")


@pytest.mark.needs("curl")
async def test_curl_downloads_resumes_and_keeps_its_connection(site, tmp_path):
    url = f"http://127.0.0.1:{site.port}{site.path()}"
    target = tmp_path / "got"
    target.write_bytes(CONTENT[:123_456])
    fetch = ["curl", "--silent", "--show-error", "--fail", "--continue-at", "-", "--output", target, url]
    twice = [
        "curl",
        "--silent",
        "--fail",
        "--write-out",
        "%{num_connects}",
        "-o",
        "/dev/null",
        url,
        "-o",
        "/dev/null",
        url,
    ]
    await asyncio.to_thread(subprocess.run, fetch, check=True)
    assert target.read_bytes() == CONTENT
    ran = await asyncio.to_thread(subprocess.run, twice, check=True, capture_output=True)
    assert ran.stdout == b"10"  # the second one needed no new connection


# --- who may ---


async def test_everything_that_is_wrong_is_the_same_403(site, caplog):
    (site.folder / "short").write_bytes(b"x")
    site.blobs[9] = Blob(site.folder / "gone", 5, "0" * 64)
    site.blobs[10] = Blob(site.folder / "short", 5, "0" * 64)
    good = site.path()
    answers = {
        await site.get(path)
        for path in (
            good[:5] + ("A" if good[5] != "A" else "B") + good[6:],
            "/d/nonsense/app.bin",
            "/d/%2e%2e/app.bin",
            f"/d/{urls.sign(b'other', 7, 1, NOW + 60)}/app.bin",
            site.path(expires=NOW - 1),
            site.path(99),
            site.path(9),
            site.path(10),
        )
    }
    answers = {(re.sub(rb"\r\n[Dd]ate: [^\r]*", b"", head), body) for head, body in answers}
    assert len(answers) == 1
    head, body = answers.pop()
    assert (status(head), body, header(head, "Content-Length")) == (403, b"Forbidden\n", "10")
    logged = " ".join(record.message for record in caplog.records)
    for reason in ("not a token", "wrong signature", "expired", "no such blob", "missing", "damaged"):
        assert reason in logged


async def test_a_url_ends_when_it_expires_and_its_name_does_not_matter(site):
    path = site.path(expires=NOW + 5)
    other_name = path.rsplit("/", 1)[0] + "/anything"
    site.now = NOW + 5
    assert status((await site.get(other_name))[0]) == 200
    site.now = NOW + 6
    assert status((await site.get(path))[0]) == 403


async def test_the_same_refusal_is_logged_once_a_minute(site, caplog):
    for _ in range(5):
        await site.get("/d/nonsense/x")
    assert len(caplog.records) == 1
    site.now += 60
    await site.get("/d/nonsense/x")
    assert "(5 times)" in caplog.records[-1].message


async def test_other_methods_and_paths_are_refused_with_the_exact_header_too(site):
    for path, method, expected in (
        (site.path(), "POST", 405),
        (site.path() + "/more", "GET", 404),
        ("/", "GET", 404),
        ("/d/", "GET", 404),
        ("/../etc/passwd", "GET", 404),
    ):
        head, _ = await site.get(path, method=method)
        assert status(head) == expected
        assert header(head, "Content-Length")


async def test_what_is_no_http_is_told_so_and_harms_nobody(site):
    head, _ = await site.ask("nonsense\n\n")
    assert status(head) == 400
    assert status((await site.get(site.path()))[0]) == 200


# --- slow, gone and silent clients ---


def big_file(site, size=64 << 20):
    with (site.folder / "big").open("wb") as file:
        file.truncate(size)
    site.blobs[8] = Blob(site.folder / "big", size, "1" * 64)


@pytest.fixture
def reads(monkeypatch):
    """Each read of a file: its descriptor, and how many bytes were asked for."""
    seen = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: (seen.append((fd, size)), pread(fd, size, at))[1])
    return seen


async def until_nothing_is_read(reads):
    before = -1
    while len(reads) != before:
        before = len(reads)
        await asyncio.sleep(0.3)


def resident_bytes():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_slow_clients_hold_nobody_up_and_little_memory(site, reads):
    big_file(site)
    before = resident_bytes()
    slow = []
    for _ in range(300):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1024)
        writer.write(f"GET {site.path(8)} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        slow.append((reader, writer))
    await until_nothing_is_read(reads)
    async with asyncio.timeout(10):
        for _ in range(20):
            assert (await site.get(site.path()))[1] == CONTENT
    last_pieces = dict(reads)
    assert len(last_pieces) >= 300
    assert sum(last_pieces.values()) < 80 << 20
    assert resident_bytes() - before < 250 << 20
    for _, writer in slow:
        writer.transport.abort()


async def test_a_client_that_takes_nothing_is_cut_off(tmp_path):
    async with Site(tmp_path).running(stall=0.3) as site:
        big_file(site)
        with socket.create_connection(("127.0.0.1", site.port)) as stuck:
            stuck.sendall(f"GET {site.path(8)} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            await asyncio.sleep(2.5)  # the kernel counts this time, not we
            taken = 0
            with contextlib.suppress(ConnectionResetError):
                while chunk := stuck.recv(1 << 20):
                    taken += len(chunk)
    assert taken < 32 << 20


async def test_a_client_that_left_stops_the_reading(site, reads):
    big_file(site, 2 << 30)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"GET {site.path(8)} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    await reader.readexactly(1000)
    writer.transport.abort()
    await until_nothing_is_read(reads)
    assert len(reads) < 200


async def test_who_connects_and_says_nothing_is_dropped(site, monkeypatch):
    monkeypatch.setattr(server, "_FIRST_REQUEST_SECONDS", 0.1)
    for half in (b"", b"GET /livez HT"):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(half)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_stopping_waits_a_little_for_downloads_and_then_ends_them(tmp_path):
    site = Site(tmp_path)
    running = server.HttpServer(site.application(), "127.0.0.1", 0)
    site.port = running.bind()
    task = asyncio.create_task(running.serve())
    big_file(site)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1024)
    writer.write(f"GET {site.path(8)} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    await reader.readexactly(100)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(6):
            await task
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection("127.0.0.1", site.port)
    writer.transport.abort()


# --- health and metrics ---


async def test_live_means_that_the_loop_was_seen_lately(site):
    assert status((await site.get("/livez"))[0]) == 200
    site.heartbeat_age = 60.1
    head, body = await site.get("/livez")
    assert (status(head), body) == (503, b"the event loop was last seen 60 s ago\n")


async def test_ready_lists_what_is_not_fine_and_everything_when_asked(site):
    assert (await site.get("/readyz"))[1] == b"ok\n"
    assert (await site.get("/readyz?verbose"))[1] == b"[+] git: main@sha1:abc\n[+] database: fine\nok\n"
    site.checks[1] = ("database", False, "locked")
    head, body = await site.get("/readyz")
    assert (status(head), body) == (503, b"[+] git: main@sha1:abc\n[-] database: locked\nnot ready\n")
    assert status((await site.get("/livez"))[0]) == 200


async def test_metrics_come_with_their_content_type(site):
    head, body = await site.get("/metrics")
    assert (header(head, "Content-Type"), body) == ("text/plain; version=0.0.4", b"a 1\n")


# --- listening ---


async def test_a_port_that_is_taken_is_said_so(site):
    with pytest.raises(errors.UserError, match="cannot listen") as caught:
        server.HttpServer(site.application(), "127.0.0.1", site.port).bind()
    assert "--http-bind" in caught.value.remedy


async def test_tls_is_served_with_a_certificate_and_refused_without_a_good_one(tmp_path):
    made = Certificates.make(tmp_path)
    async with Site(tmp_path).running(certificate=made.server, key=made.server_key) as site:
        context = ssl.create_default_context(cafile=made.ca)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=context)
        writer.write(f"GET {site.path()} HTTP/1.0\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert (status(head), body, header(head, "Content-Length")) == (200, CONTENT, "300000")
        writer.close()
    with pytest.raises(errors.UserError, match="cannot be used"):
        server.HttpServer(site.application(), "127.0.0.1", 0, certificate=tmp_path / "blob")
