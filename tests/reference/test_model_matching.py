"""Dynamic batches and groups, in worked examples: platform-rules.md §4 `Dynamic batches` and §7, by hand."""

from __future__ import annotations

import pytest

from reference.stage import HOUR, MINUTE, Spec, Stage


@pytest.fixture
def one():
    return Stage()


def dynamic(one, name, **fields):
    return one.batch(name, **{"strategy": "Dynamic", "sources": ("1.0.0",), **fields})


def grouped(one, name, **fields):
    return one.batch(name, **{"strategy": "Dynamic", "target": ("group", "beta"), **fields})


def finish(one):
    """The device upgrades, and is flashed back by hand."""
    one.inform("2.0.0")
    one.inform("1.0.0")


def statuses(one, name):
    return [task.status for task in one.all(name)]


def test_a_dynamic_batch_takes_the_devices_that_match_when_it_starts(one):
    dynamic(one, "d")
    assert one.task("d") == ("QUEUED", None, None)
    assert one.phase("d") == "IN_PROGRESS"


def test_a_dynamic_batch_never_completes_by_itself(one):
    dynamic(one, "d")
    one.inform("2.0.0")
    assert (one.task("d")[0], one.phase("d")) == ("SUCCEEDED", "IN_PROGRESS")


def test_a_device_is_matched_at_its_first_and_at_every_changed_report():
    one = Stage(version=None)
    dynamic(one, "d")
    assert one.all("d") == []
    one.inform("1.0.0")
    assert statuses(one, "d") == ["QUEUED"]
    one.fleet.cancel_task("d", one.dev)
    one.inform("1.0.0")
    assert statuses(one, "d") == ["CANCELED"]
    one.inform("0.9.0")
    one.inform("1.0.0")
    assert statuses(one, "d") == ["CANCELED", "QUEUED"]
    assert [task.match_no for task in one.all("d")] == [1, 2]


def test_a_device_is_matched_ten_times_by_one_batch_and_never_an_eleventh_time(one):
    dynamic(one, "d")
    for matches in range(1, 11):
        assert len(one.all("d")) == matches
        finish(one)
    assert statuses(one, "d") == ["SUCCEEDED"] * 10


def test_the_newest_batch_lets_no_older_one_through_when_its_matches_are_used_up(one):
    dynamic(one, "old", package="pkg-3")
    one.fleet.cancel_task("old", one.dev)
    dynamic(one, "new")
    for _ in range(12):
        finish(one)
    assert len(one.all("new")) == 10
    assert len(one.all("old")) == 1


def test_only_the_newest_batch_matches_and_the_older_again_when_it_is_cancelled(one):
    dynamic(one, "z-old", package="pkg-3")
    one.fleet.cancel_task("z-old", one.dev)
    dynamic(one, "a-new")
    finish(one)
    assert [len(one.all(name)) for name in ("z-old", "a-new")] == [1, 2]
    one.drop("a-new")
    one.inform("0.9.0")
    one.inform("1.0.0")
    assert [len(one.all(name)) for name in ("z-old", "a-new")] == [2, 2]


def test_of_one_commit_the_later_name_is_the_newer(one):
    one.inform("0.9.0")
    for name, package in (("a", "pkg-2"), ("b", "pkg-3")):
        one.desired.batches[name] = Spec(package, strategy="Dynamic", sources=("1.0.0",))
    one.commit()
    one.inform("1.0.0")
    assert [len(one.all(name)) for name in ("a", "b")] == [0, 1]


def test_a_conflict_fails_once_per_reported_version(one):
    one.batch("static", package="pkg-3")
    dynamic(one, "d", sources=("1.0.0", "1.1.0"))
    one.inform("1.1.0")
    one.inform("1.0.0")
    one.inform("1.1.0")
    assert [(task.reason, task.source) for task in one.all("d")] == [
        ("conflict", "1.0.0"),
        ("conflict", "1.1.0"),
    ]
    one.fleet.cancel_task("static", one.dev)
    one.inform("1.0.0")
    assert one.task("d") == ("QUEUED", None, None)
    assert one.of("d").match_no == 3


def test_the_conditions_of_the_package_hold_for_a_match_too(one):
    one.inform("1.1.0")
    dynamic(one, "d", package="delta", sources=("1.0.0",))
    assert one.all("d") == []
    one.inform("1.0.0")
    assert statuses(one, "d") == ["QUEUED"]


def test_a_device_above_the_target_is_not_matched_unless_downgrades_are_allowed(one):
    one.inform("2.5.0")
    dynamic(one, "d", sources=("2.5.0",))
    assert one.all("d") == []
    one.drop("d")
    dynamic(one, "e", sources=("2.5.0",), allow_downgrade=True)
    assert statuses(one, "e") == ["QUEUED"]


