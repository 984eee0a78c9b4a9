"""What a tree of files means: every finding, and which objects it leaves standing."""

from __future__ import annotations

import hashlib
import pathlib
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.desired import FileFact, Key
from reconciler.domain.diagnostics import Code
from reconciler.domain.limits import DEFAULT, Limits
from reconciler.domain.resources import Kind
from reconciler.source import beside, validate
from reconciler.source.references import Judge
from reconciler.source.tree import FolderTree, UnreadableError

EMPTY = pathlib.Path(__file__).parent / "none"
IMAGE = b"firmware"
PRODUCT = "apiVersion: ota/v1\nkind: Product\nmetadata: {name: thermostat}\nspec: {modules: [{name: mcu}]}\n"
PACKAGE = """apiVersion: ota/v1
kind: Package
metadata:
  name: fw
spec:
  product: thermostat
  version: "1.4.0"
  files:
    - name: fw.bin
      source: ../fw.bin
"""
BATCH = """apiVersion: ota/v1
kind: Batch
metadata:
  name: eu
spec:
  package: fw
  target: {all: {}, sourceVersions: ["1.3.0"]}
"""
INVENTORY = """apiVersion: ota/v1
kind: DeviceInventory
metadata:
  name: berlin
spec:
  product: thermostat
  devices:
    - name: dev-1
    - name: dev-2
"""
FLEET = {
    "product.yaml": PRODUCT,
    "p/fw.yaml": PACKAGE,
    "b/eu.yaml": BATCH,
    "d.yaml": INVENTORY,
    "fw.bin": IMAGE,
}


class Contents(FolderTree):
    """Files in memory, with ids as Git has them; counts what is read."""

    def __init__(self, files):
        super().__init__(
            EMPTY, only=(), texts={k: v if isinstance(v, bytes) else v.encode() for k, v in files.items()}
        )
        self.reads = []

    def oid(self, path):
        return hashlib.sha1(self._texts[path]).hexdigest() if path in self._texts else None

    def read(self, path, limit):
        self.reads.append(path)
        return super().read(path, limit)

    def chunks(self, path):
        self.reads.append(path)
        return super().chunks(path)


def check(changes=None, *, limits=DEFAULT, **more):
    files = {**FLEET, **(changes or {}), **more}
    return validate.check(Contents({path: text for path, text in files.items() if text is not None}), limits)


def findings(checked):
    return [(one.path, one.line, one.column, str(one.code)) for one in checked.diagnostics]


def test_a_fleet_that_keeps_the_rules_is_declared_with_the_facts_of_its_files():
    checked = check()
    assert checked.diagnostics == ()
    assert checked.counts == validate.Counts(4, 4, 4, 0, 0)
    package = checked.desired.declarations[Key(Kind.PACKAGE, "fw")]
    assert (package.path, package.line) == ("p/fw.yaml", 1)
    sha256, md5 = hashlib.sha256(IMAGE).hexdigest(), hashlib.md5(IMAGE).hexdigest()
    assert package.files == (FileFact("fw.bin", len(IMAGE), sha256, md5),)
    assert pickle.loads(pickle.dumps(checked)) == checked


def test_moving_files_changes_no_digest():
    before = check().desired.declarations
    moved = PACKAGE.replace("../fw.bin", "images/x.bin")
    after = check(
        {"p/fw.yaml": None, "fw.bin": None, "all.yaml": moved, "images/x.bin": IMAGE}
    ).desired.declarations
    assert {key: one.digest for key, one in before.items()} == {key: one.digest for key, one in after.items()}


