"""The published schemas are what the models say."""

from __future__ import annotations

import json
import pathlib
import typing
from typing import Any

import jsonschema
import pytest

from reconciler.domain import resources
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


def fields(model: type[resources.Model], schema: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Every field of a model and of those below it, with its schema."""
    found = []
    for field in model.model_fields.values():
        said = schema["properties"][field.alias]
        found.append((field, said))
        for below in models_in(field.annotation):
            found += fields(below, said.get("items", said))
    return found


def models_in(annotation: Any) -> list[type[resources.Model]]:
    """The models that an annotation names: `Module` of `tuple[Module, ...]`, of `Module | None`."""
    if isinstance(annotation, type) and issubclass(annotation, resources.Model):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models_in(part)]


@pytest.mark.parametrize("kind", Kind)
def test_every_default_is_in_the_schema_and_in_what_an_editor_shows(kind):
    known = fields(resources.MODELS[kind], json.loads(GENERATED[schemas.file_name(kind)]))
    assert len(known) > 8
    for field, schema in known:
        default = field.get_default(call_default_factory=True)
        if field.is_required() or default is None:
            assert "default" not in schema, schema
        else:
            assert schema["default"] == json.loads(json.dumps(default)), schema
            shown = f"Default: `{schemas.written(schema['default'])}`."
            assert default in ("", (), {}) or schema["description"].endswith(shown), schema


@pytest.mark.parametrize("kind", Kind)
def test_whoever_has_to_write_a_value_sees_an_example_that_is_right(kind):
    for part in parts(json.loads(GENERATED[schemas.file_name(kind)])):
        chosen = {"enum", "const"} & {*part, *part.get("items", {})} or part["type"] == "boolean"
        written_below = "properties" in part or "properties" in part.get("items", {})
        assert "examples" in part or chosen or written_below, part
        validator = jsonschema.Draft7Validator(part)
        for value in (*part.get("examples", ()), *([part["default"]] if "default" in part else ())):
            assert list(validator.iter_errors(value)) == [], part


def test_the_schema_for_all_kinds_complains_about_the_kind_that_is_meant():
    validator = jsonschema.Draft7Validator(json.loads(GENERATED[schemas.ALL]))
    assert list(validator.iter_errors(MANIFEST)) == []
    (mistake,) = validator.iter_errors({**MANIFEST, "spec": {"nope": 1}})
    assert "nope" in mistake.message
    (mistake,) = validator.iter_errors({**MANIFEST, "kind": "Nope"})
    assert "Nope" in mistake.message
    (mistake,) = validator.iter_errors({**MANIFEST, "metadata": {"name": "X"}})
    assert "X" in mistake.message


def test_an_editor_completes_what_all_kinds_share_before_a_kind_is_chosen():
    schema = json.loads(GENERATED[schemas.ALL])
    assert list(schema["properties"]) == schema["required"] == ["apiVersion", "kind", "metadata", "spec"]
    assert schema["properties"]["kind"]["enum"] == [str(kind) for kind in Kind]
    assert schema["properties"]["apiVersion"]["const"] == "ota/v1"
    chosen = [rule["if"]["properties"]["kind"]["const"] for rule in schema["allOf"]]
    assert chosen == schema["properties"]["kind"]["enum"]
