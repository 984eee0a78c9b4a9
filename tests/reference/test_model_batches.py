"""Batches and packages, in worked examples: platform-rules.md §3 verification, §4, §6 and manifests.md, by hand."""

from __future__ import annotations

import pytest

from reference import judgement
from reference.stage import DAY, HOUR, MINUTE, Group, Stage

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


# ---- targets ----


def test_what_is_left_out_is_counted_by_its_reason(many):
    for name, version in (("aaaa", "2.0.0"), ("bbbb", "2.0.1"), ("cccc", "1.1.0")):
        many.inform(version, name)
    many.batch("b", package="delta", sources=("1.0.0",))
    assert many.fleet.batches["b"].run.left_out == {
        "p/aaaa": "already",
        "p/bbbb": "source-version",
        "p/cccc": "source-version",
    }
    many.drop("b")
    many.batch("c")
    assert many.fleet.batches["c"].run.left_out == {"p/aaaa": "already", "p/bbbb": "downgrade"}
    assert list(tasks(many, "c")) == ["cccc", "dddd"]


def test_source_versions_narrow_all_devices(many):
    many.inform("1.1.0", "bbbb")
    many.batch("b", sources=("1.1.0",))
    assert list(tasks(many, "b")) == ["bbbb"]


def test_a_device_that_never_reported_takes_a_full_package_but_no_delta():
    one = Stage(version=None)
    one.batch("delta", package="delta", sources=("1.0.0",))
    one.batch("full")
    assert (one.all("delta"), one.task("full")[0], one.source("full")) == ([], "QUEUED", None)
    one.drop("full")
    one.batch("sourced", sources=("1.0.0",))
    assert one.all("sourced") == []


def test_a_static_batch_takes_the_devices_that_are_there_when_it_is_accepted(many):
    many.batch("b")
    many.desired.devices["p/late"] = {}
    many.commit()
    assert list(tasks(many, "b")) == list(NAMES)
    assert many.all("b", "late") == []


def test_named_devices_and_static_groups(many):
    many.batch("named", target=("devices", "aaaa", "cccc"))
    many.group("lab", devices=("bbbb", "gone"))
    many.batch("grouped", target=("group", "lab"))
    assert (list(tasks(many, "named")), list(tasks(many, "grouped"))) == (["aaaa", "cccc"], ["bbbb"])


@pytest.mark.parametrize(
    ("base", "percent", "count"),
    [
        (0, "50", 0),
        (1, "0.001", 1),
        (1000, "0.1", 1),
        (1999, "0.1", 1),
        (2000, "0.1", 2),
        (100_000, "0.001", 1),
        (200_000, "0.001", 2),
        (3, "33.333", 1),
        (3, "66.667", 2),
        (1000, "28.7", 287),
        (7, "100", 7),
    ],
)
def test_a_gray_share_is_rounded_down_but_never_to_nobody(base, percent, count):
    assert judgement.gray_count(base, percent) == count


def test_a_gray_choice_is_the_smallest_keys_of_those_that_fit(many):
    many.inform("2.0.0", "aaaa")
    many.batch("b", target=("gray", "67"))
    parameters = judgement.gray_parameters("b")
    fitting = [many.fleet.devices[f"p/{name}"] for name in NAMES[1:]]
    chosen = sorted(fitting, key=lambda device: judgement.gray_key(device, parameters))[:2]
    assert set(tasks(many, "b")) == {device.name for device in chosen}


@pytest.mark.parametrize(
    ("target", "present", "is_lower"),
    [
        ("1.9.0", "1.10.0", True),
        ("1.10.0", "1.9.0", False),
        ("1.0", "1.0.1", True),
        ("1.0.0", "1.0", False),
        ("1.0-rc1", "2.0", False),
        ("1.0", "v2", False),
        ("1.0", None, False),
    ],
)
def test_dotted_numbers_are_compared_as_numbers(target, present, is_lower):
    assert judgement.lower(target, present) is is_lower


