"""How upgrades go wrong on demand."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import errors
from reconciler.simulator.faults import Faults, afflict
from reconciler.simulator.push import File, Push
from reconciler.simulator.script import Away, Fetch, Flash, Reboot, Say, Script, Wait

PUSH = Push("2.0.0", (File("http://h/f", 3, "sha256", "ab"),))
REPORTS = [Say("/p", str(step).encode(), step) for step in (0, 50, 100)]
SCRIPT: Script = (
    REPORTS[0],
    Fetch(PUSH),
    Wait(1.0),
    REPORTS[1],
    Wait(1.0),
    REPORTS[2],
    Flash("2.0.0"),
    Reboot(2.0),
)


def spoilt(seed: int = 1, **faults: object) -> Script:
    def failure(step: int, description: str) -> Say:
        return Say("/p", description.encode(), step)

    return afflict(SCRIPT, Faults(**faults), random.Random(seed), failure)


def steps(script: Script) -> list[int | None]:
    return [action.step for action in script if isinstance(action, Say)]


def test_without_faults_nothing_changes():
    assert spoilt() == SCRIPT


def test_a_silent_device_does_nothing():
    assert spoilt(silent=1.0) == ()


@pytest.mark.parametrize(
    ("fault", "reported", "fetches"),
    [
        ("fail_upgrade", [-1], False),
        ("fail_download", [0, -2], False),
        ("fail_verify", [0, 50, 100, -3], True),
        ("fail_burn", [0, 50, 100, -4], True),
    ],
)
def test_a_failure_is_reported_and_nothing_is_flashed_after_it(fault, reported, fetches):
    script = spoilt(**{fault: 1.0})
    assert steps(script) == reported
    assert any(isinstance(action, Fetch) for action in script) is fetches
    assert not any(isinstance(action, (Flash, Reboot)) for action in script)


def test_a_reboot_half_way_keeps_the_old_version():
    script = spoilt(reboot=1.0)
    assert steps(script) == [0, 50]
    assert isinstance(script[-1], Reboot)
    assert not any(isinstance(action, Flash) for action in script)


def test_going_offline_half_way_leaves_everything_else_as_it_was():
    script = spoilt(offline=1.0, offline_seconds=9.0)
    assert Away(9.0) in script
    assert tuple(action for action in script if not isinstance(action, Away)) == SCRIPT


def test_a_wrong_version_is_flashed_in_the_place_of_the_right_one():
    assert Flash("6.6.6") in spoilt(wrong_version=1.0, version_instead="6.6.6")
    assert Flash("2.0.0") not in spoilt(wrong_version=1.0)


def test_a_repeated_message_is_the_same_message_twice_in_a_row():
    assert steps(spoilt(repeat=1.0)) == [0, 0, 50, 50, 100, 100]


@given(st.integers())
def test_reordering_moves_one_report_later_and_loses_nothing(seed):
    script = spoilt(seed, reorder=1.0)
    assert script != SCRIPT
    assert Counter(script) == Counter(SCRIPT)
    assert [a for a in script if not isinstance(a, Say)] == [a for a in SCRIPT if not isinstance(a, Say)]


def test_a_reordered_report_may_come_after_the_reboot():
    assert any(isinstance(spoilt(seed, reorder=1.0)[-1], Say) for seed in range(20))


def test_rates_are_met_and_do_not_depend_on_each_other():
    silent = sum(spoilt(seed, silent=0.3) == () for seed in range(2000))
    assert 500 < silent < 700
    with_others = sum(spoilt(seed, silent=0.3, reorder=0.9, repeat=0.5) == () for seed in range(2000))
    assert with_others == silent


def test_faults_can_come_together():
    script = spoilt(offline=1.0, reboot=1.0, repeat=1.0, reorder=1.0)
    assert sum(isinstance(action, Reboot) for action in script) == 1
    assert sum(isinstance(action, Away) for action in script) == 1


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_none_is_refused_by_name(rate):
    with pytest.raises(errors.UserError, match="wrong-version"):
        Faults(wrong_version=rate)
