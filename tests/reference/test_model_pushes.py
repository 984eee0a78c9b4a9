"""Pushes, the rate, asking, and the limits of a batch, in worked examples: platform-rules.md §4 and §5, by hand."""

from __future__ import annotations

import pytest

from reference import stage
from reference.stage import DAY, HOUR, MINUTE, Stage


@pytest.fixture
def one():
    return Stage()


# ---- pushes and asking ----


def test_a_device_that_comes_online_is_pushed_to_after_ten_seconds(one):
    one.fleet.offline(one.dev)
    one.batch("b")
    assert one.push()
    one.fleet.online(one.dev)
    one.later(9)
    assert one.push()
    assert not one.fleet.overdue(0)
    one.later(1)
    one.later(1)
    assert one.fleet.overdue(0)
    assert one.push() is None
    assert not one.fleet.overdue(0)


def test_a_push_is_repeated_when_the_device_comes_online_again(one):
    one.batch("b")
    one.push()
    one.fleet.offline(one.dev)
    one.fleet.online(one.dev)
    one.later(10)
    assert one.push()
    one.later(50)
    assert one.push() is None
    one.later(MINUTE)
    assert one.push()


def test_pull_is_never_pushed(one):
    one.batch("b", delivery="Pull")
    one.later(HOUR)
    assert one.push()
    assert one.get() == "2.0.0"


def test_nothing_is_given_while_suspended_in_git_or_by_an_operator(one):
    one.batch("b", suspend=True)
    one.fleet.suspend("b")
    one.edit("b", suspend=False)
    assert (one.push() is None, one.get()) == (False, None)
    one.fleet.suspend("b", resume=True)
    assert one.get() == "2.0.0"


def test_deadlines_go_on_while_suspended(one):
    stage.begin(one, timeout=MINUTE)
    one.fleet.suspend("b")
    one.later(MINUTE)
    assert one.task("b") == ("FAILED", None, "timeout")


def test_nothing_is_given_before_the_start(one):
    one.batch("b", start=HOUR)
    assert one.get() is None
    assert one.fleet.confirm("b", one.dev)
    one.later(HOUR)
    assert one.get() == "2.0.0"


def test_confirmation_is_refused_before_the_start(one):
    one.batch("b", start=HOUR, confirm=True)
    assert one.fleet.confirm("b", one.dev) == "outside of its schedule"
    one.later(HOUR)
    assert one.fleet.confirm("b", one.dev) is None


def test_the_rate_is_never_exceeded_in_any_minute():
    many = Stage(names=tuple(f"dev{number:02}" for number in range(11)))
    many.batch("b", rate=10)
    for number in range(10):
        assert many.push(f"dev{number:02}") is None
        many.later(1)
    many.later(49)
    assert many.fleet.now % MINUTE == 59
    assert many.push("dev10").startswith("11 pushes within 60 s")


def test_the_rate_is_kept_after_a_minute_and_spread_over_it():
    many = Stage(names=("aaaa", "bbbb"))
    many.batch("b", rate=10)
    assert many.push("aaaa") is None
    assert "not spread" in many.push("bbbb")


def test_what_a_task_waits_for_is_the_first_that_holds(one):
    one.batch("b", start=HOUR, suspend=True)
    assert one.waits("b") == "suspended"
    one.edit("b", suspend=False)
    assert one.waits("b") == "scheduled"
    one.fleet.offline(one.dev)
    one.later(HOUR)
    assert one.waits("b") == "device offline"


# ---- limits ----


@pytest.mark.parametrize(
    ("ahead", "phase"),
    [(5 * MINUTE - 1, "IN_PROGRESS"), (5 * MINUTE, "PLANNED"), (7 * DAY, "PLANNED"), (-HOUR, "IN_PROGRESS")],
)
def test_a_start_that_is_nearer_than_five_minutes_is_now(one, ahead, phase):
    one.batch("b", start=one.fleet.now + ahead)
    assert one.phase("b") == phase


def test_a_start_further_ahead_than_seven_days_is_refused(one):
    assert one.batch("b", start=one.fleet.now + 7 * DAY + 1)