# ---- multi-module ----


def test_multi_module_tasks_run_side_by_side_one_per_module(one):
    one.batch("a", multi_module=True)
    one.batch("b", package="mcu-2", multi_module=True)
    one.batch("c", package="mcu-2", multi_module=True)
    assert [one.task(name)[::2] for name in "abc"] == [
        ("QUEUED", None),
        ("QUEUED", None),
        ("FAILED", "conflict"),
    ]
    one.progress(-1, module="mcu")
    assert [one.task(name)[0] for name in "ab"] == ["QUEUED", "FAILED"]


@pytest.mark.parametrize("first", [False, True])
def test_a_multi_module_task_and_an_exclusive_one_exclude_each_other(one, first):
    one.batch("a", multi_module=first)
    one.batch("b", package="mcu-2", multi_module=not first)
    assert one.task("b") == ("FAILED", None, "conflict")


# ---- changes ----


def test_rate_retry_tags_and_suspend_change_in_place(one):
    one.batch("b")
    assert one.edit("b", rate=10, retry=(0, 1), tags=(("site", "berlin"),), suspend=True) is None
    assert one.fleet.batches["b"].run.spec.rate == 10
    assert len(one.fleet.runs) == 1
    one.progress(-1)
    assert one.task("b") == ("QUEUED", "retry", None)


def test_a_changed_timeout_is_for_tasks_that_start_later(many):
    many.batch("b", timeout=HOUR)
    many.progress(0, "aaaa")
    many.edit("b", timeout=MINUTE)
    many.progress(0, "bbbb")
    many.later(MINUTE)
    assert [many.task("b", name)[0] for name in ("aaaa", "bbbb")] == ["IN_PROGRESS", "FAILED"]


@pytest.mark.parametrize(
    "change",
    [
        {"package": "pkg-3"},
        {"confirm": True},
        {"conflict": "Wait"},
        {"delivery": "Pull"},
        {"no_response": HOUR},
        {"sources": ("1.0.0",)},
        {"start": HOUR},
        {"allow_downgrade": True},
        {"multi_module": True},
        {"target": ("devices", "dev1")},
        {"strategy": "Dynamic", "sources": ("1.0.0",)},
    ],
)
def test_anything_else_is_refused_and_the_batch_goes_on(one, change):
    one.batch("b")
    assert one.edit("b", rate=10, **change)[0].startswith("immutable")
    assert one.fleet.batches["b"].run.spec.rate == 1000
    assert one.task("b") == ("QUEUED", None, None)


def test_the_end_of_a_schedule_can_come_earlier_or_later(one):
    one.batch("b", start=0, end=2 * HOUR)
    one.edit("b", end=3 * HOUR)
    one.later(2 * HOUR)
    assert one.task("b")[0] == "QUEUED"
    one.edit("b", end=HOUR)
    assert one.task("b") == ("CANCELED", None, "schedule-ended")


# ---- cancelling and coming back ----


@pytest.mark.parametrize(
    ("on_cancel", "left"),
    [
        (("Scheduled", "Unconfirmed", "Queued"), ["NOTIFIED", "IN_PROGRESS"]),
        (("Scheduled",), ["QUEUED", "NOTIFIED", "IN_PROGRESS"]),
        (("Notified",), ["QUEUED", "IN_PROGRESS"]),
        (("InProgress",), ["QUEUED", "NOTIFIED"]),
        ((), ["QUEUED", "NOTIFIED", "IN_PROGRESS"]),
    ],
)
def test_what_happens_to_unfinished_tasks_is_declared(many, on_cancel, left):
    many.batch("b", target=("devices", "aaaa", "bbbb", "cccc"), on_cancel=on_cancel)
    many.push("bbbb")
    many.later(1)
    many.push("cccc")
    many.progress(1, "cccc")
    many.drop("b")
    run = many.fleet.batches["b"].run
    assert [task.status for task in many.fleet.tasks_in(run) if task.unfinished] == left
    assert (run.phase, many.fleet.draining(run)) == ("CANCELED", len(left))


