"""From the manifest to the file on the device: what `download` and `type: Delta` do, through the whole engine."""

from __future__ import annotations

import json
import logging

import block_reader
import pytest
from rig import PRODUCT_KEY, SOURCE, TARGET, Rig, address, base, batch, document, turn

from reconciler.domain.downloads import Ways
from reconciler.protocol import topics

FILE = b"firmware " * 10
FILES = [{"name": "app.bin", "source": "app.bin"}]
DELTA = {
    "package.yaml": document(
        "Package", "lamp-2", product="lamp", type="Delta", sourceVersion=SOURCE, version=TARGET, files=FILES
    )
}
OF_SOURCE = {"all": {}, "sourceVersions": [SOURCE]}


def told(rig: Rig, name: str = "dev-1") -> dict:
    """What the device was pushed last."""
    pushes = [push for push in rig.wire.published if push.topic == topics.upgrade(address(name))]
    return json.loads(pushes[-1].payload)["data"]


async def block(rig: Rig, stream: int, offset: int, size: int, name: str = "dev-1") -> block_reader.Block:
    """The answer to a question for a block."""
    params = {"fileInfo": {"streamId": stream, "fileId": 1}, "fileBlock": {"size": size, "offset": offset}}
    rig.say(name, topics.file_download, {"id": "1", "params": params})
    await rig.hear()
    await rig.blocks.idle()
    assert rig.wire.published[-1].topic == topics.file_download_reply(address(name))
    return block_reader.read(rig.wire.published[-1].payload)


async def test_a_batch_over_mqtt_is_told_a_stream_that_its_device_reads_until_it_is_upgraded(rig):
    await rig.commit(base("dev-1", "dev-2"), batch(download="MQTT"))
    await rig.arrive("dev-1", "dev-2")
    assert await rig.push() == 2
    data = told(rig)
    assert "url" not in data
    assert (data["dProtocol"], data["streamId"], data["streamFileId"]) == ("mqtt", rig.task("dev-1").id, 1)
    pieces = [await block(rig, data["streamId"], offset, 32) for offset in (0, 32, 64)]
    assert b"".join(piece.content for piece in pieces) == FILE
    assert rig.status("dev-1") == "NOTIFIED"
    assert (await block(rig, data["streamId"], 0, 32, "dev-2")).code == 404
    rig.inform("dev-1", TARGET)
    await rig.hear()
    assert rig.status("dev-1") == "SUCCEEDED"
    assert (await block(rig, data["streamId"], 0, 32)).code == 404


async def test_the_answer_to_firmware_get_tells_the_stream_too(rig):
    await rig.commit(base("dev-1"), batch(download="MQTT", delivery="Pull"))
    await rig.arrive("dev-1")
    rig.ask("dev-1")
    await rig.hear()
    answer = json.loads(rig.wire.published[-1].payload)
    assert answer["data"]["streamId"] == rig.task("dev-1").id


@pytest.mark.parametrize("download", ["Auto", "HTTP"])
async def test_other_batches_are_told_a_url(rig, download):
    await rig.commit(base("dev-1"), batch(download=download))
    await rig.arrive("dev-1")
    await rig.push()
    assert told(rig)["url"].startswith("http://download.example/d/")
    assert "dProtocol" not in told(rig)


@pytest.mark.parametrize(("ways", "wanted"), [(Ways(), "HTTPS"), (Ways(https=True, http=False), "HTTP")])
async def test_a_way_that_is_not_configured_is_refused_when_the_batch_is_accepted(
    tmp_path, database, ways, wanted
):
    rig = Rig(tmp_path, database, ways=ways)
    await rig.boot()
    await rig.commit(base("dev-1"), batch(download=wanted))
    await rig.arrive("dev-1")
    assert await rig.push() == 0
    assert f"asks for downloads over {wanted}" in rig.object("all").message
    await rig.kill()


async def test_a_delta_says_so_and_leaves_out_devices_on_another_version(rig):
    await rig.commit(base("dev-1", "dev-2") | DELTA)
    await rig.arrive("dev-1")
    await rig.arrive("dev-2", version="0.9.0")
    await rig.commit(base("dev-1", "dev-2") | DELTA, batch(target=OF_SOURCE))
    assert await rig.wait(11) == 1
    assert told(rig)["isDiff"] == 1
    assert rig.pushed("dev-2") == []


async def test_a_delta_may_be_read_over_mqtt(rig):
    await rig.commit(base("dev-1") | DELTA)
    await rig.arrive("dev-1")
    await rig.commit(base("dev-1") | DELTA, batch(target={"devices": ["dev-1"]}, download="MQTT"))
    await rig.wait(11)
    assert (told(rig)["isDiff"], told(rig)["dProtocol"]) == (1, "mqtt")
    assert (await block(rig, told(rig)["streamId"], 0, 200)).content == FILE


async def test_a_flood_of_questions_is_acknowledged_and_those_that_are_too_many_are_dropped(rig, caplog):
    await rig.commit(base("dev-1"), batch(download="MQTT"))
    await rig.arrive("dev-1")
    await rig.push()
    params = {
        "fileInfo": {"streamId": told(rig)["streamId"], "fileId": 1},
        "fileBlock": {"size": 1, "offset": 0},
    }
    with caplog.at_level(logging.WARNING):
        for number in range(40):
            rig.say("dev-1", topics.file_download, {"id": number, "params": params})
        await rig.hear()
    assert rig.wire.unacknowledged(address("dev-1")) == []
    await rig.blocks.idle()
    await turn()
    assert rig.ingest.counted["file_download", "busy"] == 24
    assert rig.ingest.counted["file_download", "accepted"] == 16
    dropped = f"{PRODUCT_KEY}/dev-1: file_download message dropped: too many blocks wait to be acknowledged"
    assert dropped in caplog.text
