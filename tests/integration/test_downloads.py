"""The download server on real sockets, asked by curl, by a device that speaks HTTP/1.0, and by people with bad aims."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re
import resource
import socket
import ssl
import time

import pytest
from certificates import Certificates
from sites import CONTENT, ETAG, NOW, Site, at, header, status

from reconciler import errors
from reconciler.certificates import FreshContext
from reconciler.protocol import urls
from reconciler.web import server
from reconciler.web.downloads import Blob


@pytest.fixture
async def site(tmp_path, request):
    async with Site(tmp_path).running(zero_copy=getattr(request, "param", True)) as running:
        yield running


both_ways = pytest.mark.parametrize("site", [True, False], indirect=True, ids=["zero copy", "copied"])


# --- whole files and ranges ---


@both_ways
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
    [
        "bytes=0-1,6-5",
        "bytes=0-,5-",
        "bytes=5-4",
        "bytes=",
        "bytes=a-b",
        "items=0-1",
        "bytes=-",
        "bytes=٣-٤",
        "x" * 999,
    ],
)
async def test_ranges_that_mean_nothing_or_more_than_the_file_are_answered_with_the_whole(site, wanted):
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


@both_ways
async def test_an_empty_file_can_be_downloaded(site, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    site.blobs[8] = Blob(at(tmp_path / "empty"), 0, hashlib.sha256().hexdigest())
    head, body = await site.get(site.path(8))
    assert (status(head), body, header(head, "Content-Length")) == (200, b"", "0")


# --- who may ---


async def test_everything_that_is_wrong_is_the_same_403(site, caplog):
    (site.folder / "short").write_bytes(b"x")
    site.blobs[9] = Blob(at(site.folder / "gone"), 5, "0" * 64)
    site.blobs[10] = Blob(at(site.folder / "short"), 5, "0" * 64)
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
    for reason in ("not a token", "wrong signature", "expired", "no such file", "missing", "damaged"):
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
    site.blobs[8] = Blob(at(site.folder / "big"), size, "1" * 64)


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - a server tells nobody
            await asyncio.sleep(0.01)


def resident_bytes():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture
def more_sockets():
    """As the daemon does at its start: both ends of a thousand connections are in this process."""
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))


def descriptors():
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


async def connected(site, count, blob=8):
    """So many clients that have asked, and read nothing."""
    found = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1024)
        writer.write(f"GET {site.path(blob)} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        found.append((reader, writer))
    return found


def silent(site, count, blob=8):
    """So many clients that have asked, and read nothing; what they would hold in memory is the kernel's."""
    found = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", site.port))
        client.sendall(f"GET {site.path(blob)} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        found.append(client)
    return found


@both_ways
async def test_a_thousand_slow_clients_hold_nobody_up_and_take_little_memory_and_one_descriptor(
    site, more_sockets
):
    big_file(site)
    before, files = resident_bytes(), descriptors()
    with contextlib.ExitStack() as stack:
        for client in silent(site, 1000):
            stack.enter_context(client)
        await until(lambda: site.downloads.running == 1000)
        async with asyncio.timeout(10):
            for _ in range(20):
                assert (await site.get(site.path()))[1] == CONTENT
        assert site.downloads.running == 1000
        assert resident_bytes() - before < 100 << 20
        assert descriptors() - files <= 2 * 1000 + 5  # both ends of each connection
    await until(lambda: site.downloads.running == 0)
    assert site.downloads.counted == {"served": 20, "left": 1000}
    await until(lambda: descriptors() <= files + 2)


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


@both_ways
async def test_a_client_that_left_ends_its_download(site):
    big_file(site, 2 << 30)
    reader, writer = (await connected(site, 1))[0]
    await reader.readexactly(1000)
    assert site.downloads.running == 1
    writer.transport.abort()
    await until(lambda: site.downloads.running == 0)
    assert site.downloads.counted == {"left": 1}


@both_ways
@pytest.mark.parametrize("last", ["1.0\r\n", "1.1\r\nHost: h\r\nConnection: close\r\n"])
async def test_who_asks_for_the_last_time_may_close_its_side_and_gets_the_file(site, last):
    """As `nc -N` does, and small clients of HTTP/1.0."""
    site.delay = 0.02
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"GET {site.path()} HTTP/{last}\r\n".encode())
    writer.write_eof()
    raw = await asyncio.wait_for(reader.read(), 10)
    assert raw.partition(b"\r\n\r\n")[2] == CONTENT
    assert site.downloads.counted == {"served": 1}
    writer.close()


@both_ways
async def test_half_a_request_that_ends_is_waited_for_no_longer(site):
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"GET {site.path()} HTTP/1.0\r\nRange".encode())
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


