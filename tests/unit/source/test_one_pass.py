"""Everything that is wrong is found at once, and nothing twice."""

from __future__ import annotations

import pytest
from test_checking import BATCH, INVENTORY, PACKAGE, PRODUCT, check

from reconciler.domain.desired import Key
from reconciler.domain.resources import Kind

WRONG = """apiVersion: ota/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
{spec}
"""


def wrong(kind, name, *spec):
    return WRONG.format(kind=kind, name=name, spec="\n".join(f"  {line}" for line in spec))


def said(changes):
    """The codes and fields of what is wrong, in the order of the files' lines."""
    return [f"{found.code} {found.field}" for found in check(changes).diagnostics]


def test_what_is_wrong_inside_of_a_batch_hides_nothing_that_is_wrong_between_it_and_others():
    batch = wrong(
        "Batch",
        "eu",
        "package: fx",
        'target: {all: {}, gray: {percent: 5}, sourceVersions: ["1.3.0", "1.3.0"]}',
        "tags: {a b: x, c d: y, version: '1'}",
        "newReportsOnly: true",
        "multiModule: true",
        "conflict: Overwrite",
    )
    assert said({"b/eu.yaml": batch}) == [
        "OTA201 spec.package",
        "OTA116 spec.target.gray",
        "OTA117 spec.target.sourceVersions[1]",
        "OTA114 spec.tags.a b",
        "OTA114 spec.tags.c d",
        "OTA114 spec.tags.version",
        "OTA116 spec.newReportsOnly",
        "OTA116 spec.multiModule",
    ]


def test_each_rule_between_manifests_is_judged_where_what_it_reads_is_sound():
    package = wrong(
        "Package",
        "fx",
        "product: thermostat",
        "module: mpu",
        'version: "1.5.0"',
        "title: fw",
        "signMethod: SHA512",
        "files: [{name: a.bin, source: ../no.bin}, {name: b.bin, source: 'https://x/b.bin', size: 0}]",
        'verification: {devices: [dev-1], sourceVersions: ["1.5.0"]}',
    )
    batch = wrong("Batch", "eu", "package: fw", 'target: {all: {}, sourceVersions: ["1.4.0"]}', "confirm: 1")
    group = wrong("DeviceGroup", "beta", "product: thermostta", "title: x", "devicesFrom: {file: no.csv}")
    devices = wrong("DeviceInventory", "bonn", "product: thermostta", "devicesFrom: {file: no.csv}", "x: 1")
    assert said({"p/fx.yaml": package, "b/eu.yaml": batch, "g.yaml": group, "h.yaml": devices}) == [
        "OTA204 spec.target.sourceVersions[0]",
        "OTA111 spec.confirm",
        "OTA201 spec.product",
        "OTA115 spec.title",
        "OTA301 spec.devicesFrom.file",
        "OTA201 spec.product",
        "OTA301 spec.devicesFrom.file",
        "OTA113 spec.x",
        "OTA206 spec.module",
        "OTA203 spec.title",
        "OTA112 spec.signMethod",
        "OTA301 spec.files[0].source",
        "OTA110 spec.files[1]",
        "OTA115 spec.files[1].size",
        "OTA204 spec.verification.sourceVersions[0]",
    ]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"b/eu.yaml": BATCH.replace("package: fw", "pakcage: fw")}, ["OTA110", "OTA113"]),
        ({"b/eu.yaml": BATCH.replace("package: fw", "package: FW")}, ["OTA114"]),
        ({"p/fw.yaml": PACKAGE.replace("product: thermostat", "product: [x]")}, ["OTA111"]),
        (
            {"product.yaml": PRODUCT.replace("mcu", "m c u"), "b/eu.yaml": BATCH + "  x: 1\n"},
            ["OTA113", "OTA114"],
        ),
        ({"b/eu.yaml": BATCH.replace("{all: {}, ", "{al: {}, ").replace("fw", "none")}, ["OTA113", "OTA201"]),
        ({"d.yaml": INVENTORY + "---\n" + INVENTORY + "  x: 1\n"}, ["OTA113", "OTA202"]),
        ({"d.yaml": INVENTORY + "  product: other\n"}, ["OTA004"]),
    ],
)
def test_one_mistake_is_told_once(changes, found):
    assert sorted(str(one.code) for one in check(changes).diagnostics) == found


def test_nobody_loses_a_name_to_a_manifest_that_is_wrong_by_itself():
    other = PACKAGE.replace("name: fw\n", "name: fx\n").replace("spec:", "spec:\n  title: fw\n  type: New")
    checked = check({"p/fx.yaml": other})
    assert [str(one.code) for one in checked.diagnostics] == ["OTA203", "OTA112"]
    assert {one.object for one in checked.diagnostics} == {"Package/fx"}
    assert Key(Kind.PACKAGE, "fw") in checked.desired.declarations
    assert Key(Kind.BATCH, "eu") in checked.desired.declarations