def test_a_new_batch_whose_end_has_passed_creates_no_task(one):
    one.later(2 * HOUR)
    one.batch("b", start=0, end=2 * HOUR)
    assert one.phase("b") == "COMPLETED"
    assert not one.fleet.tasks


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ({"rate": 9}, False),
        ({"rate": 10}, True),
        ({"rate": 10_000}, True),
        ({"rate": 10_001}, False),
        ({"timeout": 59}, False),
        ({"timeout": 60}, True),
        ({"timeout": 61}, False),
        ({"timeout": 1440 * MINUTE}, True),
        ({"timeout": 1441 * MINUTE}, False),
        ({"retry": (0, 3)}, False),
        ({"retry": (0, 5)}, True),
        ({"retry": (20 * MINUTE, 1)}, False),
        ({"retry": (HOUR, 1), "timeout": HOUR}, False),
        ({"retry": (30 * MINUTE, 1), "timeout": HOUR}, True),
        ({"retry": (DAY, 1), "timeout": DAY}, False),
        ({"retry": (DAY, 1)}, True),
        ({"conflict": "Overwrite", "multi_module": True}, False),
        ({"sources": tuple(f"0.{number}" for number in range(10))}, True),
        ({"sources": tuple(f"0.{number}" for number in range(11))}, False),
        ({"sources": ("2.0.0",)}, False),
        ({"sources": ("1.0.0", "1.0.0")}, False),
        ({"end": HOUR}, False),
        ({"start": 0, "end": HOUR - 1}, False),
        ({"start": 0, "end": HOUR}, True),
        ({"start": 0, "end": 30 * DAY}, True),
        ({"start": 0, "end": 30 * DAY + 1}, False),
        ({"strategy": "Dynamic"}, False),
        ({"strategy": "Dynamic", "sources": ("1.0.0",)}, True),
        ({"strategy": "Dynamic", "target": ("gray", "5"), "sources": ("1.0.0",)}, False),
        ({"strategy": "Dynamic", "sources": ("1.0.0",), "start": HOUR}, False),
        ({"new_reports_only": True}, False),
        ({"tags": tuple((f"t{number}", "v") for number in range(10))}, True),
        ({"tags": tuple((f"t{number}", "v") for number in range(11))}, False),
        ({"package": "delta", "sources": ("1.0.0",)}, True),
        ({"package": "delta", "sources": ("1.1.0",)}, False),
        ({"target": ("devices", "unknown")}, False),
    ],
)
def test_what_a_batch_may_ask_for(one, fields, accepted):
    assert bool(one.batch("b", **fields)) is not accepted


def test_a_push_at_the_sixtieth_second_is_in_the_next_minute():
    many = Stage(names=tuple(f"dev{number:02}" for number in range(11)))
    many.batch("b", rate=10)
    for number in range(10):
        assert many.push(f"dev{number:02}") is None
        many.later(1)
    many.later(50)
    assert many.fleet.now == MINUTE
    assert many.push("dev10") is None


def test_an_answer_takes_a_slot_even_when_none_is_left():
    many = Stage(names=tuple(f"dev{number:02}" for number in range(12)))
    many.batch("b", rate=10)
    for number in range(11):
        assert many.get(f"dev{number:02}") == "2.0.0"
    many.later(30)
    assert many.push("dev11").startswith("12 pushes within 60 s")


def test_a_push_of_something_else_or_to_nobody_is_wrong(one):
    assert one.push() == "p/dev1 has no task to 2.0.0"
    one.batch("b")
    assert one.push(version="3.0.0") == "p/dev1 has no task to 3.0.0"


def test_a_new_source_may_be_pushed_to_again_but_need_not(one):
    stage.notify(one)
    one.later(MINUTE)
    one.inform("1.5.0")
    one.later(MINUTE)
    assert one.fleet.overdue(0) == []
    assert one.push() is None


def test_a_retry_is_overdue_when_nobody_pushes_it(one):
    stage.begin(one, retry=(10 * MINUTE, 1))
    one.progress(-1)
    one.fleet.offline(one.dev)
    one.fleet.online(one.dev)
    one.later(10 * MINUTE - 1)
    one.later(1)
    assert one.fleet.overdue(0) == []
    one.later(1)
    assert [task.hold for task in one.fleet.overdue(0)] == ["retry"]


def test_coming_online_while_a_retry_waits_asks_for_no_push_after_it(one):
    stage.begin(one, retry=(HOUR, 1))
    one.progress(-1)
    one.fleet.offline(one.dev)
    one.fleet.online(one.dev)
    one.later(HOUR)
    assert one.push() is None
    one.later(HOUR)
    assert one.push()


def test_a_deadline_waits_while_expiry_is_paused(one):
    stage.begin(one, timeout=MINUTE)
    one.fleet.expiry_paused_until = 100.0
    one.later(99)
    assert one.task("b")[0] == "IN_PROGRESS"
    one.later(1)
    assert one.task("b") == ("FAILED", None, "timeout")


@pytest.mark.parametrize(("count", "accepted"), [(199, True), (200, True), (201, False)])
def test_a_manifest_names_at_most_200_devices(count, accepted):
    names = tuple(f"dev{number:03}" for number in range(count))
    many = Stage(names=("dev000",))
    many.desired.devices.update({f"p/{name}": {} for name in names})
    assert bool(many.batch("b", target=("devices", *names))) is not accepted


def test_what_a_batch_waits_for_while_its_device_is_busy_or_the_rate_is_used_up(one):
    one.batch("a")
    one.batch("b", conflict="Wait")
    assert (one.waits("a"), one.waits("b")) == ("rate limited", "waits behind another task")


def test_the_moments_ahead_are_those_at_which_something_may_happen(one):
    stage.begin(one, timeout=2 * HOUR, retry=(HOUR, 1), start=0, end=DAY)
    one.progress(-1)
    assert one.fleet.due_moments() == [MINUTE, HOUR, 2 * HOUR, DAY]
    one.later(MINUTE)
    one.fleet.offline(one.dev)
    one.fleet.online(one.dev)
    assert one.fleet.due_moments() == [MINUTE + 10, HOUR, 2 * HOUR, DAY]