@pytest.mark.parametrize(
    ("path", "change", "place", "code", "said"),
    [
        ("b/eu.yaml", ("package: fw", "package: fx"), (6, 12), Code.REFERENCE, "there is no Package `fx`"),
        (
            "b/eu.yaml",
            ('"1.3.0"', '"1.3.0", "1.4.0"'),
            (7, 47),
            Code.SAME_VERSION,
            "no device needs to come from it",
        ),
        (
            "p/fw.yaml",
            ("product: thermostat", "product: thermo"),
            (6, 12),
            Code.REFERENCE,
            "there is no Product",
        ),
        ("p/fw.yaml", ("  files:", "  module: mcx\n  files:"), (8, 11), Code.MODULE, "has no module `mcx`"),
        ("p/fw.yaml", ("../fw.bin", "../fv.bin"), (10, 15), Code.NO_FILE, "there is no file fv.bin"),
        ("p/fw.yaml", ("../fw.bin", "../../fw.bin"), (10, 15), Code.NO_FILE, "leads out of the repository"),
        ("p/fw.yaml", ("../fw.bin", "../fw.bin\n      size: 9"), (11, 13), Code.SIZE, "is 8, not 9"),
        (
            "p/fw.yaml",
            ("../fw.bin", "../fw.bin\n      sha256: " + "a" * 64),
            (11, 15),
            Code.DIGEST,
            "another SHA-256",
        ),
        (
            "p/fw.yaml",
            ("../fw.bin", "../fw.bin\n      md5: " + "A" * 32),
            (11, 12),
            Code.DIGEST,
            "another MD5",
        ),
        (
            "d.yaml",
            ("product: thermostat", "product: thermostad"),
            (6, 12),
            Code.REFERENCE,
            "there is no Product",
        ),
        (
            "b/eu.yaml",
            ("spec:", "spec:\n  rolout: 1"),
            (6, 3),
            Code.UNKNOWN_FIELD,
            "unknown field `rolout` in Batch spec",
        ),
        (
            "b/eu.yaml",
            ("ota/v1", "ota/v2"),
            (1, 13),
            Code.API_VERSION,
            "apiVersion is `ota/v2`, not `ota/v1`",
        ),
        ("b/eu.yaml", ("apiVersion: ota/v1\n", ""), (1, 1), Code.API_VERSION, "apiVersion is missing"),
        ("b/eu.yaml", ("kind: Batch", "kind: Batsh"), (2, 7), Code.KIND, "there is no kind `Batsh`"),
        ("b/eu.yaml", ("kind: Batch", "kind: [Batch]"), (2, 1), Code.KIND, "there is no kind"),
        ("b/eu.yaml", ("kind: Batch\n", ""), (1, 1), Code.KIND, "kind is missing"),
        (
            "b/eu.yaml",
            ("kind: Batch", "kind: Repository"),
            (2, 7),
            Code.UNSUPPORTED,
            "kind Repository is not supported",
        ),
        ("b/eu.yaml", ("name: eu", "name: 1.10"), (4, 9), Code.TYPE, "`1.10` was read as the number 1.1"),
        (
            "b/eu.yaml",
            ("name: eu", "name: eu\n  name: us"),
            (5, 3),
            Code.DUPLICATE_KEY,
            "`name` is given twice",
        ),
    ],
)
def test_a_mistake_is_found_where_it_is(path, change, place, code, said):
    text = FLEET[path]
    assert change[0] in text
    checked = check({path: text.replace(*change, 1)})
    assert findings(checked) == [(path, *place, str(code))]
    assert said in checked.diagnostics[0].message


