"""The device endpoint with clients that are not ours: paho and Mosquitto's own, plain and over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import Self

import paho.mqtt.client as paho
import pytest
from endpoints import PRODUCT, certificate, device, eventually, hello, report, secret, served

from reconciler import errors
from reconciler.protocol import login, topics
from reconciler.protocol.mqtt311 import packets
from reconciler.protocol.mqtt311.packets import ConnectCode
from reconciler.protocol.topics import Address, Route
from reconciler.transport import endpoint
from reconciler.transport.base import Delivery, Health, Message, Presence

ONE, TWO = device(1), device(2)


class Paho:
    """A device with paho as its MQTT library, on paho's own thread."""

    def __init__(self, port: int, address: Address, tls=None, *, password: str | None = None) -> None:
        made = login.make(address, secret(address))
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, made.client_id)
        self.client.username_pw_set(made.username, made.password if password is None else password)
        if tls is not None:
            self.client.tls_set_context(tls)
        self.received: list[tuple[str, bytes, int]] = []
        self.codes: list[int] = []
        self.granted: list[list[int]] = []
        self.published: list[int] = []
        self.disconnected = 0
        self.client.on_message = lambda _c, _u, m: self.received.append((m.topic, m.payload, m.qos))
        self.client.on_connect = lambda _c, _u, _f, code, _p: self.codes.append(code.value)
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self.granted.append(
            [code.value for code in codes]
        )
        self.client.on_publish = lambda _c, _u, mid, _r, _p: self.published.append(mid)
        self.client.on_disconnect = self._gone
        self._port = port

    def _gone(self, *_rest: object) -> None:
        self.disconnected += 1

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.client.connect, "127.0.0.1", self._port, 30)
        self.client.loop_start()
        await eventually(lambda: self.codes)
        return self

    async def __aexit__(self, *_rest: object) -> None:
        self.client.disconnect()
        await asyncio.to_thread(self.client.loop_stop)


@pytest.fixture(params=["plain", "tls"])
async def running(request, tmp_path):
    """An endpoint, and the TLS context for its clients or None."""
    ours, theirs = certificate(tmp_path) if request.param == "tls" else (None, None)
    async with served(tls=ours) as made:
        yield made, theirs, tmp_path


async def test_paho_logs_in_reports_is_pushed_without_subscribing_and_is_acknowledged(running):
    made, tls, _ = running
    async with Paho(made.port, ONE, tls) as dev:
        assert dev.codes == [0]
        sent = dev.client.publish(topics.inform(ONE), b'{"id":"1"}', qos=1)
        online, message = await made.take(2)
        assert (online.address, online.online) == (ONE, True)
        assert (message.address, message.route, message.payload) == (ONE, Route.INFORM, b'{"id":"1"}')
        await asyncio.sleep(0.1)
        assert not sent.is_published()
        message.acknowledge()
        await eventually(sent.is_published)
        assert await made.endpoint.publish(ONE, topics.upgrade(ONE), b"{}") is Delivery.CONFIRMED
        await eventually(lambda: dev.received)
        dev.client.subscribe([(topics.upgrade(ONE), 1), (topics.upgrade(TWO), 1), ("#", 0)])
        await eventually(lambda: dev.granted)
        assert dev.granted == [[1, 0x80, 0x80]]
        assert await made.endpoint.publish(ONE, topics.upgrade(ONE), b"{2}") is Delivery.CONFIRMED
        await eventually(lambda: len(dev.received) == 2)
        assert dev.received == [(topics.upgrade(ONE), b"{}", 1), (topics.upgrade(ONE), b"{2}", 1)]
    (gone,) = await made.take(1)
    assert gone == Presence(ONE, online=False, session=online.session)


