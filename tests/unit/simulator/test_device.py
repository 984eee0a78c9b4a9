"""What a simulated device does about what it hears, as a script."""

from __future__ import annotations

import json
import random

from reconciler.protocol import topics
from reconciler.protocol.topics import Address
from reconciler.simulator.device import Behaviour, Device, State
from reconciler.simulator.faults import Faults
from reconciler.simulator.script import Fetch, Flash, Reboot, Say, Wait

ADDRESS = Address("pk", "dev-1")
UPGRADE = topics.upgrade(ADDRESS)


def a_push(version: str = "2.0.0", **more: object) -> bytes:
    data = {"size": 3, "version": version, "url": "http://h/f", "sign": "ab", "signMethod": "SHA256", **more}
    return json.dumps({"code": "1000", "data": data}, separators=(",", ":")).encode()


def a_device(seed: int = 1, **behaviour: object) -> Device:
    made = Device(ADDRESS, "1.0.0", Behaviour(**behaviour), random.Random(seed))
    made.state = State.IDLE
    return made


def params(say: object) -> dict[str, str]:
    assert isinstance(say, Say)
    return json.loads(say.payload)["params"]


def test_it_informs_of_its_version_and_leaves_the_default_module_out():
    say = a_device().inform()
    assert say.topic == "/ota/device/inform/pk/dev-1"
    assert say.payload == b'{"id":"1","params":{"version":"1.0.0"}}'
    assert params(a_device(module="MCU").inform()) == {"version": "1.0.0", "module": "MCU"}


def test_it_asks_for_its_package_as_the_sdks_do():
    say = a_device(module="MCU").ask()
    assert say.topic == "/sys/pk/dev-1/thing/ota/firmware/get"
    assert json.loads(say.payload) == {
        "id": "1",
        "version": "1.0",
        "params": {"module": "MCU"},
        "method": "thing.ota.firmware.get",
    }


def test_an_upgrade_is_progress_download_flash_and_reboot_in_this_order():
    script = a_device(reports=2).hear(UPGRADE, a_push())
    kinds = [type(action) for action in script]
    assert kinds == [Say, Fetch, Wait, Say, Wait, Say, Flash, Reboot]
    assert [params(action)["step"] for action in script if isinstance(action, Say)] == ["0", "50", "100"]
    assert script[-2] == Flash("2.0.0")


def test_download_and_reboot_take_about_the_time_they_are_said_to_take():
    script = a_device(download_seconds=10.0, reboot_seconds=4.0).hear(UPGRADE, a_push())
    assert 7.0 <= sum(a.seconds for a in script if isinstance(a, Wait)) <= 13.0
    assert 2.8 <= script[-1].seconds <= 5.2


def test_a_new_version_runs_with_the_next_boot_and_each_flash_is_counted():
    made = a_device()
    made.write("2.0.0")
    assert (made.version, made.flashes) == ("1.0.0", ["2.0.0"])
    made.boot()
    assert (made.version, made.state, made.progress) == ("2.0.0", State.OFFLINE, None)


def test_a_push_of_the_version_that_it_runs_is_answered_with_a_report():
    (say,) = a_device().hear(UPGRADE, a_push("1.0.0"))
    assert params(say) == {"version": "1.0.0"}


def test_a_push_while_it_upgrades_or_reboots_is_not_followed():
    made = a_device()
    for made.state in (State.UPGRADING, State.REBOOTING):
        assert made.hear(UPGRADE, a_push()) == ()
    assert made.ignored == 0


def test_what_an_sdk_would_drop_is_counted_as_ignored():
    made = a_device()
    assert made.hear(UPGRADE, b'{"code":200,"data":{}}') == ()
    assert made.hear("/ota/device/upgrade/pk/dev-2", a_push()) == ()
    assert made.hear(UPGRADE, a_push(module="MCU")) == ()
    assert made.ignored == 3


def test_the_answer_to_firmware_get_is_followed_like_a_push():
    assert len(a_device().hear(topics.firmware_get_reply(ADDRESS), a_push())) > 2


def test_progress_names_the_module_and_echoes_the_strategy():
    script = a_device(module="MCU").hear(UPGRADE, a_push(module="MCU", extData={"strategy": "s-1"}))
    assert params(script[0]) == {"step": "0", "desc": "", "strategy": "s-1", "module": "MCU"}


def test_the_same_seed_does_the_same_and_another_another():
    faults = Faults(repeat=0.5, reorder=0.5, offline=0.5)
    scripts = [a_device(seed, faults=faults).hear(UPGRADE, a_push()) for seed in (7, 7, 8)]
    assert scripts[0] == scripts[1] != scripts[2]


def test_ids_grow_so_that_two_reports_are_never_the_same_message():
    made = a_device()
    assert made.inform().payload != made.inform().payload


def test_a_delta_for_another_version_is_downloaded_and_can_not_be_burnt():
    script = a_device(delta_source="1.3.0").hear(UPGRADE, a_push(isDiff=1))
    assert params(script[-1]) == {"step": "-4", "desc": "the delta is for 1.3.0"}
    assert any(isinstance(action, Fetch) for action in script)
    assert not any(isinstance(action, Flash | Reboot) for action in script)


def test_a_delta_for_its_own_version_and_any_full_package_are_burnt():
    for made, more in ((a_device(delta_source="1.0.0"), {"isDiff": 1}), (a_device(delta_source="1.3.0"), {})):
        assert Flash("2.0.0") in made.hear(UPGRADE, a_push(**more))
    assert Flash("2.0.0") in a_device().hear(UPGRADE, a_push(isDiff=1))
