"""Verification, and tasks that are upgraded again, in worked examples: platform-rules.md §3, §5 and §6, by hand."""

from __future__ import annotations

import pytest

from reference import pushing
from reference.stage import DAY, HOUR, MINUTE, Stage, Verification

NAMES = ("aaaa", "bbbb", "cccc", "dddd")


@pytest.fixture
def one():
    return Stage()


@pytest.fixture
def many():
    return Stage(names=NAMES)


def tasks(stage, owner):
    return {
        name: stage.task(owner, name)[::2]
        for name in NAMES
        if f"p/{name}" in stage.fleet.devices and stage.all(owner, name)
    }


# ---- upgraded again ----


def test_a_failed_task_is_upgraded_again_with_its_attempts_and_clocks_cleared(one):
    one.batch("b", retry=(0, 1), timeout=HOUR)
    one.progress(-1)
    one.progress(-1)
    one.later(1)
    one.push()
    one.progress(-2)
    assert (one.task("b"), one.phase("b")) == (("FAILED", None, "download-failed"), "COMPLETED")
    assert one.fleet.again("b", one.dev) is None
    assert (one.task("b"), one.phase("b"), one.of("b").retries) == (("QUEUED", None, None), "IN_PROGRESS", 0)
    one.later(2 * HOUR)
    assert one.push() is None
    assert one.task("b") == ("NOTIFIED", None, None)


def test_upgrading_again_asks_for_confirmation_when_the_batch_does(one):
    one.batch("b", confirm=True)
    one.fleet.cancel_task("b", one.dev)
    assert one.fleet.again("b", one.dev) is None
    assert one.task("b") == ("CONFIRM", None, None)


@pytest.mark.parametrize(
    ("conflict", "begun", "answer", "task"),
    [
        ("Keep", False, "busy", ("CANCELED", None, "cancelled")),
        ("Overwrite", False, None, ("QUEUED", None, None)),
        ("Overwrite", True, "busy", ("CANCELED", None, "cancelled")),
        ("Wait", False, None, ("QUEUED", "behind", None)),
    ],
)
def test_upgrading_again_meets_the_conflict_rule_first(one, conflict, begun, answer, task):
    one.batch("b", conflict=conflict)
    one.fleet.cancel_task("b", one.dev)
    one.batch("other")
    if begun:
        one.progress(1)
    assert one.fleet.again("b", one.dev) == answer
    assert one.task("b") == task
    assert one.task("other")[0] == (
        "CANCELED" if conflict == "Overwrite" and not begun else one.task("other")[0]
    )


def test_upgrading_again_is_refused_when_it_makes_no_sense(one):
    one.batch("b", start=0, end=2 * HOUR)
    assert one.fleet.again("b", one.dev) == "nothing to upgrade again"
    one.fleet.cancel_task("b", one.dev)
    one.inform("2.0.0")
    assert one.fleet.again("b", one.dev) == "already"
    one.inform("2.0.1")
    assert one.fleet.again("b", one.dev) == "downgrade"
    one.inform("1.0.0")
    one.later(2 * HOUR)
    assert one.fleet.again("b", one.dev) == "its schedule has ended"


def test_upgrading_again_is_refused_when_the_batch_is_cancelled(one):
    one.batch("b")
    one.drop("b")
    assert one.fleet.again("b", one.dev) == "the batch is cancelled"


def test_upgrading_again_starts_new_clocks(one):
    one.batch("b", timeout=MINUTE, no_response=MINUTE)
    one.push()
    one.progress(1)
    one.later(MINUTE)
    one.fleet.again("b", one.dev)
    one.push()
    one.later(59)
    assert one.task("b") == ("NOTIFIED", None, None)
    one.later(1)
    assert one.task("b") == ("FAILED", None, "no-response")
    one.fleet.again("b", one.dev)
    one.progress(1)
    one.later(MINUTE)
    assert one.task("b") == ("FAILED", None, "timeout")


# ---- verification ----


def trial(many, **fields):
    many.package("new", "2.0.0", verification=Verification(**{"devices": ("aaaa", "bbbb"), **fields}))


def test_no_batch_starts_until_its_package_is_verified(many):
    trial(many)
    assert many.fleet.verification("new") == "verifying"
    many.batch("b", package="new", target=("devices", "cccc"))
    assert many.phase("b") == "PLANNED"
    assert many.waits("new") in ("rate limited", "device offline")
    assert (many.get("cccc"), many.fleet.tasks[-1].run.started_at) == (None, None)
    many.inform("2.0.0", "aaaa")
    assert many.phase("b") == "PLANNED"
    many.inform("2.0.0", "bbbb")
    assert (many.fleet.verification("new"), many.phase("b")) == ("verified", "IN_PROGRESS")
    assert many.get("cccc") == "2.0.0"