@pytest.mark.needs("mosquitto")
async def test_mosquittos_own_clients_get_on_with_it(running):
    made, tls, folder = running
    flags = ["-p", str(made.port), "-h", "127.0.0.1", "-q", "1", "-V", "311"]
    if tls is not None:
        flags += ["--cafile", str(folder / "ca.pem")]

    async def run(program: str, address: Address, *rest: str):
        assert shutil.which(program), "install mosquitto-clients (Debian); they are not optional"
        who = login.make(address, secret(address))
        flags_of_device = ["-i", who.client_id, "-u", who.username, "-P", who.password]
        return await asyncio.create_subprocess_exec(
            program, *flags, *flags_of_device, *rest, stdout=-1, stderr=-2
        )

    listening = await run("mosquitto_sub", ONE, "-t", topics.upgrade(ONE), "-C", "2", "-v")
    saying = await run("mosquitto_pub", TWO, "-t", topics.progress(TWO), "-m", "50 %")
    (message,) = await made.messages(1)
    message.acknowledge()
    assert (message.address, message.payload) == (TWO, b"50 %")
    assert await asyncio.wait_for(saying.wait(), 10) == 0
    await eventually(lambda: made.endpoint.stats.devices == 1)
    big = b"x" * 100_000
    for payload in (b"one", big):
        assert await made.endpoint.publish(ONE, topics.upgrade(ONE), payload) is Delivery.CONFIRMED
    out, _ = await asyncio.wait_for(listening.communicate(), 10)
    assert out.split() == [topics.upgrade(ONE).encode(), b"one", topics.upgrade(ONE).encode(), big]


async def test_many_messages_of_many_paho_devices_arrive_in_order_and_are_all_acknowledged(running):
    made, tls, _ = running
    devices = [device(number) for number in range(5)]
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Paho(made.port, each, tls)) for each in devices]
        for number in range(40):
            for each, client in zip(devices, clients, strict=True):
                client.client.publish(topics.progress(each), str(number).encode(), qos=1)
        found: dict[Address, list[bytes]] = {each: [] for each in devices}
        for _ in range(200):
            (message,) = await made.messages(1)
            message.acknowledge()
            found[message.address].append(message.payload)
        assert all(said == [str(number).encode() for number in range(40)] for said in found.values())
        await eventually(lambda: all(len(client.published) == 40 for client in clients))


@pytest.mark.parametrize(
    ("connect", "code"),
    [
        (hello(ONE, password=b"0" * 64), ConnectCode.BAD_CREDENTIALS),
        (hello(ONE, password=None), ConnectCode.BAD_CREDENTIALS),
        (hello(ONE, password=b"\xff\xfe"), ConnectCode.BAD_CREDENTIALS),
        (hello(ONE, username=None, password=None), ConnectCode.BAD_CREDENTIALS),
        (hello(Address(PRODUCT, "stranger")), ConnectCode.BAD_CREDENTIALS),
        (hello(Address(PRODUCT, "+")), ConnectCode.BAD_CREDENTIALS),
        (hello(ONE, client_id="x|signmethod=crc32|"), ConnectCode.BAD_CREDENTIALS),
        (hello(Address("toaster", "dev-0001")), ConnectCode.NOT_AUTHORIZED),
        (hello(ONE, will=packets.Will(topics.inform(TWO), b"")), ConnectCode.NOT_AUTHORIZED),
        (hello(ONE, level=3), ConnectCode.ACCEPTED),
        (hello(ONE, clean_session=False), ConnectCode.ACCEPTED),
    ],
)
async def test_who_is_let_in_and_what_the_others_are_told(connect, code):
    async with served() as made:
        raw = await made.connect()
        raw.send(connect)
        assert await raw.read() == packets.Connack(code)
        if code:
            assert await raw.closed()
            assert sum(made.endpoint.stats.refused.values()) == 1
            assert len(made.intake) == 0


async def test_without_a_password_everybody_is_who_they_say_when_anonymous_devices_are_allowed():
    async with served(allow_anonymous=True) as made:
        await made.log_in(Address(PRODUCT, "stranger"), password=None)
        assert made.accounts.asked == []
        other = await made.connect()
        other.send(packets.Connect("x"))
        assert await other.read() == packets.Connack(ConnectCode.BAD_CREDENTIALS)


async def test_until_products_are_known_devices_are_told_to_come_later():
    async with served(products=None) as made:
        raw = await made.connect()
        raw.send(hello(ONE))
        assert await raw.read() == packets.Connack(ConnectCode.UNAVAILABLE)
        assert await raw.closed()
        made.endpoint.set_products(frozenset({PRODUCT}))
        raw = await made.log_in(ONE)
        made.endpoint.set_products(frozenset({"toaster"}))
        assert await raw.closed()
        assert [item.online for item in await made.take(2)] == [True, False]