@pytest.mark.parametrize(
    ("on_cancel", "left"),
    [(("Scheduled",), "CANCELED"), (("Unconfirmed",), "CANCELED"), (("Queued",), "CONFIRM")],
)
def test_a_batch_that_has_not_started_is_cancelled_whole_by_scheduled(one, on_cancel, left):
    one.batch("b", confirm=True, start=HOUR, on_cancel=on_cancel)
    one.drop("b")
    assert one.task("b")[0] == left


def test_what_is_left_of_a_cancelled_batch_starts_at_its_time(one):
    one.batch("b", start=HOUR, on_cancel=())
    one.drop("b")
    assert one.get() is None
    one.later(HOUR)
    assert one.push() is None
    assert (one.task("b")[0], one.phase("b")) == ("NOTIFIED", "CANCELED")


def test_a_deleted_batch_that_is_back_waits_behind_its_earlier_run(one):
    one.batch("b")
    one.push()
    one.drop("b")
    one.batch("b")
    assert [(task.run.number, task.status, task.hold) for task in one.all("b")] == [
        (1, "NOTIFIED", None),
        (2, "QUEUED", "behind"),
    ]
    one.inform("2.0.0")
    assert [task.status for task in one.all("b")] == ["SUCCEEDED", "SUCCEEDED"]
    assert one.phase("b") == "COMPLETED"


@pytest.mark.parametrize("deleted", [False, True])
def test_a_batch_that_had_ended_by_itself_stays_ended(one, deleted):
    one.batch("b")
    one.inform("2.0.0")
    if deleted:
        one.drop("b")
    else:
        one.edit("b", state="Canceled")
    one.inform("1.0.0")
    one.batch("b")
    assert len(one.fleet.runs) == 1
    assert one.phase("b") == "COMPLETED"


def test_cancelled_and_active_again_is_a_new_run_for_the_devices_that_still_match(many):
    many.batch("b")
    many.edit("b", state="Canceled")
    assert set(tasks(many, "b").values()) == {("CANCELED", "cancelled")}
    many.inform("2.0.0", "aaaa")
    many.edit("b", state="Active")
    assert many.fleet.batches["b"].run.number == 2
    assert tasks(many, "b")["bbbb"] == ("QUEUED", None)
    assert len(many.all("b", "aaaa")) == 1


def test_a_batch_that_an_operator_cancelled_stays_so_while_its_spec_is_the_same(one):
    one.batch("b")
    one.fleet.cancel_batch("b")
    one.commit()
    assert (len(one.fleet.runs), one.phase("b")) == (1, "CANCELED")
    one.edit("b", rate=10)
    assert (len(one.fleet.runs), one.phase("b")) == (2, "IN_PROGRESS")


def test_a_new_batch_that_is_cancelled_already_touches_nobody(one):
    one.batch("b", state="Canceled")
    assert one.fleet.tasks == []
    one.edit("b", state="Active")
    assert one.task("b")[0] == "QUEUED"


def test_in_one_commit_cancellations_come_before_creations(one):
    one.batch("b")
    del one.desired.batches["b"]
    one.batch("a")
    assert one.task("a") == ("QUEUED", None, None)


def test_a_package_whose_batch_is_unfinished_can_not_be_deleted(one):
    one.batch("b")
    package = one.desired.packages.pop("pkg-2")
    del one.desired.batches["b"]
    one.desired.batches["b"] = one.fleet.batches["b"].spec
    assert one.commit()["pkg-2"]
    assert package.name in one.fleet.packages


def test_the_content_of_a_package_never_changes_under_its_name(one):
    assert one.package("pkg-2", "2.0.1")
    assert one.fleet.packages["pkg-2"].version == "2.0.0"