def test_new_reports_only_takes_a_device_at_its_first_report_changed_or_not(one):
    dynamic(one, "d", new_reports_only=True)
    one.later(HOUR)
    assert one.all("d") == []
    one.inform("1.0.0")
    assert statuses(one, "d") == ["QUEUED"]
    one.fleet.cancel_task("d", one.dev)
    one.inform("1.0.0")
    assert statuses(one, "d") == ["CANCELED"]
    one.inform("1.1.0")
    one.inform("1.0.0")
    assert statuses(one, "d") == ["CANCELED", "QUEUED"]


def test_changed_source_versions_look_at_the_fleet_again(one):
    one.inform("1.1.0")
    dynamic(one, "d")
    assert one.all("d") == []
    assert one.edit("d", sources=("1.0.0", "1.1.0")) is None
    assert statuses(one, "d") == ["QUEUED"]
    one.fleet.cancel_task("d", one.dev)
    one.edit("d", sources=("1.1.0",))
    assert statuses(one, "d") == ["CANCELED"]


def test_dynamic_batches_of_one_package_have_disjoint_source_versions(one):
    dynamic(one, "a")
    assert dynamic(one, "b", sources=("1.0.0", "1.1.0"))
    assert dynamic(one, "c", sources=("1.1.0",)) is None
    assert one.edit("c", sources=("1.1.0", "1.0.0"))
    one.drop("a")
    assert one.edit("c", sources=("1.1.0", "1.0.0")) is None


def test_a_package_has_dynamic_batches_of_one_kind_only(one):
    one.group("beta", match_tags=(("ring", "beta"),))
    dynamic(one, "a")
    assert grouped(one, "b")
    one.drop("a")
    assert one.edit("b") is None
    assert one.phase("b") == "IN_PROGRESS"
    assert dynamic(one, "c")


@pytest.mark.parametrize(("packages", "accepted"), [(4, True), (5, True), (6, False)])
def test_five_packages_may_have_dynamic_batches_for_one_group(one, packages, accepted):
    one.group("beta", match_tags=(("ring", "beta"),))
    for number in range(packages):
        one.package(f"p-{number}", f"9.{number}")
        refused = grouped(one, f"b-{number}", package=f"p-{number}")
    assert (refused is None) is accepted


def test_a_device_that_comes_into_the_group_is_matched_once(one):
    one.group("beta", match_tags=(("ring", "beta"),))
    grouped(one, "g")
    assert one.all("g") == []
    one.tag(one.dev, ring="beta")
    assert statuses(one, "g") == ["QUEUED"]
    one.inform("2.0.0")
    one.tag(one.dev, ring="beta", floor="1")
    one.inform("1.0.0")
    assert statuses(one, "g") == ["SUCCEEDED"]


@pytest.mark.parametrize(("failed", "matches"), [(True, [1, 2]), (False, [1])])
def test_a_device_that_comes_back_is_matched_again_only_after_a_failure(one, failed, matches):
    one.group("beta", match_tags=(("ring", "beta"),))
    one.tag(one.dev, ring="beta")
    grouped(one, "g")
    if failed:
        one.progress(-1)
    else:
        one.fleet.cancel_task("g", one.dev)
    one.tag(one.dev)
    one.tag(one.dev, ring="beta")
    assert [task.match_no for task in one.all("g")] == matches


def test_a_group_of_a_reported_version_is_left_by_upgrading(one):
    one.group("beta", module=("default", "1.0.0"))
    grouped(one, "g")
    assert statuses(one, "g") == ["QUEUED"]
    one.inform("2.0.0")
    assert not one.fleet.members["beta", one.dev].present
    one.inform("1.0.0")
    assert statuses(one, "g") == ["SUCCEEDED"]


def test_of_several_packages_on_one_group_the_newest_comes_first(one):
    one.group("beta", match_tags=(("ring", "beta"),))
    grouped(one, "a")
    grouped(one, "b", package="pkg-3")
    one.tag(one.dev, ring="beta")
    assert one.task("b") == ("QUEUED", None, None)
    assert one.task("a") == ("FAILED", None, "conflict")


def test_a_removed_group_touches_no_task_and_matches_nobody(one):
    one.group("beta", match_tags=(("ring", "beta"),))
    one.tag(one.dev, ring="beta")
    grouped(one, "g")
    del one.desired.groups["beta"]
    one.desired.devices["p/dev2"] = {"ring": "beta"}
    one.commit()
    assert statuses(one, "g") == ["QUEUED"]
    assert (one.all("g", "dev2"), one.phase("g")) == ([], "IN_PROGRESS")