async def test_a_login_that_cannot_be_checked_is_told_so_and_the_door_stays_open():
    async with served(endpoint.EndpointLimits(connect_seconds=0.3)) as made:
        made.accounts.error = errors.TransientError("the database is away")
        for _ in range(2):
            raw = await made.connect()
            raw.send(hello(ONE))
            assert await raw.read() == packets.Connack(ConnectCode.UNAVAILABLE)
            assert await raw.closed()
            made.accounts.error = None
            made.accounts.gate.clear()
        made.accounts.gate.set()
        await (await made.log_in(ONE)).leave()


async def test_a_second_login_replaces_the_first_and_presence_says_so_in_order():
    async with served() as made:
        first = await made.log_in(ONE)
        pushing = asyncio.create_task(made.endpoint.publish(ONE, topics.upgrade(ONE), b"{}"))
        assert isinstance(await first.read(), packets.Publish)
        second = await made.log_in(ONE)
        assert await pushing is Delivery.OFFLINE
        assert await first.closed()
        second.send(report(ONE, 1))
        one, two, message = await made.take(3)
        assert (one.online, two.online) == (True, True)
        assert two.session > one.session
        assert isinstance(message, Message)
        await asyncio.sleep(0.05)
        assert len(made.intake) == 0
        assert made.endpoint.stats.devices == 1
        await second.leave()
        assert await made.take(1) == [Presence(ONE, online=False, session=two.session)]


async def test_what_is_sent_before_the_connack_is_taken_after_it():
    async with served() as made:
        made.accounts.gate.clear()
        raw = await made.connect()
        raw.send(hello(ONE), report(ONE, 1, b"early"))
        await eventually(lambda: made.accounts.asked)
        assert len(made.intake) == 0
        made.accounts.gate.set()
        online, message = await made.take(2)
        assert isinstance(online, Presence)
        assert message.payload == b"early"
        assert await raw.read() == packets.Connack(0)


async def test_a_repeat_while_unacknowledged_enters_the_intake_once_and_is_acknowledged_once():
    async with served() as made:
        raw = await made.log_in(ONE)
        raw.send(report(ONE, 5), report(ONE, 5)._replace(duplicate=True), packets.Pingreq())
        assert await raw.read() == packets.Pingresp()
        _, message = await made.take(2)
        assert len(made.intake) == 0
        message.acknowledge()
        message.acknowledge()
        raw.send(packets.Pingreq())
        assert [await raw.read(), await raw.read()] == [packets.Puback(5), packets.Pingresp()]
        await raw.leave()
        await made.take(1)
        message.acknowledge()


async def test_a_foreign_topic_has_no_effect_is_counted_and_logged_once_and_keeps_the_connection(caplog):
    async with served() as made:
        raw = await made.log_in(ONE)
        for number in (1, 2, 3):
            raw.send(report(TWO, number))
            assert await raw.read() == packets.Puback(number)
        raw.send(report(ONE, 4)._replace(retain=True))
        assert await raw.read() == packets.Puback(4)
        raw.send(packets.Publish(f"/sys/{PRODUCT}/dev-0001/thing/event/property/post", b""))
        raw.send(report(ONE, 5))
        _, message = await made.take(2)
        assert message.address == ONE
        stats = made.endpoint.stats
        assert (stats.foreign, stats.dropped, stats.messages) == (3, 2, 1)
        (logged,) = (record.message for record in caplog.records)
        assert logged.startswith("device 'thermostat/dev-0001' from 127.0.0.1: a message on")
        assert "dropped (foreign)" in logged


async def test_a_push_ends_offline_timed_out_or_busy_as_it_happens():
    limits = endpoint.EndpointLimits(pushes=2, puback_seconds=0.3)
    async with served(limits) as made:
        publish = made.endpoint.publish
        assert await publish(ONE, topics.upgrade(ONE), b"{}") is Delivery.OFFLINE
        raw = await made.log_in(ONE)
        waiting = [asyncio.create_task(publish(ONE, topics.upgrade(ONE), b"{}")) for _ in range(2)]
        await asyncio.sleep(0)
        assert await publish(ONE, topics.upgrade(ONE), b"{}") is Delivery.BUSY
        assert await asyncio.gather(*waiting) == [Delivery.TIMED_OUT] * 2
        last = asyncio.create_task(publish(ONE, topics.upgrade(ONE), b"{}"))
        assert [(await raw.read()).packet_id for _ in range(3)] == [1, 2, 3]
        raw.send(packets.Puback(1), packets.Puback(3))
        assert await last is Delivery.CONFIRMED
        lost = asyncio.create_task(publish(ONE, topics.upgrade(ONE), b"{}"))
        await raw.read()
        await raw.leave()
        assert await lost is Delivery.OFFLINE