@pytest.mark.parametrize(
    ("old", "new", "said", "remedy"),
    [
        (
            "package: fw",
            "package: 1.10",
            "`1.10` was read as the number 1.1, but a text is needed",
            'quote it: "1.10"',
        ),
        ("package: fw", "package: true", "`true` was read as the boolean true", 'quote it: "true"'),
        ("package: fw", "package: [fw]", "this is a list, but a text is needed", ""),
        (
            "package: fw",
            "package:",
            "this key has no value",
            "write one (`{}` for an empty mapping), or remove",
        ),
        ("package: fw", "packages: fw\n  package: fw", "unknown field `packages`", "did you mean `package`?"),
        (
            "package: fw",
            "package: fw\n  interval: 10m",
            "unknown field `interval`",
            "`interval` belongs under spec.retry: check the indentation",
        ),
        (
            "package: fw",
            "package: fw\n  end: 2026-12-01T02:00:00Z",
            "unknown field `end`",
            "`end` belongs under spec.schedule",
        ),
        (
            "package: fw",
            "package: fw\n  sourceVersion: ['1']",
            "unknown field `sourceVersion`",
            "did you mean `sourceVersions`, which belongs under spec.target?",
        ),
        ("kind: Batch", "kind: Batch\nlabels: {}", "unknown field `labels`", "belongs under metadata"),
        ("kind: Batch", "kind: Batch\nstatus: x", "unknown field `status`", "status is never in Git"),
        ("package: fw", "package: fw\n  xyzzy: x", "unknown field `xyzzy`", "known are title, package"),
        (
            "package: fw",
            "package: fw\n  confirm: yes",
            "`yes` is text in YAML 1.2, not a boolean",
            "write true",
        ),
        (
            "package: fw",
            "package: fw\n  confirm: 1",
            "this is the number 1, not true or false",
            "write true or false",
        ),
        (
            "package: fw",
            "package: fw\n  delivery: push",
            "`push` is none of Push, Pull",
            "did you mean `Push`?",
        ),
        ("package: fw", "package: fw\n  delivery: 1.10", "this is the number 1.1, not one of Push, Pull", ""),
        (
            "package: fw",
            "package: fw\n  pushRatePerMinute: '50'",
            "this is text, but a whole number",
            "remove the quotes",
        ),
        (
            "package: fw",
            "package: fw\n  pushRatePerMinute: 50.5",
            "this is the number 50.5, but a whole number",
            "",
        ),
        (
            "package: fw",
            "package: fw\n  onCancel: Queued",
            "this is text, but a list is needed",
            "write [Queued]",
        ),
        ("package: fw", "package: fw\n  onCancel: {}", "this is a mapping, but a list is needed", ""),
        ("package: fw", "package: fw\n  tags: x", "this is text, but a mapping is needed", ""),
        (
            "package: fw",
            "package: fw\n  tags: {site: }",
            "there is nothing here, but a text is needed",
            "write it, or",
        ),
        ("all: {}", "all: {x: 1}", "unknown field `x` in Batch spec.target.all", "this has no fields"),
        ("all: {}", "gray: {percent: a}", "this is text, but a number is needed", ""),
        ("all: {}", "devicesFrom: {file: ''}", "this cannot be empty", ""),
        ("  package: fw\n", "", "`package` is missing in spec", "add `package:`"),
        ("spec:\n", "spec: {}\nx:\n", "`package` is missing in spec", "add `package:`"),
        ("kind: Batch", "kind: Batch\n<<: {}", "unknown field `<<`", "write the fields out"),
    ],
)
def test_words_are_those_of_people_who_write_yaml(old, new, said, remedy):
    checked = check({"b/eu.yaml": BATCH.replace(old, new, 1)})
    found = [one for one in checked.diagnostics if said in one.message]
    assert found, [one.message for one in checked.diagnostics]
    assert remedy in found[0].help


def test_a_whole_number_has_a_lower_end():
    checked = check({"p/fw.yaml": PACKAGE.replace("../fw.bin", "../fw.bin\n      size: 0")})
    assert checked.diagnostics[0].message == "this is at least 1, not 0"


def test_a_wrong_key_is_marked_at_the_key():
    checked = check({"b/eu.yaml": BATCH.replace("package: fw", "package: fw\n  tags: {a-b: x}")})
    assert findings(checked) == [("b/eu.yaml", 7, 10, "OTA114")]
    checked = check({"b/eu.yaml": BATCH.replace("name: eu", "name: eu\n  labels: {a b: x}")})
    assert findings(checked) == [("b/eu.yaml", 5, 12, "OTA114")]


def test_a_reference_says_what_was_meant_and_where_that_is():
    (found, *_) = check({"b/eu.yaml": BATCH.replace("package: fw", "package: thermostat")}).diagnostics
    assert found.message == "there is no Package `thermostat`"
    assert found.help == "`thermostat` is a Product, and a Package is needed"
    assert [(other.place.path, other.place.line) for other in found.related] == [("product.yaml", 3)]
    (found, *_) = check({"b/eu.yaml": BATCH.replace("package: fw", "package: fww")}).diagnostics
    assert found.help == "did you mean `fw`?"
    assert [(other.place.path, other.message) for other in found.related] == [
        ("p/fw.yaml", "Package/fw is declared here")
    ]


def test_everything_is_found_in_one_pass_and_in_order():
    text = BATCH.replace(
        "package: fw", "package: 1\n  confirm: yes\n  delivery: x\n  suspend: maybe\n  nope: 1"
    )
    checked = check(
        {"b/eu.yaml": text + "---\nkind: Product\nspec: {a: 1}\n---\nb: 'x\n", "c.yaml": "a: b: c"}
    )
    places = findings(checked)
    assert places == sorted(places)
    assert {line for path, line, *_ in places if path == "b/eu.yaml"} == {6, 7, 8, 9, 10, 13, 14, 16}
    assert places[-1][0] == "c.yaml"


def test_a_product_key_that_two_products_claim_belongs_to_neither():
    other = PRODUCT.replace("{name: thermostat}", "{name: other}").replace(
        "spec: {", "spec: {productKey: thermostat, "
    )
    checked = check({"z.yaml": other})
    assert findings(checked) == [("z.yaml", 4, 20, "OTA203")]
    assert checked.diagnostics[0].related[0].place.path == "product.yaml"
    assert {Key(Kind.PRODUCT, "thermostat"), Key(Kind.PRODUCT, "other")} <= checked.desired.broken.keys()
    assert not checked.desired.declarations


