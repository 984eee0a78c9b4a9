"""Five thousand devices that come back at once, in the middle of a batch: no storm, no loss."""

from __future__ import annotations

import collections

import proofs
import pytest
from stage import quick

CROWD = 5000
RATE = 30_000  # 500 a second; what a site may ask for is raised with --max-push-rate
MEMORY = 400e6


@pytest.mark.timeout(300)
async def test_five_thousand_devices_that_reconnect_at_once_are_all_upgraded_at_the_rate(make_stage):
    stage = make_stage(None, "--max-push-rate", str(RATE))
    stage.declare(CROWD)
    stage.daemon.start()
    await stage.daemon.ready()
    devices = stage.devices(quick(reports=1, download_seconds=0.5), connects_a_second=CROWD)
    await stage.until(lambda: stage.reported() == CROWD, within=90)
    stage.batch(pushRatePerMinute=RATE)
    stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until(lambda: stage.counts()["SUCCEEDED"] > CROWD // 20, within=60)
    stage.daemon.kill()
    assert stage.counts()["QUEUED"] > CROWD // 2
    stage.daemon.start()
    await stage.until_ended(within=150)
    proofs.all_upgraded_once(stage, devices.all)
    proofs.rate_was_kept(stage, RATE)
    taken = collections.Counter(name for _, name in devices.pushes)
    given = dict(stage.ask("SELECT name, pushes FROM task JOIN device ON device_id = device.id"))
    assert set(taken) == set(given)
    assert all(taken[name] <= given[name] <= 2 for name in given)
    assert sum(taken.values()) < 1.1 * CROWD
    assert stage.daemon.measure() < MEMORY