@both_ways
async def test_clients_that_leave_before_the_first_byte_are_no_error_of_ours(site, caplog):
    site.delay = 0.02
    for _ in range(5):
        for how in (b"\1\0\0\0\0\0\0\0", b"\0" * 8):  # reset, or closed
            client = socket.create_connection(("127.0.0.1", site.port))
            client.sendall(f"GET {site.path()} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)
            client.close()
    await until(lambda: site.downloads.counted.total() == 10 and not site.downloads.running)
    await asyncio.sleep(0)
    assert not caplog.messages


@both_ways
@pytest.mark.parametrize("size", [64 << 20, 6 << 20], ids=["in a piece", "in the last piece"])
async def test_a_file_that_becomes_shorter_ends_the_connection_and_nothing_else_is_served(site, size):
    big_file(site, size)
    reader, writer = (await connected(site, 1))[0]
    await reader.readexactly(1000)
    os.truncate(site.folder / "big", size // 2)
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(10):
            assert len(await reader.read(-1)) < size // 2 + 1000
    await until(lambda: site.downloads.running == 0)
    assert site.downloads.counted == {"left": 1}
    writer.close()


@both_ways
async def test_a_file_that_is_altered_while_it_is_downloaded_is_sent_no_further(site):
    big_file(site)
    reader, writer = (await connected(site, 1))[0]
    await reader.readexactly(1000)
    with (site.folder / "big").open("r+b") as file:
        file.seek(32 << 20)
        file.write(b"X")
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(10):
            assert b"X" not in await reader.read(-1)
    await until(lambda: site.downloads.running == 0)
    assert site.downloads.counted == {"left": 1}
    writer.close()


async def test_who_connects_and_says_nothing_is_dropped(site, monkeypatch):
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.1)
    for first, half in (
        (b"", b""),
        (b"", b"GET /livez HT"),
        (b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n", b"GET"),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        if first:
            writer.write(first)
            await reader.readuntil(b"ok\n")
        writer.write(half)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 4) == b""
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


# --- limits ---


async def test_who_finds_no_room_hears_when_to_come_again_and_the_others_go_on(tmp_path):
    async with Site(tmp_path).limited(batch_at_once=2, at_once=3).running() as site:
        big_file(site)
        site.blobs[9] = dataclasses.replace(site.blobs[7], batch="other")
        slow = await connected(site, 2)
        await until(lambda: site.downloads.running == 2)
        waits = {}
        for task in (1, 2):
            head, body = await site.get(site.path(7, task=task))
            assert (status(head), body, header(head, "Content-Length")) == (503, b"Busy\n", "5")
            waits[task] = int(header(head, "Retry-After"))
        assert 0 < waits[1] != waits[2] <= 60
        assert status((await site.get(site.path(9)))[0]) == 200
        assert status((await site.get(site.path(7), method="HEAD"))[0]) == 200
        slow += await connected(site, 1, blob=9)
        slow[0][1].transport.abort()
        await until(lambda: site.downloads.counted["left"] == 1)
        assert status((await site.get(site.path(7)))[0]) == 200
        for _, writer in slow:
            writer.transport.abort()


async def test_a_refusal_is_told_to_nobody_without_a_url(tmp_path):
    async with Site(tmp_path).limited(at_once=1).running() as site:
        big_file(site)
        slow = await connected(site, 1)
        await until(lambda: site.downloads.running == 1)
        assert status((await site.get("/d/nonsense/x"))[0]) == 403
        assert status((await site.get(site.path(expires=NOW - 1)))[0]) == 403
        slow[0][1].transport.abort()


async def test_a_rate_holds_for_all_downloads_of_a_batch_together(tmp_path):
    async with Site(tmp_path).limited(batch_rate=1_000_000).running() as site:
        began = time.monotonic()
        bodies = await asyncio.gather(*(site.get(site.path(), "Range: bytes=0-199999") for _ in range(3)))
        took = time.monotonic() - began
    assert {len(body) for _, body in bodies} == {200_000}
    assert 0.35 < took < 5  # two of three wait for their turns, of 0.2 s each


async def test_who_waits_for_its_turn_and_leaves_is_noticed(tmp_path):
    async with Site(tmp_path).limited(rate=1).running() as site:
        pairs = [(await connected(site, 1, blob=7))[0] for _ in range(2)]
        await until(lambda: site.downloads.running == 2)
        pairs[1][1].transport.abort()
        await until(lambda: site.downloads.running == 1)
        pairs[0][1].transport.abort()


async def test_a_database_that_is_away_is_no_reason_to_give_a_url_up(site):
    site.busy = True
    assert status((await site.get(site.path()))[0]) == 503
    site.busy = False
    assert status((await site.get(site.path()))[0]) == 200


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
    async with Site(tmp_path).running(tls=FreshContext.of(made.server, made.server_key)) as site:
        context = ssl.create_default_context(cafile=made.ca)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=context)
        writer.write(f"GET {site.path()} HTTP/1.0\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert (status(head), body, header(head, "Content-Length")) == (200, CONTENT, "300000")
        writer.close()
    with pytest.raises(errors.UserError, match="cannot be used"):
        FreshContext.of(tmp_path / "blob", None)
