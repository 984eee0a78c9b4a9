"""Simulated fleets against Mosquitto and against our endpoint, with a platform as small as can be."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter

import pytest
from brokers import free_port
from platform_stub import FIRMWARE, Platform
from wires import Anyone, eventually

from reconciler import errors
from reconciler.protocol import login as logins
from reconciler.protocol.topics import Route
from reconciler.simulator.device import Behaviour, State
from reconciler.simulator.faults import Faults
from reconciler.simulator.fleet import DeviceSpec, Fleet, FleetOptions, Summary
from reconciler.transport.endpoint import Bind, Endpoint
from reconciler.transport.mqtt import MqttOptions, MqttTransport

QUICK = MqttOptions(retry_min=0.05, retry_max=0.2)


def specs(count: int, **more: str) -> list[DeviceSpec]:
    return [
        DeviceSpec("pk", f"thermo-{number:04}", ("1.3.0", "1.3.1")[number % 2], **more)
        for number in range(count)
    ]


def behaviour(**more: object) -> Behaviour:
    quick = {"download_seconds": 0.1, "reboot_seconds": 0.05, "reconnect_min": 0.1, "reconnect_max": 0.4}
    return Behaviour(**{**quick, **more})


def all_on(version: str):
    def reached(summary: Summary) -> bool:
        return summary.versions == {version: summary.devices} and set(summary.states) == {"idle"}

    return reached


async def lived(fleet: Fleet, until, within: float = 30.0) -> Summary:
    async with asyncio.timeout(within):
        return await fleet.run(until)


@contextlib.asynccontextmanager
async def living(fleet: Fleet):
    """A fleet that lives beside the test."""
    task = asyncio.create_task(fleet.run())
    yield task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def an_endpoint(authenticator=None) -> tuple[Endpoint, str]:
    """Our endpoint, and its URL."""
    port = free_port()
    return Endpoint([Bind(port=port)], authenticator or Anyone()), f"mqtt://127.0.0.1:{port}"


async def test_a_fleet_is_upgraded_through_mosquitto_each_device_once(mosquitto):
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        changed = []
        fleet = Fleet(specs(40), mosquitto.url, behaviour(), on_change=changed.append)
        summary = await lived(fleet, all_on("1.4.0"))
    assert summary == Summary(40, {"1.4.0": 40}, {"idle": 40}, 40, 1, 40, 0, None)
    assert all(device.flashes == ["1.4.0"] for device in fleet.devices)
    assert set(changed) == set(fleet.devices)
    assert platform.steps() == dict.fromkeys(("0", "25", "50", "75", "100"), 40)
    first = [params["version"] for _, route, params in platform.heard if route is Route.INFORM][:40]
    assert sorted(first) == ["1.3.0"] * 20 + ["1.3.1"] * 20


@pytest.mark.parametrize("subscribe", [True, False])
async def test_a_fleet_is_upgraded_through_the_endpoint_subscribed_or_not(subscribe):
    endpoint, url = an_endpoint()
    async with Platform(endpoint):
        fleet = Fleet(specs(20), url, behaviour(subscribe=subscribe))
        summary = await lived(fleet, all_on("1.4.0"))
    assert (summary.flashes, summary.most_flashes) == (20, 1)


@pytest.mark.parametrize("subscribe", [True, False])
async def test_a_fleet_downloads_over_mqtt_through_the_endpoint(subscribe):
    endpoint, url = an_endpoint()
    async with Platform(endpoint) as platform:
        platform.streams = True
        fleet = Fleet(specs(5), url, behaviour(subscribe=subscribe, block_bytes=50_000, block_patience=2.0))
        summary = await lived(fleet, all_on("1.4.0"))
    assert (summary.flashes, summary.most_flashes, summary.downloads) == (5, 1, 5)
    assert platform.requests == []


async def test_a_fleet_downloads_over_mqtt_through_mosquitto(mosquitto):
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        platform.streams = True
        fleet = Fleet(specs(5), mosquitto.url, behaviour(block_bytes=50_000, block_patience=2.0))
        summary = await lived(fleet, all_on("1.4.0"))
    assert (summary.flashes, summary.most_flashes, summary.downloads) == (5, 1, 5)


async def test_devices_with_a_secret_log_in_with_it_and_others_are_refused():
    secrets = {"thermo-0000": "right"}

    class Secrets:
        async def authenticate(self, login: logins.Login) -> bool:
            secret = secrets.get(login.address.device_name)
            return secret is not None and logins.verify(login, secret)

    endpoint, url = an_endpoint(Secrets())
    async with Platform(endpoint):
        fleet = Fleet(specs(3, secret="right"), url, behaviour())
        summary = await lived(fleet, lambda now: now.versions.get("1.4.0") == 1 and now.failing == 2)
        assert summary.failing_because == "the login was refused: bad credentials"


async def test_pulling_devices_ask_and_are_upgraded_without_a_push(mosquitto):
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        platform.pushes = False
        fleet = Fleet(specs(5), mosquitto.url, behaviour(ask_every=0.2))
        summary = await lived(fleet, all_on("1.4.0"))
    assert summary.most_flashes == 1


async def test_md5_and_digesting_once_work_too(mosquitto):
    async with Platform(MqttTransport(mosquitto.url, QUICK), method="MD5") as platform:
        platform.push = _spelt(platform)
        fleet = Fleet(specs(5), mosquitto.url, behaviour(), FleetOptions(digest_once=True))
        assert (await lived(fleet, all_on("1.4.0"))).downloads == 5
    assert all("Range: bytes=0-\r\n" in request for request in platform.requests)


async def test_each_of_several_files_is_downloaded_before_anything_is_flashed(mosquitto):
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        platform.push = _several(platform, "first.bin", "second.bin", "third.bin")
        fleet = Fleet(specs(2), mosquitto.url, behaviour())
        assert (await lived(fleet, all_on("1.4.0"))).downloads == 6
    paths = Counter(request.split(" ")[1] for request in platform.requests)
    assert paths == {"/first.bin": 2, "/second.bin": 2, "/third.bin": 2}


async def test_one_wrong_file_of_several_is_a_failure_of_all(mosquitto):
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        platform.push = _several(platform, "first.bin", "second.bin", "third.bin", spoilt="second.bin")
        fleet = Fleet(specs(1), mosquitto.url, behaviour())
        async with living(fleet):
            await eventually(lambda: platform.steps()["-3"] == 1)
        assert fleet.summary().flashes == 0
    assert len(platform.requests) == 2


def _several(platform: Platform, *names: str, spoilt: str = ""):
    single = json.loads(platform.push())
    data = single["data"]
    files = [
        {
            "fileSize": data["size"],
            "fileName": name,
            "fileUrl": data["url"].replace("/f", f"/{name}"),
            "fileSign": "0" * 64 if name == spoilt else data["sign"],
        }
        for name in names
    ]
    several = {"version": data["version"], "signMethod": data["signMethod"], "files": files}
    return lambda: json.dumps({**single, "data": several}, separators=(",", ":")).encode()


def _spelt(platform: Platform):
    original = platform.push
    return lambda: original(signMethod="Md5")


@pytest.mark.parametrize(
    ("fault", "step"),
    [("fail_upgrade", "-1"), ("fail_download", "-2"), ("fail_verify", "-3"), ("fail_burn", "-4")],
)
async def test_failures_are_reported_and_leave_the_old_version(mosquitto, fault, step):
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        fleet = Fleet(specs(4), mosquitto.url, behaviour(faults=Faults(**{fault: 1.0})))
        async with living(fleet):
            await eventually(lambda: platform.steps()[step] == 4)
            assert fleet.summary().flashes == 0
            assert fleet.devices[0].progress == int(step)


@pytest.mark.parametrize(
    ("headers", "body", "step", "says"),
    [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\n", FIRMWARE, "-2", "404"),
        ("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n", FIRMWARE, "-2", "Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", FIRMWARE, "-2", "3 bytes"),
        ("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n", FIRMWARE[:-1], "-2", "1 of"),
        ("HTTP/1.1 206 Partial\r\nContent-Length: {length}\r\n", FIRMWARE[::-1], "-3", "sha256"),
        ("nonsense\r\n", b"", "-2", "nonsense"),
    ],
)
async def test_a_download_that_is_not_as_promised_is_reported_and_not_flashed(
    mosquitto, headers, body, step, says
):
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        platform.headers, platform.body = headers, body
        fleet = Fleet(specs(1), mosquitto.url, behaviour())
        async with living(fleet):
            await eventually(lambda: platform.steps()[step] == 1)
        _, _, params = platform.heard[-1]
        assert says in params["desc"]
        assert fleet.summary().flashes == 0


async def test_a_patient_device_tries_a_broken_download_again_and_says_nothing_of_it(mosquitto):
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        good, platform.headers = platform.headers, "HTTP/1.1 503 Not Now\r\nContent-Length: {length}\r\n"
        fleet = Fleet(specs(1), mosquitto.url, behaviour(download_patience=60.0))
        async with living(fleet):
            await eventually(lambda: len(platform.requests) == 2)
            platform.headers = good
            await eventually(lambda: fleet.summary().versions == {"1.4.0": 1})
    assert "-2" not in platform.steps()
    assert fleet.summary().flashes == 1


async def test_a_reboot_half_way_is_followed_by_a_report_of_the_old_version(mosquitto):
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        fleet = Fleet(specs(1), mosquitto.url, behaviour(faults=Faults(reboot=1.0)))
        async with living(fleet):
            await eventually(lambda: sum(route is Route.INFORM for _, route, _ in platform.heard) >= 3)
        assert {p["version"] for _, route, p in platform.heard if route is Route.INFORM} == {"1.3.0"}


async def test_a_device_that_was_offline_goes_on_where_it_was(mosquitto):
    faults = Faults(offline=1.0, offline_seconds=0.5)
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        fleet = Fleet(specs(3), mosquitto.url, behaviour(faults=faults))
        assert (await lived(fleet, all_on("1.4.0"))).most_flashes == 1
    assert set(platform.steps()) == {"0", "25", "50", "75", "100"}


async def test_a_wrong_version_is_flashed_and_reported(mosquitto):
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        fleet = Fleet(specs(1), mosquitto.url, behaviour(faults=Faults(wrong_version=1.0)))
        async with living(fleet):
            await eventually(lambda: "0.0.0" in {params.get("version") for _, _, params in platform.heard})
        assert fleet.devices[0].flashes[0] == "0.0.0"


async def test_repeated_and_late_messages_still_end_in_one_upgrade(mosquitto):
    faults = Faults(repeat=0.5, reorder=1.0)
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        fleet = Fleet(specs(20), mosquitto.url, behaviour(faults=faults), FleetOptions(seed=3))
        assert (await lived(fleet, all_on("1.4.0"))).most_flashes == 1
        await eventually(lambda: platform.late_progress() > 0)


async def test_devices_come_back_after_the_broker_was_away(mosquitto):
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        platform.pushes = False
        fleet = Fleet(specs(30), mosquitto.url, behaviour())
        async with living(fleet):
            await eventually(lambda: fleet.summary().states == {"idle": 30})
            await asyncio.to_thread(mosquitto.stop)
            await eventually(lambda: fleet.summary().states == {"offline": 30})
            platform.pushes = True
            await asyncio.to_thread(mosquitto.start)
            await eventually(lambda: fleet.summary().versions == {"1.4.0": 30})
            assert fleet.summary().most_flashes == 1


async def test_an_upgrade_survives_a_broker_that_restarts_in_its_middle(mosquitto):
    async with Platform(MqttTransport(mosquitto.url, QUICK)) as platform:
        fleet = Fleet(specs(20), mosquitto.url, behaviour(download_seconds=1.0))
        async with living(fleet):
            await eventually(lambda: platform.steps()["25"] >= 5)
            await asyncio.to_thread(mosquitto.stop)
            await asyncio.to_thread(mosquitto.start)
            await eventually(lambda: fleet.summary().versions == {"1.4.0": 20})
            assert fleet.summary().most_flashes == 1
        assert all(platform.steps()[step] >= 20 for step in ("0", "25", "50", "75", "100"))
    assert all(device.state is State.OFFLINE for device in fleet.devices)


async def test_a_fleet_connects_no_faster_than_it_should(mosquitto):
    fleet = Fleet(specs(20), mosquitto.url, behaviour(), FleetOptions(connects_a_second=40))
    began = asyncio.get_running_loop().time()
    await lived(fleet, lambda now: now.states == {"idle": 20})
    assert asyncio.get_running_loop().time() - began > 0.4


@pytest.mark.parametrize(
    ("broker", "name", "ca_file"),
    [("http://x", "dev-1", None), ("mqtt://x", "n!o", None), ("mqtts://x", "dev-1", "/no/such.pem")],
)
async def test_a_fleet_that_cannot_be_is_refused(broker, name, ca_file):
    with pytest.raises(errors.UserError):
        Fleet([DeviceSpec("pk", name, "1")], broker, options=FleetOptions(ca_file=ca_file))
