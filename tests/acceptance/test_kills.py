"""A daemon, or a broker, that dies in the middle of a batch: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3

import proofs
import pytest
from stage import TARGET, quick

from reconciler.simulator.faults import Faults

RATE = 480  # 8 a second: the batch takes longer than all the kills
MESSY = Faults(repeat=0.3, reorder=0.3)
"""Devices repeat what they say, and say it late. That must not matter."""
SEED = int(os.environ.get("ACCEPTANCE_SEED", "1"))


async def under_way(stage, count: int):
    """A fleet in the middle of a batch: some devices were told, most were not."""
    stage.declare(count)
    stage.daemon.start()
    await stage.daemon.ready()
    devices = stage.devices(quick(faults=MESSY))
    await stage.until(lambda: stage.reported() == count)
    stage.batch(pushRatePerMinute=RATE)
    stage.commit("Upgrade every thermostat to 1.4.0")
    return devices


async def kill_again_and_again(stage, times: int) -> None:
    """At moments that nobody chose: while it starts, while devices come back, while it pushes."""
    dice = random.Random(SEED)
    for life in range(times):
        if life % 5 == 3:
            await asyncio.sleep(dice.uniform(0.1, 1.5))
        else:
            await stage.daemon.ready()
            await asyncio.sleep(dice.uniform(0.1, 2.0))
        stage.daemon.check()
        stage.daemon.kill()
        counted = stage.counts()
        assert counted["QUEUED"], f"the batch was over before kill {life + 1}: {counted}"
        stage.daemon.start()


@pytest.mark.timeout(300)
async def test_a_daemon_killed_ten_times_upgrades_every_device_once(stage):
    devices = await under_way(stage, 200)
    await asyncio.sleep(random.Random(SEED).uniform(0.0, 0.6))  # perhaps while the commit is applied
    stage.daemon.kill()
    stage.daemon.start()
    await stage.until(lambda: stage.counts()["SUCCEEDED"])
    await kill_again_and_again(stage, 10)
    await stage.until_ended(within=120)
    proofs.all_upgraded_once(stage, devices.all)
    proofs.rate_was_kept(stage, RATE)


@pytest.mark.timeout(300)
async def test_behind_a_broker_a_daemon_killed_four_times_upgrades_every_device_once(make_stage, mosquitto):
    stage = make_stage(mosquitto)
    devices = await under_way(stage, 100)
    await stage.until(lambda: stage.counts()["SUCCEEDED"])
    await kill_again_and_again(stage, 4)
    await stage.until_ended(within=120)
    proofs.all_upgraded_once(stage, devices.all)
    proofs.rate_was_kept(stage, RATE)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_broker_that_restarts_in_the_middle_costs_nobody_the_upgrade(make_stage, mosquitto, how):
    stage = make_stage(mosquitto)
    devices = await under_way(stage, 100)
    await stage.until(lambda: stage.counts()["SUCCEEDED"] > 10)
    mosquitto.stop(how)
    assert stage.counts()["QUEUED"] > 10
    await stage.until(lambda: unready(stage))
    mosquitto.start()
    await stage.daemon.ready()
    await stage.until_ended(within=150)  # a push that the broker lost is repeated after a minute
    proofs.all_upgraded_once(stage, devices.all)


async def test_what_devices_said_before_it_was_committed_comes_again_from_the_broker(make_stage, mosquitto):
    stage = make_stage(mosquitto)
    stage.declare(5)
    stage.daemon.start()
    await stage.daemon.ready()
    devices = stage.devices(quick(reports=4, reboot_seconds=4.0))
    await stage.until(lambda: stage.reported() == 5)
    stage.batch()
    stage.commit("Upgrade every thermostat to 1.4.0")
    rebooting = "SELECT count(*) FROM task WHERE step = 100 AND status = 'IN_PROGRESS'"
    await stage.until(lambda: stage.ask(rebooting) == [(5,)])
    with contextlib.closing(sqlite3.connect(stage.data / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # nobody else can commit
        await stage.until(lambda: heard(stage, 5 * 7))  # a report, 0 to 100 %, a report
        assert devices.on(TARGET) == 5
        stage.daemon.kill()
        other.execute("ROLLBACK")
    assert stage.counts() == {"IN_PROGRESS": 5}
    stage.daemon.start()
    await stage.until_ended()
    proofs.all_upgraded_once(stage, devices.all)


async def heard(stage, messages: int) -> bool:
    return await stage.daemon.metric("reconciler_transport_total", event="received") >= messages


async def unready(stage) -> bool:
    code, text = await stage.daemon.readiness()
    return code == 503 and "[-] devices" in text


async def test_an_endpoint_that_restarts_in_the_middle_costs_nobody_the_upgrade(stage):
    devices = await under_way(stage, 100)
    await stage.until(lambda: stage.counts()["SUCCEEDED"] > 10)
    code, seconds = stage.daemon.terminate()
    assert code == 0
    assert seconds < 10
    assert stage.counts()["QUEUED"] > 10
    stage.daemon.start()
    await stage.until_ended(within=100)
    proofs.all_upgraded_once(stage, devices.all)
    proofs.rate_was_kept(stage, RATE)
