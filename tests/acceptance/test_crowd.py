"""Five thousand devices that come back at once, in the middle of a batch: no storm, no loss."""

from __future__ import annotations

import collections

import proofs
import pytest
from stage import VERSIONS, quick

CROWD = 5000
TARGET = {"gray": {"percent": 40}, "sourceVersions": [VERSIONS[0]]}
RATE = 3_000  # 50 a second: when the first device is done, much is still to come, on a slow machine, too
MEMORY = 400e6


@pytest.mark.timeout(300)
async def test_of_five_thousand_devices_that_reconnect_at_once_those_of_the_batch_are_upgraded_at_its_rate(
    make_stage,
):
    stage = make_stage(None, "--limits", f"push-rate-highest={RATE}")
    stage.declare(CROWD)
    stage.daemon.start()
    await stage.daemon.ready()
    devices = stage.devices(quick(reports=1, download_seconds=0.5), connects_a_second=CROWD)
    await stage.until(lambda: stage.reported() == CROWD, within=90)
    stage.batch(pushRatePerMinute=RATE, target=TARGET)
    stage.commit("Upgrade the thermostats on 1.3.0 to 1.4.0")
    await stage.until(lambda: stage.counts()["SUCCEEDED"], within=60)
    stage.daemon.kill()
    counts = stage.counts()
    assert counts["QUEUED"] > counts.total() // 4, "much of the batch is still to come"
    stage.daemon.start()
    await stage.until_ended(within=150)
    chosen = {name for (name,) in stage.ask("SELECT name FROM task JOIN device ON device_id = device.id")}
    assert len(chosen) == counts.total() == CROWD // 2 * 40 // 100
    upgraded = [device for device in devices.all if device.address.device_name in chosen]
    others = [device for device in devices.all if device.address.device_name not in chosen]
    proofs.all_upgraded_once(stage, upgraded)
    proofs.rate_was_kept(stage, RATE)
    assert not any(device.flashes for device in others)
    taken = collections.Counter(name for _, name in devices.pushes)
    given = dict(stage.ask("SELECT name, pushes FROM task JOIN device ON device_id = device.id"))
    assert all(1 <= taken[name] <= given[name] for name in given)
    assert taken.keys() == given.keys(), "nobody else was told"
    assert sum(taken.values()) < 1.2 * len(upgraded), "hardly anybody was told twice"
    assert stage.daemon.measure() < MEMORY