def test_a_version_is_packaged_once_and_a_title_used_once():
    again = PACKAGE.replace("name: fw\n", "name: fw2\n")
    checked = check({"p/g.yaml": again})
    assert findings(checked) == [("p/g.yaml", 7, 12, "OTA203")]
    assert (
        "version `1.4.0` of product thermostat, module default, is taken by Package/fw"
        in checked.diagnostics[0].message
    )
    titled = again.replace("spec:", "spec:\n  title: fw").replace("1.4.0", "1.5.0")
    assert findings(check({"p/g.yaml": titled})) == [("p/g.yaml", 6, 10, "OTA203")]


def test_versions_have_the_format_of_their_product():
    numeric = PRODUCT.replace("spec: {", "spec: {versionFormat: Numeric, ")
    assert check({"product.yaml": numeric}).diagnostics == ()
    bad = {"p/fw.yaml": PACKAGE.replace("1.4.0", "v1"), "b/eu.yaml": BATCH.replace('"1.3.0"', '"1.3"')}
    assert findings(check({"product.yaml": numeric, **bad})) == [("p/fw.yaml", 7, 12, "OTA205")]
    assert findings(check({"product.yaml": numeric, "b/eu.yaml": bad["b/eu.yaml"]})) == [
        ("b/eu.yaml", 7, 38, "OTA205")
    ]


DELTA = PACKAGE.replace("  version:", '  type: Delta\n  sourceVersion: "1.3.0"\n  version:')


def to(target: str) -> str:
    return BATCH.replace('{all: {}, sourceVersions: ["1.3.0"]}', target)


@pytest.mark.parametrize(
    "target",
    ['{all: {}, sourceVersions: ["1.3.0"]}', "{devices: [dev-1]}", "{devicesFrom: {file: ../eu.csv}}"],
)
def test_a_batch_of_a_delta_is_for_its_source_version_or_for_named_devices(target):
    files = {"p/fw.yaml": DELTA, "b/eu.yaml": to(target), "eu.csv": b"dev-1\n"}
    assert check(files).diagnostics == ()


@pytest.mark.parametrize(
    ("target", "column"),
    [
        ("{all: {}}", 3),
        ('{all: {}, sourceVersions: ["1.2.0"]}', 21),
        ('{all: {}, sourceVersions: ["1.3.0", "1.2.0"]}', 21),
        ('{all: {}, sourceVersions: ["1.4.0"]}', 21),
    ],
)
def test_a_batch_of_a_delta_with_other_source_versions_is_refused(target, column):
    checked = check({"p/fw.yaml": DELTA, "b/eu.yaml": to(target)})
    (found,) = checked.diagnostics
    assert (found.code, found.place.line, found.place.column) == (Code.COMBINATION, 7, column)
    assert found.message == (
        "the package is a delta from `1.3.0`, which is the only source version that its batches can have"
    )
    assert found.help == 'write `sourceVersions: ["1.3.0"]`'
    assert (found.related[0].place.path, found.related[0].place.line) == ("p/fw.yaml", 8)
    assert Key(Kind.BATCH, "eu") in checked.desired.broken


def test_the_source_version_of_a_delta_has_the_format_of_the_product_too():
    numeric = PRODUCT.replace("spec: {", "spec: {versionFormat: Numeric, ")
    files = {"product.yaml": numeric, "p/fw.yaml": DELTA.replace("1.3.0", "v1"), "b/eu.yaml": ""}
    assert findings(check(files)) == [("p/fw.yaml", 8, 18, "OTA205")]


@pytest.mark.parametrize(("size", "fits"), [(999, True), (1000, True), (1001, False)])
def test_a_download_over_mqtt_is_of_a_small_file(size, fits):
    over_mqtt = BATCH.replace("spec:", "spec:\n  download: MQTT")
    limits = Limits(mqtt_file_bytes=1000)
    checked = check({"b/eu.yaml": over_mqtt, "fw.bin": b"x" * size}, limits=limits)
    assert findings(checked) == ([] if fits else [("b/eu.yaml", 6, 13, "OTA116")])
    assert check({"fw.bin": b"x" * size}, limits=limits).diagnostics == ()
    if not fits:
        (found,) = checked.diagnostics
        assert "at most 1,000 bytes, and the package's file has 1,001" in found.message
        assert found.help == "write `download: Auto`"


