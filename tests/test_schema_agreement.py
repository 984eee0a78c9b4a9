"""Models, the jsonschema library, and ajv from npm judge the same manifests alike, wherever a schema can say the rule.

What only the models can say is listed here, each with a manifest that breaks it; nothing else may be refused by the
models alone, and nothing at all by a schema alone.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
from typing import Any

import jsonschema
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.domain import resources
from reconciler.domain.resources import Kind
from reconciler.source import loader, schemas

ROOT = pathlib.Path(__file__).parent.parent
SCHEMAS = {name: jsonschema.Draft7Validator(json.loads(text)) for name, text in schemas.generate().items()}
pytestmark = pytest.mark.needs("node", "npm")

Document = dict[str, Any]
ABSENT = object()


def manifest(kind: Kind, spec: Document, name: str = "thermostat-1.4.0-eu") -> Document:
    return {"apiVersion": "ota/v1", "kind": str(kind), "metadata": {"name": name}, "spec": spec}


_FILE = {"name": "app.bin", "source": "../app.bin", "size": 432945, "md5": "0" * 32, "sha256": "a" * 64}
_RETRY = {"interval": "10m", "limit": 2}
_SCHEDULE = {"start": "2026-12-01T02:00:00+01:00", "end": "2026-12-03T06:00:00.5Z"}
_RULES = {
    "timeout": "60m",
    "noResponseTimeout": "24h",
    "conflict": "Wait",
    "delivery": "Pull",
    "confirm": True,
}
WHOLE = {
    "product": manifest(
        Kind.PRODUCT,
        {
            "productKey": "a1ThermoKey",
            "description": "A wall thermostat",
            "modules": [{"name": "mcu", "alias": "Motor controller", "description": "A board"}],
            "versionFormat": "Numeric",
            "protocol": "Aliyun",
            "md5Name": "Md5",
            "registration": "Auto",
            "signing": {"privateKeyFrom": {"env": "KEY"}},
        },
    ),
    "sagoo": manifest(Kind.PRODUCT, {"protocol": "Sagoo", "versionFormat": "Numeric", "md5Name": "MD5"}),
    "package": manifest(
        Kind.PACKAGE,
        {
            "product": "thermostat",
            "module": "mcu",
            "title": "Thermostat 1.4.0",
            "type": "Delta",
            "version": "1.4.0",
            "sourceVersion": "1.3.0",
            "signMethod": "MD5",
            "files": [_FILE, {"name": "web.zip", "source": "https://a.example/web.zip", "sha256": "B" * 64}],
            "verification": {
                "devices": ["lab-01"],
                "sourceVersions": ["1.3.0"],
                "timeout": "24h",
                "attempt": 2,
            },
            "customInfo": '{"notice":"…"}',
            "description": "Fixes the night schedule",
        },
    ),
    "batch": manifest(
        Kind.BATCH,
        {
            "title": "To 1.4.0",
            "package": "thermostat-1.4.0",
            "strategy": "Static",
            "target": {"gray": {"percent": 12.5}, "sourceVersions": ["1.3.0"]},
            "schedule": _SCHEDULE,
            "pushRatePerMinute": 500,
            "retry": _RETRY,
            **_RULES,
            "download": "HTTPS",
            "allowDowngrade": True,
            "newReportsOnly": False,
            "multiModule": True,
            "tags": {"site": "berlin"},
            "suspend": False,
            "state": "Canceled",
            "onCancel": ["Queued", "InProgress"],
        },
    ),
    "dynamic": manifest(
        Kind.BATCH,
        {
            "package": "thermostat-1.4.0",
            "strategy": "Dynamic",
            "target": {"all": {}, "sourceVersions": ["1.3.0"]},
            "newReportsOnly": True,
        },
    ),
    "listed": manifest(
        Kind.BATCH,
        {"package": "thermostat-1.4.0", "target": {"devicesFrom": {"file": "eu.csv", "skipUnknown": True}}},
    ),
    "group": manifest(
        Kind.DEVICE_GROUP,
        {
            "title": "Beta testers",
            "selector": {
                "matchTags": {"region": "eu"},
                "matchExpressions": [
                    {"key": "floor", "operator": "In", "values": ["1"]},
                    {"key": "old", "operator": "DoesNotExist"},
                ],
                "module": {"name": "default", "version": "1.3.0"},
            },
        },
    ),
    "members": manifest(Kind.DEVICE_GROUP, {"product": "thermostat", "devices": ["dev-1"]}),
    "inventory": manifest(
        Kind.DEVICE_INVENTORY,
        {
            "product": "thermostat",
            "devices": [{"name": "dev-1", "tags": {"region": "eu"}}, {"name": "dev-2"}],
        },
    ),
}
"""Manifests with every field, for mistakes to be made in. Labels and annotations come with the mistakes."""


@dataclasses.dataclass(frozen=True)
class Only:
    """A rule that only the models can say: what they say of it, and a manifest that breaks just this one."""

    why: str
    message: str
    of: str
    changes: Document


_LONG = "x" * 1000
MODELS_ONLY = [
    Only(
        "a number with a point is no whole number", "valid integer", "batch", {"spec.pushRatePerMinute": 50.0}
    ),
    Only("decimals are counted", "up to 3 decimals", "batch", {"spec.target.gray.percent": 0.0001}),
    Only("a span of time is a sum", "1,440 whole minutes", "batch", {"spec.timeout": "30s"}),
    Only("a span of time is a sum", "at most 30 days", "batch", {"spec.noResponseTimeout": "721h"}),
    Only("`60m` is 1h, too", "is none of 0s, 10m", "batch", {"spec.retry.interval": "5m"}),
    Only("times are compared", "not shorter than the timeout", "batch", {"spec.retry.interval": "1h"}),
    Only(
        "times are compared", "ends 1 hour to 30 days", "batch", {"spec.schedule.end": "2026-12-01T01:30:00Z"}
    ),
    Only("a calendar", "not a time with a date", "batch", {"spec.schedule.start": "2026-02-30T02:00:00Z"}),
    Only(
        "lengths are summed",
        "4,096 characters together",
        "batch",
        {"spec.tags": dict.fromkeys("abcde", _LONG)},
    ),
    Only("braces are counted", "the braces of this tag", "batch", {"spec.tags.site": "{"}),
    Only("braces are counted", "the braces of custom info", "package", {"spec.customInfo": "{"}),
    Only("what a device finds", "is a field of the device", "batch", {"spec.tags.site": 'x"url'}),
    Only("what a device finds", "ends like a field", "package", {"spec.customInfo": 'x"url'}),
    Only("letters of any script", "cannot be in a title", "package", {"spec.title": "a+b"}),
    Only("letters of any script", "starts with a letter", "package", {"spec.title": "-a"}),
    Only("letters of any script", "ends with no space", "package", {"spec.title": "a "}),
    Only(
        "texts are compared", "the version of the package itself", "package", {"spec.sourceVersion": "1.4.0"}
    ),
    Only("what a URL is", "files cannot come from", "package", {"spec.files.1.source": "ftp://a/web.zip"}),
    Only("what a URL is", "no user or password", "package", {"spec.files.1.source": "https://a:b@c/web.zip"}),
    Only("what a URL is", "names no host", "package", {"spec.files.1.source": "https:///web.zip"}),
    Only("what a path is", "not a path relative", "package", {"spec.files.0.source": "/app.bin"}),
    Only("an operator's list, in any case", "no format", "package", {"spec.files.0.source": "app.txt"}),
    Only("names in a list", "another file", "package", {"spec.files.1.name": "app.bin"}),
    Only("names in a list", "listed twice", "inventory", {"spec.devices.1.name": "dev-1"}),
    Only(
        "names in a list, in any case", "exists already", "product", {"spec.modules": [{"name": "Default"}]}
    ),
    Only(
        "`default` does not count",
        "at most 10 modules",
        "product",
        {"spec.modules": [{"name": f"m{number}"} for number in range(11)]},
    ),
]

MISTAKES: list[tuple[str, Document]] = [
    ("batch", {"apiVersion": "ota/v2"}),
    ("batch", {"kind": "Bach"}),
    ("batch", {"metadata.name": "Upper"}),
    ("batch", {"metadata.labels": {"-": "x"}}),
    ("batch", {"metadata.labels": {"team": "a b"}}),
    ("batch", {"metadata.annotations": {"a/b/c": "x"}}),
    ("batch", {"metadata.annotations": {"a": None}}),
    ("batch", {"spec.rolout": 1}),
    ("batch", {"spec.retry": None}),
    ("batch", {"spec.retry.limit": 3}),
    ("batch", {"spec.package": ABSENT}),
    ("batch", {"spec.target.all": {}}),
    ("batch", {"spec.target": {}}),
    ("batch", {"spec.target.gray.percent": 0}),
    ("batch", {"spec.strategy": "Dynamic"}),
    ("batch", {"spec.conflict": "Overwrite"}),
    ("batch", {"spec.newReportsOnly": True}),
    ("batch", {"spec.pushRatePerMinute": 10_001}),
    ("batch", {"spec.timeout": "1 h"}),
    ("batch", {"spec.timeout": 60}),
    ("batch", {"spec.noResponseTimeout": "12345678h"}),
    ("batch", {"spec.schedule.start": "2026-12-01 02:00"}),
    ("batch", {"spec.tags": {"md5": "x"}}),
    ("batch", {"spec.tags": {"a_b": "x"}}),
    ("batch", {"spec.tags.site": ""}),
    ("batch", {"spec.onCancel": ["Queued", "Queued"]}),
    ("listed", {"spec.target.sourceVersions": ["1.3.0"]}),
    ("listed", {"spec.target.devicesFrom.file": ABSENT}),
    ("dynamic", {"spec.target.sourceVersions": []}),
    ("dynamic", {"spec.target": {"devices": ["dev-1"]}}),
    ("dynamic", {"spec.schedule": _SCHEDULE}),
    ("package", {"spec.type": ABSENT}),
    ("package", {"spec.sourceVersion": ABSENT}),
    ("package", {"spec.version": 1.1}),
    ("package", {"spec.files": []}),
    ("package", {"spec.files": [{**_FILE, "name": f"{number}.bin"} for number in range(21)]}),
    ("package", {"spec.files.0.name": "url"}),
    ("package", {"spec.files.0.size": 2_000_000_001}),
    ("package", {"spec.files.1.sha256": ABSENT}),
    ("package", {"spec.verification.devices": []}),
    ("package", {"spec.verification.attempt": 0}),
    ("package", {"spec.title": ABSENT, "metadata.name": "x" * 41}),
    ("product", {"spec.protocol": "Sagoo"}),
    ("product", {"spec.md5Name": "MD5"}),
    ("product", {"spec.signing.privateKeyFrom.file": "/key"}),
    ("product", {"spec.signing.privateKeyFrom": {}}),
    ("product", {"spec.productKey": ABSENT, "metadata.name": "x" * 65}),
    ("sagoo", {"spec.versionFormat": ABSENT}),
    ("sagoo", {"spec.signing": {"privateKeyFrom": {"env": "KEY"}}}),
    ("group", {"spec.devices": ["dev-1"]}),
    ("group", {"spec.selector": {}}),
    ("group", {"spec.selector": {"matchTags": {}, "matchExpressions": []}}),
    ("group", {"spec.selector.matchTags": {"a b": "x"}}),
    ("group", {"spec.selector.matchExpressions.0.values": []}),
    ("group", {"spec.selector.matchExpressions.1.values": ["1"]}),
    ("group", {"spec.title": "abc"}),
    ("group", {"spec.title": ABSENT, "metadata.name": "abc"}),
    ("members", {"spec.product": ABSENT}),
    ("members", {"spec.devices": ["dev 1"]}),
    ("members", {"spec.devices": ["dev-1", "dev-1"]}),
    ("inventory", {"spec.devicesFrom": {"file": "a.csv"}}),
    ("inventory", {"spec.devices": ABSENT}),
    ("inventory", {"spec.devices.0.tags": {"a": 1}}),
]
"""Mistakes that everybody finds: one for each rule of a schema between fields, and some of one field alone."""


def changed(document: Document, changes: Document) -> Document:
    """A copy with other values at some paths (`spec.files.0.name`)."""
    made = copy.deepcopy(document)
    for path, value in changes.items():
        *above, last = (int(step) if step.isdigit() else step for step in path.split("."))
        holder: Any = made
        for step in above:
            holder = holder[step]
        if value is ABSENT:
            del holder[last]
        else:
            holder[last] = value
    return made


def complaints(document: Document) -> list[str]:
    """What the models say."""
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in list(Kind):
        return ["no kind"]
    try:
        resources.parse(Kind(kind), document)
    except pydantic.ValidationError as mistakes:
        return [found["msg"] for found in mistakes.errors()]
    return []


@pytest.fixture(scope="session")
def ajv(tmp_path_factory):
    """Asks ajv about a document; what it says against it."""
    folder = tmp_path_factory.mktemp("ajv")
    for file in (ROOT / "tests" / "ajv").glob("*.*"):
        shutil.copy(file, folder)
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    subprocess.run(install, cwd=folder, check=True, capture_output=True)
    command = ["node", str(folder / "check.mjs"), str(ROOT / "schemas" / "v1")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as node:

        def ask(schema: str, document: Document) -> str:
            node.stdin.write(json.dumps({"schema": schema, "document": document}) + "\n")
            node.stdin.flush()
            answer = node.stdout.readline().strip()
            assert answer, "node has ended"
            return "" if answer == "valid" else answer

        yield ask
        node.stdin.close()


@pytest.fixture(scope="session")
def judged(ajv):
    """Lets everybody judge a document, by the schema of its kind and by the one for all; what the models say."""

    def judge(document: Document) -> list[str]:
        said = complaints(document)
        kind = document.get("kind")
        names = [schemas.ALL] + ([schemas.file_name(Kind(kind))] if said != ["no kind"] else [])
        verdicts = {name: next(SCHEMAS[name].iter_errors(document), None) is None for name in names}
        found = {name: ajv(name, document) for name in names}
        assert {name: not text for name, text in found.items()} == verdicts, (found, document)
        assert len(set(verdicts.values())) == 1, (verdicts, document)
        if verdicts[schemas.ALL]:
            unknown = [text for text in said if not any(re.search(one.message, text) for one in MODELS_ONLY)]
            assert unknown == [], f"no schema says this: {document}"
        else:
            assert said, f"only the schemas refuse this: {found} {document}"
        return said

    return judge


def written(folder: str) -> list[Document]:
    """The mappings in a folder's files, as far as they are YAML, and JSON can hold them."""
    files = sorted((ROOT / folder).rglob("*.yaml"))
    found = [document for file in files for document in loader.load(file.read_bytes()).documents]
    return [
        one.data for one in found if isinstance(one.data, dict) and not one.problems and is_json(one.data)
    ]


