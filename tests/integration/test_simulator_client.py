"""A simulated device's MQTT and HTTP, against servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl

import pytest
from certificates import Certificates
from stub_broker import StubBroker
from wires import eventually

from reconciler.protocol import broker_url
from reconciler.protocol.mqtt311 import packets
from reconciler.simulator.client import Client, RefusedError, Session, connect
from reconciler.simulator.download import DownloadError, Downloads
from reconciler.simulator.push import File


@contextlib.asynccontextmanager
async def connected(broker: StubBroker, session: Session | None = None, received=lambda topic, payload: None):
    client = await connect(broker_url.parse(broker.url), session or Session("dev-1"), received)
    yield client
    client.close()
    await asyncio.wait([client.ended], timeout=5)


async def test_it_says_who_it_is_and_subscribes():
    session = Session("c", "dev&pk", "secret", keepalive=7, clean_session=False, filters=("/a", "/b"))
    async with StubBroker() as broker, connected(broker, session):
        assert broker.connects == [packets.Connect("c", "dev&pk", b"secret", 7, clean_session=False)]
        assert broker.subscribed == ["/a", "/b"]


@pytest.mark.parametrize(("code", "says"), [(4, "bad credentials"), (5, "not authorized"), (77, "77")])
async def test_a_refused_login_says_why(code, says):
    async with StubBroker(connect_code=code) as broker:
        with pytest.raises(RefusedError, match=says):
            async with connected(broker):
                pass


async def test_a_refused_subscription_is_a_refusal():
    async with StubBroker(refused=frozenset({"/a"})) as broker:
        with pytest.raises(RefusedError, match="subscription"):
            async with connected(broker, Session("c", filters=("/a",))):
                pass


async def test_a_connection_that_is_lost_during_the_login_is_an_os_error():
    async with StubBroker(connect_code=None) as broker:
        connecting = asyncio.create_task(
            connect(broker_url.parse(broker.url), Session("c"), lambda topic, payload: None)
        )
        await eventually(lambda: broker.connects)
        broker.drop()
        with pytest.raises(OSError, match="the connection ended"):
            await connecting


async def test_a_silent_server_is_left_after_its_time():
    async with (
        StubBroker(answers_pings=False) as broker,
        connected(broker, Session("c", keepalive=1)) as client,
    ):
        assert await client.ended == "the server is silent"


async def test_a_server_that_answers_pings_is_not_left():
    async with StubBroker() as broker, connected(broker, Session("c", keepalive=1)) as client:
        await eventually(lambda: broker.pings >= 3)
        assert not client.ended.done()


async def test_rubbish_ends_the_connection():
    async with StubBroker() as broker, connected(broker) as client:
        broker.send(b"\x00\x00")
        assert "broke the protocol" in await client.ended


async def test_what_is_not_acknowledged_when_the_connection_ends_is_told_so():
    async with StubBroker(acknowledges=False) as broker, connected(broker) as client:
        waiting = client.publish("/t", b"1")
        assert client.publish("/t", b"2", qos=0).done()
        client.abort()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert client.publish("/t", b"3").cancelled()


async def test_a_message_is_acknowledged_after_it_was_received_unless_told_otherwise():
    heard: list[tuple[str, bytes]] = []
    async with (
        StubBroker() as broker,
        connected(broker, received=lambda topic, payload: heard.append((topic, payload))) as client,
    ):
        broker.send(packets.Publish("/t", b"1", 1, 5).encode())
        await eventually(lambda: broker.acknowledged == [5])
        client.acknowledges = False
        broker.send(packets.Publish("/t", b"2", 1, 6).encode())
        await eventually(lambda: len(heard) == 2)
        await asyncio.sleep(0.05)
        assert broker.acknowledged == [5]


async def test_packet_ids_never_become_zero():
    async with StubBroker() as broker, connected(broker) as client:
        assert isinstance(client, Client)
        client._last_id = 65534
        await asyncio.gather(*(client.publish("/t", b"") for _ in range(3)))
        assert [push.packet_id for push in broker.published] == [65535, 1, 2]


BODY = b"firmware" * 1000


@contextlib.asynccontextmanager
async def a_server(tls: ssl.SSLContext | None = None):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/f?token=1"
    server.close()
    await asyncio.sleep(0.05)


def wanted(url: str, sign: str = hashlib.sha256(BODY).hexdigest()) -> File:
    return File(url, len(BODY), "sha256", sign)


async def test_a_file_is_downloaded_over_https_from_a_server_that_is_trusted(tmp_path):
    files = Certificates.make(tmp_path)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(files.server, files.server_key)
    async with a_server(server_side) as url:
        trusting = Downloads(tls=ssl.create_default_context(cafile=files.ca))
        await trusting.fetch(wanted(url))
        assert (trusting.count, trusting.bytes) == (1, len(BODY))
        with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
            await Downloads().fetch(wanted(url))


async def test_digesting_once_still_finds_a_different_file_out():
    async with a_server() as url:
        downloads = Downloads(digest_once=True)
        await downloads.fetch(wanted(url))
        await downloads.fetch(wanted(url))
        with pytest.raises(DownloadError) as caught:
            await downloads.fetch(wanted(url, "00"))
        assert caught.value.step == -3


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://host/f", "not http"),
        ("http:///f", "not http"),
        ("http://host/" + "x" * 256, "longer"),
        ("http://127.0.0.1:9/f", "download failed"),
        ("http://host:port/f", "download failed"),
        ("http://host/\u00e9", "download failed"),
    ],
)
async def test_a_url_that_no_device_can_use_is_a_failed_download(url, says):
    with pytest.raises(DownloadError, match=says) as caught:
        await Downloads().fetch(wanted(url))
    assert caught.value.step == -2