TWO_FILES = PACKAGE.rstrip() + "\n    - name: web.zip\n      source: ../web.zip\n"


def test_every_file_of_a_package_is_a_fact_in_the_order_of_the_manifest():
    checked = check({"p/fw.yaml": TWO_FILES, "web.zip": b"<html>"})
    assert checked.diagnostics == ()
    facts = checked.desired.declarations[Key(Kind.PACKAGE, "fw")].files
    assert [(fact.path, fact.size) for fact in facts] == [("fw.bin", len(IMAGE)), ("web.zip", 6)]


def test_every_file_of_a_package_is_checked_at_its_own_place():
    wrong = TWO_FILES.replace("../fw.bin", "../fv.bin") + "      size: 9\n"
    checked = check({"p/fw.yaml": wrong, "web.zip": b"<html>"})
    assert findings(checked) == [("p/fw.yaml", 10, 15, "OTA301"), ("p/fw.yaml", 13, 13, "OTA302")]
    assert Key(Kind.PACKAGE, "fw") in checked.desired.broken


def test_a_download_over_mqtt_is_of_one_file():
    over_mqtt = BATCH.replace("spec:", "spec:\n  download: MQTT")
    checked = check({"p/fw.yaml": TWO_FILES, "web.zip": b"<html>", "b/eu.yaml": over_mqtt})
    assert findings(checked) == [("b/eu.yaml", 6, 13, "OTA116")]
    assert "of one file, and the package has 2" in checked.diagnostics[0].message


SAGOO = PRODUCT.replace("spec: {", "spec: {protocol: Sagoo, versionFormat: Numeric, ")


def test_a_sagoo_device_downloads_over_http():
    over_mqtt = BATCH.replace("spec:", "spec:\n  download: MQTT")
    (found,) = check({"product.yaml": SAGOO, "b/eu.yaml": over_mqtt}).diagnostics
    assert (found.code, found.place.line, found.help) == (Code.COMBINATION, 6, "write `download: Auto`")
    assert found.message == "SagooIOT devices download over HTTP(S) only, not over MQTT"
    over_https = BATCH.replace("spec:", "spec:\n  download: HTTPS")
    assert check({"product.yaml": SAGOO, "b/eu.yaml": over_https}).diagnostics == ()


def test_a_sagoo_device_takes_one_file():
    two = PACKAGE + "    - name: more.bin\n      source: ../fw.bin\n"
    (found,) = check({"product.yaml": SAGOO, "p/fw.yaml": two}).diagnostics
    assert (found.code, found.place.path) == (Code.COMBINATION, "p/fw.yaml")
    assert found.message == "SagooIOT devices take packages of one file, and this one has 2"
    assert check({"p/fw.yaml": two}).diagnostics == ()


def test_a_sagoo_devices_versions_are_numbers():
    (found,) = check({"product.yaml": SAGOO, "p/fw.yaml": PACKAGE.replace("1.4.0", "1.4-beta")}).diagnostics
    assert found.code is Code.VERSION_FORMAT


def test_what_is_not_supported_yet_is_told_once_with_what_to_do():
    (found,) = check({"repository.yaml": PRODUCT.replace("kind: Product", "kind: Repository")}).diagnostics
    assert (found.code, found.help) == (Code.UNSUPPORTED, "remove it; it comes in a later release")


def test_a_path_that_leads_out_says_out_of_what():
    wrong = PACKAGE.replace("../fw.bin", "../../fw.bin")
    (found,) = check({"p/fw.yaml": wrong}).diagnostics
    assert "the path begins at p" in found.help


def test_what_keeps_an_object_out_names_file_line_and_remedy():
    wrong = BATCH.replace("sourceVersions", "sourceVersion")
    checked = check({"b/eu.yaml": wrong})
    (said,) = checked.desired.broken[Key(Kind.BATCH, "eu")]
    assert re.fullmatch(
        r"b/eu\.yaml:\d+:\d+: unknown field `sourceVersion` .*\(did you mean `sourceVersions`\?\)", said
    )


def test_an_object_that_is_declared_twice_says_where_both_are():
    checked = check({"b/eu.yaml": BATCH, "b/zwei.yaml": BATCH})
    (said,) = checked.desired.broken[Key(Kind.BATCH, "eu")]
    assert said.startswith("b/zwei.yaml:4:9: declared twice, first in b/eu.yaml:4:9 (")


