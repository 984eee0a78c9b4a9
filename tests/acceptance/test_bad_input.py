"""What nobody should commit or send: reported where it is looked for, without effect, and the rest goes on."""

from __future__ import annotations

import json

import pytest
from daemons import cli
from stage import PACKAGE, PRODUCT_KEY, Stage, quick

from reconciler.protocol import broker_url
from reconciler.protocol import login as logins
from reconciler.protocol.topics import Address
from reconciler.simulator import client as clients

BATCH = "batches/upgrade.yaml"


def document(stage: Stage, kind: str, name: str) -> dict:
    """What `get` says of an object."""
    said = cli("get", kind, name, "-o", "json", *stage.look)
    assert said.returncode == 0, said.stderr
    (found,) = json.loads(said.stdout)
    return found


def synced(stage: Stage, kind: str, name: str) -> bool:
    """The same in brief, for who asks again and again."""
    return stage.object(kind.title(), name).synced


def broken_yaml(stage: Stage) -> None:
    stage.write(BATCH, "apiVersion: ota/v1\nkind: Batch\nmetadata: {name: upgrade}\nspec:\n\tpackage: [\n")


def unknown_kind(stage: Stage) -> None:
    stage.manifest(BATCH, "Batsh", "upgrade", {"package": PACKAGE})


def unknown_field(stage: Stage) -> None:
    stage.batch(pushRatePerMinut=100)


def duplicate(stage: Stage) -> None:
    stage.batch()
    text = (stage.repository.folder / BATCH).read_text()
    stage.write("batches/another.yaml", text.replace("6000", "700"))


def wrong_digest(stage: Stage) -> None:
    (stage.repository.folder / "artifacts/1.4.0.bin").write_bytes(b"another" * 500)


def missing_file(stage: Stage) -> None:
    stage.delete("artifacts/1.4.0.bin")


MISTAKES = {
    broken_yaml: ("batch", "upgrade"),
    unknown_kind: ("batch", "upgrade"),
    unknown_field: ("batch", "upgrade"),
    duplicate: ("batch", "upgrade"),
    wrong_digest: ("package", PACKAGE),
    missing_file: ("package", PACKAGE),
}


@pytest.mark.timeout(240)
async def test_a_broken_commit_leaves_the_object_as_it_was_says_why_and_the_rest_goes_on(stage):
    stage.declare(4)
    stage.daemon.start()
    await stage.daemon.ready()
    stage.devices(quick(download_seconds=9999.0))
    await stage.until(lambda: stage.reported() == 4)
    stage.batch()
    stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until(lambda: stage.counts() == {"IN_PROGRESS": 4})
    good = {name: document(stage, *name) for name in MISTAKES.values()}
    for number, (break_it, name) in enumerate(MISTAKES.items()):
        break_it(stage)
        stage.package(f"2.0.{number}")  # the rest
        stage.commit(f"A mistake: {break_it.__name__}")
        new = f"thermostat-2.0.{number}"
        await stage.until(lambda new=new: stage.ask("SELECT 1 FROM package WHERE name = ?", new))
        found = document(stage, *name)
        assert found["status"]["sync"] in {"OutOfSync", "Unknown"}, break_it
        assert found["status"]["reason"] in {"Invalid", "Unreadable"}
        assert found["status"]["message"]
        assert found["spec"] == good[name]["spec"]
        assert found["status"]["observedDigest"] == good[name]["status"]["observedDigest"]
        assert (await stage.daemon.readiness())[0] == 200
        assert stage.counts() == {"IN_PROGRESS": 4}

        (stage.repository.folder / "batches/another.yaml").unlink(missing_ok=True)
        stage.package()
        stage.batch()
        stage.commit("Mended")
        await stage.until(lambda name=name: synced(stage, *name))
    assert stage.ask("SELECT count(*) FROM run") == [(1,)]
    assert stage.phase() == "IN_PROGRESS"


