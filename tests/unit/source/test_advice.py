"""What is allowed and hardly meant: batches that are for the same devices, and devices that would go down."""

from __future__ import annotations

import pytest
from test_checking import BATCH, PACKAGE, check

from reconciler.domain import changes
from reconciler.domain.diagnostics import Code, Severity
from reconciler.domain.resources import Kind

NEWER = PACKAGE.replace("name: fw\n", "name: fw2\n").replace("1.4.0", "1.5.0")
GROUP = """apiVersion: ota/v1
kind: DeviceGroup
metadata: {name: beta}
spec: {title: Beta testers, product: thermostat, devices: [dev-1, dev-2]}
"""
DYNAMIC_GROUP = GROUP.replace("devices: [dev-1, dev-2]", "selector: {matchTags: {region: eu}}")
FILES = {"p/new.yaml": NEWER, "eu.csv": b"name\ndev-7\ndev-1\ndev-2\n"}
TARGET = '{all: {}, sourceVersions: ["1.3.0"]}'


def batch(name, target=TARGET, *more, package="fw"):
    text = BATCH.replace("name: eu", f"name: {name}").replace(TARGET, target).replace(": fw", f": {package}")
    return text + "".join(f"  {line}\n" for line in more)


def release(number, version):
    return PACKAGE.replace("name: fw\n", f"name: r{number}\n").replace("1.4.0", version)


def found(one, other, **files):
    return check({**FILES, **files, "b/eu.yaml": one, "b/us.yaml": other}).diagnostics


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (TARGET, TARGET, "devices on version `1.3.0`"),
        (TARGET, "{all: {}}", "the same devices"),
        ("{all: {}}", TARGET, "the same devices"),
        ("{all: {}}", "{all: {}}", "the same devices"),
        ("{gray: {percent: 10}}", "{all: {}}", "the same devices"),
        ("{all: {}}", "{devices: [dev-1]}", "the same devices"),
        ("{devices: [dev-1]}", "{all: {}}", "the same devices"),
        ("{devices: [dev-1, dev-2]}", "{devicesFrom: {file: ../eu.csv}}", "device `dev-1` and 1 more"),
        ("{devices: [dev-1]}", "{group: beta}", "device `dev-1`"),
    ],
)
def test_two_batches_for_the_same_devices_are_told_with_both_places(one, other, said):
    (warning,) = found(batch("eu", one), batch("us", other), **{"g.yaml": GROUP})
    assert (warning.code, warning.severity, warning.place.path) == (
        Code.OVERLAP,
        Severity.WARNING,
        "b/us.yaml",
    )
    assert warning.message.startswith(f"Batch/eu is for {said} too: ")
    assert [(other.place.path, other.place.line) for other in warning.related] == [("b/eu.yaml", 7)]
    assert warning.help == (
        "set Batch/eu to `state: Canceled` if it is over, or write `conflict: Wait` or `Overwrite` in a new Batch/us"
    )


WINDOW = "schedule: {{start: 2026-12-0{}T02:00:00Z, end: 2026-12-0{}T02:00:00Z}}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (batch("eu"), batch("us", "{all: {}, sourceVersions: ['1.2.0']}")),
        (batch("eu"), batch("us", "{all: {}, sourceVersions: ['1.4.0']}", package="fw2")),
        (batch("eu", "{all: {}}"), batch("us", "{all: {}, sourceVersions: ['1.4.0']}", package="fw2")),
        (batch("eu", "{devices: [dev-1]}"), batch("us", "{devices: [dev-2]}")),
        (batch("eu", "{devices: [dev-1]}"), batch("us", "{gray: {percent: 1}}")),
        (batch("eu"), batch("us", TARGET, "conflict: Wait")),
        (batch("eu", TARGET, "conflict: Overwrite"), batch("us")),
        (batch("eu", TARGET, "state: Canceled"), batch("us")),
        (batch("eu", TARGET, WINDOW.format(1, 2)), batch("us", TARGET, WINDOW.format(2, 3))),
        (batch("eu", TARGET, WINDOW.format(2, 3)), batch("us", TARGET, WINDOW.format(1, 2))),
        (batch("eu", TARGET, "strategy: Dynamic"), batch("us", TARGET, "strategy: Dynamic", package="fw2")),
    ],
)
def test_batches_that_meet_on_no_device_or_say_what_is_to_happen_are_fine(one, other):
    assert found(one, other) == ()