def is_json(value: Any) -> bool:
    """Not so: .inf and .nan."""
    try:
        return bool(json.dumps(value, allow_nan=False))
    except ValueError:
        return False


def test_everybody_judges_the_manifests_of_this_project_alike(judged):
    examples = [one for one in written("examples") if one.get("kind") in list(Kind)]
    assert len(examples) > 20
    assert [judged(document) for document in (*examples, *WHOLE.values())] == [[]] * (
        len(examples) + len(WHOLE)
    )
    for document in written("tests/golden"):
        judged(document)


def test_everybody_finds_the_mistakes_that_a_schema_can_say(judged):
    for of, changes in MISTAKES:
        document = changed(WHOLE[of], changes)
        assert judged(document), (of, changes)
        assert next(SCHEMAS[schemas.ALL].iter_errors(document), None), (of, changes)


def test_what_only_the_models_can_say_is_known(judged):
    for rule in MODELS_ONLY:
        document = changed(WHOLE[rule.of], rule.changes)
        said = judged(document)
        assert [re.search(rule.message, text) is not None for text in said] == [True], rule
        assert next(SCHEMAS[schemas.ALL].iter_errors(document), None) is None, rule


def places(value: Any) -> list[tuple[Any, ...]]:
    """Where a mistake can be made in a document."""
    if not isinstance(value, dict | list):
        return []
    steps = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [place for step in steps for place in [(step,), *((step, *more) for more in places(value[step]))]]