def test_devices_of_another_product_are_no_targets(one):
    one.desired.devices["q/dev9"] = {"ring": "beta"}
    one.group("everywhere", product=None, match_tags=(("ring", "beta"),))
    one.group("here", match_tags=(("ring", "beta"),))
    one.batch("b")
    one.batch("g", package="pkg-3", strategy="Dynamic", target=("group", "everywhere"))
    assert [task.device.key for task in one.fleet.tasks] == ["p/dev1"]
    assert one.fleet.members["everywhere", "q/dev9"].present
    assert not one.fleet.members["here", "q/dev9"].present


def test_a_device_that_is_no_longer_declared_is_no_target(many):
    del many.desired.devices["p/aaaa"]
    many.batch("b")
    assert list(tasks(many, "b")) == ["bbbb", "cccc", "dddd"]


def test_a_deleted_batch_that_an_operator_had_cancelled_stays_so_when_it_is_back(one):
    one.batch("b")
    one.fleet.cancel_batch("b")
    assert one.fleet.cancel_batch("b") == "the batch has ended"
    one.drop("b")
    one.batch("b")
    assert len(one.fleet.runs) == 1


def test_an_ended_batch_that_is_back_with_another_spec_is_a_new_one(one):
    one.batch("b")
    one.inform("2.0.0")
    one.drop("b")
    one.inform("1.0.0")
    one.batch("b", confirm=True)
    assert [task.status for task in one.all("b")] == ["SUCCEEDED", "CONFIRM"]


def test_a_batch_that_is_back_after_its_end_can_be_changed_and_deleted_again(one):
    one.batch("b")
    one.drop("b")
    one.batch("b")
    assert one.edit("b", rate=10) is None
    one.drop("b")
    assert [task.status for task in one.all("b")] == ["CANCELED", "CANCELED"]


def test_a_batch_that_was_refused_is_accepted_when_nothing_refuses_it_any_more(one):
    assert one.batch("b", package="later") == ["no such package"]
    assert one.package("later") is None
    assert one.task("b")[0] == "QUEUED"
    assert one.batch("g", target=("group", "lab")) == ["no such group"]
    one.desired.groups["lab"] = Group(match_tags=(("ring", "beta"),))
    assert one.commit()["g"]


def test_a_dynamic_batch_on_an_empty_fleet_keeps_its_package(one):
    one.batch("d", strategy="Dynamic", sources=("0.1",))
    del one.desired.packages["pkg-2"]
    assert one.commit()["pkg-2"]


def test_in_place_a_batch_is_held_to_its_limits_too(one):
    one.batch("b", retry=(30 * MINUTE, 1))
    assert one.edit("b", timeout=30 * MINUTE)
    assert one.edit("b", timeout=31 * MINUTE) is None


def test_a_package_that_nobody_needs_can_be_deleted(one):
    one.batch("b")
    del one.desired.packages["pkg-3"]
    assert one.commit() == {}
    assert "pkg-3" not in one.fleet.packages


def test_what_a_device_began_before_the_start_is_not_filtered_again(one):
    one.batch("b", start=HOUR, retry=(DAY, 1), sources=("1.0.0",))
    one.progress(-1)
    one.inform("1.5.0")
    one.later(HOUR)
    assert (one.task("b"), one.phase("b")) == (("QUEUED", "retry", None), "IN_PROGRESS")


def test_an_ended_batch_stays_ended_however_often_it_comes_back(one):
    one.batch("b")
    one.inform("2.0.0")
    one.edit("b", rate=20)
    for _ in range(2):
        one.drop("b")
        one.batch("b", rate=20)
    assert len(one.fleet.runs) == 1


def test_a_group_of_another_product_is_refused(one):
    one.package("other", "2.0.0", product="q")
    one.group("g", match_tags=(("ring", "beta"),))
    assert one.batch("b", package="other", strategy="Dynamic", target=("group", "g")) == [
        "the group is of another product"
    ]
    one.group("g", product=None, match_tags=(("ring", "beta"),))
    assert one.commit() == {}