@pytest.mark.parametrize("versions", [("1.4.0", "1.5.0", "1.10.0", "2.0"), ("red", "green", "blue", "v1")])
@pytest.mark.parametrize("more", ["", "  allowDowngrade: true\n"])
def test_the_releases_of_the_past_may_stay_beside_the_next_one(versions, more):
    files = {f"p/{n}.yaml": release(n, version) for n, version in enumerate(versions)}
    batches = {f"b/{n}.yaml": batch(f"b{n}", "{all: {}}", package=f"r{n}") + more for n in range(4)}
    assert check({**files, **batches, "p/fw.yaml": None, "b/eu.yaml": None}).diagnostics == ()


EVERYBODY, BACK = "{all: {}}", "allowDowngrade: true"
OPEN = "schedule: {{start: 2026-12-0{}T02:00:00Z}}"


@pytest.mark.parametrize(
    ("low", "high", "newer"),
    [
        (batch("eu", EVERYBODY), batch("us", EVERYBODY, package="fw2"), None),
        (batch("eu", EVERYBODY, BACK), batch("us", EVERYBODY, package="fw2"), "eu"),
        (batch("eu", EVERYBODY, BACK), batch("us", EVERYBODY, BACK, package="fw2"), None),
        (
            batch("eu", '{all: {}, sourceVersions: ["1.6.0"]}', BACK),
            batch("us", EVERYBODY, package="fw2"),
            None,
        ),
        (batch("eu", TARGET, "strategy: Dynamic"), batch("us", EVERYBODY, package="fw2"), "us"),
        (batch("eu", EVERYBODY), batch("us", TARGET, "strategy: Dynamic", package="fw2"), None),
        (
            batch("eu", TARGET, WINDOW.format(1, 3)),
            batch("us", TARGET, WINDOW.format(2, 4), package="fw2"),
            "us",
        ),
        (
            batch("eu", TARGET, WINDOW.format(2, 4)),
            batch("us", TARGET, WINDOW.format(1, 3), package="fw2"),
            "eu",
        ),
        (batch("eu", TARGET, OPEN.format(1)), batch("us", TARGET, OPEN.format(2), package="fw2"), None),
        (batch("eu", TARGET, OPEN.format(1)), batch("us", TARGET, OPEN.format(1), package="fw2"), "us"),
        (batch("eu", TARGET, OPEN.format(2)), batch("us", TARGET, OPEN.format(1), package="fw2"), "eu"),
        (batch("eu", TARGET, WINDOW.format(1, 3)), batch("us", TARGET, package="fw2"), None),
    ],
)
@pytest.mark.parametrize("paths", [("b/1.yaml", "b/2.yaml"), ("b/2.yaml", "b/1.yaml")])
def test_a_release_after_another_is_told_where_they_contend_at_the_newer_one(low, high, newer, paths):
    files = {**FILES, "b/eu.yaml": None, **dict(zip(paths, (low, high), strict=True))}
    diagnostics = [one for one in check(files).diagnostics if one.code is Code.OVERLAP]
    assert [one.object for one in diagnostics] == [f"Batch/{newer}"] * (newer is not None)


def test_two_batches_of_one_package_are_told_however_many_releases_lie_between():
    files = {f"p/{n}.yaml": release(n, f"2.{n}") for n in range(15)}
    between = {f"c/{n}.yaml": batch(f"b{n}", EVERYBODY, package=f"r{n}") for n in range(15)}
    again = {"b/eu.yaml": batch("eu", EVERYBODY), "d/us.yaml": batch("us", EVERYBODY)}
    assert [one.place.path for one in check({**files, **between, **again}).diagnostics] == ["d/us.yaml"]