def test_a_removed_device_is_matched_by_nothing_and_its_task_goes_on(one):
    dynamic(one, "d")
    del one.desired.devices[one.dev]
    one.commit()
    assert statuses(one, "d") == ["QUEUED"]
    one.inform("2.0.0")
    one.inform("1.0.0")
    assert statuses(one, "d") == ["SUCCEEDED"]


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        (("floor", "In", ("1", "2")), True),
        (("floor", "In", ("2",)), False),
        (("floor", "NotIn", ("2",)), True),
        (("floor", "NotIn", ("1",)), False),
        (("wing", "NotIn", ("1",)), True),
        (("floor", "Exists", ()), True),
        (("wing", "Exists", ()), False),
        (("wing", "DoesNotExist", ()), True),
    ],
)
def test_a_selector_picks_by_its_expressions(one, expression, matches):
    one.group("beta", expressions=(expression,))
    one.tag(one.dev, floor="1")
    assert one.fleet.members["beta", one.dev].present is matches


def test_a_cancelled_dynamic_batch_matches_nothing_more(one):
    dynamic(one, "d", on_cancel=())
    one.fleet.cancel_batch("d")
    assert (one.phase("d"), statuses(one, "d")) == ("CANCELED", ["QUEUED"])
    assert one.get() == "2.0.0"
    finish(one)
    assert statuses(one, "d") == ["SUCCEEDED"]


def test_new_reports_of_another_module_are_no_reports_of_this_one(one):
    dynamic(one, "d", new_reports_only=True)
    one.inform("5", module="mcu")
    assert one.all("d") == []
    one.inform("1.0.0")
    assert statuses(one, "d") == ["QUEUED"]


def test_an_unchanged_report_is_a_first_one_only_once_and_only_for_new_reports_only(one):
    one.batch("static", package="pkg-3")
    dynamic(one, "d")
    one.fleet.cancel_task("static", one.dev)
    one.inform("1.0.0")
    one.inform("1.0.0")
    assert statuses(one, "d") == ["FAILED"]


def test_a_group_of_new_reports_only_takes_its_members_at_their_first_report(one):
    one.group("beta", match_tags=(("ring", "beta"),))
    one.tag(one.dev, ring="beta")
    grouped(one, "g", new_reports_only=True)
    assert one.all("g") == []
    one.inform("1.0.0")
    assert statuses(one, "g") == ["QUEUED"]


def test_five_packages_on_one_group_leave_room_on_another(one):
    for name in ("beta", "gamma"):
        one.group(name, match_tags=(("ring", name),))
    for number in range(5):
        one.package(f"p-{number}", f"9.{number}")
        grouped(one, f"b-{number}", package=f"p-{number}")
    assert one.batch("c", strategy="Dynamic", target=("group", "gamma")) is None


def test_of_two_dynamic_batches_the_older_one_overwrites_nothing_of_the_newer(one):
    one.group("beta", match_tags=(("ring", "beta"),))
    for name, package in (("older", "pkg-2"), ("newer", "pkg-3")):
        grouped(one, name, package=package, conflict="Overwrite")
    one.tag(one.dev, ring="beta")
    assert (one.task("older"), one.task("newer")[0]) == (("FAILED", None, "conflict"), "QUEUED")


def test_a_match_may_overwrite(one):
    one.batch("static", package="pkg-3")
    dynamic(one, "d", conflict="Overwrite")
    assert (one.task("static"), one.task("d")[0]) == (("CANCELED", None, "overwritten"), "QUEUED")


def test_a_device_with_an_unfinished_task_of_the_batch_is_not_matched_again(one):
    dynamic(one, "d", sources=("1.0.0", "1.1.0"))
    one.inform("1.1.0")
    assert [(task.status, task.source) for task in one.all("d")] == [("QUEUED", "1.1.0")]


def test_a_stranger_registers_by_being_heard_where_its_product_is_open(one):
    one.fleet.online("p/dev9")
    one.batch("b", strategy="Dynamic", sources=("1.0.0",))
    one.inform("1.0.0", "dev9")
    assert one.all("b", "dev9") == []
    one.desired.open_products = frozenset({"p"})
    one.commit()
    one.later(MINUTE)
    one.inform("1.0.0", "dev9")
    assert one.task("b", "dev9") == ("QUEUED", None, None)
    assert one.push("dev9") is not None
    one.later(10)
    assert one.push("dev9") is None


def test_a_device_that_git_declares_no_more_does_not_register_itself(one):
    one.desired.open_products = frozenset({"p"})
    del one.desired.devices[one.dev]
    one.commit()
    one.batch("b", strategy="Dynamic", sources=("1.5.0",))
    one.inform("1.5.0")
    assert one.all("b") == []
