"""The broker transport beyond the promises of the port: brokers that restart, refuse, fall silent or talk rubbish."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from collections import Counter

import pytest
from brokers import Mosquitto
from certificates import Certificates
from stub_broker import StubBroker
from wires import Peer, Wire, address, eventually

from reconciler import errors
from reconciler.protocol import topics
from reconciler.protocol.mqtt311 import packets
from reconciler.transport.base import Delivery, Intake, Message
from reconciler.transport.mqtt import MqttOptions, MqttTransport

ONE = address("dev-1")
QUICK = MqttOptions(retry_min=0.02, retry_max=0.1)


@contextlib.asynccontextmanager
async def serving(transport: MqttTransport, intake: Intake | None = None, *, healthy: bool = True):
    intake = Intake() if intake is None else intake
    task = asyncio.create_task(transport.serve(intake))
    try:
        if healthy:
            await eventually(lambda: transport.health().ok)
        yield intake
        assert not task.done(), task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def certificates(tmp_path):
    return Certificates.make(tmp_path)


@pytest.fixture
def tls_broker(tmp_path, certificates):
    tls = (
        f"cafile {certificates.ca}\ncertfile {certificates.server}\nkeyfile {certificates.server_key}\n"
        "require_certificate true"
    )
    broker = Mosquitto(tmp_path, tls=tls)
    broker.start()
    yield broker
    broker.stop()


def transport_to(url: str, options: MqttOptions = QUICK) -> MqttTransport:
    transport = MqttTransport(url, options, jitter=lambda: 0.5)
    transport.set_products(frozenset({"pk"}))
    return transport


async def device(url: str, name: str = "dev-1") -> Peer:
    return await Peer(Wire._over_mqtt(url, address(name))).come()


def inform(payload: bytes = b"{}", packet_id: int = 1, **flags: bool) -> bytes:
    return packets.Publish(topics.inform(ONE), payload, 1, packet_id, **flags).encode()


# Against Mosquitto


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_after_a_broker_restart_it_is_connected_and_subscribed_again(mosquitto, how):
    transport = transport_to(mosquitto.url)
    async with serving(transport) as intake:
        await asyncio.to_thread(mosquitto.stop, how)
        await eventually(lambda: not transport.health().ok)
        assert transport.connected_for() == 0.0
        assert await transport.publish(ONE, topics.upgrade(ONE), b"{}") is Delivery.OFFLINE
        await asyncio.to_thread(mosquitto.start)
        await eventually(lambda: transport.health().ok)
        peer = await device(mosquitto.url)
        peer.send(topics.inform(ONE), b"again")
        (message,) = await intake.take(1)
        assert isinstance(message, Message)
        assert message.payload == b"again"
        message.acknowledge()
        await peer.leave()
    assert transport.stats.connects == 2


async def test_what_was_not_acknowledged_survives_a_restart_of_the_broker(mosquitto):
    async with serving(transport_to(mosquitto.url)) as intake:
        peer = await device(mosquitto.url)
        for number in range(5):
            peer.send(topics.inform(ONE), str(number).encode())
        await eventually(lambda: len(intake) == 5)
        (await intake.take(1))[0].acknowledge()
        old = await intake.take(4)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(mosquitto.stop)
        await asyncio.to_thread(mosquitto.start)
        await eventually(lambda: len(intake) == 4)
        for message in old:
            message.acknowledge()
        again = await intake.take(4)
        assert [(m.payload, m.duplicate) for m in again] == [(str(n).encode(), True) for n in range(1, 5)]
        for message in again:
            message.acknowledge()
        await peer.leave()


async def test_messages_that_came_while_the_daemon_was_away_are_delivered(mosquitto):
    async with serving(transport_to(mosquitto.url)):
        pass
    peer = await device(mosquitto.url)
    for number in range(3):
        peer.send(topics.inform(ONE), str(number).encode())
    await eventually(lambda: peer.waits_for == 0)
    async with serving(transport_to(mosquitto.url)) as intake:
        await eventually(lambda: len(intake) == 3)
        assert [m.payload for m in await intake.take(3)] == [b"0", b"1", b"2"]
    await peer.leave()


async def test_a_product_that_is_no_longer_served_is_no_longer_heard_also_after_a_restart(mosquitto):
    first = transport_to(mosquitto.url)
    first.set_products(frozenset({"pk", "other"}))
    async with serving(first):
        pass
    second = transport_to(mosquitto.url)
    async with serving(second) as intake:
        stranger = await Peer(Wire._over_mqtt(mosquitto.url, address("dev-1", "other"))).come()
        stranger.send(topics.inform(address("dev-1", "other")), b"{}")
        await eventually(lambda: second.stats.foreign == 1)
        await asyncio.sleep(0.1)
        stranger.send(topics.inform(address("dev-1", "other")), b"{}")
        await asyncio.sleep(0.2)
        assert second.stats.foreign == 1
        assert len(intake) == 0
        await stranger.leave()


@pytest.mark.needs("mosquitto")
async def test_wrong_credentials_are_said_with_a_remedy_and_tried_again(tmp_path):
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    broker = Mosquitto(tmp_path, settings=f"allow_anonymous false\npassword_file {passwords}")
    await asyncio.to_thread(broker.start)
    try:
        url = broker.url.replace("//", "//me:hush@")
        transport = transport_to(url)
        async with serving(transport, healthy=False):
            await eventually(lambda: transport.stats.connection_failures >= 2)
            health = transport.health()
            assert not health.ok
            assert "refuses the login" in health.message
            assert "check user, password" in health.message
            assert "hush" not in health.message
    finally:
        await asyncio.to_thread(broker.stop)


async def test_retained_oversized_and_misnamed_messages_are_counted_and_kept_out(mosquitto):
    transport = transport_to(mosquitto.url, MqttOptions(payload_limit=100))
    peer = await device(mosquitto.url)
    assert peer._client is not None
    peer._client._send(packets.Publish(topics.inform(ONE), b"old", 1, 900, retain=True).encode())
    async with serving(transport) as intake:
        await eventually(lambda: transport.stats.retained == 1)
        peer.send(topics.inform(ONE), b"x" * 101)
        peer.send("/ota/device/inform/pk/n!o", b"{}")
        peer.send(topics.inform(ONE), b"{}")
        (message,) = await intake.take(1)
        assert message.payload == b"{}"
        message.acknowledge()
    assert (transport.stats.oversized, transport.stats.malformed) == (1, 1)
    await peer.leave()


@pytest.mark.needs("mosquitto")
async def test_over_tls_both_sides_prove_who_they_are(tls_broker, certificates):
    files = certificates
    options = MqttOptions(
        ca_file=files.ca, certificate=files.client, key=files.client_key, retry_min=0.02, retry_max=0.1
    )
    transport = transport_to(tls_broker.url, options)
    async with serving(transport) as intake:
        trust = ssl.create_default_context(cafile=files.ca)
        trust.load_cert_chain(files.client, files.client_key)
        peer = await Peer(Wire._over_mqtt(tls_broker.url, ONE, trust)).come()
        for number in range(500):
            peer.send(topics.inform(ONE), b"%d " % number * 100)
        found: list[bytes] = []
        while len(found) < 500:
            burst = await intake.take(100)
            for message in burst:
                message.acknowledge()
            found += [message.payload for message in burst]
        assert found == [b"%d " % number * 100 for number in range(500)]
        await eventually(lambda: peer.waits_for == 0)
        deliveries = [transport.publish(ONE, topics.upgrade(ONE), b"x" * 50_000) for _ in range(50)]
        assert set(await asyncio.gather(*deliveries)) == {Delivery.CONFIRMED}
        await eventually(lambda: len(peer.pushes) == 50)
        await peer.leave()


@pytest.mark.needs("mosquitto")
async def test_a_broker_whose_certificate_nobody_trusts_is_refused_with_a_remedy(tls_broker):
    transport = transport_to(tls_broker.url)
    async with serving(transport, healthy=False):
        await eventually(lambda: transport.stats.connection_failures >= 2)
        assert "no secure connection" in transport.health().message
        assert "check the CA file" in transport.health().message


@pytest.mark.needs("mosquitto")
async def test_a_broker_that_wants_a_client_certificate_and_gets_none_is_never_connected(
    tls_broker, certificates
):
    transport = transport_to(
        tls_broker.url, MqttOptions(ca_file=certificates.ca, retry_min=0.02, retry_max=0.1)
    )
    async with serving(transport, healthy=False):
        await eventually(lambda: transport.stats.connection_failures >= 2)
        assert not transport.health().ok


# Against a broker that does as it is told


async def test_a_push_that_nobody_acknowledges_times_out_and_holds_its_place():
    options = MqttOptions(publish_timeout=0.1, max_inflight=2, max_queued=1)
    async with StubBroker(acknowledges=False) as broker:
        transport = transport_to(broker.url, options)
        async with serving(transport):
            pushes = [transport.publish(ONE, topics.upgrade(ONE), b"%d" % number) for number in range(5)]
            deliveries = await asyncio.gather(*pushes)
            assert Counter(deliveries) == {Delivery.TIMED_OUT: 3, Delivery.BUSY: 2}
            assert [push.payload for push in broker.published] == [b"0", b"1"]
            broker.send(packets.Puback(broker.published[0].packet_id).encode())
            await asyncio.sleep(0.05)
            broker.acknowledges = True
            assert await transport.publish(ONE, topics.upgrade(ONE), b"5") is Delivery.CONFIRMED
        assert (transport.stats.timed_out, transport.stats.busy, transport.stats.confirmed) == (3, 2, 1)


async def test_a_push_of_a_lost_connection_is_offline_and_never_sent_again():
    async with StubBroker(acknowledges=False) as broker:
        transport = transport_to(broker.url, MqttOptions(retry_min=0.02, retry_max=0.1, max_inflight=1))
        async with serving(transport):
            pushing = [asyncio.create_task(transport.publish(ONE, "/t", b"%d" % n)) for n in range(3)]
            await eventually(lambda: broker.published)
            broker.drop()
            assert await asyncio.gather(*pushing) == [Delivery.OFFLINE] * 3
            broker.acknowledges = True
            await eventually(lambda: len(broker.connects) == 2 and transport.health().ok)
            assert await transport.publish(ONE, "/t", b"new") is Delivery.CONFIRMED
        assert [push.payload for push in broker.published] == [b"0", b"new"]
        assert not any(push.duplicate for push in broker.published)


async def test_a_refused_subscription_makes_it_unhealthy_and_names_the_topic():
    refused = topics.uplinks("pk")[0]
    async with StubBroker(refused=frozenset({refused})) as broker:
        transport = transport_to(broker.url)
        async with serving(transport, healthy=False):
            await eventually(lambda: refused in transport.health().message)
            assert not transport.health().ok
            transport.set_products(frozenset())
            assert transport.health().ok


async def test_products_are_subscribed_and_unsubscribed_while_it_is_connected():
    async with StubBroker() as broker:
        transport = transport_to(broker.url)
        async with serving(transport):
            transport.set_products(frozenset({"other"}))
            await eventually(lambda: broker.unsubscribed)
            assert broker.subscribed == [*topics.uplinks("pk"), *topics.uplinks("other")]
            assert broker.unsubscribed == list(topics.uplinks("pk"))


async def test_it_keeps_a_session_under_its_name_and_connects_as_the_url_says():
    async with StubBroker() as broker:
        transport = transport_to(broker.url.replace("//", "//me:p%40ss@"), MqttOptions(client_id="site-1"))
        async with serving(transport):
            (connect,) = broker.connects
            assert (connect.client_id, connect.clean_session) == ("site-1", False)
            assert (connect.username, connect.password) == ("me", b"p@ss")


async def test_while_the_intake_is_full_nothing_is_read_and_the_broker_is_kept_alive():
    async with StubBroker() as broker:
        transport = transport_to(broker.url, MqttOptions(keepalive=2))
        async with serving(transport, Intake(capacity=2)) as intake:
            for number in range(1, 200):
                broker.send(inform(b"%d" % number, number))
            await eventually(lambda: intake.full)
            subscribed = len(broker.subscribed)
            await eventually(lambda: len(broker.subscribed) > subscribed)
            assert len(intake) == 2
            taken = []
            while len(taken) < 199:
                taken += [message.payload for message in await intake.take(50)]
            assert taken == [b"%d" % number for number in range(1, 200)]
        assert transport.stats.connects == 1


async def test_no_more_is_read_than_is_taken_however_fast_the_broker_is():
    one = packets.Publish(topics.inform(ONE), b"").encode()
    async with StubBroker() as broker:
        transport = transport_to(broker.url)
        async with serving(transport) as intake:
            broker.send(one * 1_000_000)
            taken = 0
            while taken < 60_000:
                taken += len(await intake.take(500))
            ahead = 1_000_000 * len(one) - broker.unsent() - taken * len(one)
            assert ahead < 12_000_000, "what the system's buffers take, and no more"


async def test_a_message_that_comes_right_behind_the_login_can_be_answered_with_a_push():
    async with StubBroker(greeting=inform()) as broker:
        transport, intake = transport_to(broker.url), Intake()

        async def answer() -> Delivery:
            await intake.take(1)
            return await transport.publish(ONE, topics.upgrade(ONE), b"{}")

        answering = asyncio.create_task(answer())
        async with serving(transport, intake):
            assert await answering is Delivery.CONFIRMED


async def test_it_pings_a_silent_broker():
    async with StubBroker() as broker:
        transport = transport_to(broker.url, MqttOptions(keepalive=1))
        async with serving(transport):
            await eventually(lambda: broker.pings >= 2)
        assert transport.stats.connects == 1


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x00\x00",
        b"\xff\xff\xff\xff\xff",
        b"\x32\x03\x00\x50a",
        b"\x40\x00",
        b"\x90\x00",
        b"\x30\x02\x00\x00",
    ],
)
async def test_rubbish_from_the_broker_ends_the_connection_at_most_and_never_the_program(rubbish):
    async with StubBroker() as broker:
        transport = transport_to(broker.url, MqttOptions(retry_min=0.02, retry_max=0.1, keepalive=1))
        async with serving(transport) as intake:
            broker.send(rubbish)
            async with asyncio.timeout(10):
                while not len(intake):  # rubbish may announce a long packet, which swallows what comes next
                    await asyncio.sleep(0.1)
                    broker.send(inform())
            assert isinstance((await intake.take(1))[0], Message)


async def test_a_topic_that_is_no_text_is_counted_as_foreign():
    async with StubBroker() as broker:
        transport = transport_to(broker.url)
        async with serving(transport):
            broker.send(b"\x32\x06\x00\x02\xff\xfe\x00\x07")
            await eventually(lambda: broker.acknowledged == [7])
        assert transport.stats.foreign == 1


async def test_the_waits_between_tries_grow_and_a_login_that_is_not_answered_is_one():
    async with StubBroker(connect_code=3) as broker:
        transport = transport_to(broker.url)
        async with serving(transport, healthy=False):
            await eventually(lambda: len(broker.connects) >= 3)
            assert "Server unavailable" in transport.health().message
            broker.connect_code = 0
            await eventually(lambda: transport.health().ok)


async def test_nobody_listening_is_said_with_the_address():
    async with StubBroker() as broker:
        url = broker.url
    transport = transport_to(url)
    async with serving(transport, healthy=False):
        await eventually(lambda: transport.stats.connection_failures >= 2)
        assert url in transport.health().message
        assert "refused" in transport.health().message


async def test_it_does_not_connect_before_the_intake_has_room():
    intake = Intake(capacity=1)
    intake.offer(Message(ONE, topics.Route.INFORM, b"{}"))
    async with StubBroker() as broker:
        transport = transport_to(broker.url)
        async with serving(transport, intake, healthy=False):
            await asyncio.sleep(0.2)
            assert broker.connects == []
            await intake.take(1)
            await eventually(lambda: transport.health().ok)


async def test_a_connection_that_is_lost_while_the_intake_is_full_is_made_again_when_there_is_room():
    async with StubBroker() as broker:
        transport = transport_to(broker.url)
        async with serving(transport, Intake(capacity=1)) as intake:
            broker.send(inform())
            await eventually(lambda: intake.full)
            broker.drop()
            await intake.take(1)
            await eventually(lambda: len(broker.connects) == 2)


async def test_what_tls_decrypted_in_one_piece_is_read_to_its_end(certificates):
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificates.server, certificates.server_key)
    async with StubBroker(tls=server_side) as broker:
        transport = transport_to(broker.url, MqttOptions(ca_file=certificates.ca))
        async with serving(transport) as intake:
            pieces = [inform(b"%d" % number, number) for number in range(1, 201)]
            pieces.insert(100, packets.PINGRESP)
            broker.send(b"".join(pieces))
            await eventually(lambda: len(intake) == 200, within=3)


# Made wrong


def test_an_unusable_certificate_file_is_said_at_the_start(tmp_path):
    with pytest.raises(errors.UserError) as caught:
        MqttTransport("mqtts://broker", MqttOptions(ca_file=tmp_path / "nowhere.pem"))
    assert "nowhere.pem" in caught.value.remedy
