"""What the daemon leans on is away: it says so, goes on with the rest, and recovers by itself."""

from __future__ import annotations

import contextlib
import sqlite3

import proofs
import pytest


async def started(stage, count: int = 10):
    stage.declare(count)
    stage.daemon.start()
    await stage.daemon.ready()
    devices = stage.devices()
    await stage.until(lambda: stage.reported() == count)
    return devices


async def says(stage, check: str) -> bool:
    """`/readyz` fails because of just this."""
    code, text = await stage.daemon.readiness()
    failing = [line for line in text.splitlines() if line.startswith("[-]")]
    return code == 503 and len(failing) == 1 and failing[0].startswith(f"[-] {check}:")


async def test_without_its_repository_it_is_not_ready_but_devices_are_upgraded(stage):
    devices = await started(stage)
    stage.batch()
    stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until(lambda: stage.counts()["NOTIFIED"] or stage.counts()["IN_PROGRESS"])
    folder = stage.repository.folder
    away = folder.rename(folder.with_name("away"))
    await stage.until(lambda: says(stage, "git"))
    assert (await stage.daemon.http.get("/livez")).status_code == 200
    await stage.until_ended()
    proofs.all_upgraded_once(stage, devices.all)
    assert await says(stage, "git")
    away.rename(folder)
    await stage.daemon.ready()
    stage.package("1.5.0")
    stage.commit("A package that came afterwards")
    await stage.until(lambda: stage.ask("SELECT 1 FROM package WHERE version = '1.5.0'"))


async def test_without_its_broker_it_is_not_ready_and_a_commit_made_meanwhile_is_carried_out_later(
    make_stage, mosquitto
):
    stage = make_stage(mosquitto)
    devices = await started(stage)
    mosquitto.stop()
    await stage.until(lambda: says(stage, "devices"))
    stage.batch()
    stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until(lambda: stage.counts() == {"QUEUED": 10})
    assert (await stage.daemon.http.get("/livez")).status_code == 200
    mosquitto.start()
    await stage.daemon.ready()
    await stage.until_ended()
    proofs.all_upgraded_once(stage, devices.all)


@pytest.mark.timeout(180)
async def test_without_its_database_it_is_not_ready_and_what_devices_say_meanwhile_is_not_lost(stage):
    devices = await started(stage)
    stage.batch()
    stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until(lambda: stage.counts()["IN_PROGRESS"])
    with contextlib.closing(sqlite3.connect(stage.data / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # nobody else can write
        await stage.until(lambda: says(stage, "database"), within=60)
        assert (await stage.daemon.http.get("/livez")).status_code == 200
        other.execute("ROLLBACK")
    await stage.daemon.ready()
    await stage.until_ended()
    proofs.all_upgraded_once(stage, devices.all)
