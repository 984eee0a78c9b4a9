"""What is still said of a manifest of which something is wrong: every rule whose own fields are sound, and no other."""

from __future__ import annotations

import operator
import pickle
from typing import Any

import pydantic
import pytest

from reconciler.domain import resources
from reconciler.domain.limits import DEFAULT
from reconciler.domain.resources import Kind, base, partial

FILE = {"name": "app.bin", "source": "../app.bin"}


def refused(kind: Kind, spec: Any, name: str = "some-name") -> tuple[partial.Partial, list[Any]]:
    data = {"apiVersion": "ota/v1", "kind": str(kind), "metadata": {"name": name}, "spec": spec}
    with pytest.raises(pydantic.ValidationError) as mistake:
        resources.parse(kind, data)
    complaints = mistake.value.errors()
    return partial.of(resources.MODELS[kind], data, complaints, DEFAULT), complaints


def said(kind: Kind, spec: Any, name: str = "some-name") -> set[str]:
    """What is wrong, each by its first words."""
    sound, complaints = refused(kind, spec, name)
    found = {error["msg"] for error in complaints} | {e["ctx"]["message"] for e in sound.broken_rules()}
    return {" ".join(message.split()[:5]) for message in found}


def test_all_that_is_wrong_with_a_batch_is_said_at_once():
    target = {"all": {}, "gray": {"percent": 5}, "sourceVersions": ["1", "1", "2", "2"]}
    spec = {
        "package": "p",
        "target": target,
        "tags": {"a b": "x", "c d": "y", "version": "1"},
        "newReportsOnly": True,
        "multiModule": True,
        "conflict": "Overwrite",
        "retry": {"interval": "30m", "limit": 2},
        "timeout": "10m",
    }
    assert said(Kind.BATCH, spec, "Bad Name") == {
        "`Bad Name` is not a",
        "a target is exactly one",
        "version `1` is listed twice",
        "version `2` is listed twice",
        "`a b` is not a",
        "`c d` is not a",
        "`version` is a field of",
        "newReportsOnly is for dynamic batches",
        "multiModule and conflict Overwrite exclude",
        "the retry interval 30m is",
    }


@pytest.mark.parametrize(
    ("kind", "spec", "name", "found"),
    [
        (  # what is within something sound or wrong is seen, whatever is wrong beside it
            Kind.PACKAGE,
            {"product": "p", "version": 1, "files": [{**FILE, "size": 0}, FILE, FILE], "sourceVersion": "1"},
            "x" * 41,
            {
                "Input should be a valid",
                "Input should be greater than",
                "another file of this package",
                "only a delta package has",
                "the name is too long",
            },
        ),
        (
            Kind.DEVICE_GROUP,
            {"title": "x", "devices": ["dev-1"], "selector": {}},
            "some-name",
            {
                "a group's title has at",
                "a selector has at least",
                "a group has exactly one",
                "a group that lists its",
            },
        ),
        (
            Kind.PRODUCT,
            {"protocol": "Sagoo", "signing": {"privateKeyFrom": {"env": "K"}}, "registration": "No"},
            "some-name",
            {
                "SagooIOT devices have versions x.y.z",
                "SagooIOT devices know no secure",
                "Input should be 'Declared' or",
            },
        ),
        (  # and what is not sound is not looked at
            Kind.PACKAGE,
            {"product": "p", "version": "1", "files": [FILE, {**FILE, "name": 1}, FILE], "type": "Dleta"},
            "some-name",
            {"Input should be a valid", "Input should be 'Full' or"},
        ),
        (
            Kind.PACKAGE,
            {"product": "P", "version": "1", "files": {}},
            "some-name",
            {"`P` is not a name", "Input should be a valid"},
        ),
        (
            Kind.PACKAGE,
            {"product": "P", "version": "1", "files": [FILE, "app.bin"]},
            "some-name",
            {"`P` is not a name", "Input should be a valid"},
        ),
        (
            Kind.PACKAGE,
            {"product": "P", "version": "1", "files": []},
            "x",
            {"`P` is not a name", "a package has 1 to"},
        ),
        (  # a target that is none, or two, says nothing about the strategy
            Kind.BATCH,
            {"package": "p", "strategy": "Dynamic", "target": {}},
            "some-name",
            {"a target is exactly one"},
        ),
        (
            Kind.BATCH,
            {"package": "p", "strategy": "Dynamic", "target": {"all": {}, "sourceVersions": ["x y"]}},
            "some-name",
            {"`x y` is not a"},
        ),
        (Kind.BATCH, {"package": "p", "strategy": "Dynamic"}, "some-name", {"Field required"}),
        (  # a misspelt field may be any that is missing
            Kind.BATCH,
            {"package": "p", "newReportsOnly": True, "strateg": "Dynamic", "target": {"all": {}}},
            "some-name",
            {"Extra inputs are not permitted"},
        ),
        (
            Kind.BATCH,
            {"package": "p", "strategy": "Dynamic", "sourceVersions": ["1"], "target": {"all": {}}},
            "some-name",
            {"Extra inputs are not permitted"},
        ),
        (
            Kind.BATCH,
            {
                "package": "p",
                "mutliModule": True,
                "multiModule": True,
                "conflict": "Overwrite",
                "target": {"al": {}},
            },
            "some-name",
            {"Extra inputs are not permitted", "multiModule and conflict Overwrite exclude"},
        ),
        (Kind.BATCH, [], "some-name", {"Input should be a valid"}),
    ],
)
def test_a_rule_speaks_where_its_own_fields_are_sound_and_nowhere_else(kind, spec, name, found):
    assert said(kind, spec, name) == found


def test_what_is_sound_is_read_as_the_model_has_it_and_survives_a_copy():
    spec = {"package": "p", "title": "", "target": {"all": {}}, "retry": {"interval": "30m", "limit": 2}}
    sound, _ = refused(Kind.BATCH, {**spec, "schedule": {"start": "x"}})
    for copy in (sound, pickle.loads(pickle.dumps(sound))):
        assert copy.spec.target.how is resources.How.ALL
        assert resources.format_duration(copy.spec.retry.interval) == "30m"
        assert copy.spec.conflict is resources.Conflict.KEEP
        assert copy.spec.schedule.end is None
        for wrong in ("spec.title", "spec.schedule.start", "title"):
            with pytest.raises(partial.Unsound):
                operator.attrgetter(wrong)(copy)


def test_every_rule_between_fields_can_be_judged_of_a_part():
    """`Partial.broken_rules` calls them as pydantic does: with the whole, afterwards."""
    found, models = set(), [base.Model]
    while models:
        model = models.pop()
        models += model.__subclasses__()
        found |= {rule.info.mode for rule in model.__pydantic_decorators__.model_validators.values()}
    assert found == {"after"}