async def test_a_push_that_is_no_longer_waited_for_frees_its_place():
    async with served(endpoint.EndpointLimits(pushes=1)) as made:
        raw = await made.log_in(ONE)
        given_up = asyncio.create_task(made.endpoint.publish(ONE, topics.upgrade(ONE), b"{}"))
        await raw.read()
        given_up.cancel()
        await asyncio.wait([given_up])
        again = asyncio.create_task(made.endpoint.publish(ONE, topics.upgrade(ONE), b"{}"))
        push = await raw.read()
        raw.send(packets.Puback(push.packet_id))
        assert await again is Delivery.CONFIRMED


async def test_a_lost_device_leaves_its_will_and_one_that_says_goodbye_does_not():
    async with served() as made:
        will = packets.Will(topics.progress(ONE), b"-1")
        raw = await made.log_in(ONE, will=will)
        raw.writer.transport.abort()
        online, message, gone = await made.take(3)
        assert (message.route, message.payload) == (Route.PROGRESS, b"-1")
        assert gone == Presence(ONE, online=False, session=online.session)
        raw = await made.log_in(ONE, will=will)
        raw.send(packets.Disconnect())
        assert await raw.closed()
        assert all(isinstance(item, Presence) for item in await made.take(2))


async def test_a_silent_device_is_gone_after_one_and_a_half_of_its_keepalive():
    async with served(endpoint.EndpointLimits(keepalive_factor=0.3, idle_seconds=0.6)) as made:
        loop = asyncio.get_running_loop()
        for keepalive in (2, 0):
            raw = await made.log_in(ONE, keepalive=keepalive)
            began = loop.time()
            assert await raw.closed()
            assert 0.5 < loop.time() - began < 1.5
            assert [item.online for item in await made.take(2)] == [True, False]
        raw = await made.log_in(ONE, keepalive=2)
        for _ in range(5):
            await asyncio.sleep(0.25)
            raw.send(packets.Pingreq())
            assert await raw.read() == packets.Pingresp()
        await raw.leave()
        assert made.endpoint.stats.refused == {"silent": 2}


async def test_who_sends_too_much_is_read_more_slowly_and_loses_nothing():
    limits = endpoint.EndpointLimits(packets_per_second=100, packets_at_once=20)
    async with served(limits) as made:
        loop = asyncio.get_running_loop()
        raw = await made.log_in(ONE)
        quick = await made.log_in(TWO)
        began = loop.time()
        raw.send(*(report(ONE, number) for number in range(1, 101)))
        quick.send(report(TWO, 1))
        found = [message.address for message in await made.messages(101)]
        assert found.index(TWO) < 50
        assert 0.6 < loop.time() - began < 3


async def test_a_full_intake_stops_reading_at_once_and_goes_on_in_turn():
    async with served(capacity=10) as made:
        one, two = await made.log_in(ONE), await made.log_in(TWO)
        one.send(*(report(ONE, number) for number in range(1, 41)))
        await eventually(lambda: made.intake.full)
        two.send(*(report(TWO, number) for number in range(1, 41)))
        await asyncio.sleep(0.1)
        assert len(made.intake) == 10
        found = await made.messages(80)
        for message in found:
            message.acknowledge()
        assert [message.address for message in found].count(ONE) == 40
        assert [(await one.read()).packet_id for _ in range(40)] == list(range(1, 41))
        assert [(await two.read()).packet_id for _ in range(40)] == list(range(1, 41))


async def test_a_full_intake_stays_within_its_bound_whoever_waits():
    async with served(capacity=10) as made:
        raws = {device(number): await made.log_in(device(number)) for number in range(5)}
        await made.take(5)
        for address, raw in raws.items():
            raw.send(*(report(address, number, str(number).encode()) for number in range(1, 21)))
        found: dict[Address, list[bytes]] = {address: [] for address in raws}
        for _ in range(100):
            (message,) = await made.messages(1)
            found[message.address].append(message.payload)
            await asyncio.sleep(0.002)
            assert len(made.intake) <= 10
        assert all(said == [str(number).encode() for number in range(1, 21)] for said in found.values())