def test_one_cause_is_told_once_and_what_hangs_on_it_is_kept_out():
    checked = check({"product.yaml": PRODUCT.replace("name: mcu", "name: m c u")})
    assert len(checked.diagnostics) == 1
    assert checked.desired.broken.keys() == {
        Key(Kind.PRODUCT, "thermostat"),
        Key(Kind.PACKAGE, "fw"),
        Key(Kind.BATCH, "eu"),
        Key(Kind.DEVICE_INVENTORY, "berlin"),
    }
    assert checked.desired.broken[Key(Kind.BATCH, "eu")] == (
        "b/eu.yaml:6:12: Package/fw, which it refers to, is not valid",
    )
    assert checked.desired.broken_paths == {"product.yaml"}


def test_an_object_that_two_documents_declare_counts_for_neither():
    checked = check({"b/x.yaml": BATCH})
    assert findings(checked) == [("b/x.yaml", 4, 9, "OTA202")]
    assert checked.diagnostics[0].related[0].place.path == "b/eu.yaml"
    assert Key(Kind.BATCH, "eu") in checked.desired.broken
    assert Key(Kind.BATCH, "eu") not in checked.desired.declarations


@pytest.mark.parametrize(
    "text", ["{", "kind: Batch\nmetadata:\n  name: eu\nspec: [", b"\xff" + BATCH.encode(), "x: \x07"]
)
def test_a_broken_file_is_not_an_absent_one(text):
    checked = check({"b/eu.yaml": text})
    assert not checked.desired.is_gone(Key(Kind.BATCH, "eu"), "b/eu.yaml")
    assert check({"b/eu.yaml": None}).desired.is_gone(Key(Kind.BATCH, "eu"), "b/eu.yaml")


def test_a_manifest_that_moved_and_broke_at_once_is_still_known_by_its_name():
    checked = check({"b/eu.yaml": None, "new.yaml": BATCH.replace("[", "'")})
    assert not checked.desired.is_gone(Key(Kind.BATCH, "eu"), "b/eu.yaml")


JSON_BATCH = '{"apiVersion": "ota/v1", "kind": "Batch", "metadata": {"name": "eu"}, "spec": {'


@pytest.mark.parametrize(
    ("text", "unnamed"),
    [
        (BATCH, False),
        (BATCH.replace("[", "'"), False),
        ("# a remark\n---\na: 1\n---\n" + BATCH.replace("[", "'"), False),
        (BATCH.replace("package: ", "pakage: "), False),
        ("apiVersion: ota/v1\nkind: DeviceGroup\nmetadata: {name: x}\nspec: {}\n", False),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: x\nspec: [\n", False),
        (BATCH.encode("utf-16"), True),
        (JSON_BATCH, True),
        (BATCH.replace("kind: Batch", "kind: Bacth"), True),
        ("---\n" + BATCH.replace("[", "'") + "---\n" + JSON_BATCH, True),
        ("kind: Batch\nmetadata:\n  labels: {name: no}\n  name: eu\nspec: [\n", True),
        ("kind: Batch\nmetadata:\n", True),
        ("just text\n", True),
    ],
)
def test_a_broken_document_that_nobody_can_name_may_be_any(text, unnamed):
    desired = check({"b/eu.yaml": None, "new.yaml": text}).desired
    assert desired.unnamed == ({"new.yaml"} if unnamed else set())


def test_documents_around_a_broken_one_stay_valid():
    other = BATCH.replace("name: eu", "name: us")
    text = BATCH + "---\n" + other.replace("[", "'") + "---\n" + PACKAGE.replace("../fw.bin", "fw.bin")
    checked = check({"b/eu.yaml": text, "p/fw.yaml": None, "b/fw.bin": IMAGE})
    assert Key(Kind.BATCH, "eu") in checked.desired.declarations
    assert checked.desired.broken.keys() == {Key(Kind.BATCH, "us")}


def test_a_file_that_cannot_be_read_is_broken():
    class Stubborn(Contents):
        def read(self, path, limit):
            if path == "b/eu.yaml":
                raise UnreadableError("b/eu.yaml cannot be read: no", remedy="ask")
            return super().read(path, limit)

    checked = validate.check(Stubborn(FLEET))
    assert findings(checked) == [("b/eu.yaml", 0, 0, "OTA001")]
    assert checked.desired.broken_paths == {"b/eu.yaml"}


def test_links_and_submodules_are_no_absent_files_and_those_with_a_manifest_s_name_are_reported(tmp_path):
    (tmp_path / "eu.yaml").symlink_to("elsewhere.yaml")
    (tmp_path / "eu").symlink_to("elsewhere")
    checked = validate.check(FolderTree(tmp_path))
    assert [found.message for found in checked.diagnostics] == [
        "eu.yaml is a symbolic link: only regular files are read"
    ]
    assert (checked.desired.broken_paths, checked.desired.unnamed) == ({"eu.yaml", "eu"}, {"eu.yaml"})
    key = Key(Kind.BATCH, "eu")
    assert not checked.desired.is_gone(key, "eu/b.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "services: {web: {image: x}}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
        "apiVersion: v2\nname: chart\n",
        "- hosts: all\n  tasks: []\n",
        "metadata: {name: x}\n",
        "",
        "# nothing\n",
        "---\n---\n",
    ],
)
def test_other_yaml_is_none_of_our_business(text):
    checked = check({"other.yaml": text, ".github/x.yaml": "{", "a/.b/c.yaml": "{", "notes.txt": "{"})
    assert checked.diagnostics == ()
    assert checked.counts.manifests == 4


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("apiVersion: apps/v1\nkind: Package\nmetadata: {name: x}\n", Code.API_VERSION),
        ("apiVersion: ota/v1beta\nkind: Thing\n", Code.API_VERSION),
        ("kind: Thing\n", Code.API_VERSION),
        ("spec: {}\n", Code.API_VERSION),
        ("- apiVersion: ota/v1\n  kind: Batch\n", Code.NOT_A_MANIFEST),
        ("just text\n", Code.NOT_A_MANIFEST),
    ],
)
def test_what_looks_like_ours_but_is_wrong_is_an_error(text, code):
    checked = check({"other.yaml": text})
    assert code in {one.code for one in checked.diagnostics}
    assert "other.yaml" in checked.desired.broken_paths


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"", "the file has 0 bytes"),
        (b"x" * 101, "the file has 101 bytes; 1 to 100 are allowed"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS"),
    ],
)
def test_a_file_that_cannot_be_firmware_is_refused(image, said):
    checked = check({"fw.bin": image}, limits=Limits(file_bytes=100))
    assert said in checked.diagnostics[0].message
    assert len(checked.diagnostics) == 1


