"""Every field and every rule that one document can check."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain import resources
from reconciler.domain.limits import Limits
from reconciler.domain.resources import Kind

SHA = "ab" * 32
FILE = {"name": "app.bin", "source": "../app.bin"}
SPECS: dict[Kind, dict[str, Any]] = {
    Kind.PRODUCT: {},
    Kind.PACKAGE: {"product": "p", "version": "1.4.0", "files": [FILE]},
    Kind.DEVICE_INVENTORY: {"product": "p", "devices": [{"name": "dev-1"}]},
    Kind.DEVICE_GROUP: {"product": "p", "devices": ["dev-1"]},
    Kind.BATCH: {"package": "p", "target": {"all": {}}},
}
GROUP = {"title": "Beta"}


def document(kind: Kind, name: str = "some-name", **spec: Any) -> dict[str, Any]:
    whole = {**SPECS[kind], **spec}
    whole = {key: value for key, value in whole.items() if value is not ...}
    return {"apiVersion": "ota/v1", "kind": str(kind), "metadata": {"name": name}, "spec": whole}


def parse(kind: Kind, **spec: Any) -> Any:
    return resources.parse(kind, document(kind, **spec))


def complaints(kind: Kind, limits: Limits | None = None, **spec: Any) -> list[str]:
    try:
        resources.parse(kind, document(kind, **spec), limits or Limits())
    except pydantic.ValidationError as mistake:
        return [error["msg"] for error in mistake.errors()]
    return []


def delta(**more: Any) -> dict[str, Any]:
    return {"type": "Delta", "sourceVersion": "1.3.0", **more}


WRONG: list[tuple[Kind, dict[str, Any], str]] = [
    (Kind.PRODUCT, {"productKey": "a/b"}, "is not a product key"),
    (Kind.PRODUCT, {"productKey": ""}, "at least 1 character,"),
    (Kind.PRODUCT, {"description": "x" * 101}, "at most 100 characters, this has 101"),
    (Kind.PRODUCT, {"modules": [{"name": "a b"}]}, "is not a module's name"),
    (Kind.PRODUCT, {"modules": [{"name": "mcu"}, {"name": "MCU"}]}, "module `MCU` exists already"),
    (Kind.PRODUCT, {"modules": [{"name": "Default"}]}, "module `Default` exists already"),
    (Kind.PRODUCT, {"modules": [{"name": "mcu", "alias": ""}]}, "at least 1 character,"),
    (Kind.PRODUCT, {"modules": [{"name": "files"}]}, "`files` is a field of the device protocol"),
    (Kind.PRODUCT, {"modules": [{"name": f"m{i}"} for i in range(11)]}, "at most 10 modules"),
    (Kind.PRODUCT, {"protocol": "Sagoo"}, "versions x.y.z"),
    (
        Kind.PRODUCT,
        {"protocol": "Sagoo", "versionFormat": "Numeric", "signing": {"privateKeyFrom": {"env": "K"}}},
        "no secure upgrade",
    ),
    (Kind.PRODUCT, {"md5Name": "MD5"}, "the Link SDKs take no package whose digest is called MD5"),
    (Kind.PRODUCT, {"signing": {"privateKeyFrom": {"file": "keys/k.pem"}}}, "not an absolute path"),
    (Kind.PRODUCT, {"signing": {"privateKeyFrom": {}}}, "exactly one of `env` and `file`"),
    (
        Kind.PRODUCT,
        {"signing": {"privateKeyFrom": {"env": "K", "file": "/k"}}},
        "exactly one of `env` and `file`",
    ),
    (Kind.PRODUCT, {"registration": None}, "this key has no value"),
    (Kind.PACKAGE, {"version": "a b"}, "is not a version"),
    (Kind.PACKAGE, {"version": "signMethod"}, "`signMethod` is a field of the device protocol"),
    (Kind.PACKAGE, {"version": 1.1}, "valid string"),
    (Kind.PACKAGE, {"title": " x"}, "starts with a letter or a digit"),
    (Kind.PACKAGE, {"title": "x "}, "ends with no space"),
    (Kind.PACKAGE, {"title": "x/y"}, "`/` cannot be in a title"),
    (Kind.PACKAGE, {"title": "x" * 41}, "1 to 40 characters, this has 41"),
    (Kind.PACKAGE, {"title": ""}, "1 to 40 characters, this has 0"),
    (Kind.PACKAGE, {"files": []}, "1 to 20 files, this has 0"),
    (Kind.PACKAGE, {"files": [{**FILE, "name": f"{i}.bin"} for i in range(21)]}, "1 to 20 files"),
    (Kind.PACKAGE, {"files": [FILE, FILE]}, "another file of this package is named `app.bin`"),
    (Kind.PACKAGE, {"files": [{**FILE, "name": "a/b"}]}, "is not a file's name"),
    (Kind.PACKAGE, {"files": [{**FILE, "name": "a{b"}]}, "is not a file's name"),
    (Kind.PACKAGE, {"files": [{**FILE, "name": "a]b"}]}, "is not a file's name"),
    (Kind.PACKAGE, {"files": [{**FILE, "name": 'a"b'}]}, "is not a file's name"),
    (Kind.PACKAGE, {"files": [{**FILE, "name": "fileUrl"}]}, "is a field of the device protocol"),
    (Kind.PACKAGE, {"files": [{**FILE, "source": "http://x/app.bin"}]}, "cannot come from `http://`"),
    (Kind.PACKAGE, {"files": [{**FILE, "source": "/etc/app.bin"}]}, "relative to this manifest"),
    (Kind.PACKAGE, {"files": [{**FILE, "source": "..\\app.bin"}]}, "relative to this manifest"),
    (Kind.PACKAGE, {"files": [{**FILE, "source": "app.exe"}]}, "no format"),
    (Kind.PACKAGE, {"files": [{**FILE, "source": ".bin"}]}, "no format"),
    (Kind.PACKAGE, {"files": [{**FILE, "source": "https://x/app.exe?a.bin"}]}, "no format"),
    (Kind.PACKAGE, {"files": [{**FILE, "source": "https://me:secret@x/a.bin"}]}, "password"),
    (Kind.PACKAGE, {"files": [{**FILE, "size": 2_000_000_001}]}, "at most 2,000,000,000 bytes"),
    (Kind.PACKAGE, {"files": [{**FILE, "size": 0}]}, "greater than or equal to 1"),
    (Kind.PACKAGE, {"files": [{**FILE, "sha256": "xy"}]}, "at least 64 characters"),
    (Kind.PACKAGE, {"files": [{**FILE, "sha256": "z" * 64}]}, "is not a SHA-256"),
    (Kind.PACKAGE, {"files": [{**FILE, "source": "https://x/a.bin"}]}, "needs its `sha256`"),
    (Kind.PACKAGE, {"sourceVersion": "1.3.0"}, "only a delta package has a `sourceVersion`"),
    (Kind.PACKAGE, {"type": "Delta"}, "needs its `sourceVersion`"),
    (Kind.PACKAGE, {"type": "Delta", "sourceVersion": "1.4.0"}, "the version of the package itself"),
    (Kind.PACKAGE, {"customInfo": "}{"}, "braces of custom info"),
    (Kind.PACKAGE, {"customInfo": "{"}, "braces of custom info"),
    (Kind.PACKAGE, {"customInfo": "files"}, "ends like a field of the device protocol"),
    (Kind.PACKAGE, {"customInfo": 'see "files'}, "ends like a field of the device protocol"),
    (Kind.PACKAGE, {"verification": {"devices": []}}, "at least 1 device"),
    (Kind.PACKAGE, {"verification": {"devices": ["dev-1"], "timeout": "25h"}}, "1,440 whole minutes"),
    (Kind.PACKAGE, {"verification": {"devices": ["dev-1"], "attempt": 0}}, "greater than or equal to 1"),
    (Kind.DEVICE_INVENTORY, {"devices": [{"name": "x"}]}, "is not a device name"),
    (Kind.DEVICE_INVENTORY, {"devices": [{"name": "dev-1"}, {"name": "dev-1"}]}, "listed twice"),
    (Kind.DEVICE_INVENTORY, {"devices": ...}, "exactly one of devices, devicesFrom"),
    (Kind.DEVICE_INVENTORY, {"devicesFrom": {"file": "x.csv"}}, "exactly one of devices, devicesFrom"),
    (Kind.DEVICE_INVENTORY, {"devices": [{"name": "dev-1", "tags": {"a b": "c"}}]}, "is not a tag's key"),
    (Kind.DEVICE_INVENTORY, {"devices": [{"name": "dev-1", "tags": {"a": ""}}]}, "at least 1 character,"),
    (Kind.DEVICE_GROUP, {"devices": ...}, "exactly one of devices, devicesFrom, selector; this has none"),
    (Kind.DEVICE_GROUP, {"devicesFrom": {"file": "x"}}, "has devices and devicesFrom"),
    (Kind.DEVICE_GROUP, {"product": ...}, "needs `product`"),
    (Kind.DEVICE_GROUP, {"devices": ..., "selector": {}}, "at least one of"),
    (
        Kind.DEVICE_GROUP,
        {"devices": ..., "selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
        "operator In needs `values`",
    ),
    (
        Kind.DEVICE_GROUP,
        {
            "devices": ...,
            "selector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["1"]}]},
        },
        "operator Exists has no `values`",
    ),
    (Kind.DEVICE_GROUP, {"devices": ..., "selector": {"module": {"name": "default"}}}, "Field required"),
    (Kind.BATCH, {"package": "A"}, "is not a name"),
    (Kind.BATCH, {"target": {}}, "this has none of them"),
    (Kind.BATCH, {"target": {"all": {}, "group": "g"}}, "this has all and group"),
    (Kind.BATCH, {"target": {"all": None}}, "this key has no value"),
    (Kind.BATCH, {"target": {"devices": []}}, "at least 1 device"),
    (Kind.BATCH, {"target": {"devices": ["dev-1", "dev-1"]}}, "device `dev-1` is listed twice"),
    (Kind.BATCH, {"target": {"devices": [f"dev-{i}" for i in range(201)]}}, "at most 200 devices"),
    (Kind.BATCH, {"target": {"devices": ["dev-1"], "sourceVersions": ["1"]}}, "not with devices"),
    (Kind.BATCH, {"target": {"gray": {"percent": 0}}}, "over 0 and up to 100, this is 0"),
    (Kind.BATCH, {"target": {"gray": {"percent": 100.5}}}, "over 0 and up to 100"),
    (Kind.BATCH, {"target": {"gray": {"percent": float("nan")}}}, "over 0 and up to 100"),
    (Kind.BATCH, {"target": {"gray": {"percent": 1.2345}}}, "up to 3 decimals"),
    (Kind.BATCH, {"schedule": {"start": "2026-12-01T02:00:00"}}, "is not a time"),
    (Kind.BATCH, {"schedule": {"start": "2026-13-01T02:00:00Z"}}, "is not a time"),
    (Kind.BATCH, {"schedule": {"start": "0001-01-01T00:00:00+14:00"}}, "is not a time"),
    (
        Kind.BATCH,
        {"schedule": {"start": "2026-12-01T02:00:00Z", "end": "2026-12-01T02:59:59Z"}},
        "1 hour to 30 days",
    ),
    (Kind.BATCH, {"schedule": {"end": "2026-12-01T02:00:00Z"}}, "Field required"),
    (Kind.BATCH, {"pushRatePerMinute": 9}, "10 to 10,000 devices a minute, not 9"),
    (Kind.BATCH, {"retry": {"interval": "20m", "limit": 1}}, "none of 0s, 10m, 30m, 1h, 24h"),
    (Kind.BATCH, {"retry": {"interval": "10m", "limit": 3}}, "none of 1, 2, 5"),
    (
        Kind.BATCH,
        {"retry": {"interval": "1h", "limit": 1}, "timeout": "60m"},
        "not shorter than the timeout 1h",
    ),
    (
        Kind.BATCH,
        {"retry": {"interval": "24h", "limit": 1}, "timeout": "24h"},
        "not shorter than the timeout",
    ),
    (Kind.BATCH, {"timeout": "90s"}, "whole minutes"),
    (Kind.BATCH, {"timeout": "0s"}, "whole minutes"),
    (Kind.BATCH, {"timeout": "10"}, "is not a duration"),
    (Kind.BATCH, {"timeout": 10}, "is not a duration"),
    (Kind.BATCH, {"timeout": ""}, "is not a duration"),
    (Kind.BATCH, {"noResponseTimeout": "0s"}, "more than 0s"),
    (Kind.BATCH, {"conflict": "Overwrite", "multiModule": True}, "exclude each other"),
    (Kind.BATCH, {"newReportsOnly": True}, "is for dynamic batches"),
    (Kind.BATCH, {"strategy": "Dynamic"}, "a dynamic batch is for source versions"),
    (Kind.BATCH, {"strategy": "Dynamic", "target": {"gray": {"percent": 5}}}, "a dynamic batch is for"),
    (
        Kind.BATCH,
        {"strategy": "Dynamic", "target": {"group": "g"}, "schedule": {"start": "2026-12-01T02:00:00Z"}},
        "only a static batch has a schedule",
    ),
    (Kind.BATCH, {"tags": {str(i): "x" for i in range(11)}}, "at most 10 tags"),
    (Kind.BATCH, {"tags": {"a-b": "x"}}, "is not a tag's key"),
    (Kind.BATCH, {"tags": {"a": ""}}, "1 to 1,024 characters"),
    (Kind.BATCH, {"tags": {"url": "x"}}, "`url` is a field of the device protocol"),
    (Kind.BATCH, {"tags": {"a": "module"}}, "`module` is a field of the device protocol"),
    (Kind.BATCH, {"tags": {"a": 'the "files'}}, "is a field of the device protocol"),
    (Kind.BATCH, {"tags": {"a": "}"}}, "braces of this tag"),
    (Kind.BATCH, {"tags": {str(i): "x" * 1024 for i in range(4)}}, "at most 4,096 characters together"),
    (Kind.BATCH, {"onCancel": ["Queued", "Queued"]}, "scope `Queued` is listed twice"),
    (Kind.BATCH, {"onCancel": ["queued"]}, "Input should be"),
    (Kind.BATCH, {"title": "x" * 101}, "at most 100"),
    (Kind.BATCH, {"confirm": "yes"}, "valid boolean"),
    (Kind.BATCH, {"push_rate_per_minute": 100}, "not permitted"),
]


@pytest.mark.parametrize(("kind", "spec", "said"), WRONG)
def test_a_broken_rule_is_named(kind, spec, said):
    found = complaints(kind, **({**GROUP, **spec} if kind is Kind.DEVICE_GROUP else spec))
    assert len(found) == 1
    assert said in found[0]


RIGHT: list[tuple[Kind, dict[str, Any]]] = [
    (
        Kind.PRODUCT,
        {"modules": [{"name": "default", "alias": "All"}, *({"name": f"m{i}"} for i in range(10))]},
    ),
    (Kind.PRODUCT, {"protocol": "Sagoo", "versionFormat": "Numeric"}),
    (Kind.PRODUCT, {"protocol": "Sagoo", "versionFormat": "Numeric", "md5Name": "MD5"}),
    (Kind.PRODUCT, {"md5Name": "Md5"}),
    (Kind.PRODUCT, {"signing": {"privateKeyFrom": {"file": "/keys/k.pem"}}}),
    (Kind.PACKAGE, {"title": "恒温器 ファーム 1.4 (β)"}),
    (Kind.PACKAGE, delta()),
    (Kind.PACKAGE, delta(sourceVersion="url")),  # devices are on it, and are sent another one
    (Kind.PACKAGE, {"customInfo": '{"notice":"{}"}'}),
    (Kind.PACKAGE, {"customInfo": 'see the "files"'}),
    (Kind.PACKAGE, {"files": [{**FILE, "source": "s3://b/app.TAR.GZ", "sha256": SHA.upper(), "size": 1}]}),
    (
        Kind.PACKAGE,
        {"verification": {"devices": ["dev-1"], "sourceVersions": ["1"], "timeout": "1m", "attempt": 2}},
    ),
    (Kind.DEVICE_INVENTORY, {"devices": ..., "devicesFrom": {"file": "x.csv"}}),
    (Kind.DEVICE_INVENTORY, {"devices": [{"name": "b:dev"}, {"name": "a@dev", "tags": {"floor": "1"}}]}),
    (Kind.DEVICE_GROUP, {"devices": ..., "product": ..., "selector": {"matchTags": {"region": "eu"}}}),
    (
        Kind.DEVICE_GROUP,
        {
            "devices": ...,
            "selector": {
                "matchExpressions": [
                    {"key": "floor", "operator": "In", "values": ["1", "2"]},
                    {"key": "floor", "operator": "DoesNotExist"},
                ],
                "module": {"name": "default", "version": "1.3.0"},
            },
        },
    ),
    (Kind.BATCH, {"target": {"devices": ["dev-2", "dev-1"]}}),
    (Kind.BATCH, {"target": {"devicesFrom": {"file": "eu.csv", "skipUnknown": True}}}),
    (Kind.BATCH, {"target": {"gray": {"percent": 12.125}, "sourceVersions": ["1"]}}),
    (
        Kind.BATCH,
        {"strategy": "Dynamic", "target": {"all": {}, "sourceVersions": ["1"]}, "newReportsOnly": True},
    ),
    (Kind.BATCH, {"strategy": "Dynamic", "target": {"group": "beta"}}),
    (Kind.BATCH, {"schedule": {"start": "2026-12-01T02:00:00+01:00", "end": "2026-12-03t06:00:00z"}}),
    (Kind.BATCH, {"retry": {"interval": "24h", "limit": 5}, "noResponseTimeout": "30s"}),
    (Kind.BATCH, {"retry": {"interval": "30m", "limit": 2}, "timeout": "60m"}),
    (Kind.BATCH, {"tags": {"site": "berlin"}, "onCancel": [], "state": "Canceled", "title": "All"}),
]


@pytest.mark.parametrize(("kind", "spec"), RIGHT)
def test_what_the_rules_allow_is_accepted_and_survives_its_normal_form(kind, spec):
    whole = document(kind, **spec)
    found = resources.parse(kind, whole)
    again = resources.parse(kind, {**whole, "spec": resources.normalised(found)})
    assert again == found


def test_defaults_are_those_of_the_rules():
    batch = parse(Kind.BATCH).spec
    assert (batch.push_rate_per_minute, batch.strategy, batch.conflict) == (1000, "Static", "Keep")
    assert set(batch.on_cancel) == {"Scheduled", "Unconfirmed", "Queued"} == set(resources.DEFAULT_ON_CANCEL)
    assert batch.timeout is None
    assert parse(Kind.PACKAGE).spec.sign_method is resources.SignMethod.SHA256
    assert parse(Kind.PACKAGE).spec.module == "default"


def test_the_names_of_many_files_are_not_compared_with_each_other():
    """A list of any length is judged, when something else in the manifest is wrong."""
    compared = []

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return super().__eq__(other)

    files = tuple(resources.PackageFile.model_construct(name=Name(f"{number}.bin")) for number in range(100))
    resources.PackageSpec.model_construct(files=files)._files_unique()
    assert len(compared) < 100


def test_names_stand_in_for_what_is_not_said():
    assert parse(Kind.PRODUCT).product_key == "some-name"
    assert parse(Kind.PRODUCT, productKey="a1").product_key == "a1"
    assert (
        parse(Kind.PACKAGE).title == parse(Kind.BATCH).title == parse(Kind.DEVICE_GROUP).title == "some-name"
    )
    assert parse(Kind.PRODUCT, modules=[{"name": "mcu"}]).modules == {"default", "mcu"}


@pytest.mark.parametrize(
    ("kind", "name"), [(Kind.PRODUCT, "x" * 65), (Kind.PACKAGE, "x" * 41), (Kind.DEVICE_GROUP, "abc")]
)
def test_a_name_that_cannot_stand_in_asks_for_the_field(kind, name):
    with pytest.raises(pydantic.ValidationError, match="the name is"):
        resources.parse(kind, document(kind, name=name))


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a..b", "a" * 254])
def test_a_name_is_a_dns_subdomain(name):
    with pytest.raises(pydantic.ValidationError):
        resources.parse(Kind.BATCH, document(Kind.BATCH, name=name))


def test_labels_and_annotations_are_checked():
    good = {"example.org/team": "eu.west_1", "tier": ""}
    whole = document(Kind.BATCH)
    whole["metadata"] |= {"labels": good, "annotations": {"note": "Anything: {at all}\n"}}
    assert resources.parse(Kind.BATCH, whole).metadata.labels == good
    for labels in ({"a b": "x"}, {"a": "b c"}, {"x" * 254: "x"}):
        whole["metadata"]["labels"] = labels
        with pytest.raises(pydantic.ValidationError):
            resources.parse(Kind.BATCH, whole)


def test_what_is_not_said_is_checked_by_the_operators_limits_too():
    assert complaints(Kind.BATCH, Limits(push_rate_highest=50))
    assert not complaints(Kind.BATCH, Limits(push_rate_highest=50), pushRatePerMinute=50)


def test_order_and_spelling_change_no_digest():
    first = parse(
        Kind.BATCH, target={"all": {}, "sourceVersions": ["2", "1"]}, timeout="60m", delivery="Push"
    )
    second = parse(Kind.BATCH, target={"sourceVersions": ["1", "2"], "all": {}}, timeout="1h")
    other = parse(Kind.BATCH, target={"sourceVersions": ["1"], "all": {}}, timeout="1h")
    digests = [resources.digest(resources.normalised(one)) for one in (first, second, other)]
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 64


def test_times_are_kept_in_utc():
    start = parse(Kind.BATCH, schedule={"start": "2026-12-01T02:00:00+01:00"}).spec.schedule.start
    assert start == datetime(2026, 12, 1, 1, tzinfo=UTC)
    assert start.tzinfo is UTC


@given(st.integers(0, 10**8))
def test_every_duration_reads_back_as_it_is_written(seconds):
    span = timedelta(seconds=seconds)
    assert resources.duration(resources.format_duration(span)) == span


def test_models_cannot_be_changed():
    with pytest.raises(pydantic.ValidationError):
        parse(Kind.BATCH).spec.package = "other"


@pytest.mark.parametrize(
    ("target", "how"),
    [
        ({"all": {}}, "all"),
        ({"devices": ["dev-1"]}, "devices"),
        ({"devicesFrom": {"file": "x"}}, "devicesFrom"),
        ({"gray": {"percent": 1}}, "gray"),
        ({"group": "g"}, "group"),
    ],
)
def test_a_target_says_in_which_way_it_is_written(target, how):
    assert parse(Kind.BATCH, target=target).spec.target.how == how


def test_formats_are_found_at_the_end_of_the_file_name():
    assert resources.has_format("a/b.tar.gz", (".tar.gz",))
    assert resources.has_format("https://host/a.bin?sig=x#y", (".bin",))
    assert not resources.has_format("a.bin/readme", (".bin",))


def test_limits_are_frozen_and_hashable():
    assert hash(Limits()) == hash(Limits())
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().packages = 1


@pytest.mark.parametrize("kind", Kind)
def test_a_schema_says_the_ranges_that_the_rules_have(kind):
    schema = resources.MODELS[kind].model_json_schema(by_alias=True)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["apiVersion"]["const"] == "ota/v1"


def test_the_schema_of_a_list_says_how_many_and_that_they_differ():
    schema = resources.Target.model_json_schema(by_alias=True)
    devices = schema["properties"]["devices"]["anyOf"][0]
    assert (devices["minItems"], devices["maxItems"], devices["uniqueItems"]) == (1, 200, True)
    assert devices["items"]["maxLength"] == 32