def at(document: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        document = document[step]
    return document


USUAL = [at(document, place) for document in WHOLE.values() for place in places(document)]
ODD = [
    None,
    True,
    0,
    1,
    2.0,
    -1,
    0.5,
    10**9,
    "",
    "1.10",
    "é",
    "x" * 70,
    [],
    {},
    [1],
    [None],
    {"a": 1},
    {"": ""},
]
values = st.sampled_from(USUAL) | st.sampled_from(ODD) | st.text('aZ1.-_{"/ é:', max_size=8)


@settings(max_examples=100)
@given(data=st.data())
def test_everybody_judges_manifests_with_mistakes_alike(judged, data):
    document = copy.deepcopy(data.draw(st.sampled_from(list(WHOLE.values()))))
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(places(document)))
        holder = at(document, tuple(above))
        match data.draw(st.sampled_from(["replace", "add", "remove"])):
            case "replace":
                holder[last] = copy.deepcopy(data.draw(values))
            case "add" if isinstance(holder, dict):
                known = sorted({name for one in USUAL if isinstance(one, dict) for name in one})
                holder[data.draw(st.sampled_from(known))] = copy.deepcopy(data.draw(values))
            case "add":
                holder.append(copy.deepcopy(data.draw(values)))
            case _:
                del holder[last]
        if not document:
            break
    judged(document)