def test_a_misspelt_file_is_guessed():
    checked = check({"p/fw.yaml": PACKAGE.replace("../fw.bin", "../FW.bin")})
    assert checked.diagnostics[0].help == "did you mean `../fw.bin`?"


def test_of_a_flawed_package_no_more_files_are_looked_for_than_one_may_have():
    files = "".join(f"    - {{name: {number}.bin, source: {number}.bin}}\n" for number in range(30))
    checked = check({"p/fw.yaml": PACKAGE + "      bogus: 1\n" + files})
    assert len(findings(checked)) == 1 + 19  # the first file is there


def test_the_names_that_wrong_references_may_have_meant_are_gathered_once():
    class Counted(dict):
        times = 0

        def __iter__(self):
            self.times += 1
            return super().__iter__()

    candidates = Counted()
    judge = Judge(FolderTree(EMPTY), DEFAULT, beside.Facts())
    judge.judge(candidates)
    for number in range(9):
        judge._meant(Kind.PACKAGE, f"fw-{number}")
    assert candidates.times == 1


def test_packages_beyond_the_limit_are_refused_and_the_others_stay():
    more = PACKAGE.replace("name: fw\n", "name: fw2\n").replace("1.4.0", "1.5.0")
    checked = check({"p/z.yaml": more}, limits=Limits(packages=1))
    assert findings(checked) == [("p/z.yaml", 4, 9, "OTA209")]
    assert Key(Kind.PACKAGE, "fw") in checked.desired.declarations


LISTED = BATCH.replace('{all: {}, sourceVersions: ["1.3.0"]}', "{devicesFrom: {file: eu.csv}}")
IMPORTED = INVENTORY.replace(
    "devices:\n    - name: dev-1\n    - name: dev-2\n", "devicesFrom: {file: d.csv}\n"
)


def test_lists_of_devices_are_checked_and_their_facts_kept():
    checked = check(
        {"b/eu.yaml": LISTED, "b/eu.csv": "dev-1\ndev-2\n", "d.yaml": IMPORTED, "d.csv": "name,a\ndev-1,x\n"}
    )
    assert checked.diagnostics == ()
    assert checked.desired.declarations[Key(Kind.BATCH, "eu")].roster.entries == 2
    assert checked.desired.declarations[Key(Kind.DEVICE_INVENTORY, "berlin")].roster.path == "d.csv"