class Mouth:
    """Somebody who logs in as a device and says whatever they like."""

    def __init__(self, client: clients.Client) -> None:
        self.client = client

    async def say(self, topic: str, payload: bytes) -> None:
        """Returns when it is acknowledged: whatever it is, it is not sent again for ever."""
        await self.client.publish(topic, payload)


async def connected(stage: Stage, name: str) -> Mouth:
    address = Address(PRODUCT_KEY, name)
    session = clients.Session(client_id=f"test-{name}")
    if name in stage.secrets:
        made = logins.make(address, stage.secrets[name])
        session = clients.Session(made.client_id, made.username, made.password)
    url = broker_url.parse(stage.url)
    return Mouth(await clients.connect(url, session, lambda _topic, _payload: None))


MALFORMED = [
    b"",
    b"\xff\xfe",
    b"{",
    b"[]",
    b'{"id":"1"}',
    b'{"id":"1","params":{"version":5}}',
    b"0" * 100_000,
]


async def test_malformed_messages_are_counted_and_have_no_effect(either_stage):
    stage = either_stage
    stage.declare(2)
    stage.daemon.start()
    await stage.daemon.ready()
    mouth = await connected(stage, stage.names[0])
    for payload in MALFORMED:
        await mouth.say(f"/ota/device/inform/{PRODUCT_KEY}/{stage.names[0]}", payload)
        await mouth.say(f"/ota/device/progress/{PRODUCT_KEY}/{stage.names[0]}", payload)
    await mouth.say(f"/ota/device/inform/{PRODUCT_KEY}/{stage.names[0]}", b'{"params":{"version":"1.3.0"}}')
    await stage.until(lambda: stage.reported() == 1)  # the connection lives, and what is well formed is heard
    for topic in ("inform", "progress"):
        counted = await stage.daemon.metric("reconciler_messages_total", topic=topic, result="malformed")
        assert counted == len(MALFORMED)
    assert (await stage.daemon.readiness())[0] == 200
    log = stage.daemon.log.read_text()
    assert log.count(f"{stage.names[0]}: inform message dropped") == 1, "once a minute"
    mouth.client.close()


async def test_topics_that_are_not_the_devices_own_are_counted_and_have_no_effect_at_the_endpoint(stage):
    stage.declare(2)
    stage.daemon.start()
    await stage.daemon.ready()
    mouth = await connected(stage, stage.names[0])
    report = b'{"id":"1","params":{"version":"9.9.9"}}'
    foreign = [
        f"/ota/device/inform/{PRODUCT_KEY}/{stage.names[1]}",
        f"/ota/device/inform/another/{stage.names[0]}",
        f"/ota/device/upgrade/{PRODUCT_KEY}/{stage.names[1]}",
        "/elsewhere",
    ]
    for topic in foreign:
        await mouth.say(topic, report)
    assert await stage.daemon.metric("reconciler_transport_total", event="foreign") == len(foreign)
    assert stage.reported() == 0
    mouth.client.close()


async def test_unknown_devices_and_foreign_products_are_counted_and_have_no_effect_behind_a_broker(
    make_stage, mosquitto
):
    stage = make_stage(mosquitto)
    stage.declare(1)
    stage.daemon.start()
    await stage.daemon.ready()
    mouth = await connected(stage, "anybody")
    report = b'{"id":"1","params":{"version":"9.9.9"}}'
    await mouth.say(f"/ota/device/inform/{PRODUCT_KEY}/nobody-knows", report)
    await mouth.say(f"/ota/device/inform/{PRODUCT_KEY}/n!o", report)
    await mouth.say(f"/ota/device/inform/another/{stage.names[0]}", report)
    await mouth.say(f"/ota/device/inform/{PRODUCT_KEY}/{stage.names[0]}", report)
    await stage.until(stage.reported)
    metric = stage.daemon.metric
    assert await metric("reconciler_messages_total", topic="inform", result="unknown_device") == 1
    transport = await metric("reconciler_transport_total", event="malformed")
    assert transport + await metric("reconciler_messages_total", topic="inform", result="malformed") == 1
    assert stage.ask("SELECT count(*) FROM device") == [(1,)]
    assert stage.reported() == 1
    mouth.client.close()