def test_batches_of_different_modules_meet_only_when_a_device_is_in_one_task_at_a_time():
    module = {"p/new.yaml": NEWER.replace("  files:", "  module: mcu\n  files:")}
    one, other = batch("eu", TARGET), batch("us", TARGET, package="fw2")
    assert [warning.code for warning in found(one, other, **module)] == [Code.OVERLAP]
    several = "  multiModule: true\n"
    assert found(one + several, other + several, **module) == ()


def test_overwriting_is_no_remedy_for_several_modules_at_once():
    several = [batch(name, TARGET, "multiModule: true") for name in ("eu", "us")]
    (warning,) = found(*several)
    assert warning.help.endswith("or write `conflict: Wait` in a new Batch/us")


def test_what_a_remedy_asks_of_an_older_batch_can_change_and_what_it_asks_of_a_new_one_cannot():
    mutable = changes.MUTABLE[Kind.BATCH]
    assert ("state" in mutable, "conflict" in mutable) == (True, False)


VERSIONS, OF_GROUP = TARGET, "{group: beta}"


@pytest.mark.parametrize(
    ("one", "other", "package", "told"),
    [
        (OF_GROUP, OF_GROUP, "fw", True),
        (OF_GROUP, VERSIONS, "fw", True),
        (VERSIONS, VERSIONS, "fw", True),
        (VERSIONS, VERSIONS.replace("1.3.0", "1.2.0"), "fw", False),
        (OF_GROUP, OF_GROUP, "fw2", False),
    ],
)
def test_dynamic_batches_of_a_package_that_cannot_run_beside_each_other_are_told(one, other, package, told):
    batches = batch("eu", one, "strategy: Dynamic"), batch("us", other, "strategy: Dynamic", package=package)
    warnings = found(*batches, **{"g.yaml": DYNAMIC_GROUP})
    assert [warning.code for warning in warnings] == [Code.OVERLAP] * told
    if told:
        assert warnings[0].message.endswith("is a dynamic batch of `fw` too, and only one can run")


def test_a_batch_whose_group_is_gone_meets_nobody():
    codes = [warning.code for warning in found(batch("eu", "{devices: [dev-1]}"), batch("us", "{group: no}"))]
    assert codes == [Code.REFERENCE]


def test_a_batch_is_told_of_once_however_many_it_meets():
    files = {f"b/{number}.yaml": batch(f"b{number}") for number in range(30)}
    assert len(check({**files, "b/eu.yaml": None}).diagnostics) == 29


def test_devices_on_a_higher_version_are_left_out_and_that_is_told():
    (warning,) = check({"b/eu.yaml": BATCH.replace('"1.3.0"', '"1.3.0", "1.10.0"')}).diagnostics
    assert (warning.code, warning.severity, warning.place.line) == (Code.DOWNGRADE, Severity.WARNING, 7)
    assert warning.message == "`1.10.0` is higher than the package's `1.4.0`: devices on it are left out"
    assert (
        check(
            {"b/eu.yaml": batch("eu", "{all: {}, sourceVersions: ['2.0']}", "allowDowngrade: true")}
        ).diagnostics
        == ()
    )
    assert check({"b/eu.yaml": batch("eu", "{all: {}, sourceVersions: [blue]}")}).diagnostics == ()


def test_a_delta_downwards_is_told_where_the_batch_names_it():
    delta = PACKAGE.replace("  version:", '  type: Delta\n  sourceVersion: "1.5.0"\n  version:')
    (warning,) = check({"p/fw.yaml": delta, "b/eu.yaml": batch("eu", "{devices: [dev-1]}")}).diagnostics
    assert (warning.code, warning.field) == (Code.DOWNGRADE, "spec.package")
