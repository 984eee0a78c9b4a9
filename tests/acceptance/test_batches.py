"""Batches in all the ways they are written, and devices in all the ways they get in."""

from __future__ import annotations

import proofs
import pytest
from daemons import cli
from stage import PRODUCT_KEY, TARGET, VERSIONS, quick


async def started(stage, count: int):
    stage.declare(count)
    stage.daemon.start()
    await stage.daemon.ready()


async def test_a_deleted_batch_ends_what_its_on_cancel_names_and_the_rest_goes_on_to_its_end(stage):
    await started(stage, 30)
    devices = stage.devices(quick(download_seconds=4.0))
    await stage.until(lambda: stage.reported() == 30)
    stage.batch(pushRatePerMinute=300)  # 5 a second
    stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until(lambda: stage.counts()["IN_PROGRESS"] >= 5)
    stage.delete("batches/upgrade.yaml")
    stage.commit("No, don't")
    await stage.until(lambda: stage.phase() == "CANCELED")
    # The run is cancelled with its commit, its tasks a chunk after the other; meanwhile nobody is told anything.
    await stage.until(lambda: not stage.counts()["QUEUED"])
    going = stage.counts()["NOTIFIED"] + stage.counts()["IN_PROGRESS"]
    ended = stage.counts()["CANCELED"]
    assert (going >= 5, ended > 0, going + ended) == (True, True, 30)
    await stage.until(lambda: stage.counts()["SUCCEEDED"] == going)
    assert stage.counts() == {"SUCCEEDED": going, "CANCELED": ended}
    assert devices.on(TARGET) == going == len(devices.pushes)
    proofs.log_is_whole(stage)
    proofs.counters_are_right(stage)


async def test_a_deleted_batch_may_end_everything(stage):
    await started(stage, 10)
    stage.devices(quick(download_seconds=4.0))
    await stage.until(lambda: stage.reported() == 10)
    stage.batch(onCancel=["Scheduled", "Unconfirmed", "Queued", "Notified", "InProgress"])
    stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until(lambda: stage.counts()["IN_PROGRESS"])
    stage.delete("batches/upgrade.yaml")
    stage.commit("No, don't")
    await stage.until(lambda: stage.counts() == {"CANCELED": 10})
    proofs.log_is_whole(stage)
    proofs.counters_are_right(stage)


@pytest.mark.timeout(180)
async def test_a_device_that_was_away_when_the_batch_came_is_told_when_it_is_back(either_stage):
    stage = either_stage
    await started(stage, 4)
    first = stage.devices()
    await stage.until(lambda: stage.reported() == 4)
    await first.leave()
    stage.batch()
    stage.commit("Upgrade every thermostat to 1.4.0")
    # a broker takes a push for whoever was heard once, and nobody hears of it when that one is gone
    told = {"NOTIFIED": 4} if stage.broker else {"QUEUED": 4}
    await stage.until(lambda: stage.counts() == told)
    second = stage.devices()
    await stage.until_ended(within=100)  # behind a broker, a minute after the first push
    proofs.all_upgraded_once(stage, second.all)
    assert len(second.pushes) == 4


async def test_with_delivery_pull_devices_are_upgraded_when_they_ask_and_told_nothing(either_stage):
    stage = either_stage
    await started(stage, 10)
    waiting = stage.devices(names=stage.names[:5])
    asking = stage.devices(quick(ask_every=1.0), names=stage.names[5:])
    await stage.until(lambda: stage.reported() == 10)
    stage.batch(delivery="Pull")
    stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until(lambda: stage.counts() == {"SUCCEEDED": 5, "QUEUED": 5})
    assert waiting.pushes == []
    assert [device.flashes for device in asking.all] == [[TARGET]] * 5
    proofs.log_is_whole(stage)


async def test_a_list_of_devices_upgrades_just_those_and_the_target_version_is_left_out(stage):
    await started(stage, 12)
    devices = stage.devices(names=stage.names[:10])
    there = stage.devices(names=stage.names[10:], version=TARGET)
    await stage.until(lambda: stage.reported() == 12)
    listed = [*stage.names[2:6], stage.names[11], "nobody-here"]
    stage.write("batches/some.csv", "\n".join(["name", *listed, ""]))
    stage.batch(target={"devicesFrom": {"file": "some.csv", "skipUnknown": True}})
    stage.commit("Upgrade some thermostats to 1.4.0")
    await stage.until_ended()
    upgraded = [device.address.device_name for device in devices.all if device.flashes == [TARGET]]
    assert upgraded == stage.names[2:6]
    assert devices.on(TARGET) == 4
    assert stage.object("Batch", "upgrade").run.left_out == {"already-on-target": 1}
    assert there.pushes == []


async def test_a_device_with_a_secret_that_the_operator_made_is_let_in_and_others_are_not(stage):
    await started(stage, 2)
    name = "made-by-hand"
    made = cli("device", "create", "thermostat", name, *stage.look)
    assert made.returncode == 0, made.stderr
    secret = next(word for word in made.stdout.split() if len(word) == 32)
    stage.secrets[name] = secret
    devices = stage.devices(names=[name])
    stage.secrets[stage.names[0]] = "a guess"
    guessing = stage.devices(names=[stage.names[0]])
    await stage.until(stage.reported)
    stage.batch(target={"devices": [name]})
    stage.commit("Upgrade one thermostat to 1.4.0")
    await stage.until_ended()
    assert devices.all[0].flashes == [TARGET]
    await stage.until(lambda: guessing.fleet.summary().failing == 1)
    assert "refused" in str(guessing.fleet.summary().failing_because)
    assert stage.reported() == 1


async def test_anonymous_devices_are_let_in_only_where_that_is_asked_for_and_are_warned_about(make_stage):
    stage = make_stage(None, "--allow-anonymous-devices")
    await started(stage, 3)
    stage.secrets.clear()
    devices = stage.devices()
    await stage.until(lambda: stage.reported() == 3)
    stage.batch()
    stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until_ended()
    proofs.all_upgraded_once(stage, devices.all)
    assert "WITHOUT a password" in stage.daemon.log.read_text()


async def test_devices_of_a_product_with_registration_auto_become_known_by_reporting(make_stage, mosquitto):
    stage = make_stage(mosquitto)
    stage.declare(1, registration="Auto")
    stage.daemon.start()
    await stage.daemon.ready()
    devices = stage.devices(names=["newcomer-1", "newcomer-2"])
    await stage.until(lambda: stage.reported() == 2)
    stage.batch(target={"all": {}, "sourceVersions": list(VERSIONS)})
    stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until_ended()
    proofs.all_upgraded_once(stage, devices.all)
    assert stage.ask("SELECT product_key FROM product") == [(PRODUCT_KEY,)]
