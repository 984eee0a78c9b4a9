"""The emulated C SDK, with its mistakes, downloads from our server on real sockets (traps 7 and 8)."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from emulators import c_http, c_url
from sites import CONTENT, SHA256, Site

from reconciler.protocol import urls


@pytest.fixture(params=[True, False], ids=["zero copy", "copied"])
async def site(tmp_path, request):
    async with Site(tmp_path).running(zero_copy=request.param) as running:
        yield running


def device():
    return c_http.Download(len(CONTENT), SHA256)


async def test_trap_7_the_c_sdk_downloads_in_one_request(site):
    one = device()
    await one.run("127.0.0.1", site.port, site.path())
    assert (one.fetched, one.requests) == (len(CONTENT), 1)


async def test_trap_7_the_c_sdk_loses_its_connection_again_and_again_and_goes_on_each_time(site):
    one = device()
    await one.run("127.0.0.1", site.port, site.path(), cut=77_777)
    assert (one.fetched, one.requests) == (len(CONTENT), 4)


async def test_trap_8_the_url_that_it_was_told_is_where_it_finds_the_file(site):
    target = c_url.split(site.url(), c_url.Sdk.C42)
    await device().run(*target)
    assert len(site.url()) <= urls.MAX_URL_LENGTH


@pytest.mark.parametrize("status", [403, 503])
async def test_a_refusal_is_one_to_the_c_sdk_and_no_loop(site, status):
    site.now += 3600 * (status == 403)
    site.busy = status == 503
    with pytest.raises(c_http.Failed, match=f"HTTP {status}"):
        await device().run("127.0.0.1", site.port, site.path())


# --- the emulator is as easily misled as the SDK is ---


@contextlib.asynccontextmanager
async def answering(head, body=CONTENT):
    """A server that always gives this answer."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


OK, LENGTH = "HTTP/1.1 200 OK", f"Content-Length: {len(CONTENT)}"


@pytest.mark.parametrize(
    ("head", "body", "end"),
    [
        ([OK, LENGTH.lower()], CONTENT, c_http.Stuck),
        (
            [OK, "Transfer-Encoding: chunked"],
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(CONTENT), CONTENT),
            c_http.Stuck,
        ),
        ([OK, "Content-Length: 0"], b"", c_http.Stuck),
        ([OK, f"X: {'x' * 128}", LENGTH], CONTENT, c_http.Failed),
        (["HTTP/1.0 200 OK", LENGTH], CONTENT, c_http.Failed),
        ([OK, LENGTH], CONTENT[::-1], c_http.Failed),
        ([OK, LENGTH], CONTENT[:1000], c_http.Failed),
    ],
    ids=["small letters", "chunks", "empty", "long line", "other status line", "other file", "range ignored"],
)
async def test_the_emulated_sdk_falls_into_the_trap(head, body, end):
    async with answering(head, body) as port:
        with pytest.raises(end):
            await device().run("127.0.0.1", port, "/x")


async def test_the_emulated_sdk_takes_what_it_likes():
    async with answering([OK, LENGTH]) as port:
        await device().run("127.0.0.1", port, "/x")