async def test_logins_come_at_their_pace_and_only_so_many_at_once_while_others_wait():
    limits = endpoint.EndpointLimits(logins_per_second=100, logins_at_once=4)
    async with served(limits) as made:
        loop = asyncio.get_running_loop()
        made.accounts.gate.clear()
        raws = [await made.connect() for _ in range(150)]
        for number, raw in enumerate(raws):
            raw.send(hello(device(number)))
        await asyncio.sleep(0.1)
        assert made.accounts.at_once == 4
        began = loop.time()
        made.accounts.gate.set()
        assert {await raw.read() for raw in raws} == {packets.Connack(0)}
        assert 0.3 < loop.time() - began < 3
        assert made.accounts.most_at_once == 4
        assert {item.address for item in await made.take(150)} == {device(number) for number in range(150)}


async def test_who_gave_up_waiting_is_not_let_in():
    async with served(endpoint.EndpointLimits(logins_at_once=1)) as made:
        made.accounts.gate.clear()
        raws = [await made.connect() for _ in range(3)]
        for number, raw in enumerate(raws):
            raw.send(hello(device(number)))
        await eventually(lambda: made.accounts.asked)
        await raws[0].leave()
        await raws[1].leave()
        await eventually(lambda: made.endpoint.stats.connections == 1)
        made.accounts.gate.set()
        assert await raws[2].read() == packets.Connack(0)
        assert made.accounts.asked == [device(0), device(2)]
        assert [item.address for item in await made.take(1)] == [device(2)]
        await raws[2].leave()


async def test_logins_wait_while_the_intake_is_full():
    async with served(capacity=2) as made:
        raws = [await made.connect() for _ in range(6)]
        for number, raw in enumerate(raws):
            raw.send(hello(device(number)))
        await asyncio.sleep(0.1)
        assert made.endpoint.stats.devices < 6
        assert len(await made.take(6)) == 6
        assert {await raw.read() for raw in raws} == {packets.Connack(0)}


async def test_it_stops_quietly_and_serves_again():
    async with served() as made:
        raw = await made.log_in(ONE)
        idle = await made.connect()
        pushing = asyncio.create_task(made.endpoint.publish(ONE, topics.upgrade(ONE), b"{}"))
        await raw.read()
        (online,) = await made.take(1)
        await made.stop()
        assert await pushing is Delivery.OFFLINE
        assert await raw.read() is None
        assert await idle.read() is None
        assert len(made.intake) == 0
        assert made.endpoint.health() == Health(ok=False, message="not listening for devices")
        assert (made.endpoint.connected_for(), made.endpoint.bound_port) == (0.0, 0)
        made.task = asyncio.create_task(made.endpoint.serve(made.intake))
        await made.endpoint.listening()
        assert made.endpoint.health().ok
        await (await made.log_in(ONE)).leave()
        assert (await made.take(1))[0].session > online.session


async def test_an_address_that_is_taken_is_the_operators_mistake_and_is_said_so():
    async with served() as made:
        other = endpoint.Endpoint([endpoint.Bind(port=0), endpoint.Bind(port=made.port)], made.accounts)
        with pytest.raises(errors.UserError, match=f"127.0.0.1:{made.port}") as caught:
            await other.serve(made.intake)
        assert "--mqtt-bind" in caught.value.remedy


async def test_it_listens_in_several_places_at_a_time(tmp_path):
    ours, theirs = certificate(tmp_path)
    async with served() as made:
        binds = [endpoint.Bind(port=0), endpoint.Bind("localhost", 0), endpoint.Bind(port=0, tls=ours)]
        several = endpoint.Endpoint(binds, made.accounts)
        several.set_products(frozenset({PRODUCT}))
        task = asyncio.create_task(several.serve(made.intake))

        await several.listening()
        plain, _, secure = several.bound_ports
        await (await made.log_in(ONE, port=plain)).leave()
        raw = await made.connect(secure, theirs)
        raw.send(hello(ONE))
        assert await raw.read() == packets.Connack(0)
        await raw.leave()
        assert "0 devices" in several.health().message
        task.cancel()
        await asyncio.wait([task])
