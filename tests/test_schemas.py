"""The published schemas are what the models say."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jsonschema
import pytest

from reconciler.domain.resources import Kind
from reconciler.source import schemas

PUBLISHED = pathlib.Path(__file__).parent.parent / "schemas" / "v1"
GENERATED = schemas.generate()
MANIFEST = {"apiVersion": "ota/v1", "kind": "Product", "metadata": {"name": "x"}, "spec": {}}


def parts(schema: Any) -> list[dict[str, Any]]:
    """Every field's schema, at any depth."""
    found = []
    for below in schema.get("properties", {}).values():
        found += [below, *parts(below)]
    return found + (parts(schema["items"]) if "items" in schema else [])


def test_the_published_schemas_are_those_of_the_models():
    published = {path.name: path.read_text() for path in PUBLISHED.iterdir()}
    assert published == GENERATED, "run: reconciler schema export --dir schemas/v1"


@pytest.mark.parametrize("name", GENERATED)
def test_a_schema_is_of_the_draft_that_editors_know_and_has_a_stable_name(name):
    schema = json.loads(GENERATED[name])
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$id"] == f"urn:reconciler:schemas:v1:{name.removesuffix('.schema.json')}"
    assert not {"$defs", "prefixItems", "unevaluatedProperties", "dependentRequired"} & set(
        GENERATED[name].split('"')
    )


@pytest.mark.parametrize("kind", Kind)
def test_every_field_is_described_and_every_mapping_closed(kind):
    schema = json.loads(GENERATED[schemas.file_name(kind)])
    for part in parts(schema):
        assert part.get("description", "").endswith((".", "`")), part
        if "properties" in part:
            assert part["additionalProperties"] is False


def test_the_schema_for_all_kinds_complains_about_the_kind_that_is_meant():
    validator = jsonschema.Draft7Validator(json.loads(GENERATED[schemas.ALL]))
    assert list(validator.iter_errors(MANIFEST)) == []
    (mistake,) = validator.iter_errors({**MANIFEST, "spec": {"nope": 1}})
    assert "nope" in mistake.message
    (mistake,) = validator.iter_errors({**MANIFEST, "kind": "Nope"})
    assert "Nope" in mistake.message
