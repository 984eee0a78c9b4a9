"""What a tree of files means for groups: whom they name, who may use them, and what is too many; and for trials."""

from __future__ import annotations

import dataclasses

import pytest
from test_checking import BATCH, PACKAGE, PRODUCT, check, findings

from reconciler.domain.desired import Key
from reconciler.domain.diagnostics import Code, Severity
from reconciler.domain.limits import DEFAULT
from reconciler.domain.resources import Kind

LISTED = """apiVersion: ota/v1
kind: DeviceGroup
metadata: {name: beta}
spec:
  title: Beta testers
  product: thermostat
  devices: [dev-1, dev-2]
"""
SELECTED = LISTED.replace("devices: [dev-1, dev-2]", "selector: {matchTags: {region: eu}}")
FILED = LISTED.replace("devices: [dev-1, dev-2]", "devicesFrom: {file: beta.csv}")
STATIC = BATCH.replace('{all: {}, sourceVersions: ["1.3.0"]}', "{group: beta}")
DYNAMIC = STATIC.replace("  package: fw", "  package: fw\n  strategy: Dynamic")
KEY, BATCH_KEY = Key(Kind.DEVICE_GROUP, "beta"), Key(Kind.BATCH, "eu")


@pytest.mark.parametrize(
    ("group", "batch"), [(LISTED, STATIC), (FILED, STATIC), (SELECTED, DYNAMIC), (SELECTED, BATCH)]
)
def test_a_static_batch_is_for_a_list_and_a_dynamic_one_for_a_selector(group, batch):
    checked = check({"g.yaml": group, "b/eu.yaml": batch, "beta.csv": b"name\ndev-1\ndev-9\n"})
    assert checked.diagnostics == ()
    declared = checked.desired.declarations[KEY]
    assert (declared.roster is not None) == (group is FILED)


@pytest.mark.parametrize(
    ("group", "batch", "said"),
    [
        (LISTED, DYNAMIC, "`beta` is a static group, and this is a dynamic batch"),
        (SELECTED, STATIC, "`beta` is a dynamic group, and this is a static batch"),
    ],
)
def test_a_batch_for_a_group_of_the_other_kind_is_refused(group, batch, said):
    (found,) = check({"g.yaml": group, "b/eu.yaml": batch}).diagnostics
    assert (found.code, found.message, found.field) == (Code.COMBINATION, said, "spec.target.group")
    assert (found.related[0].place.path, found.related[0].place.line) == ("g.yaml", 3)


def test_a_batch_for_a_group_of_another_product_is_refused():
    other = PRODUCT.replace("name: thermostat", "name: fan")
    files = {"fan.yaml": other, "g.yaml": LISTED.replace("product: thermostat", "product: fan")}
    (found,) = check(files, **{"b/eu.yaml": STATIC}).diagnostics
    assert (found.code, found.message) == (
        Code.REFERENCE,
        "`beta` is of product `fan`, and the package of `thermostat`",
    )
    over_all = SELECTED.replace("  product: thermostat\n", "")
    assert check({"g.yaml": over_all, "b/eu.yaml": DYNAMIC}).diagnostics == ()


def test_a_missing_group_is_a_warning_because_a_batch_that_was_accepted_needs_it_no_more():
    checked = check({"b/eu.yaml": STATIC, "g.yaml": LISTED.replace("name: beta", "name: betas")})
    (found,) = checked.diagnostics
    assert (found.code, found.severity, found.place.path) == (Code.REFERENCE, Severity.WARNING, "b/eu.yaml")
    assert (
        found.message
        == "there is no DeviceGroup `beta`: only a batch that was accepted before can do without"
    )
    assert found.help == "did you mean `betas`?"
    assert BATCH_KEY in checked.desired.declarations
    assert (checked.counts.errors, checked.counts.warnings) == (0, 1)


def test_a_group_that_is_not_valid_leaves_its_batches_valid():
    checked = check({"b/eu.yaml": STATIC, "g.yaml": LISTED.replace("Beta testers", "abc")})
    assert [(found.path, found.code) for found in checked.diagnostics] == [("g.yaml", Code.RANGE)]
    assert KEY in checked.desired.broken
    assert BATCH_KEY in checked.desired.declarations
    checked = check({"b/eu.yaml": STATIC, "g.yaml": LISTED.replace("product: thermostat", "product: fan")})
    assert [found.path for found in checked.diagnostics] == ["b/eu.yaml", "g.yaml"]


@pytest.mark.parametrize(("longest", "fits"), [(3, True), (2, True), (1, False)])
def test_a_static_group_has_a_limited_number_of_devices_however_they_are_listed(longest, fits):
    limits = dataclasses.replace(DEFAULT, devices_per_group=longest)
    listed = check({"g.yaml": LISTED}, limits=limits)
    filed = check({"g.yaml": FILED, "beta.csv": b"dev-1\ndev-2\n"}, limits=limits)
    assert [found.code for found in listed.diagnostics] == ([] if fits else [Code.RANGE])
    assert findings(filed) == ([] if fits else [("beta.csv", 2, 1, "OTA312")])


