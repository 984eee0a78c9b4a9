"""Devices that misbehave: each task ends as platform rules §5 say for what its device did, and not otherwise."""

from __future__ import annotations

import collections
import dataclasses

import proofs
import pytest
from stage import PACKAGE, TARGET, Device, Devices, Stage, quick

from reconciler.simulator.faults import Faults

GROUP = 6
"""Devices with the same fault."""
REASONS = {-1: "upgrade-failed", -2: "download-failed", -3: "verify-failed", -4: "burn-failed"}
MESSY = {"repeat": 0.3, "reorder": 0.4}
FAULTS = {
    "none": Faults(),
    "silent": Faults(silent=1.0),
    "fails with -1": Faults(fail_upgrade=1.0),
    "fails with -2": Faults(fail_download=1.0),
    "fails with -3": Faults(fail_verify=1.0),
    "fails with -4": Faults(fail_burn=1.0),
    "ends with another version": Faults(wrong_version=1.0),
    "is offline for a while": Faults(offline=1.0, offline_seconds=1.5),
    "repeats everything": Faults(repeat=1.0),
    "reorders": Faults(reorder=1.0),
    "fails now and then, in disorder": Faults(
        fail_upgrade=0.1, fail_download=0.15, fail_verify=0.15, fail_burn=0.15, **MESSY
    ),
    "fails now and then, and is offline": Faults(
        fail_verify=0.3, fail_burn=0.3, offline=0.5, offline_seconds=1.5
    ),
    "flashes what it likes, in disorder": Faults(wrong_version=0.5, **MESSY),
}


@dataclasses.dataclass
class Witness:
    """Notes the steps that devices reported, as they did it."""

    steps: dict[str, list[int]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list[int])
    )

    def look(self, device: Device) -> None:
        if device.progress is not None:
            self.steps[device.address.device_name].append(device.progress)

    def verdict(self, device: Device) -> tuple[str, str | None]:
        """Status and reason by the rules, from what the device did."""
        failed = [step for step in self.steps[device.address.device_name] if step < 0]
        if failed:
            assert device.flashes == []
            return "FAILED", REASONS[failed[0]]
        if device.flashes == [TARGET]:
            return "SUCCEEDED", None
        if device.flashes:
            assert device.flashes == ["0.0.0"]
            return "FAILED", "unexpected-version"
        return "NOTIFIED", None


def started(stage: Stage, witness: Witness) -> list[Devices]:
    """A fleet of groups, each with its own fault."""
    names = iter(stage.names)
    return [
        stage.devices(
            quick(faults=faults),
            names=[next(names) for _ in range(GROUP)],
            version="1.3.0",
            seed=11,
            on_change=witness.look,
        )
        for faults in FAULTS.values()
    ]


def tasks(stage: Stage) -> dict[object, tuple[object, ...]]:
    rows = stage.ask("SELECT name, task.status, reason FROM task JOIN device ON device_id = device.id")
    return {name: tuple(rest) for name, *rest in rows}


@pytest.mark.timeout(240)
async def test_every_task_ends_as_the_rules_say_for_what_its_device_did(either_stage):
    stage = either_stage
    stage.declare(GROUP * len(FAULTS))
    stage.daemon.start()
    await stage.daemon.ready()
    witness = Witness()
    fleets = started(stage, witness)
    devices = [device for fleet in fleets for device in fleet.all]
    await stage.until(lambda: stage.reported() == len(devices))
    stage.batch()
    stage.commit("Upgrade every thermostat to 1.4.0")
    await stage.until(lambda: stage.counts() == collections.Counter(
        witness.verdict(device)[0] for device in devices
    ) and stage.counts()["NOTIFIED"] == GROUP, within=90)  # fmt: skip
    expected = {device.address.device_name: witness.verdict(device) for device in devices}
    assert tasks(stage) == expected
    reasons = collections.Counter(reason for _, reason in expected.values())
    assert len(reasons) == 6, "every reason happened, and success"
    assert all(found[0] == "NOTIFIED" for found in list(expected.values())[GROUP : 2 * GROUP])

    stage.batch(state="Canceled", onCancel=["Queued", "Notified", "InProgress"])
    stage.commit("Give up on those that do not answer")
    await stage.until_ended()
    expected |= {name: ("CANCELED", "canceled") for name, found in expected.items() if found[0] == "NOTIFIED"}
    assert tasks(stage) == expected
    proofs.log_is_whole(stage)
    proofs.counters_are_right(stage)
    told = [name for fleet in fleets for _, name in fleet.pushes]
    assert sorted(told) == stage.names, "who failed, or ended well, is left in peace"


@pytest.mark.timeout(240)
async def test_after_a_reboot_half_way_a_device_is_told_again_a_minute_later_and_a_stalled_one_fails(stage):
    stage.declare(12)
    stage.daemon.start()
    await stage.daemon.ready()
    rebooting = stage.devices(quick(faults=Faults(reboot=1.0)), names=stage.names[:6], version="1.3.0")
    stalled = stage.devices(quick(download_seconds=9999.0), names=stage.names[6:], version="1.3.0")
    await stage.until(lambda: stage.reported() == 12)
    for batch, fleet, timeout in (("reboot", rebooting, "5m"), ("stall", stalled, "1m")):
        names = [device.address.device_name for device in fleet.all]
        stage.batch(batch, target={"devices": names}, timeout=timeout)
    stage.commit("Upgrade all thermostats to 1.4.0")
    await stage.until(lambda: stage.counts("reboot") + stage.counts("stall") == {"IN_PROGRESS": 12})
    await stage.until(lambda: all(device.state == "idle" for device in rebooting.all))
    for device in rebooting.all:  # what made them reboot is over
        device.behaviour = quick()
    await stage.until_ended("stall", within=100)
    await stage.until_ended("reboot", within=100)
    assert [device.flashes for device in rebooting.all] == [[TARGET]] * 6
    for name in stage.names[:6]:
        first, second = [at for at, told in rebooting.pushes if told == name]
        assert second - first >= 59.0, "never twice in a minute"
    found = tasks(stage)
    assert {found[name] for name in stage.names[:6]} == {("SUCCEEDED", None)}
    assert {found[name] for name in stage.names[6:]} == {("FAILED", "timeout")}
    assert stage.object("Batch", "stall").run.failures == {"timeout": 6}

    await stalled.leave()
    stage.devices(names=stage.names[6:], version=TARGET)  # they did it after all, and nobody had heard of it
    late = "SELECT count(*) FROM task WHERE late_success AND status = 'FAILED'"
    await stage.until(lambda: stage.ask(late) == [(6,)])
    proofs.log_is_whole(stage)
    proofs.counters_are_right(stage)
    assert PACKAGE in str(stage.object("Batch", "stall").spec)
