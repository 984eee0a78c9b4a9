"""The download server, asked by clients that are not ours: curl, wget and aria2, as Debian has them."""

from __future__ import annotations

import asyncio
import email
import email.policy
import hashlib
import os
import subprocess

import pytest
from certificates import Certificates
from sites import CONTENT, SHA256, Site, at

from reconciler.certificates import FreshContext
from reconciler.web.downloads import Blob

LARGE = os.urandom(5 << 20)
LARGE_SHA256 = hashlib.sha256(LARGE).hexdigest()


def with_large(folder):
    made = Site(folder)
    (folder / "large").write_bytes(LARGE)
    made.blobs[8] = Blob(at(folder / "large"), len(LARGE), LARGE_SHA256)
    return made


@pytest.fixture
async def site(tmp_path):
    async with with_large(tmp_path).running() as running:
        yield running


@pytest.fixture
async def unhurried_site(tmp_path):
    """Half a second for the large file: the first connection doesn't get all of it before the others ask."""
    async with with_large(tmp_path).limited(rate=2 * len(LARGE)).running() as running:
        yield running


async def run(*command):
    """What a program prints; it must succeed."""
    ended = await asyncio.to_thread(
        subprocess.run, [*map(str, command)], capture_output=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr.decode() + ended.stdout.decode()
    return ended.stdout


CURL = ("curl", "--silent", "--show-error", "--fail")


@pytest.mark.needs("curl")
async def test_curl_goes_on_where_it_was_interrupted(site, tmp_path):
    (tmp_path / "got").write_bytes(CONTENT[:123_456])
    await run(*CURL, "--continue-at", "-", "--output", tmp_path / "got", site.url())
    assert (tmp_path / "got").read_bytes() == CONTENT


@pytest.mark.needs("curl")
async def test_curl_keeps_its_connection(site):
    command = (
        *CURL,
        "--write-out",
        "%{num_connects}",
        "-o",
        "/dev/null",
        site.url(),
        "-o",
        "/dev/null",
        site.url(),
    )
    assert await run(*command) == b"10"  # the second one needed no new connection


@pytest.mark.needs("curl")
async def test_curl_gets_several_ranges_in_one_answer(site):
    raw = await run(*CURL, "--include", "--range", "5-9,100000-100999,-7", site.url())
    message = email.message_from_bytes(raw.partition(b"\r\n")[2], policy=email.policy.HTTP)
    found = [(part["Content-Range"], part.get_payload(decode=True)) for part in message.iter_parts()]
    assert found == [
        ("bytes 5-9/300000", CONTENT[5:10]),
        ("bytes 100000-100999/300000", CONTENT[100_000:101_000]),
        ("bytes 299993-299999/300000", CONTENT[-7:]),
    ]
    assert int(message["Content-Length"]) == len(raw.partition(b"\r\n\r\n")[2])


@pytest.mark.needs("curl")
@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
async def test_curl_speaks_the_old_and_the_new_http(site, version):
    assert await run(*CURL, version, site.url()) == CONTENT
    assert await run(*CURL, version, "--range", "1-3", site.url()) == CONTENT[1:4]
    told = await run(*CURL, version, "--head", site.url())
    assert b"Content-Length: 300000\r\n" in told


@pytest.mark.needs("curl")
async def test_curl_downloads_over_tls(tmp_path):
    made = Certificates.make(tmp_path)
    async with Site(tmp_path).running(tls=FreshContext.of(made.server, made.server_key)) as site:
        url = site.url().replace("http://", "https://")
        assert await run(*CURL, "--cacert", made.ca, "--range", "7-", url) == CONTENT[7:]


WGET = ("wget", "--no-config", "--no-verbose")


@pytest.mark.needs("wget")
async def test_wget_downloads_and_goes_on_where_it_was_interrupted(site, tmp_path):
    await run(*WGET, "--output-document", tmp_path / "whole", site.url(8))
    assert (tmp_path / "whole").read_bytes() == LARGE
    (tmp_path / "got").write_bytes(LARGE[:3_000_001])
    await run(*WGET, "--continue", "--output-document", tmp_path / "got", site.url(8))
    assert (tmp_path / "got").read_bytes() == LARGE


@pytest.mark.needs("wget")
async def test_wget_that_finds_no_room_comes_again(tmp_path):
    async with Site(tmp_path).limited(at_once=1).running() as site:
        (tmp_path / "large").write_bytes(LARGE)
        site.blobs[8] = Blob(at(tmp_path / "large"), len(LARGE), LARGE_SHA256)
        _, blocking = await asyncio.open_connection("127.0.0.1", site.port, limit=1024)
        blocking.write(f"GET {site.path(8)} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        while not site.downloads.running:  # noqa: ASYNC110 - a server tells nobody
            await asyncio.sleep(0.01)
        again = ("--tries=5", "--waitretry=1", "--retry-on-http-error=503")
        fetching = asyncio.create_task(run(*WGET, *again, "--output-document", tmp_path / "got", site.url()))
        while not site.downloads.counted["busy"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        blocking.transport.abort()
        await fetching
    assert (tmp_path / "got").read_bytes() == CONTENT


ARIA2 = ("aria2c", "--no-conf", "--quiet", "--allow-overwrite=true", "--auto-file-renaming=false")


@pytest.mark.needs("aria2c")
async def test_aria2_downloads_in_parallel_pieces(unhurried_site, tmp_path):
    site = unhurried_site
    parallel = ("--split=4", "--max-connection-per-server=4", "--min-split-size=1M", "--piece-length=1M")
    check = f"--checksum=sha-256={LARGE_SHA256}"
    await run(*ARIA2, *parallel, check, "--dir", tmp_path, "--out", "got", site.url(8))
    assert (tmp_path / "got").read_bytes() == LARGE
    asked = (
        site.downloads.counted["served"] + site.downloads.counted["left"]
    )  # it leaves what others have fetched
    assert asked >= 2


@pytest.mark.needs("aria2c")
async def test_aria2_goes_on_where_it_was_interrupted(site, tmp_path):
    (tmp_path / "got").write_bytes(CONTENT[:100_000])
    check = f"--checksum=sha-256={SHA256}"
    await run(*ARIA2, "--continue=true", check, "--dir", tmp_path, "--out", "got", site.url())
    assert (tmp_path / "got").read_bytes() == CONTENT