def test_flaws_of_a_list_are_told_once_however_many_batches_use_it():
    other = LISTED.replace("name: eu", "name: us")
    checked = check({"b/eu.yaml": LISTED, "b/us.yaml": other, "b/eu.csv": "dev-1\nx\ndev-1\n"})
    assert findings(checked) == [("b/eu.csv", 2, 1, "OTA310"), ("b/eu.csv", 3, 1, "OTA311")]
    assert {Key(Kind.BATCH, "eu"), Key(Kind.BATCH, "us")} == checked.desired.broken.keys()
    assert [place.place.line for place in checked.diagnostics[1].related] == [1, 7]


def test_a_missing_list_is_found_at_its_name():
    assert findings(check({"b/eu.yaml": LISTED})) == [("b/eu.yaml", 7, 32, "OTA301")]


@pytest.mark.parametrize(
    ("second", "place"),
    [
        (INVENTORY.replace("berlin", "zurich"), [("e.yaml", 8, 13), ("e.yaml", 9, 13)]),
        (IMPORTED.replace("berlin", "zurich"), [("d.csv", 3, 1)]),
    ],
)
def test_a_device_belongs_to_one_inventory(second, place):
    checked = check({"e.yaml": second, "d.csv": "name\ndev-9\ndev-2\n"})
    assert [one[:3] for one in findings(checked)] == place
    assert {one.code for one in checked.diagnostics} == {Code.DEVICE_TWICE}
    assert checked.diagnostics[0].related[0].place.path == "d.yaml"
    assert len(checked.desired.broken) == 2


def test_inventories_of_different_products_may_name_the_same_devices():
    other = PRODUCT.replace("{name: thermostat}", "{name: other}")
    second = INVENTORY.replace("berlin", "zurich").replace("thermostat", "other")
    assert check({"o.yaml": other, "e.yaml": second}).diagnostics == ()


def test_what_did_not_change_is_not_read_again():
    cache = validate.Cache()
    lists = {"b/eu.yaml": LISTED, "b/eu.csv": "dev-1\n"}
    first, second = (
        Contents({**FLEET, **lists}),
        Contents({**FLEET, **lists, "moved.yaml": PRODUCT, "product.yaml": ""}),
    )
    before = validate.check(first, cache=cache)
    after = validate.check(second, cache=cache)
    assert set(first.reads) >= {"b/eu.yaml", "fw.bin", "b/eu.csv"}
    assert second.reads == ["product.yaml"]
    assert before.desired.declarations.keys() == after.desired.declarations.keys()
    assert after.desired.declarations[Key(Kind.PRODUCT, "thermostat")].path == "moved.yaml"


def test_what_is_gone_is_forgotten():
    cache = validate.Cache()
    validate.check(Contents(FLEET), cache=cache)
    validate.check(Contents({"product.yaml": PRODUCT}), cache=cache)
    tree = Contents(FLEET)
    validate.check(tree, cache=cache)
    assert {"fw.bin", "b/eu.yaml"} <= set(tree.reads)
    assert "product.yaml" not in tree.reads


def test_findings_of_a_moved_broken_file_have_its_new_place():
    cache = validate.Cache()
    validate.check(Contents({"a.yaml": BATCH}), cache=cache)
    text = BATCH.replace("name: eu", "name: eu\n  name: eu")
    validate.check(Contents({"a.yaml": text}), cache=cache)
    (found, *_) = validate.check(Contents({"b.yaml": text}), cache=cache).diagnostics
    assert found.path == found.related[0].place.path == "b.yaml"


@given(st.dictionaries(st.sampled_from(["a.yaml", "b/c.yml", "x.csv"]), st.binary(max_size=150), max_size=3))
def test_any_files_give_a_judgement(files):
    checked = validate.check(Contents(files))
    assert checked.counts.errors == len(checked.diagnostics)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["x", "dev-1", "1h", "all", ""]),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["name", "file", "all", "x"]), below)
    ),
    max_leaves=6,
)
FIELDS = [
    "package",
    "product",
    "target",
    "files",
    "devices",
    "tags",
    "timeout",
    "retry",
    "schedule",
    "modules",
]


@given(
    st.sampled_from([str(kind) for kind in Kind]),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4),
)
def test_any_spec_is_judged_and_every_finding_has_a_place(kind, spec):
    document = {"apiVersion": "ota/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    checked = check(
        {"x.yaml": str(document).replace("None", "null").replace("True", "true").replace("False", "false")}
    )
    assert all(one.line == 1 and one.column > 0 for one in checked.diagnostics if one.path == "x.yaml")
