"""Files that devices read over MQTT, and deltas: the daemon as a process, and a fleet that knows only the wire."""

from __future__ import annotations

import proofs
from stage import VERSIONS, quick

OLD, NEWER = VERSIONS


async def test_a_fleet_downloads_over_mqtt_and_nothing_over_http(either_stage):
    stage = either_stage
    stage.declare(6)
    stage.daemon.start()
    await stage.daemon.ready()
    devices = stage.devices(quick(block_bytes=1024, block_patience=5.0))
    await stage.until(lambda: stage.reported() == 6)
    stage.batch(download="MQTT")
    stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until(lambda: stage.counts() == {"SUCCEEDED": 6})
    proofs.all_upgraded_once(stage, devices.all)
    assert devices.fleet.summary().downloads == 6


async def test_a_delta_upgrades_the_devices_on_its_source_version_and_no_others(stage):
    stage.declare(6)
    stage.package("1.5.0", type="Delta", sourceVersion=OLD)
    stage.commit("A delta")
    stage.daemon.start()
    await stage.daemon.ready()
    devices = stage.devices(quick(delta_source=OLD))
    await stage.until(lambda: stage.reported() == 6)
    stage.batch(package="thermostat-1.5.0", target={"all": {}, "sourceVersions": [OLD]})
    stage.commit("Upgrade those on 1.3.0")
    await stage.until(lambda: stage.counts() == {"SUCCEEDED": 3})
    assert (devices.on("1.5.0"), devices.on(NEWER)) == (3, 3)
