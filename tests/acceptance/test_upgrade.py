"""The main job: a commit upgrades a fleet."""

from __future__ import annotations

import proofs


async def test_a_commit_upgrades_a_fleet_and_its_id_is_on_everything(either_stage):
    stage = either_stage
    stage.declare(50)
    stage.daemon.start()
    await stage.daemon.ready()
    devices = stage.devices()
    await stage.until(lambda: stage.reported() == 50)
    stage.batch()
    sha = stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until_ended()
    proofs.all_upgraded_once(stage, devices.all)
    for table in ("run", "task"):
        found = stage.ask(f"SELECT DISTINCT sha FROM {table} JOIN revision ON revision.id = revision_id")
        assert found == [(sha,)]
    assert (await stage.daemon.readiness())[0] == 200
    await devices.leave()
    code, seconds = stage.daemon.terminate()
    assert code == 0
    assert seconds < 10
