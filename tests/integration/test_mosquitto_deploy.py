"""The Mosquitto configuration that we ship, in a real Mosquitto: it starts, and devices reach their own topics only."""

from __future__ import annotations

import asyncio
import pathlib
import shutil
import socket
import subprocess

import pytest
from brokers import free_port
from wires import eventually

from reconciler.protocol import topics
from reconciler.protocol.topics import Address
from reconciler.transport import mqtt
from reconciler.transport.base import Intake

pytestmark = pytest.mark.needs("mosquitto")

DEPLOY = pathlib.Path(__file__).parents[2] / "deploy"
ONE, TWO = Address("pk", "dev-1"), Address("pk", "dev-2")


@pytest.fixture
def port(tmp_path):
    """A broker with the shipped files; only paths, port and user are this machine's."""
    port = free_port()
    config = (DEPLOY / "mosquitto.conf").read_text()
    changes = {
        "listener 1883": f"listener {port} 127.0.0.1\nuser root",
        "/mosquitto/data/": f"{tmp_path}/",
        "/mosquitto/config/": f"{DEPLOY}/",
    }
    for shipped, here in changes.items():
        assert shipped in config
        config = config.replace(shipped, here)
    (tmp_path / "mosquitto.conf").write_text(config)
    (tmp_path / "passwords").touch(mode=0o600)
    for user in ("reconciler", str(ONE), str(TWO)):
        subprocess.run(["mosquitto_passwd", "-b", tmp_path / "passwords", user, "secret"], check=True)
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert program, "install mosquitto (Debian); it is not optional"
    with subprocess.Popen([program, "-c", tmp_path / "mosquitto.conf"]) as process:
        yield port
        process.terminate()


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def client(program, port, who, *arguments):
    return asyncio.create_subprocess_exec(
        program, "-p", str(port), "-u", str(who), "-P", "secret", "-i", f"id-{who}", "-q", "1", *arguments,
        stdout=subprocess.PIPE,
    )  # fmt: skip


async def say(port, who, topic, text):
    process = await client("mosquitto_pub", port, who, "-t", topic, "-m", text)
    assert await process.wait() == 0


async def test_a_device_reaches_its_own_topics_and_no_other(port):
    transport = mqtt.MqttTransport(f"mqtt://reconciler:secret@127.0.0.1:{port}", mqtt.MqttOptions())
    transport.set_products(frozenset({"pk"}))
    intake = Intake()
    serving = asyncio.create_task(transport.serve(intake))
    async with asyncio.timeout(20):
        await eventually(lambda: transport.health().ok)
        await say(port, TWO, topics.inform(ONE), "forged")
        for topic in (topics.inform(TWO), topics.progress(TWO), topics.firmware_get(TWO)):
            await say(port, TWO, topic, "own")
        heard = []
        while len(heard) < 3:
            heard += await intake.take(10)
        assert {(message.address, message.payload) for message in heard} == {(TWO, b"own")}

        spy = await client(
            "mosquitto_sub", port, TWO, "-t", "#", "-t", "/ota/device/upgrade/#", "-W", "3", "-v"
        )
        for _ in range(20):
            await transport.publish(ONE, topics.upgrade(ONE), b"not yours")
            await transport.publish(TWO, topics.upgrade(TWO), b"yours")
            await asyncio.sleep(0.05)
        seen = (await spy.stdout.read()).decode().splitlines()
        await spy.wait()
    assert set(seen) == {f"{topics.upgrade(TWO)} yours"}
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_nobody_comes_in_without_a_password(port):
    await eventually(lambda: is_listening(port))
    process = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-p", str(port), "-t", "x", "-m", "x", stderr=subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode != 0
    assert b"not authorised" in said.lower()