def test_one_file_is_a_batch_s_and_a_group_s_and_each_has_its_own_limit():
    limits = dataclasses.replace(DEFAULT, devices_per_group=2)
    batch = BATCH.replace('{all: {}, sourceVersions: ["1.3.0"]}', "{devicesFrom: {file: ../beta.csv}}")
    files = {"g.yaml": FILED, "b/eu.yaml": batch, "beta.csv": b"dev-1\ndev-2\ndev-3\n"}
    checked = check(files, limits=limits)
    assert findings(checked) == [("beta.csv", 3, 1, "OTA312")]
    assert checked.desired.declarations[BATCH_KEY].roster.entries == 3
    both = check({**files, "beta.csv": b"dev-1\n?\n"}, limits=limits)
    assert findings(both) == [("beta.csv", 2, 1, "OTA310")]


def groups(count, *, product="thermostat", body="devices: [dev-1]"):
    text = LISTED.replace("devices: [dev-1, dev-2]", body).replace(
        "product: thermostat", f"product: {product}"
    )
    names = [f"{product[:2]}{number:02d}" for number in range(count)]
    return {f"g/{name}.yaml": text.replace("name: beta", f"name: {name}") for name in names}


@pytest.mark.parametrize(("count", "refused"), [(9, []), (10, []), (11, ["th10"]), (12, ["th10", "th11"])])
def test_a_device_is_in_ten_static_groups_at_most(count, refused):
    checked = check(groups(count))
    assert [found.object for found in checked.diagnostics] == [f"DeviceGroup/{name}" for name in refused]
    for found in checked.diagnostics:
        assert (found.code, found.place.line, found.place.column) == (Code.TOO_MANY, 7, 13)
        assert found.message == "device `dev-1` is in more than 10 static groups"
    assert {key.name for key in checked.desired.broken} == set(refused)


def test_groups_count_for_a_device_of_their_own_product_and_when_they_list_it():
    fan = {"fan.yaml": PRODUCT.replace("name: thermostat", "name: fan")}
    selected = groups(3, product="fan", body="selector: {matchTags: {a: b}}")
    others = {
        f"g/x{n}.yaml": text.replace("fa0", "fb0") for n, text in enumerate(groups(5, product="fan").values())
    }
    assert check({**groups(10), **fan, **selected, **others}).diagnostics == ()
    last = {"g/zz.yaml": LISTED.replace("devices: [dev-1, dev-2]", "devicesFrom: {file: zz.csv}")}
    checked = check({**groups(10), **last, "g/zz.csv": b"dev-5\ndev-1\n"})
    assert findings(checked) == [("g/zz.csv", 2, 1, "OTA209")]


@pytest.mark.parametrize(("most", "refused"), [(4, 0), (3, 0), (2, 1)])
def test_there_are_a_limited_number_of_groups(most, refused):
    limits = dataclasses.replace(DEFAULT, groups=most)
    checked = check(groups(3), limits=limits)
    assert [found.code for found in checked.diagnostics] == [Code.TOO_MANY] * refused
    if refused:
        assert checked.diagnostics[0].object == "DeviceGroup/th02"
        assert checked.diagnostics[0].message == "there are more groups than allowed (at most 2)"


def test_a_selector_s_module_and_version_are_such_as_its_product_has():
    module = "selector: {module: {name: motor, version: a}}"
    (found,) = check({"g.yaml": LISTED.replace("devices: [dev-1, dev-2]", module)}).diagnostics
    assert (found.code, found.message) == (Code.MODULE, "product `thermostat` has no module `motor`")
    numeric = PRODUCT.replace("spec: {", "spec: {versionFormat: Numeric, ")
    text = LISTED.replace("devices: [dev-1, dev-2]", module.replace("motor", "mcu"))
    (found,) = check({"g.yaml": text, "product.yaml": numeric}).diagnostics
    assert found.code is Code.VERSION_FORMAT
    over_all = text.replace("  product: thermostat\n", "").replace("mcu", "motor")
    assert check({"g.yaml": over_all}).diagnostics == ()


TRIAL = PACKAGE + "  verification: {devices: [dev-1], sourceVersions: [%s]}\n"


@pytest.mark.parametrize(
    ("package", "versions", "code"),
    [
        (TRIAL, '"1.2.0"', None),
        (TRIAL, '"1.4.0"', Code.SAME_VERSION),
        (TRIAL, '"v1"', Code.VERSION_FORMAT),
        (TRIAL.replace("  version:", '  type: Delta\n  sourceVersion: "1.3.0"\n  version:'), '"1.3.0"', None),
        (
            TRIAL.replace("  version:", '  type: Delta\n  sourceVersion: "1.3.0"\n  version:'),
            '"1.2.0"',
            Code.COMBINATION,
        ),
    ],
)
def test_the_versions_of_a_trial_are_such_that_a_device_can_come_from(package, versions, code):
    numeric = PRODUCT.replace("spec: {", "spec: {versionFormat: Numeric, ")
    checked = check({"product.yaml": numeric, "p/fw.yaml": package % versions})
    assert [found.code for found in checked.diagnostics] == ([code] if code else [])
    if code:
        assert checked.diagnostics[0].field == "spec.verification.sourceVersions[0]"