def test_one_failure_fails_the_verification_and_a_new_attempt_tries_it_again(many):
    trial(many)
    many.batch("b", package="new", target=("devices", "cccc"))
    many.inform("2.0.0", "aaaa")
    many.progress(-1, "bbbb")
    assert (many.fleet.verification("new"), many.phase("b")) == ("failed", "PLANNED")
    trial(many, attempt=2)
    assert many.fleet.verification("new") == "verifying"
    assert [(task.run.number, task.status) for task in many.all("new", "bbbb")] == [
        (1, "FAILED"),
        (2, "QUEUED"),
    ]
    many.inform("2.0.0", "bbbb")
    assert (many.fleet.verification("new"), many.phase("b")) == ("verified", "IN_PROGRESS")


def test_a_changed_trial_cancels_the_old_one_whole(many):
    trial(many)
    many.push("aaaa")
    many.progress(1, "aaaa")
    trial(many, devices=("aaaa", "cccc"))
    assert [(task.run.number, task.status) for task in many.all("new", "aaaa")] == [
        (1, "CANCELED"),
        (2, "QUEUED"),
    ]


def test_a_test_device_on_the_target_counts_but_nobody_at_all_does_not(many):
    many.inform("2.0.0", "aaaa")
    trial(many, devices=("aaaa",))
    assert many.fleet.verification("new") == "verified"
    many.package("other", "2.0.0", verification=Verification(("bbbb",), sources=("1.1.0",)))
    assert many.fleet.verification("other") == "failed"


def test_a_trial_waits_for_a_busy_device(many):
    many.batch("b")
    trial(many)
    assert many.task("new", "aaaa") == ("QUEUED", "behind", None)


def test_a_batch_that_has_not_started_makes_way_for_a_trial_and_comes_back(many):
    many.batch("b", start=HOUR, confirm=True)
    trial(many, devices=("aaaa",))
    assert (many.task("b", "aaaa"), many.task("new", "aaaa")) == (
        ("QUEUED", "behind", None), ("QUEUED", None, None),
    )  # fmt: skip
    many.progress(-1, "aaaa")
    assert many.task("b", "aaaa") == ("CONFIRM", None, None)


def test_what_waits_for_its_retry_makes_way_for_a_trial_too_and_begins_anew(many):
    many.batch("b", start=DAY, retry=(HOUR, 1), timeout=2 * HOUR)
    many.progress(-1, "aaaa")
    trial(many, devices=("aaaa",))
    assert (many.task("b", "aaaa"), many.task("new", "aaaa")) == (
        ("QUEUED", "behind", None), ("QUEUED", None, None),
    )  # fmt: skip
    many.progress(-1, "aaaa")
    assert many.task("b", "aaaa") == ("QUEUED", None, None)
    assert (many.of("b", "aaaa").retries, many.of("b", "aaaa").timeout_at) == (0, None)


def test_a_trial_that_is_not_answered_fails_after_its_timeout(many):
    trial(many, devices=("aaaa",), timeout=HOUR)
    many.push("aaaa")
    many.later(HOUR)
    assert many.task("new", "aaaa") == ("FAILED", None, "no-response")


def test_without_verification_waiting_batches_start(many):
    trial(many)
    many.batch("b", package="new", target=("devices", "cccc"))
    many.package("new")
    assert many.phase("b") == "IN_PROGRESS"


def test_a_waiting_batch_is_filtered_again_when_its_package_is_verified(many):
    trial(many, devices=("aaaa",))
    many.batch("b", package="new", target=("devices", "cccc", "dddd"))
    many.fleet.devices["p/cccc"].versions["default"] = "2.0.0"
    many.inform("2.0.0", "aaaa")
    assert tasks(many, "b") == {"cccc": ("SUCCEEDED", None), "dddd": ("QUEUED", None)}


def test_the_schedule_ends_also_while_the_verification_lasts(many):
    trial(many, devices=("aaaa",))
    many.batch("b", package="new", target=("devices", "cccc"), start=0, end=DAY)
    many.later(DAY)
    assert (many.task("b", "cccc"), many.phase("b")) == (("CANCELED", None, "schedule-ended"), "COMPLETED")


def test_downtime_extends_deadlines_of_devices_but_no_schedule(many):
    many.batch("b", target=("devices", "aaaa"), timeout=HOUR, start=0, end=2 * HOUR)
    many.batch("c", target=("devices", "bbbb"), start=0, end=2 * HOUR)
    many.progress(1, "aaaa")
    many.fleet.downtime(3 * HOUR)
    many.later(4 * HOUR - 1)
    assert (many.task("b", "aaaa")[0], many.task("c", "bbbb")[2]) == ("IN_PROGRESS", "schedule-ended")
    many.later(1)
    assert many.task("b", "aaaa") == ("FAILED", None, "timeout")


def test_a_gated_batch_waits_for_verification(many):
    trial(many)
    many.batch("b", package="new", target=("devices", "cccc"))
    task = many.all("b", "cccc")[0]
    verified = many.fleet.verification("new") == "verified"
    assert pushing.waits_for(task, verified=verified) == "waits for verification"
